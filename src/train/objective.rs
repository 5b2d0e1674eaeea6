//! What is trained.

use std::path::Path;

use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;

use super::metrics::Metrics;
use crate::error::Result;
use crate::image::Picture;

/// A training objective: a loss over batches, as a function of trainable tensors.
pub trait Objective {
    /// The batch that the loss is computed from.
    type Batch;

    /// The trainable tensors by name, always in the same order.
    fn trainable(&self) -> Vec<(String, Var)>;

    /// Computes the loss of one batch. All randomness must come from `rng`, which is a function of the run's seed, the
    /// epoch and the number of the batch.
    ///
    /// # Errors
    /// Any error ends the run; its last checkpoint remains intact.
    fn loss(&self, batch: &Self::Batch, rng: &mut ChaCha8Rng) -> Result<StepOutput>;

    /// Evaluates the current weights on held-out data. `rng` is the same for every call, so that epochs can be
    /// compared. Where several processes train together, all of them call this, and all must return the same metrics.
    ///
    /// # Errors
    /// Any error ends the run; its last checkpoint remains intact.
    fn validate(&self, rng: &mut ChaCha8Rng) -> Result<Validation>;

    /// Writes the current weights to the existing `folder`, in the format that inference reads. Use
    /// [`save_safetensors`](crate::weights::save_safetensors) to write atomically.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the disk is full.
    fn export(&self, folder: &Path) -> Result<()>;
}

/// The loss of one batch.
#[derive(Debug)]
pub struct StepOutput {
    /// The scalar to minimise, with its graph.
    pub loss: Tensor,
    /// Additional metrics to report, such as loss terms and areas. Their names must be the same in each step.
    pub metrics: Metrics,
}

/// The result of a validation; empty by default, for objectives without validation.
#[derive(Debug, Default)]
pub struct Validation {
    /// The metrics by name.
    pub metrics: Metrics,
    /// Pictures of fixed samples by name, for visual inspection.
    pub pictures: Vec<(String, Picture)>,
}
