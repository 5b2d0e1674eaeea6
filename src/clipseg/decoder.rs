//! The decoder that computes a mask from activations and a condition.
//!
//! ACL calls it [as `CLIPSegForImageSegmentation` does].
//!
//! [as `CLIPSegForImageSegmentation` does]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/models.py#L135-L161

use candle_core::{D, Tensor};

use super::config::ClipSegConfig;
use crate::clip::encoder::{Block, BlockConfig};
use crate::error::{Error, Result};
use crate::nn::{Activation, Linear, TransposedConv, Weights, conv3x3, conv3x3_weight};

/// The step from tokens to pixels.
#[derive(Clone, Debug)]
enum Upsampling {
    /// One transposed convolution as large as a patch.
    Simple(TransposedConv),
    /// A 3 × 3 convolution and two transposed convolutions, with a ReLU after each of the first two.
    Complex { conv: Linear, first: TransposedConv, second: TransposedConv },
}

/// CLIPSeg's FiLM-conditioned decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    film_mul: Linear,
    film_add: Linear,
    reduces: Vec<Linear>,
    layers: Vec<Block>,
    transposed_convolution: Upsampling,
    conditional_layer: usize,
}

impl Decoder {
    /// Creates the decoder from `weights`.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid configuration; [`Error::Candle`] when `weights` lacks one of the tensors.
    pub fn new<'a>(config: &ClipSegConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        config.validate()?;
        let weights = weights.into();
        let (width, patch) = (config.reduce_dim, config.vision_config.patch_size);
        let block = BlockConfig {
            width,
            intermediate: config.decoder_intermediate_size,
            num_heads: config.decoder_num_attention_heads,
            // The published code never reads `decoder_hidden_act`; it always uses ReLU.
            activation: Activation::Relu,
            eps: config.vision_config.layer_norm_eps,
            causal: false,
        };
        let depth = config.extract_layers.len();
        let film = |name| Linear::new(config.projection_dim, width, true, weights.pp(name));
        let reduce = |i| Linear::new(config.vision_config.hidden_size, width, true, weights.pp("reduces").pp(i));
        let upsampling = weights.pp("transposed_convolution");
        let transposed_convolution = if config.use_complex_transposed_convolution {
            let kernel = patch / 4;
            Upsampling::Complex {
                conv: conv3x3_weight(width, width, upsampling.pp(0))?,
                first: TransposedConv::new(width, width / 2, kernel, upsampling.pp(2))?,
                second: TransposedConv::new(width / 2, 1, kernel, upsampling.pp(4))?,
            }
        } else {
            Upsampling::Simple(TransposedConv::new(width, 1, patch, upsampling)?)
        };
        Ok(Self {
            film_mul: film("film_mul")?,
            film_add: film("film_add")?,
            reduces: (0..depth).map(reduce).collect::<Result<_>>()?,
            layers: (0..depth).map(|i| Block::new(&block, weights.pp("layers").pp(i))).collect::<Result<_>>()?,
            transposed_convolution,
            conditional_layer: config.conditional_layer,
        })
    }

    /// Reduces activations, deepest first, each `[B, N, D]` → `[B, N, R]`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a wrong number of activations, [`Error::Shape`] for a wrong width.
    pub fn reduce(&self, activations: &[&Tensor]) -> Result<Vec<Tensor>> {
        self.check_count(activations.len())?;
        self.reduces.iter().zip(activations).map(|(reduce, x)| reduce.forward(x)).collect()
    }

    /// Computes raw logits `[B, S, S]`, S = G·patch, of the region that `condition` `[B, P]` describes. The pictures
    /// are given as activations `[B, 1 + G·G, R]` from [`Decoder::reduce`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a wrong number of activations, [`Error::Shape`] when the patches do not form a square or
    /// the condition has another batch size.
    pub fn forward(&self, reduced: &[Tensor], condition: &Tensor) -> Result<Tensor> {
        self.check_count(reduced.len())?;
        let mut state: Option<Tensor> = None;
        for (i, (layer, reduced)) in self.layers.iter().zip(reduced).enumerate() {
            let mut x = match state {
                Some(state) => (reduced + state)?,
                None => reduced.clone(),
            };
            if i == self.conditional_layer {
                if condition.dims2()?.0 != x.dim(0)? {
                    let expected = format!("[{}, P]", x.dim(0)?);
                    return Err(Error::shape("condition of the decoder", expected, condition.dims()));
                }
                // FiLM: one factor and one offset per channel, the same for every token.
                let (mul, add) = (self.film_mul.forward(condition)?, self.film_add.forward(condition)?);
                x = x.broadcast_mul(&mul.unsqueeze(1)?)?.broadcast_add(&add.unsqueeze(1)?)?;
            }
            state = Some(layer.forward_post_norm(&x)?);
        }
        let Some(x) = state else {
            return Err(Error::config("decoder layers", "at least one", 0));
        };
        self.upsample(&x)
    }

    fn upsample(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let grid = (tokens - 1).isqrt();
        if grid * grid + 1 != tokens {
            return Err(Error::shape("activations of the decoder", "[B, 1 + G·G, R]", x.dims()));
        }
        let x = x.narrow(1, 1, tokens - 1)?.contiguous()?.reshape((batch, grid, grid, width))?;
        let logits = match &self.transposed_convolution {
            Upsampling::Simple(conv) => conv.forward(&x, None)?,
            Upsampling::Complex { conv, first, second } => {
                let x = conv3x3(&x, conv, Some(Activation::Relu))?;
                second.forward(&first.forward(&x, Some(Activation::Relu))?, None)?
            }
        };
        Ok(logits.squeeze(D::Minus1)?)
    }

    fn check_count(&self, found: usize) -> Result<()> {
        if found == self.reduces.len() {
            return Ok(());
        }
        Err(Error::argument("activations for the decoder", self.reduces.len().to_string(), found))
    }
}
