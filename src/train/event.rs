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
    /// An optimizer step was made.
    Step(&'a StepReport),
    /// The objective was validated: before the first step, after each epoch, and at the end.
    Validated {
        /// Optimizer steps made by then.
        step: usize,
        /// The epoch, from 0.
        epoch: usize,
        /// The validation's metrics.
        metrics: &'a Metrics,
        /// Whether this is the best epoch so far.
        is_best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// Its file.
        path: &'a Path,
        /// Optimizer steps made by then.
        step: usize,
    },
}

/// One optimizer step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Optimizer steps made so far, this one included.
    pub step: usize,
    /// Steps of the whole run (an upper bound when some batches turn out to be unreadable).
    pub total_steps: usize,
    /// The epoch, from 0.
    pub epoch: usize,
    /// `loss`, the objective's metrics, `learning_rate` and `grad_norm` (before clipping), averaged over micro-batches.
    pub metrics: Metrics,
    /// Samples in this step.
    pub num_samples: usize,
    /// Samples per second in this step, the wait for data included.
    pub samples_per_second: f64,
    /// The time that the remaining steps will take at the mean pace of this process.
    pub remaining: Duration,
}

/// How a run ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs or steps are done.
    Finished,
    /// The stop flag was raised: the step under way was finished and a checkpoint written.
    Stopped,
}
