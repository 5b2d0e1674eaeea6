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
mod layer_norm;
mod linear;
mod matrix;
mod position_conv;
#[cfg(feature = "train")]
mod recompute;
mod residual;
mod resize;
mod simd;
#[cfg(test)]
mod testing;
mod trainable;
pub(crate) mod weights;

pub use activation::Activation;
pub(crate) use attention::{Attention, GatedBias};
pub(crate) use conv::{PatchEmbedding, TransposedConv, conv3x3, conv3x3_weight};
pub(crate) use embedding::Embedding;
pub use format::WeightFormat;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub(crate) use position_conv::PositionConv;
#[cfg(feature = "train")]
pub(crate) use recompute::recompute;
pub(crate) use residual::residual;
pub use resize::{Interpolation, resize};
pub use weights::Weights;

use candle_core::{CpuStorage, DType, Layout, Tensor};
use rayon::prelude::*;

/// Allocates zeroed memory for a result. All threads clear large allocations: with only one, the others would wait.
pub(crate) fn zeros(len: usize) -> Vec<f32> {
    const PART: usize = 1 << 16;
    if len < 4 * PART {
        return vec![0.0; len];
    }
    rayon::iter::repeat_n(0.0, len).with_min_len(PART).collect()
}

/// The elements of a contiguous `f32` tensor in main memory, for the fused kernels.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "fused kernel" }.bt())?;
    let all: &[f32] = storage.as_slice()?;
    all.get(start..end).ok_or_else(|| candle_core::Error::Msg("layout outside of its storage".into()).bt())
}

/// Whether `x` is a tensor that the fused kernels support: `f32` on the CPU.
pub(crate) fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Softmax over the last dimension, composed of operations that have a backward pass (Candle's fused softmax has none).
/// Computes in `f32` regardless of the input's precision.
pub(crate) fn softmax_composed(x: &Tensor) -> candle_core::Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    // The shift only affects rounding, so no gradient needs to flow through the maximum.
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(candle_core::D::Minus1)?)?;
    let e = shifted.exp()?;
    e.broadcast_div(&e.sum_keepdim(candle_core::D::Minus1)?)?.to_dtype(dtype)
}
