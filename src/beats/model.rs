//! The whole encoder: patch embedding, transformer, tagging head.
//!
//! Reimplements [`BEATs`] and its [`extract_features`]. The fbank is computed by
//! [`AudioFrontend`](crate::audio::AudioFrontend).
//!
//! [`BEATs`]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/BEATs.py#L71-L102
//! [`extract_features`]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/BEATs.py#L133-L179

use candle_core::Tensor;

use super::config::BeatsConfig;
use super::encoder::{Encoder, LAYER_NORM_EPS};
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, Linear, PatchEmbedding, Weights};

/// The hidden states of a sound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BeatsOutput {
    /// The input of block 0, then the output of every block that was computed; each `[B, N, D]`.
    pub hidden_states: Vec<Tensor>,
}

/// The BEATs audio encoder.
#[derive(Clone, Debug)]
pub struct Beats {
    config: BeatsConfig,
    patch_embedding: PatchEmbedding,
    layer_norm: LayerNorm,
    post_extract_proj: Option<Linear>,
    encoder: Encoder,
    predictor: Option<Linear>,
}

impl Beats {
    /// Creates an encoder from `weights`, with the tensor names of the published checkpoints.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when `weights` lacks one of
    /// the tensors.
    pub fn new<'a>(config: &BeatsConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        config.validate()?;
        let (embed, dim) = (config.embed_dim, config.encoder_embed_dim);
        let patch = weights.pp("patch_embedding");
        let post_extract_proj =
            if embed == dim { None } else { Some(Linear::new(embed, dim, true, weights.pp("post_extract_proj"))?) };
        let predictor = if config.finetuned_model {
            Some(Linear::new(dim, config.predictor_class, true, weights.pp("predictor"))?)
        } else {
            None
        };
        Ok(Self {
            config: config.clone(),
            patch_embedding: PatchEmbedding::new(1, embed, config.input_patch_size, config.conv_bias, patch)?,
            layer_norm: LayerNorm::new(embed, LAYER_NORM_EPS, weights.pp("layer_norm"))?,
            post_extract_proj,
            encoder: Encoder::new(config, weights.pp("encoder"))?,
            predictor,
        })
    }

    /// The configuration that the encoder was built with.
    pub fn config(&self) -> &BeatsConfig {
        &self.config
    }

    /// Encodes a normalised fbank `[B, T, M]` (frames, mel bins) into tokens, time-major: `N = ⌊T/patch⌋ · ⌊M/patch⌋`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the fbank does not have three dimensions or is smaller than a patch.
    pub fn forward(&self, fbank: &Tensor) -> Result<BeatsOutput> {
        self.forward_blocks(fbank, self.config.encoder_layers)
    }

    /// Like [`Beats::forward`], but runs only the first `num_blocks` blocks, for callers that need no deeper ones.
    ///
    /// # Errors
    /// As [`Beats::forward`].
    pub fn forward_blocks(&self, fbank: &Tensor, num_blocks: usize) -> Result<BeatsOutput> {
        let patch = self.config.input_patch_size;
        match *fbank.dims() {
            [_, frames, bins] if frames >= patch && bins >= patch => {}
            _ => return Err(Error::shape("fbank", format!("[B, ≥ {patch}, ≥ {patch}]"), fbank.dims())),
        }
        let x = self.patch_embedding.forward(&fbank.unsqueeze(1)?)?; // [B, N, embed]
        let x = self.layer_norm.forward(&x)?;
        let x = match &self.post_extract_proj {
            Some(projection) => projection.forward(&x)?,
            None => x,
        };
        Ok(BeatsOutput { hidden_states: self.encoder.forward(&x, num_blocks)? })
    }

    /// The probability of each class, `[B, classes]`: `σ(mean over the tokens of predictor(x))` for the last hidden
    /// state x, which is normalised first if the blocks are pre-norm.
    ///
    /// # Errors
    /// [`Error::Config`] when the checkpoint has no tagging head, [`Error::Argument`] when `output` lacks
    /// the output of the last block.
    pub fn tag(&self, output: &BeatsOutput) -> Result<Tensor> {
        Ok(candle_nn::ops::sigmoid(&self.tag_logits(output)?)?)
    }

    /// The logits of [`Beats::tag`], before the sigmoid, `[B, classes]`.
    ///
    /// # Errors
    /// As [`Beats::tag`].
    pub fn tag_logits(&self, output: &BeatsOutput) -> Result<Tensor> {
        let Some(predictor) = &self.predictor else {
            return Err(Error::config("beats.finetuned_model", "true, for a checkpoint with a tagging head", false));
        };
        let needed = self.config.encoder_layers + 1;
        let Some(last) = output.hidden_states.get(needed - 1) else {
            let found = output.hidden_states.len();
            return Err(Error::argument("hidden states for tagging", format!("all {needed}"), found));
        };
        let last = if self.config.layer_norm_first { self.encoder.layer_norm.forward(last)? } else { last.clone() };
        Ok(predictor.forward(&last)?.mean(1)?)
    }
}
