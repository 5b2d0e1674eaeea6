//! Scoring heatmaps as the sound source localization benchmarks score them.
//!
//! This module sees heatmaps and ground truths, never a model: whatever made the heatmaps implements [`Predictor`], a
//! file of them is read by [`PredictionsFile`], and [`evaluate`] turns samples and heatmaps into a [`Report`].
//!
//! | step | here |
//! |---|---|
//! | annotations, silent pairs, splits → samples | [`read_samples`] |
//! | where the files of a sample lie, how its sound is played | [`locate_media`], [`read_sound`] |
//! | one heatmap against one ground truth | [`Record`] |
//! | all records → the published metrics | [`Report`] |
//! | the report as JSON, text, CSV, a page | [`Report::write_json`], [`Report::table`], [`write_csv`], [`write_page`] |
//!
//! # Conventions
//! Heatmaps are `[224, 224]` f32, row by row. A threshold is compared in f32, as the published evaluators do: PyTorch
//! and NumPy both cast a Python number to the type of the array, so that a heatmap value of `0.7_f32` *is* at the
//! threshold 0.7 although `0.7_f32 < 0.7_f64`. Sums are exact: pixels are counted as integers, and the weights of a
//! ground truth are 0, ½ and 1. Scores inside [`Record`]s are fractions, those of a [`Report`] percentages.
//!
//! Every quirk of the published evaluators that tables depend on is kept, and named where it is implemented and in
//! `docs/benchmarks.md`.
//!
//! # Example
//! Scoring heatmaps of one's own: here the same one for every sample.
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
//!         let prediction = Prediction { heatmap: vec![1.0; PIXELS], confidence: None, negatives: vec![] };
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
mod rates;
mod record;
mod report;
mod run;
mod sample;
mod segmentation;
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
pub use predictor::{Prediction, Predictor};
pub use rates::{area_under_success_curve, mean, success_rate};
pub use record::{NegativeRecord, Record};
pub use report::{Entry, Options, Report, Row};
pub use run::{Evaluation, evaluate};
pub use sample::{GroundTruth, Sample, TruthMap};
pub use segmentation::{f_measure_curve, max_mean_f_measure, mini_batch_mean};
pub use split::Split;
pub use table::write_csv;
pub use universal::UniversalThreshold;
pub use vggss::read_vggss;
