//! The AudioTokenizer, which turns audio features into one token for CLIP's text tower.
//!
//! Reimplements the parts of Factor Graph Attention that ACL uses: the [potentials] and the [attention].
//!
//! [potentials]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/FGA/atten.py#L9-L80
//! [attention]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/FGA/atten.py#L259-L274

use candle_core::{D, Tensor};

use crate::error::Result;
use crate::nn::{Activation, Linear, Weights};

/// Lower bound of the norm in an L2 normalisation, as in `torch.nn.functional.normalize`.
const NORM_EPS: f64 = 1e-12;

/// A 1 × 1 convolution over tokens. The published checkpoint stores its weight as `[out, in, 1]`.
fn pointwise(in_dim: usize, out_dim: usize, weights: Weights<'_>) -> Result<Linear> {
    let weight = weights.get((out_dim, in_dim, 1), "weight")?;
    let bias = weights.get(out_dim, "bias")?;
    Linear::derived(move || Ok((weight.squeeze(2)?, Some(bias.clone()))))
}

/// The potential of a token on its own: `feature_reduce(relu(embed(x)))`.
#[derive(Clone, Debug)]
struct Unary {
    embed: Linear,
    feature_reduce: Linear,
}

/// The potential of a token relative to all tokens: the mean over m of `cos(embed_X(x_n), embed_Y(x_m))`.
#[derive(Clone, Debug)]
struct Pairwise {
    embed_x: Linear,
    embed_y: Linear,
}

/// Attentive pooling (Factor Graph Attention, Schwartz et al., arXiv 1904.05880): the unary and the pairwise potential
/// of each token are combined linearly, and a softmax over the tokens gives the weights of their sum.
#[derive(Clone, Debug)]
struct AttentivePooling {
    unary: Unary,
    pairwise: Pairwise,
    reduce_potentials: Tensor,
}

impl AttentivePooling {
    fn new(dim: usize, weights: Weights<'_>) -> Result<Self> {
        let (unary, pairwise) = (weights.pp("un_models.0"), weights.pp("pp_models.0"));
        Ok(Self {
            unary: Unary {
                embed: pointwise(dim, dim, unary.pp("embed"))?,
                feature_reduce: pointwise(dim, 1, unary.pp("feature_reduce"))?,
            },
            pairwise: Pairwise {
                embed_x: pointwise(dim, dim, pairwise.pp("embed_X"))?,
                embed_y: pointwise(dim, dim, pairwise.pp("embed_Y"))?,
            },
            reduce_potentials: weights.pp("reduce_potentials.0").get((1, 2, 1), "weight")?,
        })
    }

    /// `[B, N, H]` → `[B, H]`.
    fn forward(&self, x: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
        let hidden = self.unary.embed.forward_activated(x, Activation::Relu)?;
        let hidden = match dropout {
            Some(keep) => (hidden * keep)?,
            None => hidden,
        };
        let unary = self.unary.feature_reduce.forward(&hidden)?.squeeze(D::Minus1)?; // [B, N]
        // mean over m of ⟨e_n, f_m⟩ = ⟨e_n, mean over m of f_m⟩: so the [N, N] similarities are never computed.
        let e = l2_normalize(&self.pairwise.embed_x.forward(x)?)?;
        let mean = l2_normalize(&self.pairwise.embed_y.forward(x)?)?.mean_keepdim(1)?;
        let pairwise = e.broadcast_mul(&mean)?.sum(D::Minus1)?; // [B, N]
        let potentials = Tensor::stack(&[unary, pairwise], D::Minus1)?; // [B, N, 2]
        let combined = potentials.broadcast_mul(&self.reduce_potentials.flatten_all()?)?.sum(D::Minus1)?;
        let weights = crate::nn::softmax_composed(&combined)?;
        Ok(weights.unsqueeze(1)?.matmul(x)?.squeeze(1)?)
    }
}

/// `x / max(‖x‖₂, 1e-12)` over the last dimension.
pub(crate) fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(NORM_EPS)?;
    Ok(x.broadcast_div(&norm)?)
}

/// The projector and the attentive pooling: `audio_proj` in the published checkpoint, the network that ACL trains.
#[derive(Clone, Debug)]
pub struct AudioTokenizer {
    fc1: Linear,
    fc2: Linear,
    fga: AttentivePooling,
}

impl AudioTokenizer {
    /// Probability with which the published training drops a hidden unit of the unary potential.
    pub const DROPOUT: f64 = 0.5;

    /// Creates a tokenizer that maps features of width `in_dim` (3D: the concatenated outputs of three of the audio
    /// encoder's blocks) to tokens of width `out_dim` (H, the width of the text tower, or P, that of the common space).
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when `weights` lacks one of the tensors or has it in another shape.
    pub fn new<'a>(in_dim: usize, out_dim: usize, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        Ok(Self {
            fc1: Linear::new(in_dim, in_dim, true, weights.pp("fc1"))?,
            fc2: Linear::new(in_dim, out_dim, true, weights.pp("fc2"))?,
            fga: AttentivePooling::new(out_dim, weights.pp("fga"))?,
        })
    }

    /// Audio features `[B, N, 3D]` → audio tokens `[B, H]`.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the features have another width.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.forward_dropout(features, None)
    }

    /// As [`AudioTokenizer::forward`], for training: `dropout` `[B, N, H]` multiplies the hidden units of the unary
    /// potential (0 for a dropped unit, 1/(1 − p) for a kept one).
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when the features have another width.
    pub fn forward_dropout(&self, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
        let hidden = self.fc1.forward_activated(features, Activation::Gelu)?;
        self.fga.forward(&self.fc2.forward(&hidden)?, dropout)
    }

    /// Width H of a token.
    pub fn token_dim(&self) -> usize {
        self.fc2.out_dim()
    }
}
