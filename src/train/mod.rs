//! Training: a model-independent loop, the [`Trainer`], and the objective of ACL.
//!
//! An [`Objective`] defines what is trained and computes the loss; a [`BatchSource`](crate::data::BatchSource) supplies
//! the batches. The trainer takes care of [`Gradients`], [`Optimizer`], [`Schedule`], logs and [`Checkpoints`]. A run
//! that resumes from a checkpoint continues as if it had never stopped: bit for bit on a CPU, with the same number of
//! threads. [`AclObjective`] trains ACL: it computes the [`losses`] of a [`step`](mod@step) and optimizes the variables
//! of [`Trainable`].
//!
//! # Example
//! One variable, trained by hand. The [`Trainer`] does the same for any [`Objective`], and adds batches, checkpoints
//! and logs:
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
mod collective;
mod config;
mod elementwise;
mod event;
mod exchange;
mod gradients;
pub mod losses;
mod metrics;
mod negatives;
mod objective;
mod optimizer;
mod part;
mod run_folder;
mod run_log;
mod schedule;
mod sound_embedder;
pub mod step;
mod step_input;
mod tensorboard;
mod trainable;
mod trainer;
mod validation;

pub use acl_objective::{AclObjective, BEST_METRICS, Negatives, audio_features_identity};
pub use checkpoint::{Best, Checkpoints, State};
pub use collective::{Alone, Collective, agree, shard_of};
pub use config::{BestMetric, Goal, Length, TrainConfig};
pub use event::{Outcome, StepReport, TrainEvent};
pub use gradients::{GradientSummary, Gradients};
pub use metrics::Metrics;
pub use negatives::NegativeSounds;
pub use objective::{Objective, StepOutput, Validation};
pub use optimizer::{Group, Optimizer, OptimizerConfig, OptimizerKind};
pub use part::Part;
pub use schedule::{Decay, Schedule};
pub use trainable::Trainable;
pub use trainer::Trainer;
pub use validation::mask_statistics;
