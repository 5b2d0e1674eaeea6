//! CLIP (Radford et al., arXiv 2103.00020): a text tower and a vision tower with one common embedding space.
//!
//! Both towers give every hidden state by name. The text tower also runs from embeddings, so that a vector may stand in
//! the place of a word; the vision tower also gives dense features, one embedding per patch (MaskCLIP, Zhou et al.,
//! arXiv 2112.01071).
//!
//! Parameter names are those of the published checkpoints (`text_model.encoder.layers.0.self_attn.q_proj.weight`,
//! `vision_model.pre_layrnorm.weight` (sic) …).

mod config;
pub(crate) mod encoder;
mod text;
#[cfg(feature = "text")]
pub mod tokenizer;
mod vision;
#[cfg(feature = "text")]
mod word_list;

use candle_core::Tensor;

pub use config::{ClipTextConfig, ClipVisionConfig};
pub use text::{TextOutput, TextTower};
pub use vision::{VisionOutput, VisionTower};

use crate::error::Result;
use crate::nn::{Linear, Weights};

/// Both towers and their projections into the common space.
#[derive(Clone, Debug)]
pub struct Clip {
    /// The text tower.
    pub text_model: TextTower,
    /// The vision tower.
    pub vision_model: VisionTower,
    text_projection: Linear,
    visual_projection: Linear,
    logit_scale: Tensor,
}

impl Clip {
    /// The model with these weights; `projection_dim` is the width P of the common space.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that contradict each other,
    /// [`Error::Candle`](crate::Error::Candle) when there are no such tensors.
    pub fn new<'a>(
        text: &ClipTextConfig,
        vision: &ClipVisionConfig,
        projection_dim: usize,
        weights: impl Into<Weights<'a>>,
    ) -> Result<Self> {
        let weights = weights.into();
        let projection = |width, name| Linear::new(width, projection_dim, false, weights.pp(name));
        Ok(Self {
            text_model: TextTower::new(text, weights.pp("text_model"))?,
            vision_model: VisionTower::new(vision, weights.pp("vision_model"))?,
            text_projection: projection(text.hidden_size, "text_projection")?,
            visual_projection: projection(vision.hidden_size, "visual_projection")?,
            logit_scale: weights.get((), "logit_scale")?,
        })
    }

    /// The logarithm of the factor on cosine similarities; a scalar tensor.
    pub fn logit_scale(&self) -> &Tensor {
        &self.logit_scale
    }

    /// Text embeddings `[B, P]` of prompts given as token ids `[B, N]`; `ends[b]` is the position of the end token.
    ///
    /// # Errors
    /// As [`TextTower::forward`] and [`TextOutput::pooled`].
    pub fn embed_text(&self, ids: &Tensor, ends: &[usize]) -> Result<Tensor> {
        self.text_projection.forward(&self.text_model.forward(ids)?.pooled(ends)?)
    }

    /// Text embeddings `[B, P]` of prompts given as token embeddings `[B, N, H]`, taken at position `ends[b]`.
    ///
    /// # Errors
    /// As [`TextTower::forward_embeddings`] and [`TextOutput::pooled`].
    pub fn embed_text_embeddings(&self, embeddings: &Tensor, ends: &[usize]) -> Result<Tensor> {
        self.text_projection.forward(&self.text_model.forward_embeddings(embeddings)?.pooled(ends)?)
    }

    /// Image embeddings `[B, P]` from the class token of the last block's output `[B, 1 + G·G, D]`.
    ///
    /// # Errors
    /// As [`VisionTower::pooled`].
    pub fn embed_image(&self, last: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision_model.pooled(last)?)
    }

    /// As [`Clip::embed_image`], from the hidden state `[B, 1 + G·G, D]` before the last block, with less work.
    ///
    /// # Errors
    /// As [`VisionTower::pooled_before_last`].
    pub fn embed_image_before_last(&self, before_last: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision_model.pooled_before_last(before_last)?)
    }

    /// Dense features `[B, G·G, P]`: an embedding for every patch, by passing the last block without attention mixing
    /// (MaskCLIP), from the hidden state `[B, 1 + G·G, D]` before it.
    ///
    /// # Errors
    /// As [`VisionTower::dense`].
    pub fn dense_features(&self, before_last: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision_model.dense(before_last)?)
    }
}
