//! Products with weights that never receive a gradient, on any device and in any precision.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Storage, Tensor, op};

/// `x·Wᵀ + b` with constant `W` [N, K] and `b` [N]. The backward pass computes `g·W` and nothing else.
///
/// Candle's own matrix product computes the gradients of both sides. For a frozen weight, that wastes half of the
/// backward pass, and the unused gradient stays in memory until the pass ends.
pub(crate) struct FrozenLinear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl FrozenLinear {
    pub(crate) fn new(weight: &Tensor, bias: Option<&Tensor>) -> Self {
        Self { weight: weight.detach(), bias: bias.map(Tensor::detach) }
    }

    fn run<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        pick: impl for<'a> Fn(&'a Storage) -> Option<&'a S>,
    ) -> Result<(S, Shape)> {
        let elsewhere = || candle_core::Error::Msg("weights and input are on different devices".into()).bt();
        let (n, k) = self.weight.dims2()?;
        let mut dims = layout.dims().to_vec();
        let m = layout.shape().elem_count() / k;
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        let flat = Layout::contiguous_with_offset((m, k), layout.start_offset());
        let (weight, weight_layout) = self.weight.storage_and_layout();
        let weight = pick(&weight).ok_or_else(elsewhere)?;
        let mut out = x.matmul(weight, (1, m, n, k), &flat, &weight_layout.transpose(0, 1)?)?;
        if let Some(bias) = &self.bias {
            let (bias, bias_layout) = bias.storage_and_layout();
            let bias = pick(&bias).ok_or_else(elsewhere)?;
            let rows = bias_layout.broadcast_as((m, n))?;
            out = out.binary_impl::<op::Add>(bias, &Layout::contiguous((m, n)), &rows)?;
        }
        Ok((out, Shape::from(dims)))
    }
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.run(x, layout, |s| match s {
            Storage::Cpu(s) => Some(s),
            _ => None,
        })
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run(x, layout, |s| match s {
            Storage::Cuda(s) => Some(s),
            _ => None,
        })
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.run(x, layout, |s| match s {
            Storage::Metal(s) => Some(s),
            _ => None,
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let (n, _) = self.weight.dims2()?;
        let g = g.contiguous()?.reshape(((), n))?;
        Ok(Some(g.matmul(&self.weight)?.reshape(x.shape())?))
    }
}
