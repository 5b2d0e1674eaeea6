//! The gradients of one optimizer step.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::collective::Collective;
use crate::error::{Error, Result};

/// The gradient of each trainable tensor, in a fixed order; `None` where the loss does not depend on the tensor.
///
/// All gradients of a step pass through here: they are summed over micro-batches and processes
/// ([`Gradients::all_reduce`]), averaged ([`Gradients::mean`]), then checked and clipped. They are detached from the graph.
#[derive(Debug, Clone)]
pub struct Gradients {
    names: Vec<String>,
    values: Vec<Option<Tensor>>,
    num_added: usize,
}

/// How many micro-batches a process has added, and which gradients it has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GradientSummary {
    num_added: usize,
    exist: Vec<bool>,
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

    /// Divides the sums by the number of micro-batches, of all processes together.
    ///
    /// This averages the gradients of *separate* contrastive losses: a pair is compared only with the other pairs of its
    /// own micro-batch. Four micro-batches of 8 thus estimate the gradient of the loss at batch size 8 with less noise;
    /// they are not equivalent to one batch of 32, whose loss has more negatives. The published run (batch size 8 on each
    /// of two GPUs) averages in the same way.
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

    /// Adds the gradients of all processes of `group` to these. `summaries` are the [`Gradients::summary`] of all of them,
    /// and `vars` the tensors in the order of the names.
    ///
    /// # Errors
    /// Those of [`Collective::all_reduce_sum`]; [`Error::Candle`] when the device fails.
    pub fn all_reduce(&mut self, group: &dyn Collective, vars: &[Var], summaries: &[GradientSummary]) -> Result<()> {
        if group.size() == 1 {
            return Ok(());
        }
        self.num_added = summaries.iter().map(|summary| summary.num_added).sum();
        let exist = |place: usize| summaries.iter().any(|summary| summary.exist.get(place) == Some(&true));
        let members: Vec<usize> = (0..vars.len()).filter(|place| exist(*place)).collect();
        // One exchange: each costs time.
        let mut sums = Vec::with_capacity(members.iter().map(|place| vars[*place].elem_count()).sum());
        for &place in &members {
            match &self.values[place] {
                Some(value) => sums.extend(value.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?),
                None => sums.resize(sums.len() + vars[place].elem_count(), 0.0),
            }
        }
        group.all_reduce_sum(&mut sums)?;
        let mut rest = sums.as_slice();
        for place in members {
            let (own, others) = rest.split_at(vars[place].elem_count());
            let sum = Tensor::from_slice(own, vars[place].shape(), vars[place].device())?;
            self.values[place] = Some(sum.to_dtype(vars[place].dtype())?);
            rest = others;
        }
        Ok(())
    }

    /// What the other processes must know of these gradients before they can be added up.
    pub fn summary(&self) -> GradientSummary {
        GradientSummary { num_added: self.num_added, exist: self.values.iter().map(Option::is_some).collect() }
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
