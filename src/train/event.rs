//! Events that a trainer reports to its observer.

use std::path::Path;
use std::time::Duration;

use super::metrics::Metrics;

/// An event in a training run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TrainEvent<'a> {
    /// The run was resumed with another number of threads. It continues, but is no longer bit-identical to what it
    /// would have computed with the previous number.
    ThreadsChanged {
        /// The number of threads up to the checkpoint.
        before: u64,
        /// The number of threads from now on.
        now: u64,
    },
    /// The run was resumed with another number of processes. It continues, but is no longer bit-identical to what it
    /// would have computed with the previous number.
    ProcessesChanged {
        /// The number of processes up to the checkpoint.
        before: u64,
        /// The number of processes from now on.
        now: u64,
    },
    /// An optimizer step was completed.
    Step(&'a StepReport),
    /// The objective was validated: before the first step, after each epoch, and at the end.
    Validated {
        /// The number of optimizer steps completed by then.
        step: usize,
        /// The epoch, from 0.
        epoch: usize,
        /// The metrics of the validation.
        metrics: &'a Metrics,
        /// Whether this is the best epoch so far.
        is_best: bool,
    },
    /// A checkpoint was written; reported by the process that writes.
    Saved {
        /// The path of the checkpoint.
        path: &'a Path,
        /// The number of optimizer steps completed by then.
        step: usize,
    },
}

/// A report on one optimizer step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The number of optimizer steps completed, including this one.
    pub step: usize,
    /// The number of steps of the whole run (an upper bound if some batches turn out to be unreadable).
    pub total_steps: usize,
    /// The epoch, from 0.
    pub epoch: usize,
    /// `loss`, the objective's metrics, `learning_rate` and `grad_norm` (before clipping), averaged over micro-batches.
    pub metrics: Metrics,
    /// The number of samples in this step, of all processes together.
    pub num_samples: usize,
    /// Samples per second in this step, including the time spent waiting for data.
    pub samples_per_second: f64,
    /// The estimated time for the remaining steps, at the mean pace of this process.
    pub remaining: Duration,
}

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs or steps are done.
    Finished,
    /// The stop flag was set: the current step was finished and a checkpoint written.
    Stopped,
}
