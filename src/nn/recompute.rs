//! Recomputing activations in the backward pass ("activation checkpointing"), which saves memory for more time.

use candle_core::{Tensor, Var};

use super::substitute::substitute;
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
    let y = f(&x.detach())?;
    substitute(x, &y, move |x, g| {
        let x = Var::from_tensor(&x.detach())?;
        // The gradient of Σ g·y is the required vector–Jacobian product.
        let grads = (f(&x)? * g)?.sum_all()?.backward()?;
        match grads.get(&x) {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(x.zeros_like()?), // f does not depend on x
        }
    })
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
