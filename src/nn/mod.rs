//! Differentiable, device-agnostic building blocks.
//!
//! Every block has two implementations, and a test checks that they agree: a fused one for `f32` on the CPU
//! (vectorised, multi-threaded, with its own backward pass) and one composed of Candle operations, which runs on every
//! device and in every precision. Gradients flow through both. Candle's own fused LayerNorm and softmax cut them
//! silently, and its matrix product also computes the gradients of frozen weights.
//!
//! ```
//! use soundsight::candle_core::{Device, Tensor};
//! use soundsight::nn::{Activation, Linear};
//!
//! # fn main() -> soundsight::Result<()> {
//! let weight = Tensor::new(&[[1f32, 2.0], [0.0, -1.0]], &Device::Cpu)?; // [out, in]
//! let layer = Linear::from_tensors(weight, None)?;
//! let x = Tensor::new(&[[1f32, 1.0]], &Device::Cpu)?;
//! let y = layer.forward_activated(&x, Activation::Relu)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[3.0, 0.0]]);
//! # Ok(())
//! # }
//! ```

mod activation;
mod attention;
pub(crate) mod compressed;
mod conv;
mod embedding;
pub(crate) mod format;
mod frozen;
mod instructions;
mod layer_norm;
mod linear;
mod matrix;
mod position_conv;
#[cfg(feature = "train")]
mod recompute;
mod residual;
mod resize;
mod simd;
mod softmax;
mod storage;
pub(crate) mod stored;
#[cfg(feature = "train")]
mod substitute;
#[cfg(test)]
mod testing;
mod trainable;
pub(crate) mod weights;

pub use activation::Activation;
pub(crate) use attention::{Attention, GatedBias};
pub(crate) use conv::{PatchEmbedding, TransposedConv, conv3x3, conv3x3_weight};
pub(crate) use embedding::Embedding;
pub use format::{Matrices, Precision, WeightFormat};
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use matrix::{instruction_set, multiplies_bf16};
pub(crate) use position_conv::PositionConv;
#[cfg(feature = "train")]
pub(crate) use recompute::recompute;
pub(crate) use residual::residual;
pub use resize::{Interpolation, resize};
pub(crate) use simd::{sigmoid_in_place, weighted_sum};
pub(crate) use softmax::softmax_composed;
#[cfg(feature = "train")]
pub(crate) use substitute::substitute;
pub use weights::Weights;
