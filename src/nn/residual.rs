//! Residual connections.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use crate::error::Result;

/// `alpha·x + y` for tensors of the same shape: adds a block's output to its input, unscaled or scaled as in DeepNorm
/// (Wang et al., arXiv 2203.00555).
///
/// Takes one pass over memory, on the same threads that compute the products. Candle's own addition uses its own
/// threads.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) when the shapes differ.
pub(crate) fn residual(x: &Tensor, alpha: f64, y: &Tensor) -> Result<Tensor> {
    if super::storage::is_cpu_f32(x) && super::storage::is_cpu_f32(y) && x.shape() == y.shape() {
        return Ok(x.contiguous()?.apply_op2(&y.contiguous()?, Fused { alpha })?);
    }
    composed(x, alpha, y)
}

fn composed(x: &Tensor, alpha: f64, y: &Tensor) -> Result<Tensor> {
    Ok(if alpha == 1.0 { (x + y)? } else { ((x * alpha)? + y)? })
}

/// Elements per task.
const CHUNK: usize = 32 * 1024;

struct Fused {
    alpha: f64,
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, y) = (super::storage::slice(x, x_layout)?, super::storage::slice(y, y_layout)?);
        let alpha = self.alpha as f32;
        let mut out = super::storage::zeros(x.len());
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK))).for_each(|(out, (x, y))| {
            for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                *out = alpha * x + y;
            }
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _x: &Tensor,
        _y: &Tensor,
        _out: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = if self.alpha == 1.0 { g.clone() } else { (g * self.alpha)? };
        Ok((Some(dx), Some(g.clone())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::{max_difference, random};

    #[test]
    fn fused_and_composed_agree_in_value_and_gradients() {
        for alpha in [1.0, 2.213] {
            let [x, y] = [(); 2].map(|()| Var::from_tensor(&random(&[3, 171, 129])).unwrap());
            let (fused, expected) = (residual(&x, alpha, &y).unwrap(), composed(&x, alpha, &y).unwrap());
            assert!(max_difference(&fused, &expected) < 1e-6);
            let gradients = |out: &Tensor| out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let (fused, expected) = (gradients(&fused), gradients(&expected));
            for var in [&x, &y] {
                assert!(max_difference(fused.get(var).unwrap(), expected.get(var).unwrap()) < 1e-5);
            }
        }
    }
}
