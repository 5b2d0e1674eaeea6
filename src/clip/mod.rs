//! CLIP (Radford et al., arXiv 2103.00020): a text tower and a vision tower with a common embedding space.
//!
//! Both towers return every hidden state. The text tower also accepts token embeddings, so that any vector can take the
//! place of a word. The vision tower also computes dense features, one embedding per patch (MaskCLIP, Zhou et al.,
//! arXiv 2112.01071).
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use soundsight::clip::{ClipTextConfig, TextTower};
//!
//! // A small tower with weights of zero.
//! let config = ClipTextConfig { hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, ..Default::default() };
//! let tower = TextTower::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
//! let ids = Tensor::new(&[[49406u32, 320, 1125, 49407]], &Device::Cpu)?; // "a photo"
//! let pooled = tower.forward(&ids)?.pooled(&[3])?; // at the end token
//! assert_eq!(pooled.dims(), [1, 32]);
//! # Ok::<(), soundsight::Error>(())
//! ```
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
    /// Creates the model from `weights`; `projection_dim` is the width P of the common space.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that contradict each other,
    /// [`Error::Candle`](crate::Error::Candle) when `weights` lacks one of the tensors.
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

    /// The logarithm of the factor by which cosine similarities are scaled; a scalar tensor.
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

    /// Like [`Clip::embed_image`], but from the hidden state `[B, 1 + G·G, D]` before the last block, which is cheaper.
    ///
    /// # Errors
    /// As [`VisionTower::pooled_before_last`].
    pub fn embed_image_before_last(&self, before_last: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision_model.pooled_before_last(before_last)?)
    }

    /// Dense features `[B, G·G, P]`, an embedding for every patch, from the hidden state `[B, 1 + G·G, D]` before the
    /// last block. That block is applied without mixing tokens (MaskCLIP).
    ///
    /// # Errors
    /// As [`VisionTower::dense`].
    pub fn dense_features(&self, before_last: &Tensor) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision_model.dense(before_last)?)
    }
}
