//! What is known of one moment.

use crate::error::{Error, Result};
use crate::localizer::Heatmap;
use crate::viz::{Findings, ScoreMap};

/// Where it sounds at one moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Moment {
    /// The time of the frame, in seconds.
    pub time: f64,
    /// Where in the frame the sound comes from, after smoothing. Its confidence is smoothed too.
    pub heatmap: Heatmap,
    /// The level of the sound at this moment, in dB of full scale: 0 for a full square wave, −100 or less for silence.
    pub level: f32,
    /// Whether something in the picture sounds.
    pub sounding: bool,
    /// Whether the picture was cut between the moment before and this one.
    pub cut: bool,
    /// The size of the frame (width, height), in pixels.
    pub size: (usize, usize),
}

impl Moment {
    /// The scores of each pixel of the frame.
    ///
    /// # Errors
    /// As [`Heatmap::score_map`].
    pub fn score_map(&self) -> Result<ScoreMap> {
        self.heatmap.score_map(self.size.0, self.size.1)
    }

    /// Peak, boxes and area in pixels of the frame, for scores ≥ `threshold`.
    ///
    /// # Errors
    /// As [`ScoreMap::findings`].
    pub fn findings(&self, threshold: f32) -> Result<Findings> {
        self.score_map()?.findings(threshold)
    }

    /// The heatmap at `time` between this moment and `next`: logits and confidence interpolated linearly. Times outside give
    /// the nearer of the two.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two heatmaps differ in size.
    pub fn heatmap_between(&self, next: &Self, time: f64) -> Result<Heatmap> {
        if self.heatmap.size != next.heatmap.size {
            let expected = format!("[{0}, {0}], that of the moment before", self.heatmap.size);
            return Err(Error::shape("heatmap", expected, &[next.heatmap.size; 2]));
        }
        let share = ((time - self.time) / (next.time - self.time)).clamp(0.0, 1.0) as f32;
        // Two moments at the same time have no position between them.
        let share = if share.is_finite() { share } else { 1.0 };
        let between = |a: f32, b: f32| a + (b - a) * share;
        let logits = self.heatmap.logits.iter().zip(&next.heatmap.logits).map(|(&a, &b)| between(a, b)).collect();
        self.heatmap.with_logits(logits, between(self.heatmap.confidence, next.heatmap.confidence))
    }
}
