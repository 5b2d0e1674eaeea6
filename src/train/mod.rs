//! Training: a loop that knows nothing of the model ([`Trainer`]), and what it needs.
//!
//! An [`Objective`] says what is trained and how its loss is computed, a
//! [`BatchSource`](crate::data::BatchSource) brings the batches. The rest is here: gradients gathered in one place
//! ([`Gradients`]), [`Optimizer`], [`Schedule`], logs, and checkpoints ([`Checkpoints`]) from which a run goes on as if it had
//! never stopped: bit for bit on a CPU, with the same number of threads.
//! [`AclObjective`] is the one that trains ACL: [`losses`] over one [`step`](mod@step), its variables in [`Trainable`].

mod acl_objective;
mod checkpoint;
mod config;
mod elementwise;
mod event;
mod gradients;
pub mod losses;
mod metrics;
mod optimizer;
mod run_log;
mod schedule;
pub mod step;
mod tensorboard;
mod trainable;
mod trainer;
mod validation;

pub use acl_objective::{AclObjective, BEST_METRICS, audio_features_identity};
pub use checkpoint::{Best, Checkpoints, State};
pub use config::{BestMetric, Goal, Length, TrainConfig};
pub use event::{Outcome, StepReport, TrainEvent};
pub use gradients::Gradients;
pub use metrics::Metrics;
pub use optimizer::{Group, Optimizer, OptimizerConfig, OptimizerKind};
pub use schedule::{Decay, Schedule};
pub use trainable::Trainable;
pub use trainer::{AllReduce, Objective, StepOutput, Trainer, Validation};
pub use validation::mask_statistics;
