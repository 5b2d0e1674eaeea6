//! The vision tower.
//!
//! Reimplements [`CLIPVisionEmbeddings`] of transformers, and the dense features of ACL's [`get_pixels`].
//!
//! [`CLIPVisionEmbeddings`]: https://github.com/huggingface/transformers/blob/000f1ffdbf1ce6190cc8863af9a2fff817590937/src/transformers/models/clip/modeling_clip.py#L142-L222
//! [`get_pixels`]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/CLIPSeg/clipseg_for_audio.py#L134-L182

use std::ops::Range;

use candle_core::{IndexOp, Tensor};

use super::config::ClipVisionConfig;
use super::encoder::{Block, BlockConfig, blocks};
use crate::error::{Error, Result};
use crate::nn::{Interpolation, LayerNorm, PatchEmbedding, Weights, resize};

/// The hidden states of a picture. The class token comes first, then the patches row by row.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VisionOutput {
    /// The input of block 0 (after the pre-LayerNorm), then the output of every block that was computed; each
    /// `[B, 1 + G·G, D]`.
    pub hidden_states: Vec<Tensor>,
}

/// CLIP's vision transformer.
#[derive(Clone, Debug)]
pub struct VisionTower {
    config: ClipVisionConfig,
    patch_embedding: PatchEmbedding,
    class_embedding: Tensor,
    position_embedding: Tensor,
    pre_layrnorm: LayerNorm,
    layers: Vec<Block>,
    post_layernorm: LayerNorm,
}

impl VisionTower {
    /// Creates the tower from `weights`.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when `weights` lacks a tensor.
    pub fn new<'a>(config: &ClipVisionConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        config.validate()?;
        let (width, patch, embeddings) = (config.hidden_size, config.patch_size, weights.pp("embeddings"));
        let grid = config.image_size / patch;
        let patches = embeddings.pp("patch_embedding");
        let block = BlockConfig {
            width,
            intermediate: config.intermediate_size,
            num_heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: false,
        };
        let norm = |name| LayerNorm::new(width, config.layer_norm_eps, weights.pp(name));
        Ok(Self {
            config: config.clone(),
            patch_embedding: PatchEmbedding::new(config.num_channels, width, patch, false, patches)?,
            class_embedding: embeddings.get(width, "class_embedding")?,
            position_embedding: embeddings.pp("position_embedding").get((grid * grid + 1, width), "weight")?,
            pre_layrnorm: norm("pre_layrnorm")?,
            layers: blocks(&block, config.num_hidden_layers, weights.pp("encoder"))?,
            post_layernorm: norm("post_layernorm")?,
        })
    }

    /// The configuration that the tower was built with.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Number of transformer blocks.
    pub fn num_blocks(&self) -> usize {
        self.layers.len()
    }

    /// Encodes normalised pictures `[B, C, H, W]` with all blocks.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels or pictures smaller than a patch.
    pub fn forward(&self, pixels: &Tensor) -> Result<VisionOutput> {
        self.forward_blocks(pixels, self.num_blocks())
    }

    /// Like [`VisionTower::forward`], but runs only the first `num_blocks` blocks; [`VisionTower::run_blocks`]
    /// continues.
    ///
    /// # Errors
    /// As [`VisionTower::forward`].
    pub fn forward_blocks(&self, pixels: &Tensor, num_blocks: usize) -> Result<VisionOutput> {
        let patches = self.patch_embedding.forward(pixels)?; // [B, G·G, D]
        let (batch, _, width) = patches.dims3()?;
        let (_, _, height, wide) = pixels.dims4()?;
        let patch = self.config.patch_size;
        let class = self.class_embedding.reshape((1, 1, width))?.broadcast_as((batch, 1, width))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?;
        let positions = self.positions(height / patch, wide / patch)?;
        let x = self.pre_layrnorm.forward(&tokens.broadcast_add(&positions)?)?;
        let mut hidden_states = vec![x.clone()];
        hidden_states.extend(self.run_blocks(&x, 0..num_blocks.min(self.num_blocks()))?);
        Ok(VisionOutput { hidden_states })
    }

    /// Runs the blocks in `range`, starting from the hidden state `x` `[B, 1 + G·G, D]`, and returns the output of
    /// each.
    ///
    /// # Errors
    /// [`Error::Argument`] for a range of blocks that the tower does not have.
    pub fn run_blocks(&self, x: &Tensor, range: Range<usize>) -> Result<Vec<Tensor>> {
        let Some(layers) = self.layers.get(range.clone()) else {
            let expected = format!("within 0..{}", self.num_blocks());
            return Err(Error::argument("blocks of the vision tower", expected, format!("{range:?}")));
        };
        let mut x = x.clone();
        let mut outputs = Vec::with_capacity(layers.len());
        for layer in layers {
            x = layer.forward_pre_norm(&x)?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    /// The class token of the last block's output `[B, 1 + G·G, D]` after the post-LayerNorm, `[B, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width.
    pub fn pooled(&self, last: &Tensor) -> Result<Tensor> {
        self.post_layernorm.forward(&last.i((.., 0))?.contiguous()?)
    }

    /// Like [`VisionTower::pooled`], but from the hidden state `[B, 1 + G·G, D]` before the last block. That block is
    /// computed for the class token only.
    ///
    /// # Errors
    /// [`Error::Candle`] when the state has another width than D.
    pub fn pooled_before_last(&self, before_last: &Tensor) -> Result<Tensor> {
        match self.layers.last() {
            Some(layer) => self.pooled(&layer.forward_first(before_last)?),
            None => self.pooled(before_last),
        }
    }

    /// A feature for each patch, `[B, G·G, D]`: the hidden state `before_last` `[B, 1 + G·G, D]` without the class
    /// token, after the last block, applied without mixing tokens, and the post-LayerNorm.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width.
    pub fn dense(&self, before_last: &Tensor) -> Result<Tensor> {
        // Tokens are not mixed, so the class token can be dropped first.
        let patches = before_last.narrow(1, 1, before_last.dim(1)? - 1)?.contiguous()?;
        let x = match self.layers.last() {
            Some(layer) => layer.forward_unmixed(&patches)?,
            None => patches,
        };
        self.post_layernorm.forward(&x)
    }

    /// The position table for a grid of patches, `[1 + rows·columns, D]`. If the stored one has another size, it is
    /// interpolated bicubically; the position of the class token stays as it is.
    fn positions(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let stored = self.config.image_size / self.config.patch_size;
        if (rows, columns) == (stored, stored) {
            return Ok(self.position_embedding.clone());
        }
        let width = self.config.hidden_size;
        let class = self.position_embedding.narrow(0, 0, 1)?;
        let table = self.position_embedding.narrow(0, 1, stored * stored)?;
        let table = table.t()?.reshape((width, stored, stored))?;
        let table = resize(&table, rows, columns, Interpolation::Bicubic)?;
        Ok(Tensor::cat(&[&class, &table.reshape((width, rows * columns))?.t()?.contiguous()?], 0)?)
    }
}
