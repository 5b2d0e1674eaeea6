//! The text tower.
//!
//! Reimplements [`CLIPTextEmbeddings`] of transformers, and the [run from token embeddings] of ACL.
//!
//! [`CLIPTextEmbeddings`]: https://github.com/huggingface/transformers/blob/000f1ffdbf1ce6190cc8863af9a2fff817590937/src/transformers/models/clip/modeling_clip.py#L225-L262
//! [run from token embeddings]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/CLIPSeg/clipseg_for_audio.py#L69-L132

use candle_core::{Device, Tensor};

use super::config::ClipTextConfig;
use super::encoder::{Block, BlockConfig, blocks};
use crate::error::{Error, Result};
use crate::nn::{Embedding, LayerNorm, Weights};

/// The hidden states of a prompt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TextOutput {
    /// The input of block 0, then the output of every block; each `[B, N, H]`.
    pub hidden_states: Vec<Tensor>,
    /// The last hidden state after the final LayerNorm, `[B, N, H]`.
    pub last_hidden_state: Tensor,
}

impl TextOutput {
    /// The normalised state at position `ends[b]` of each prompt, `[B, H]`; usually the position of the end token.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there is one position per prompt, each within the prompt.
    pub fn pooled(&self, ends: &[usize]) -> Result<Tensor> {
        let (batch, tokens, _) = self.last_hidden_state.dims3()?;
        if ends.len() != batch || ends.iter().any(|end| *end >= tokens) {
            let expected = format!("{batch} positions below {tokens}");
            return Err(Error::argument("end positions of the prompts", expected, format!("{ends:?}")));
        }
        // As rows of one matrix, so that the backward pass scatters once instead of once per prompt.
        let rows: Vec<u32> = ends.iter().enumerate().map(|(b, end)| (b * tokens + end) as u32).collect();
        let rows = Tensor::from_vec(rows, batch, self.last_hidden_state.device())?;
        Ok(self.last_hidden_state.flatten_to(1)?.contiguous()?.index_select(&rows, 0)?)
    }
}

/// CLIP's causal text transformer.
#[derive(Clone, Debug)]
pub struct TextTower {
    token_embedding: Embedding,
    position_embedding: Tensor,
    layers: Vec<Block>,
    final_layer_norm: LayerNorm,
}

impl TextTower {
    /// Creates the tower from `weights`.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when `weights` lacks a tensor.
    pub fn new<'a>(config: &ClipTextConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        config.validate()?;
        let (width, embeddings) = (config.hidden_size, weights.pp("embeddings"));
        let positions = (config.max_position_embeddings, width);
        let block = BlockConfig {
            width,
            intermediate: config.intermediate_size,
            num_heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: true,
        };
        Ok(Self {
            token_embedding: Embedding::new(config.vocab_size, width, embeddings.pp("token_embedding"))?,
            position_embedding: embeddings.pp("position_embedding").get(positions, "weight")?,
            layers: blocks(&block, config.num_hidden_layers, weights.pp("encoder"))?,
            final_layer_norm: LayerNorm::new(width, config.layer_norm_eps, weights.pp("final_layer_norm"))?,
        })
    }

    /// The device on which the tower computes.
    pub fn device(&self) -> &Device {
        self.token_embedding.device()
    }

    /// Width H of the transformer.
    pub fn hidden_size(&self) -> usize {
        self.position_embedding.dims()[1]
    }

    /// The longest prompt in tokens.
    pub fn max_tokens(&self) -> usize {
        self.position_embedding.dims()[0]
    }

    /// Token embeddings of ids `[…]` → `[…, H]`, before positions are added.
    ///
    /// # Errors
    /// [`Error::Candle`] for an id outside the vocabulary.
    pub fn embed_tokens(&self, ids: &Tensor) -> Result<Tensor> {
        self.token_embedding.forward(ids)
    }

    /// Runs the tower over token ids `[B, N]`.
    ///
    /// # Errors
    /// As [`TextTower::embed_tokens`] and [`TextTower::forward_embeddings`].
    pub fn forward(&self, ids: &Tensor) -> Result<TextOutput> {
        self.forward_embeddings(&self.embed_tokens(ids)?)
    }

    /// Runs the tower over token embeddings `[B, N, H]`; positions are added here.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width or more tokens than the position table has.
    pub fn forward_embeddings(&self, embeddings: &Tensor) -> Result<TextOutput> {
        let (max, width) = (self.max_tokens(), self.hidden_size());
        let tokens = match *embeddings.dims() {
            [_, tokens, w] if tokens <= max && w == width => tokens,
            ref found => return Err(Error::shape("token embeddings", format!("[B, ≤ {max}, {width}]"), found)),
        };
        let mut x = embeddings.broadcast_add(&self.position_embedding.narrow(0, 0, tokens)?)?;
        let mut hidden_states = vec![x.clone()];
        for layer in &self.layers {
            x = layer.forward_pre_norm(&x)?;
            hidden_states.push(x.clone());
        }
        let last_hidden_state = self.final_layer_norm.forward(&x)?;
        Ok(TextOutput { hidden_states, last_hidden_state })
    }
}
