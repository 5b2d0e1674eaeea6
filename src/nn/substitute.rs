//! An operation whose value is given, and whose backward pass is a function.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Shape, Storage, Tensor};

use crate::error::Result;

/// Returns `y` as if it had been computed from `x`: in the backward pass, `x` receives the gradient `backward(x, g)`,
/// where g is the gradient of `y`. Without a graph behind `x`, `y` is returned as it is.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) when the device fails.
pub(crate) fn substitute<F>(x: &Tensor, y: &Tensor, backward: F) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    // A contiguous copy that owns its storage from offset zero, because the operation below returns the whole storage.
    let y = y.detach().force_contiguous()?;
    if !x.track_op() {
        return Ok(y);
    }
    Ok(x.contiguous()?.apply_op1(Substitute { y, backward: Arc::new(backward) })?)
}

type Backward = dyn Fn(&Tensor, &Tensor) -> Result<Tensor> + Send + Sync;

struct Substitute {
    y: Tensor,
    backward: Arc<Backward>,
}

impl Substitute {
    /// Returns the given value as the output of this operation.
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

impl CustomOp1 for Substitute {
    fn name(&self) -> &'static str {
        "substitute"
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
        Ok(Some((self.backward)(x, g).map_err(candle_core::Error::wrap)?))
    }
}
