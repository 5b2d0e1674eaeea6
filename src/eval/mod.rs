//! Scores heatmaps on the benchmarks of sound source localization, with their published metrics.
//!
//! This module works on heatmaps and ground truths and is independent of any model. Heatmaps come from a [`Predictor`]:
//! your own implementation, or a [`PredictionsFile`]. [`evaluate`] compares them with the ground truths of the samples
//! and returns a [`Report`].
//!
//! | step | items |
//! |---|---|
//! | read annotations, silent pairs and splits | [`read_samples`] |
//! | find and read the media of a sample | [`locate_media`], [`read_sound`] |
//! | predict in several processes, and read what they wrote | [`save_predictions`], [`Predictions`] |
//! | score one heatmap against one ground truth | [`Record`] |
//! | summarize all records as the published metrics | [`Report`] |
//! | write JSON, text, CSV or HTML | [`Report::write_json`], [`Report::table`], [`write_csv`], [`write_page`] |
//!
//! # Conventions
//! Heatmaps are `[224, 224]` f32, row-major. Thresholds are compared in f32, as in the published evaluators: PyTorch
//! and NumPy cast a Python number to the type of the array, so a heatmap value of `0.7_f32` *reaches* the threshold
//! 0.7, although `0.7_f32 < 0.7_f64`. Sums are exact: pixels are counted as integers, and the weights of a ground truth
//! are 0, ½ and 1. Scores in a [`Record`] are fractions, those in a [`Report`] percentages.
//!
//! All quirks of the published evaluators that affect published results are reproduced. They are documented where they
//! are implemented and in `docs/benchmarks.md`.
//!
//! # Example
//! Scores your own heatmaps; here, the same one for every sample.
//! ```
//! use soundsight::Result;
//! use soundsight::eval::{Benchmark, GroundTruth, Options, PIXELS, Prediction, Predictor, Sample, evaluate};
//!
//! struct Everywhere;
//!
//! impl Predictor for Everywhere {
//!     type Input = ();
//!
//!     fn load(&self, _: &Sample) -> Result<Option<()>> {
//!         Ok(Some(()))
//!     }
//!
//!     fn predict(&self, batch: Vec<(&Sample, ())>) -> Result<Vec<Prediction>> {
//!         let prediction = Prediction { heatmap: vec![1.0; PIXELS], confidence: None, presence: None, negatives: vec![] };
//!         Ok(vec![prediction; batch.len()])
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let sample = Sample {
//!     id: "dog".into(),
//!     class: None,
//!     picture: "dog".into(),
//!     sound: "dog".into(),
//!     sounding: true,
//!     truth: GroundTruth::Union(vec![[0, 0, 224, 168]]), // the upper three quarters of the picture
//! };
//! let evaluation = evaluate(Benchmark::Vggss, &[sample], &Everywhere, &Options::default(), |_| ())?;
//! assert_eq!(evaluation.report.best.row.get("mIoU"), Some(75.0));
//! # Ok(())
//! # }
//! ```

mod annotations;
mod average_precision;
mod avsbench;
mod baselines;
mod benchmark;
mod detection;
mod extended;
mod flickr;
mod folder;
mod grid;
mod mask;
mod media;
mod negatives;
mod overlap;
mod page;
mod pairs;
mod predictions;
mod predictor;
mod presence;
mod rates;
mod record;
mod report;
mod run;
mod sample;
mod segmentation;
mod shards;
mod split;
mod table;
mod universal;
mod vggss;

pub use annotations::read_samples;
pub use average_precision::pixel_average_precision;
pub use avsbench::read_avsbench;
pub use baselines::Baseline;
pub use benchmark::{Benchmark, Published};
pub use detection::Detections;
pub use extended::read_silent;
pub use flickr::read_flickr;
pub use grid::{PIXELS, SIZE};
pub use media::{Media, locate_media, read_sound};
pub use negatives::Negative;
pub use overlap::{NUM_THRESHOLDS, THRESHOLDS};
pub use page::write_page;
pub use pairs::Pairs;
pub use predictions::PredictionsFile;
pub use predictor::{NegativePrediction, Prediction, Predictor};
pub use presence::{CalibrationBin, GatedScore, PresenceReport, PresenceScores, auroc};
pub use rates::{area_under_success_curve, mean, success_rate};
pub use record::{NegativeRecord, Record};
pub use report::{Entry, Options, Report, Row};
pub use run::{Evaluation, evaluate};
pub use sample::{GroundTruth, Sample, TruthMap};
pub use segmentation::{f_measure_curve, max_mean_f_measure, mini_batch_mean};
pub use shards::{Predictions, save_predictions};
pub use split::Split;
pub use table::write_csv;
pub use universal::UniversalThreshold;
pub use vggss::read_vggss;

pub use crate::shard::Shard;
