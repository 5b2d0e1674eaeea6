//! Recomputing activations in the backward pass ("activation checkpointing"), which saves memory for more time.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Shape, Storage, Tensor, Var};

use crate::error::Result;

/// Computes `f(x)` without keeping any intermediate results of `f`; the backward pass runs `f` again (Chen et al.,
/// "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174).
///
/// Only `x` receives a gradient. Other parameters that `f` reads receive none, so they must be frozen. `f` must be
/// deterministic.
///
/// # Errors
/// The errors of `f`.
pub(crate) fn recompute<F>(x: &Tensor, f: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    // A contiguous copy that owns its storage from offset zero, because the operation below returns the whole storage.
    let y = f(&x.detach())?.force_contiguous()?;
    if !x.track_op() {
        return Ok(y);
    }
    Ok(x.contiguous()?.apply_op1(Recomputed { y, f: Arc::new(f) })?)
}

type Function = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

struct Recomputed {
    y: Tensor,
    f: Arc<Function>,
}

impl Recomputed {
    /// Returns the previously computed result as the output of this operation.
    fn result<S: BackendStorage>(
        &self,
        pick: impl for<'a> Fn(&'a Storage) -> Option<&'a S>,
    ) -> candle_core::Result<(S, Shape)> {
        let (storage, layout) = self.y.storage_and_layout();
        let storage = pick(&storage)
            .ok_or_else(|| candle_core::Error::Msg("input and result are on different devices".into()).bt())?;
        Ok((storage.try_clone(layout)?, self.y.shape().clone()))
    }
}

impl CustomOp1 for Recomputed {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.result(|s| match s {
            Storage::Cpu(s) => Some(s),
            _ => None,
        })
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.result(|s| match s {
            Storage::Cuda(s) => Some(s),
            _ => None,
        })
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        self.result(|s| match s {
            Storage::Metal(s) => Some(s),
            _ => None,
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let x = Var::from_tensor(&x.detach())?;
        let y = (self.f)(&x).map_err(candle_core::Error::wrap)?;
        // The gradient of Σ g·y is the required vector–Jacobian product.
        let grads = (y * g)?.sum_all()?.backward()?;
        Ok(grads.get(&x).cloned())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn value_and_gradient_are_those_of_the_function() {
        let f = |x: &Tensor| -> Result<Tensor> { Ok((x.sqr()? * x.exp()?)?.narrow(0, 1, 2)?) };
        let x = Var::from_tensor(&Tensor::randn(0f32, 1.0, (4, 3), &Device::Cpu).unwrap()).unwrap();
        let gradient = |y: &Tensor| {
            let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            grads.get(&x).unwrap().to_vec2::<f32>().unwrap()
        };
        let (recomputed, direct) = (recompute(&x, f).unwrap(), f(&x).unwrap());
        assert_eq!(recomputed.to_vec2::<f32>().unwrap(), direct.to_vec2::<f32>().unwrap());
        for (a, b) in gradient(&recomputed).iter().flatten().zip(gradient(&direct).iter().flatten()) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a}, expected {b}");
        }
    }
}
