//! The whole encoder: patch embedding, special tokens, positions, blocks.
//!
//! Reimplements `ASTEmbeddings` and `ASTModel` of `modeling_audio_spectrogram_transformer.py` (transformers 5.24.0). The fbank
//! is computed by [`AudioFrontend`](crate::audio::AudioFrontend).

use candle_core::Tensor;

use super::config::AstConfig;
use super::encoder::Block;
use crate::error::{Error, Result};
use crate::nn::{LayerNorm, PatchEmbedding, Weights};

/// The name of the encoder within `ASTForAudioClassification`.
const PREFIX: &str = "audio_spectrogram_transformer";

/// The hidden states of a sound. Of the tokens, the first is the class token and the second the distillation token; the patches
/// follow, band by band from the lowest frequencies, and in each band frame by frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AstOutput {
    /// The input of block 0, then the output of every block that was computed, without the final LayerNorm; each
    /// `[B, 2 + N, D]`.
    pub hidden_states: Vec<Tensor>,
}

/// The AST audio encoder.
#[derive(Clone, Debug)]
pub struct Ast {
    config: AstConfig,
    patch_embeddings: PatchEmbedding,
    cls_token: Tensor,
    distillation_token: Tensor,
    position_embeddings: Tensor,
    layers: Vec<Block>,
    layernorm: LayerNorm,
}

impl Ast {
    /// The number of tokens before those of the patches: the class token and the distillation token.
    pub const NUM_SPECIAL_TOKENS: usize = 2;

    /// Creates an encoder from `weights`, with the tensor names of the published checkpoints: those of `ASTModel`, or, where
    /// there is such a tensor, those of `ASTForAudioClassification`, which begin with `audio_spectrogram_transformer.`.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when `weights` lacks one of the tensors.
    pub fn new<'a>(config: &AstConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        config.validate()?;
        let prefixed = weights.pp(PREFIX);
        let weights = if prefixed.contains("embeddings.cls_token") { prefixed } else { weights };
        let (width, patch, embeddings) = (config.hidden_size, config.patch_size, weights.pp("embeddings"));
        let (bands, columns) = config.grid();
        let projection = embeddings.pp("patch_embeddings.projection");
        let strides = (config.frequency_stride, config.time_stride);
        let special = |name| embeddings.get((1, 1, width), name);
        let positions = (1, bands * columns + Self::NUM_SPECIAL_TOKENS, width);
        let layer = weights.pp("encoder.layer");
        Ok(Self {
            config: config.clone(),
            patch_embeddings: PatchEmbedding::with_strides(1, width, patch, strides, true, projection)?,
            cls_token: special("cls_token")?,
            distillation_token: special("distillation_token")?,
            position_embeddings: embeddings.get(positions, "position_embeddings")?,
            layers: (0..config.num_hidden_layers).map(|i| Block::new(config, layer.pp(i))).collect::<Result<_>>()?,
            layernorm: LayerNorm::new(width, config.layer_norm_eps, weights.pp("layernorm"))?,
        })
    }

    /// The configuration that the encoder was built with.
    pub fn config(&self) -> &AstConfig {
        &self.config
    }

    /// Encodes a normalised fbank `[B, T, M]` (frames, mel bins) of exactly `max_length` frames and `num_mel_bins` bins, for
    /// which there are positions.
    ///
    /// # Errors
    /// [`Error::Shape`] for an fbank of another shape.
    pub fn forward(&self, fbank: &Tensor) -> Result<AstOutput> {
        self.forward_blocks(fbank, self.config.num_hidden_layers)
    }

    /// Like [`Ast::forward`], but runs only the first `num_blocks` blocks, for callers that need no deeper ones.
    ///
    /// # Errors
    /// As [`Ast::forward`].
    pub fn forward_blocks(&self, fbank: &Tensor, num_blocks: usize) -> Result<AstOutput> {
        let (frames, bins) = (self.config.max_length, self.config.num_mel_bins);
        let batch = match *fbank.dims() {
            [batch, t, m] if (t, m) == (frames, bins) => batch,
            ref found => return Err(Error::shape("fbank", format!("[B, {frames}, {bins}]"), found)),
        };
        let bands = fbank.transpose(1, 2)?.unsqueeze(1)?; // [B, 1, M, T]
        let patches = self.patch_embeddings.forward(&bands)?; // [B, N, D]
        let special = |token: &Tensor| token.broadcast_as((batch, 1, self.config.hidden_size));
        let tokens = [special(&self.cls_token)?, special(&self.distillation_token)?, patches];
        let mut x = Tensor::cat(&tokens, 1)?.broadcast_add(&self.position_embeddings)?;
        let mut hidden_states = vec![x.clone()];
        for layer in self.layers.iter().take(num_blocks) {
            x = layer.forward(&x)?;
            hidden_states.push(x.clone());
        }
        Ok(AstOutput { hidden_states })
    }

    /// The output of the last block after the final LayerNorm, `[B, 2 + N, D]`.
    ///
    /// # Errors
    /// [`Error::Argument`] when `output` lacks the output of the last block.
    pub fn last_hidden_state(&self, output: &AstOutput) -> Result<Tensor> {
        let needed = self.layers.len() + 1;
        let Some(last) = output.hidden_states.get(needed - 1) else {
            let found = output.hidden_states.len();
            return Err(Error::argument("hidden states for the last one", format!("all {needed}"), found));
        };
        self.layernorm.forward(last)
    }

    /// A description of the whole sound, `[B, D]`: the mean of the class token and the distillation token of
    /// [`Ast::last_hidden_state`].
    ///
    /// # Errors
    /// As [`Ast::last_hidden_state`].
    pub fn pooled(&self, output: &AstOutput) -> Result<Tensor> {
        Ok(self.last_hidden_state(output)?.narrow(1, 0, Self::NUM_SPECIAL_TOKENS)?.mean(1)?)
    }
}
