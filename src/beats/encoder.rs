//! BEATs' transformer: position convolution, relative position bias, gated attention, blocks.
//!
//! Reimplements the published [encoder], its [blocks], the [relative position bias] and the [attention] with its
//! [gate].
//!
//! [encoder]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/backbone.py#L26-L150
//! [blocks]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/backbone.py#L153-L275
//! [relative position bias]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/backbone.py#L392-L430
//! [attention]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/backbone.py#L432-L684
//! [gate]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/backbone.py#L650-L662

use candle_core::{D, Tensor};

use super::config::BeatsConfig;
use crate::error::Result;
use crate::nn::{Attention, GatedBias, LayerNorm, Linear, PositionConv, Weights, residual};

/// `eps` of every LayerNorm in BEATs (PyTorch's default).
pub(super) const LAYER_NORM_EPS: f64 = 1e-5;

/// The position convolution with its weight normalisation over the kernel's taps:
/// `w[:, :, t] = g[t] · v[:, :, t] / ‖v[:, :, t]‖` (Salimans and Kingma, arXiv 1602.07868, with `dim = 2`).
#[derive(Clone, Debug)]
struct NormalisedPositionConv {
    weight_g: Tensor,
    weight_v: Tensor,
    bias: Tensor,
    groups: usize,
    /// The convolution, if the weights are frozen; trainable weights are normalised in every forward pass.
    frozen: Option<PositionConv>,
}

impl NormalisedPositionConv {
    fn new(config: &BeatsConfig, weights: Weights<'_>) -> Result<Self> {
        let (dim, groups) = (config.encoder_embed_dim, config.conv_pos_groups);
        let weight_g = weights.get((1, 1, config.conv_pos), "weight_g")?;
        let weight_v = weights.get((dim, dim / groups, config.conv_pos), "weight_v")?;
        let bias = weights.get(dim, "bias")?;
        let mut conv = Self { weight_g, weight_v, bias, groups, frozen: None };
        if ![&conv.weight_g, &conv.weight_v, &conv.bias].iter().any(|t| t.track_op()) {
            conv.frozen = Some(conv.normalised()?);
        }
        Ok(conv)
    }

    fn normalised(&self) -> Result<PositionConv> {
        let norm = self.weight_v.sqr()?.sum_keepdim((0, 1))?.sqrt()?;
        let weight = self.weight_v.broadcast_mul(&self.weight_g.broadcast_div(&norm)?)?;
        PositionConv::from_tensors(weight, self.bias.clone(), self.groups)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.frozen {
            Some(conv) => conv.forward(x),
            None => self.normalised()?.forward(x),
        }
    }
}

/// The learned bias per bucket of relative distance, shared by all blocks.
#[derive(Clone, Debug)]
struct RelativePositionBias {
    weight: Tensor,
    num_buckets: usize,
    max_distance: usize,
}

impl RelativePositionBias {
    /// The bucket of the distance `key − query`: exact up to a quarter of the buckets, then logarithmic up to
    /// `max_distance`, one half of the buckets for each direction (T5, Raffel et al., arXiv 1910.10683).
    fn bucket(&self, distance: i64) -> u32 {
        let half = self.num_buckets / 2;
        let direction = if distance > 0 { half } else { 0 };
        let distance = distance.unsigned_abs() as usize;
        let exact = half / 2;
        let bucket = if distance < exact {
            distance
        } else {
            // In f32 like the original: rounding decides the bucket of distances at an edge.
            let ratio = (distance as f32 / exact as f32).ln();
            let range = (self.max_distance as f64 / exact as f64).ln() as f32;
            (exact + (ratio / range * (half - exact) as f32) as usize).min(half - 1)
        };
        (direction + bucket) as u32
    }

    /// The bias of every distance from −(N − 1) to N − 1, `[H, 2N − 1]`.
    fn table(&self, num_tokens: usize) -> Result<Tensor> {
        let reach = num_tokens as i64 - 1;
        let buckets: Vec<u32> = (-reach..=reach).map(|distance| self.bucket(distance)).collect();
        let count = buckets.len();
        let buckets = Tensor::from_vec(buckets, count, self.weight.device())?;
        Ok(self.weight.index_select(&buckets, 0)?.t()?.contiguous()?)
    }
}

