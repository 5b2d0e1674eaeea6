//! The gradients of one optimizer step.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};

/// The gradient of each trainable tensor, in a fixed order; `None` where the loss does not depend on the tensor.
///
/// All gradients of a step pass through here: they are summed and averaged over micro-batches ([`Gradients::mean`]), in
/// a parallel run averaged over its processes, then checked and clipped. They are detached from the graph.
#[derive(Debug, Clone)]
pub struct Gradients {
    names: Vec<String>,
    values: Vec<Option<Tensor>>,
    num_added: usize,
}

impl Gradients {
    /// Creates an empty sum of gradients for the tensors with these `names`.
    pub fn new(names: Vec<String>) -> Self {
        let values = vec![None; names.len()];
        Self { names, values, num_added: 0 }
    }

    /// Adds the gradients of one micro-batch. `vars` must be in the order of the names.
    ///
    /// # Errors
    /// [`Error::Candle`] when the shape of a gradient differs between micro-batches.
    pub fn add(&mut self, vars: &[Var], mut store: GradStore) -> Result<()> {
        for (value, var) in self.values.iter_mut().zip(vars) {
            if let Some(gradient) = store.remove(var) {
                let gradient = gradient.detach();
                *value = Some(match value.take() {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                });
            }
        }
        self.num_added += 1;
        Ok(())
    }

    /// The number of micro-batches added so far.
    pub fn num_added(&self) -> usize {
        self.num_added
    }

    /// Divides the sums by the number of micro-batches.
    ///
    /// Accumulation and data parallelism average the gradients of *separate* contrastive losses: a pair is compared
    /// only with the other pairs of its own micro-batch. Four micro-batches of 8 thus estimate the gradient of the loss
    /// at batch size 8 with less noise; they are not equivalent to one batch of 32, whose loss has more negatives. The
    /// published run (batch size 8 on each of two GPUs) averages in the same way.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device fails.
    pub fn mean(&mut self) -> Result<()> {
        match self.num_added {
            0 | 1 => Ok(()),
            count => self.scale(1.0 / count as f64),
        }
    }

    fn scale(&mut self, factor: f64) -> Result<()> {
        for value in self.values.iter_mut().flatten() {
            *value = (&*value * factor)?;
        }
        Ok(())
    }

    /// The gradients in order, for an all-reduce over processes to replace.
    pub fn values_mut(&mut self) -> &mut [Option<Tensor>] {
        &mut self.values
    }

    /// The gradients in order.
    pub fn values(&self) -> &[Option<Tensor>] {
        &self.values
    }

    /// The Euclidean norm of all gradients together: √Σ‖g‖².
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the first tensor whose gradient is NaN or infinite.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for (name, gradient) in self.names.iter().zip(&self.values) {
            let Some(gradient) = gradient else { continue };
            let squares = f64::from(gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?.to_scalar::<f32>()?);
            if !squares.is_finite() {
                return Err(Error::NonFinite { what: format!("the gradient of `{name}`"), details: String::new() });
            }
            sum += squares;
        }
        Ok(sum.sqrt())
    }

    /// Scales all gradients by min(1, `max_norm` / (`norm` + 1e-6)), as `torch.nn.utils.clip_grad_norm_` does. `norm`
    /// is the result of [`Gradients::norm`].
    ///
    /// # Errors
    /// [`Error::Candle`] when the device fails.
    pub fn clip(&mut self, norm: f64, max_norm: f64) -> Result<()> {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 { self.scale(factor) } else { Ok(()) }
    }
}
