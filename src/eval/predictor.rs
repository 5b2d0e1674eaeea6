//! The interface to models under evaluation.

use crate::error::Result;

use super::negatives::Negative;
use super::sample::Sample;

/// The output of a model for one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `[224 * 224]`, row-major. Any finite values are allowed; the thresholds in tables range from 0.05 to 0.95.
    pub heatmap: Vec<f32>,
    /// The model's confidence that the picture shows the source of the sound. The Extended benchmarks require it.
    pub confidence: Option<f32>,
    /// The calibrated probability in [0, 1] that the picture shows the source of the sound, if the model gives one.
    pub presence: Option<f32>,
    /// Heatmaps of the same picture for negative sounds.
    pub negatives: Vec<NegativePrediction>,
}

/// The output of a model for a picture and a negative sound.
#[derive(Clone, Debug, PartialEq)]
pub struct NegativePrediction {
    /// The kind of sound.
    pub kind: Negative,
    /// As [`Prediction::heatmap`].
    pub heatmap: Vec<f32>,
    /// As [`Prediction::presence`].
    pub presence: Option<f32>,
}

/// Predicts heatmaps, for example with a model, or from a file of precomputed heatmaps.
pub trait Predictor: Sync {
    /// The data loaded for a sample, such as decoded media or a precomputed heatmap.
    type Input: Send;

    /// Loads the data of a sample; `None` if its files are missing. May be called from several threads at once.
    ///
    /// # Errors
    /// An error if the sample's files cannot be used.
    fn load(&self, sample: &Sample) -> Result<Option<Self::Input>>;

    /// Predicts a batch, and returns the predictions in the same order.
    ///
    /// All samples of a picture are in the same batch, next to each other, so each picture needs to be encoded only
    /// once.
    ///
    /// # Errors
    /// An error if the model fails.
    fn predict(&self, batch: Vec<(&Sample, Self::Input)>) -> Result<Vec<Prediction>>;
}
