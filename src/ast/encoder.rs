//! AST's transformer blocks.
//!
//! Reimplements `ASTAttention`, `ASTMLP` and `ASTLayer` of `modeling_audio_spectrogram_transformer.py` (transformers 5.24.0).

use candle_core::Tensor;

use super::config::AstConfig;
use crate::error::Result;
use crate::nn::{Activation, Attention, LayerNorm, Linear, Weights, residual};

/// A pre-norm block: `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    layernorm_before: LayerNorm,
    qkv: Linear,
    attention: Attention,
    attention_output: Linear,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    output: Linear,
    activation: Activation,
}

impl Block {
    pub(super) fn new(config: &AstConfig, weights: Weights<'_>) -> Result<Self> {
        let (width, intermediate, attention) = (config.hidden_size, config.intermediate_size, weights.pp("attention"));
        let parts = ["query", "key", "value"].map(|name| attention.pp("attention").pp(name));
        let norm = |name| LayerNorm::new(width, config.layer_norm_eps, weights.pp(name));
        Ok(Self {
            layernorm_before: norm("layernorm_before")?,
            qkv: Linear::merged(width, &[width; 3], config.qkv_bias, &parts)?,
            attention: Attention::new(width, config.num_attention_heads, false)?,
            attention_output: Linear::new(width, width, true, attention.pp("output.dense"))?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: Linear::new(width, intermediate, true, weights.pp("intermediate.dense"))?,
            output: Linear::new(intermediate, width, true, weights.pp("output.dense"))?,
            activation: config.hidden_act,
        })
    }

    /// `[B, N, D]` → `[B, N, D]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mixed = self.attention.forward(&self.qkv.forward(&self.layernorm_before.forward(x)?)?, None)?;
        let x = residual(x, 1.0, &self.attention_output.forward(&mixed)?)?;
        let hidden = self.intermediate.forward_activated(&self.layernorm_after.forward(&x)?, self.activation)?;
        residual(&x, 1.0, &self.output.forward(&hidden)?)
    }
}
