//! A differentiable softmax.

use candle_core::{DType, Tensor};

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
