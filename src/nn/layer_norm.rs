//! Layer normalisation.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, DType, Layout, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::instructions::arch;
use super::simd;
use super::trainable::{SUM_ROWS, add_rows, column_sums};
use super::weights::Weights;
use crate::error::{Error, Result};

/// `y = (x − E[x]) / √(Var[x] + eps) · weight + bias` over the last dimension (Ba et al., arXiv 1607.06450).
///
/// Differentiable with respect to all three on every device, unlike Candle's fused layer normalisation. On the CPU,
/// only those of `weight` and `bias` that are trainable receive a gradient.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Creates a layer over `dim` elements from the tensors `weight` and `bias` in `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape.
    pub fn new<'a>(dim: usize, eps: f64, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        Ok(Self { weight: weights.get(dim, "weight")?, bias: weights.get(dim, "bias")?, eps })
    }

    /// `[…, dim]` → `[…, dim]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension is not `dim`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let dim = self.weight.dim(0)?;
        if x.dims().last() != Some(&dim) {
            return Err(Error::shape("input of a layer normalisation", format!("[…, {dim}]"), x.dims()));
        }
        if super::storage::is_cpu_f32(x) {
            return Ok(x.contiguous()?.apply_op3(&self.weight, &self.bias, Fused { eps: self.eps as f32 })?);
        }
        let tracked = x.track_op() || self.weight.track_op() || self.bias.track_op();
        if !tracked {
            // Candle's kernel has no backward pass, and none is needed here.
            return Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps as f32)?);
        }
        self.forward_composed(x)
    }

    /// The same, composed of Candle's differentiable operations. The statistics are in `f32` regardless of the input's
    /// precision.
    fn forward_composed(&self, x: &Tensor) -> Result<Tensor> {
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normalised = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?.to_dtype(dtype)?;
        Ok(normalised.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
    }
}

struct Fused {
    eps: f32,
}

/// Rows per task.
const ROWS: usize = 16;

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = super::storage::slice(x, x_layout)?;
        let (weight, bias) = (super::storage::slice(weight, weight_layout)?, super::storage::slice(bias, bias_layout)?);
        let mut out = super::storage::zeros(x.len());
        let chunk = ROWS * weight.len();
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(out, x)| {
            arch().dispatch(Rows { x, weight, bias, eps: self.eps, out });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (x, weight_value, g) = (x.detach().contiguous()?, weight.detach(), g.contiguous()?);
        let dx = x.apply_op3_no_bwd(&weight_value, &g, &FusedBackward { eps: self.eps })?;
        let dweight = if weight.track_op() {
            Some(x.apply_op2_no_bwd(&g, &WeightGradient { eps: self.eps, dim: weight.elem_count() })?)
        } else {
            None
        };
        let dbias = if bias.track_op() { Some(column_sums(&g)?) } else { None };
        Ok((Some(dx), dweight, dbias))
    }
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dim = self.weight.len();
        for (x, out) in self.x.chunks_exact(dim).zip(self.out.chunks_exact_mut(dim)) {
            simd::layer_norm_row(simd, x, self.weight, self.bias, self.eps, out);
        }
    }
}

struct FusedBackward {
    eps: f32,
}

impl CustomOp3 for FusedBackward {
    fn name(&self) -> &'static str {
        "layer-norm-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, g) = (super::storage::slice(x, x_layout)?, super::storage::slice(g, g_layout)?);
        let weight = super::storage::slice(weight, weight_layout)?;
        let mut out = super::storage::zeros(x.len());
        let chunk = ROWS * weight.len();
        out.par_chunks_mut(chunk).zip(x.par_chunks(chunk).zip(g.par_chunks(chunk))).for_each(|(out, (x, g))| {
            arch().dispatch(RowsBackward { x, weight, g, eps: self.eps, out });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct RowsBackward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    g: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl WithSimd for RowsBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dim = self.weight.len();
        let rows = self.x.chunks_exact(dim).zip(self.g.chunks_exact(dim)).zip(self.out.chunks_exact_mut(dim));
        for ((x, g), out) in rows {
            simd::layer_norm_row_backward(simd, x, self.weight, g, self.eps, out);
        }
    }
}

/// `Σ g·x̂` over the rows, where `x̂` is the normalised row.
struct WeightGradient {
    eps: f32,
    dim: usize,
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "layer-norm-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, g) = (super::storage::slice(x, x_layout)?, super::storage::slice(g, g_layout)?);
        // Parts of a fixed size, so that the sum does not depend on the number of threads.
        let chunk = SUM_ROWS * self.dim.max(1);
        let (eps, dim) = (self.eps, self.dim);
        let parts: Vec<Vec<f32>> = x
            .par_chunks(chunk)
            .zip(g.par_chunks(chunk))
            .map(|(x, g)| arch().dispatch(PartialWeightGradient { x, g, eps, dim }))
            .collect();
        Ok((CpuStorage::F32(add_rows(&parts.concat(), dim)), dim.into()))
    }
}

struct PartialWeightGradient<'a> {
    x: &'a [f32],
    g: &'a [f32],
    eps: f32,
    dim: usize,
}

impl WithSimd for PartialWeightGradient<'_> {
    type Output = Vec<f32>;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let mut sums = vec![0f32; self.dim];
        for (x, g) in self.x.chunks_exact(self.dim).zip(self.g.chunks_exact(self.dim)) {
            let (mean, inverse_std) = simd::moments(simd, x, self.eps);
            for ((sum, x), g) in sums.iter_mut().zip(x).zip(g) {
                *sum += g * ((x - mean) * inverse_std);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::{max_difference, random};

    #[test]
    fn fused_and_composed_agree_in_value_and_gradients() {
        let var = |shape: &[usize]| Var::from_tensor(&(random(shape) * 1.7).unwrap()).unwrap();
        let (x, weight, bias) = (var(&[2, 301, 43]), var(&[43]), var(&[43]));
        let norm = LayerNorm { weight: weight.as_tensor().clone(), bias: bias.as_tensor().clone(), eps: 1e-5 };
        let (fused, composed) = (norm.forward(&x).unwrap(), norm.forward_composed(&x).unwrap());
        assert!(max_difference(&fused, &composed) < 1e-5);
        let gradients = |y: &Tensor| (y.sqr().unwrap() * y).unwrap().sum_all().unwrap().backward().unwrap();
        let (a, b) = (gradients(&fused), gradients(&composed));
        for var in [&x, &weight, &bias] {
            let largest: f32 =
                b.get(var).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
            assert!(max_difference(a.get(var).unwrap(), b.get(var).unwrap()) < 1e-4 * largest.max(1.0));
        }
    }
}
