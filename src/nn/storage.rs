//! Main-memory access for the fused kernels.

use candle_core::{CpuStorage, DType, Layout, Tensor};
use rayon::prelude::*;

/// Allocates zeroed memory for a result. All threads clear large allocations: with only one, the others would wait.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    const PART: usize = 1 << 16;
    if len < 4 * PART {
        return vec![0.0; len];
    }
    rayon::iter::repeat_n(0.0, len).with_min_len(PART).collect()
}

/// The elements of a contiguous `f32` tensor in main memory, for the fused kernels.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::RequiresContiguous { op: "fused kernel" }.bt())?;
    let all: &[f32] = storage.as_slice()?;
    all.get(start..end).ok_or_else(|| candle_core::Error::Msg("layout outside of its storage".into()).bt())
}

/// Whether `x` is a tensor that the fused kernels support: `f32` on the CPU.
pub(super) fn is_cpu_f32(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}
