//! Differentiable, device-agnostic building blocks.
//!
//! Every block has two forms that a test holds together: one fused for `f32` on CPUs (vectorised, multi-threaded,
//! with its own backward) and one composed of Candle's operations, which runs on every device and in every precision.
//! Both let gradients through: Candle's own fused LayerNorm and softmax cut them silently, and its matrix product
//! computes the gradient of frozen weights too.

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

/// Memory for a result, zeros for now. Large ones are cleared by all threads: one alone would keep the others waiting.
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

/// Whether the fused kernels can take `x`.
pub(crate) fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Softmax over the last dimension out of operations that have a backward (Candle's fused one has none), in `f32`
/// whatever the input's precision.
pub(crate) fn softmax_composed(x: &Tensor) -> candle_core::Result<Tensor> {
    let dtype = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    // The shift changes nothing but the rounding, so no gradient need pass through the maximum.
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(candle_core::D::Minus1)?)?;
    let e = shifted.exp()?;
    e.broadcast_div(&e.sum_keepdim(candle_core::D::Minus1)?)?.to_dtype(dtype)
}
