//! Activation functions.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Shape, Tensor};
use pulp::Simd;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::simd::{self, Map1};
use crate::error::Result;

/// An activation function, serialised under its name in the published configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// The exact GELU, `x·Φ(x) = x/2·(1 + erf(x/√2))`, not its tanh approximation (Hendrycks and Gimpel, arXiv
    /// 1606.08415).
    Gelu,
    /// `x·σ(1.702·x)`, the sigmoid approximation that CLIP was trained with.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// Applies the function to every element. Differentiable on every device.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for tensors that are not floats.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            return Ok(x.contiguous()?.apply_op1(Elementwise(self))?);
        }
        self.forward_composed(x)
    }

    /// The same function, composed of Candle's differentiable operations.
    pub(crate) fn forward_composed(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Gelu => x.gelu_erf()?,
            // σ(z) = 1/(1 + e⁻ᶻ). candle_nn's sigmoid is a single operation with a backward pass.
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?,
            Self::Relu => x.relu()?,
        })
    }

    /// Applies the function to a vector in registers.
    #[inline(always)]
    pub(crate) fn apply_simd<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        match self {
            Self::Gelu => {
                let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
                let erf = simd::erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
                simd.mul_add_e_f32s(half, erf, half)
            }
            Self::QuickGelu => simd.mul_f32s(x, simd::sigmoid(simd, simd.mul_f32s(x, simd.splat_f32s(1.702)))),
            Self::Relu => simd.max_f32s(x, simd.splat_f32s(0.0)),
        }
    }

    /// Applies the derivative to a vector in registers.
    #[inline(always)]
    fn derivative_simd<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let one = simd.splat_f32s(1.0);
        match self {
            // Φ(x) + x·φ(x), with φ(x) = e^(−x²/2)/√(2π)
            Self::Gelu => {
                let erf = simd::erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
                let cdf = simd.mul_f32s(simd.add_f32s(one, erf), simd.splat_f32s(0.5));
                let exponent = simd.mul_f32s(simd.mul_f32s(x, x), simd.splat_f32s(-0.5));
                let density = simd.mul_f32s(simd::exp(simd, exponent), simd.splat_f32s(0.398_942_3));
                simd.mul_add_e_f32s(x, density, cdf)
            }
            // s + 1.702·x·s·(1 − s), with s = σ(1.702·x)
            Self::QuickGelu => {
                let z = simd.mul_f32s(x, simd.splat_f32s(1.702));
                let s = simd::sigmoid(simd, z);
                simd.mul_f32s(s, simd.mul_add_e_f32s(z, simd.sub_f32s(one, s), one))
            }
            Self::Relu => {
                let positive = simd.less_than_f32s(simd.splat_f32s(0.0), x);
                simd.select_f32s(positive, one, simd.splat_f32s(0.0))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Function(Activation);

impl Map1 for Function {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        self.0.apply_simd(simd, x)
    }
}

#[derive(Clone, Copy)]
struct Derivative(Activation);

impl Map1 for Derivative {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        self.0.derivative_simd(simd, x)
    }
}

/// Elements per task: enough to outweigh the scheduling overhead, few enough to stay in the cache.
const CHUNK: usize = 16 * 1024;

struct Elementwise(Activation);

impl CustomOp1 for Elementwise {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = super::storage::slice(x, layout)?;
        let mut out = super::storage::zeros(x.len());
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(out, x)| simd::map(Function(self.0), x, out));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(x.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &ElementwiseBackward(self.0))?))
    }
}

struct ElementwiseBackward(Activation);

impl CustomOp2 for ElementwiseBackward {
    fn name(&self) -> &'static str {
        "activation-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, g) = (super::storage::slice(x, x_layout)?, super::storage::slice(g, g_layout)?);
        let mut out = super::storage::zeros(x.len());
        out.par_chunks_mut(CHUNK)
            .zip(x.par_chunks(CHUNK).zip(g.par_chunks(CHUNK)))
            .for_each(|(out, (x, g))| simd::map_times(Derivative(self.0), x, g, out));
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}