/// The gate by which a query scales its position bias: `gate = σ(z_a)·(σ(z_b)·grep_a − 1) + 2`, where `z_a` and `z_b`
/// are the sums of the first and the last four outputs of `grep_linear(q)`. It is computed per head, from the unscaled
/// query.
#[derive(Clone, Debug)]
struct Gate {
    grep_linear: Linear,
    grep_a: Tensor,
}

impl Gate {
    /// `q` `[B, N, H, d]` → `[B, H, N]`.
    fn forward(&self, q: &Tensor) -> Result<Tensor> {
        let (b, n, heads, _) = q.dims4()?;
        let z = self.grep_linear.forward(q)?.reshape((b, n, heads, 2, 4))?.sum(D::Minus1)?;
        let gates = candle_nn::ops::sigmoid(&z)?;
        let part = |i: usize| gates.narrow(D::Minus1, i, 1)?.squeeze(D::Minus1);
        let (a, b) = (part(0)?, part(1)?); // [B, N, H]
        let inner = (b.broadcast_mul(&self.grep_a.flatten_all()?)? - 1.0)?;
        Ok(((a * inner)? + 2.0)?.transpose(1, 2)?.contiguous()?)
    }
}

#[derive(Clone, Debug)]
struct SelfAttention {
    qkv: Linear,
    out_proj: Linear,
    attention: Attention,
    gate: Option<Gate>,
}

impl SelfAttention {
    fn new(config: &BeatsConfig, weights: Weights<'_>) -> Result<Self> {
        let (dim, heads) = (config.encoder_embed_dim, config.encoder_attention_heads);
        let parts = ["q_proj", "k_proj", "v_proj"].map(|name| weights.pp(name));
        let gate = if config.relative_position_embedding && config.gru_rel_pos {
            let grep_linear = Linear::new(dim / heads, 8, true, weights.pp("grep_linear"))?;
            Some(Gate { grep_linear, grep_a: weights.get((1, heads, 1, 1), "grep_a")? })
        } else {
            None
        };
        Ok(Self {
            qkv: Linear::merged(dim, &[dim; 3], true, &parts)?,
            out_proj: Linear::new(dim, dim, true, weights.pp("out_proj"))?,
            attention: Attention::new(dim, heads, false)?,
            gate,
        })
    }

    fn forward(&self, x: &Tensor, table: Option<&Tensor>) -> Result<Tensor> {
        let (b, n, dim) = x.dims3()?;
        let heads = self.attention.num_heads;
        let qkv = self.qkv.forward(x)?;
        let bias = match table {
            None => None,
            Some(table) => {
                let gate = match &self.gate {
                    Some(gate) => {
                        let queries = qkv.narrow(D::Minus1, 0, dim)?.contiguous()?;
                        gate.forward(&queries.reshape((b, n, heads, dim / heads))?)?
                    }
                    None => Tensor::ones((b, heads, n), x.dtype(), x.device())?,
                };
                Some(GatedBias { table: table.clone(), gate })
            }
        };
        self.out_proj.forward(&self.attention.forward(&qkv, bias.as_ref())?)
    }
}

#[derive(Clone, Debug)]
struct Block {
    self_attn: SelfAttention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
    config: BeatsConfig,
    /// Factor on the residuals.
    alpha: f64,
}

