//! What makes the heatmaps that are scored.

use crate::error::Result;

use super::negatives::Negative;
use super::sample::Sample;

/// What a model says about one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// `[224 * 224]`, row by row; any finite values, the tables' thresholds lie in [0.05, 0.95].
    pub heatmap: Vec<f32>,
    /// How sure the model is that there is a source in the picture at all; the Extended benchmarks need it.
    pub confidence: Option<f32>,
    /// Heatmaps of the same picture for sounds without source in it.
    pub negatives: Vec<(Negative, Vec<f32>)>,
}

/// Makes heatmaps: a model with a folder of media, or a file of finished heatmaps.
pub trait Predictor: Sync {
    /// What is loaded for a sample: decoded media, a finished heatmap.
    type Input: Send;

    /// Loads a sample; called from several threads. `None` when its files are missing.
    ///
    /// # Errors
    /// Whatever makes the sample's files unusable.
    fn load(&self, sample: &Sample) -> Result<Option<Self::Input>>;

    /// Predicts a batch, in its order. All samples of a picture are in the same batch, one after the other, so that
    /// each picture needs to be encoded only once.
    ///
    /// # Errors
    /// Whatever stops the model.
    fn predict(&self, batch: Vec<(&Sample, Self::Input)>) -> Result<Vec<Prediction>>;
}
