//! Element-wise updates of f32 tensors on the CPU, in place and in one pass over the memory.

use candle_core::{CpuStorage, DType, InplaceOp3, Layout, Result, Tensor, bail};
use rayon::prelude::*;

/// The number of elements that one task updates: 16 KiB of each operand, well within a core's cache.
const CHUNK: usize = 4096;

/// a ← f(a, b, c) for each element.
struct Elementwise<F>(F);

impl<F: Fn(f32, f32, f32) -> f32 + Sync> InplaceOp3 for Elementwise<F> {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn cpu_fwd(
        &self,
        a: &mut CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
        c: &CpuStorage,
        c_layout: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(a), CpuStorage::F32(b), CpuStorage::F32(c)) = (a, b, c) else {
            bail!("elementwise: expected f32");
        };
        let range = |layout: &Layout| layout.contiguous_offsets().map(|(from, to)| from..to);
        let a = range(a_layout).and_then(|range| a.get_mut(range));
        let b = range(b_layout).and_then(|range| b.get(range));
        let c = range(c_layout).and_then(|range| c.get(range));
        let (Some(a), Some(b), Some(c)) = (a, b, c) else {
            bail!("elementwise: expected contiguous tensors");
        };
        let f = &self.0;
        a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).zip(c.par_chunks(CHUNK)).for_each(|((a, b), c)| {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = f(*a, *b, *c);
            }
        });
        Ok(())
    }
}

/// Whether [`update`] supports these tensors.
pub(super) fn supports(tensors: [&Tensor; 4]) -> bool {
    tensors.iter().all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.is_contiguous())
}

/// Computes a ← f(a, b, c) for each element of three tensors that [`supports`] accepts.
pub(super) fn update(a: &Tensor, b: &Tensor, c: &Tensor, f: impl Fn(f32, f32, f32) -> f32 + Sync) -> Result<()> {
    if a.dims() != b.dims() || a.dims() != c.dims() {
        bail!("elementwise: shapes {:?}, {:?}, {:?}", a.dims(), b.dims(), c.dims());
    }
    a.inplace_op3(b, c, &Elementwise(f))
}