impl Block {
    fn new(config: &BeatsConfig, weights: Weights<'_>) -> Result<Self> {
        let (dim, ffn) = (config.encoder_embed_dim, config.encoder_ffn_embed_dim);
        Ok(Self {
            self_attn: SelfAttention::new(config, weights.pp("self_attn"))?,
            self_attn_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, weights.pp("self_attn_layer_norm"))?,
            fc1: Linear::new(dim, ffn, true, weights.pp("fc1"))?,
            fc2: Linear::new(ffn, dim, true, weights.pp("fc2"))?,
            final_layer_norm: LayerNorm::new(dim, LAYER_NORM_EPS, weights.pp("final_layer_norm"))?,
            config: config.clone(),
            alpha: if config.deep_norm { (2.0 * config.encoder_layers as f64).powf(0.25) } else { 1.0 },
        })
    }

    fn feed_forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.fc1.forward_activated(x, self.config.activation_fn)?)
    }

    fn forward(&self, x: &Tensor, table: Option<&Tensor>) -> Result<Tensor> {
        if self.config.layer_norm_first {
            let x = residual(x, 1.0, &self.self_attn.forward(&self.self_attn_layer_norm.forward(x)?, table)?)?;
            return residual(&x, 1.0, &self.feed_forward(&self.final_layer_norm.forward(&x)?)?);
        }
        let x = residual(x, self.alpha, &self.self_attn.forward(x, table)?)?;
        let x = self.self_attn_layer_norm.forward(&x)?;
        let y = residual(&x, self.alpha, &self.feed_forward(&x)?)?;
        self.final_layer_norm.forward(&y)
    }
}

/// BEATs' transformer.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    pos_conv: NormalisedPositionConv,
    bias: Option<RelativePositionBias>,
    layers: Vec<Block>,
    pub(super) layer_norm: LayerNorm,
    layer_norm_first: bool,
}

impl Encoder {
    pub(super) fn new(config: &BeatsConfig, weights: Weights<'_>) -> Result<Self> {
        let blocks = weights.pp("layers");
        let bias = if config.relative_position_embedding {
            // Stored with block 0 and shared by all blocks.
            let shape = (config.num_buckets, config.encoder_attention_heads);
            let weight = blocks.pp("0.self_attn.relative_attention_bias").get(shape, "weight")?;
            let (num_buckets, max_distance) = (config.num_buckets, config.max_distance);
            Some(RelativePositionBias { weight, num_buckets, max_distance })
        } else {
            None
        };
        Ok(Self {
            pos_conv: NormalisedPositionConv::new(config, weights.pp("pos_conv.0"))?,
            bias,
            layers: (0..config.encoder_layers).map(|i| Block::new(config, blocks.pp(i))).collect::<Result<_>>()?,
            layer_norm: LayerNorm::new(config.encoder_embed_dim, LAYER_NORM_EPS, weights.pp("layer_norm"))?,
            layer_norm_first: config.layer_norm_first,
        })
    }

    /// The input of block 0, then the output of each of the first `num_blocks` blocks; each `[B, N, D]`.
    pub(super) fn forward(&self, x: &Tensor, num_blocks: usize) -> Result<Vec<Tensor>> {
        let x = residual(x, 1.0, &self.pos_conv.forward(x)?)?;
        let x = if self.layer_norm_first { x } else { self.layer_norm.forward(&x)? };
        let table = self.bias.as_ref().map(|bias| bias.table(x.dim(1)?)).transpose()?;
        let mut hidden_states = vec![x.clone()];
        let mut x = x;
        for layer in &self.layers[..num_blocks.min(self.layers.len())] {
            x = layer.forward(&x, table.as_ref())?;
            hidden_states.push(x.clone());
        }
        Ok(hidden_states)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn buckets_agree_with_the_original() {
        // [m._relative_positions_bucket(torch.tensor(d)).item() for d in (...)] with 320 buckets, max distance 800
        let weight = Tensor::zeros((320, 1), DType::F32, &Device::Cpu).unwrap();
        let bias = RelativePositionBias { weight, num_buckets: 320, max_distance: 800 };
        let distances = [0, -1, 1, -79, 79, -80, 80, -81, 100, -200, 400, -495, 495, 800, -5000];
        let buckets = distances.map(|d| bias.bucket(d));
        assert_eq!(buckets, [0, 1, 161, 79, 239, 80, 240, 80, 247, 111, 295, 143, 303, 319, 159]);
    }
}
