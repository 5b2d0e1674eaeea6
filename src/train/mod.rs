//! Training: a loop that knows nothing of the model ([`Trainer`]), and what it needs.
//!
//! An [`Objective`] says what is trained and how its loss is computed, a
//! [`BatchSource`](crate::data::BatchSource) brings the batches. The rest is here: gradients gathered in one place
//! ([`Gradients`]), [`Optimizer`], [`Schedule`], logs, and checkpoints ([`Checkpoints`]) from which a run goes on as if
//! it had never stopped: bit for bit on a CPU, with the same number of threads.
//! [`AclObjective`] is the one that trains ACL: [`losses`] over one [`step`](mod@step), its variables in [`Trainable`].
//!
//! # Example
//! The [`Trainer`] does this for any [`Objective`], with batches, checkpoints and logs around it:
//! ```
//! use candle_core::{Device, Var};
//! use soundsight::train::{Gradients, Optimizer, OptimizerConfig};
//!
//! # fn main() -> soundsight::Result<()> {
//! let x = Var::new(3f32, &Device::Cpu)?;
//! let mut optimizer = Optimizer::new(OptimizerConfig::default(), vec![("x".to_string(), x.clone())])?;
//! for _ in 0..100 {
//!     let loss = x.sqr()?;
//!     let mut gradients = Gradients::new(optimizer.names());
//!     gradients.add(&optimizer.vars(), loss.backward()?)?;
//!     optimizer.step(&gradients, 0.1)?;
//! }
//! assert!(x.to_scalar::<f32>()?.abs() < 1.0);
//! # Ok(())
//! # }
//! ```

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
