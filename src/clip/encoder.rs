//! The transformer blocks of both towers and of CLIPSeg's decoder.
//!
//! Reimplements [`CLIPAttention`, `CLIPMLP` and `CLIPEncoderLayer`] of transformers. The variant without mixing is the
//! last block in ACL's [`get_pixels`].
//!
//! [`CLIPAttention`, `CLIPMLP` and `CLIPEncoderLayer`]: https://github.com/huggingface/transformers/blob/000f1ffdbf1ce6190cc8863af9a2fff817590937/src/transformers/models/clip/modeling_clip.py#L265-L393
//! [`get_pixels`]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/CLIPSeg/clipseg_for_audio.py#L148-L169

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::nn::{Activation, Attention, LayerNorm, Linear, Weights, residual};

/// Width, heads and feed-forward network of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConfig {
    pub(crate) width: usize,
    pub(crate) intermediate: usize,
    pub(crate) num_heads: usize,
    pub(crate) activation: Activation,
    pub(crate) eps: f64,
    pub(crate) causal: bool,
}

#[derive(Clone, Debug)]
struct SelfAttention {
    qkv: Linear,
    out_proj: Linear,
    attention: Attention,
}

impl SelfAttention {
    fn new(config: &BlockConfig, weights: Weights<'_>) -> Result<Self> {
        let width = config.width;
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| weights.pp(name));
        Ok(Self {
            qkv: Linear::merged(width, &[width; 3], true, &parts)?,
            out_proj: Linear::new(width, width, true, weights.pp("out_proj"))?,
            attention: Attention::new(width, config.num_heads, config.causal)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out_proj.forward(&self.attention.forward(&self.qkv.forward(x)?, None)?)
    }

    /// The attention's output for the first token, `[B, 1, D]`.
    fn forward_first(&self, x: &Tensor) -> Result<Tensor> {
        let mixed = self.attention.forward(&self.qkv.forward(x)?, None)?;
        self.out_proj.forward(&mixed.narrow(1, 0, 1)?)
    }

    /// The projected value of each token, as if every token attended only to itself.
    fn forward_values(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.out_proj.in_dim();
        let values = self.qkv.forward(x)?.narrow(D::Minus1, 2 * width, width)?;
        self.out_proj.forward(&values)
    }
}

#[derive(Clone, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_activated(x, self.activation)?)
    }
}

/// Attention and feed-forward network with their two LayerNorms; the caller chooses pre-norm or post-norm.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    self_attn: SelfAttention,
    layer_norm1: LayerNorm,
    mlp: Mlp,
    layer_norm2: LayerNorm,
}

impl Block {
    pub(crate) fn new(config: &BlockConfig, weights: Weights<'_>) -> Result<Self> {
        let (width, intermediate) = (config.width, config.intermediate);
        let mlp = weights.pp("mlp");
        Ok(Self {
            self_attn: SelfAttention::new(config, weights.pp("self_attn"))?,
            layer_norm1: LayerNorm::new(width, config.eps, weights.pp("layer_norm1"))?,
            mlp: Mlp {
                fc1: Linear::new(width, intermediate, true, mlp.pp("fc1"))?,
                fc2: Linear::new(intermediate, width, true, mlp.pp("fc2"))?,
                activation: config.activation,
            },
            layer_norm2: LayerNorm::new(width, config.eps, weights.pp("layer_norm2"))?,
        })
    }

    /// `x + attention(norm1(x))`, then `x + mlp(norm2(x))`.
    pub(crate) fn forward_pre_norm(&self, x: &Tensor) -> Result<Tensor> {
        let x = residual(x, 1.0, &self.self_attn.forward(&self.layer_norm1.forward(x)?)?)?;
        self.forward_mlp(&x)
    }

    /// Like [`Block::forward_pre_norm`], but computes the output of the first token only: `[B, N, D]` → `[B, 1, D]`.
    pub(crate) fn forward_first(&self, x: &Tensor) -> Result<Tensor> {
        let first = residual(&x.narrow(1, 0, 1)?, 1.0, &self.self_attn.forward_first(&self.layer_norm1.forward(x)?)?)?;
        self.forward_mlp(&first)
    }

    /// Like [`Block::forward_pre_norm`], but every token attends only to itself.
    pub(crate) fn forward_unmixed(&self, x: &Tensor) -> Result<Tensor> {
        let x = residual(x, 1.0, &self.self_attn.forward_values(&self.layer_norm1.forward(x)?)?)?;
        self.forward_mlp(&x)
    }

    fn forward_mlp(&self, x: &Tensor) -> Result<Tensor> {
        residual(x, 1.0, &self.mlp.forward(&self.layer_norm2.forward(x)?)?)
    }

    /// `norm1(x + attention(x))`, then `norm2(x + mlp(x))`.
    pub(crate) fn forward_post_norm(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.layer_norm1.forward(&residual(x, 1.0, &self.self_attn.forward(x)?)?)?;
        self.layer_norm2.forward(&residual(&x, 1.0, &self.mlp.forward(&x)?)?)
    }
}

/// A stack of pre-norm blocks under `layers.<i>`.
pub(crate) fn blocks(config: &BlockConfig, count: usize, weights: Weights<'_>) -> Result<Vec<Block>> {
    let weights = weights.pp("layers");
    (0..count).map(|i| Block::new(config, weights.pp(i))).collect()
}
