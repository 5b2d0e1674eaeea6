//! Negative sounds: sounds without a source in the picture.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::audio::Waveform;
use crate::error::Result;

use super::grid::PIXELS;
use super::overlap::{Keep, Thresholds};
use super::sample::TruthMap;

/// The kind of a negative sound, that is, a sound without a source in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Negative {
    /// Digital silence.
    Silence,
    /// White noise.
    Noise,
    /// A sound whose source is not in the picture.
    Offscreen,
    /// The sound of a silent or mismatched pair of an Extended benchmark.
    Pair,
}

impl Negative {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Silence, Self::Noise, Self::Offscreen, Self::Pair];

    /// The name in reports and in predictions files: `silence.<id>`, `noise.<id>`, `offscreen.<id>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Noise => "noise",
            Self::Offscreen => "offscreen",
            Self::Pair => "pair",
        }
    }

    /// Generates the sound at 16 kHz: digital silence, or white noise (uniform in [-1, 1), with a fixed seed). Returns
    /// `None` for the kinds that come with the data.
    ///
    /// # Errors
    /// [`Error::Audio`](crate::Error::Audio) when `seconds` is shorter than one sample.
    pub fn sound(self, seconds: f64) -> Result<Option<Waveform>> {
        const SAMPLE_RATE: u32 = 16_000;
        let num_samples = (seconds * f64::from(SAMPLE_RATE)) as usize;
        let samples = match self {
            Self::Silence => vec![0.0; num_samples],
            Self::Noise => {
                let mut rng = ChaCha8Rng::seed_from_u64(0);
                (0..num_samples).map(|_| rng.random_range(-1.0..1.0)).collect()
            }
            Self::Offscreen | Self::Pair => return Ok(None),
        };
        Waveform::from_samples(samples, SAMPLE_RATE).map(Some)
    }
}

/// The universal threshold is a multiple of 1 / `NUM_STEPS`.
pub(super) const NUM_STEPS: u16 = 1000;

/// The statistics of the heatmap of a negative sound.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// The heatmap's maximum.
    pub peak: f32,
    /// The number of pixels above i / 1000, for i from 0 to 1000.
    num_above: Vec<u16>,
}

impl Activity {
    pub fn new(heatmap: &[f32], thresholds: &Thresholds, nothing: &TruthMap) -> Self {
        let overlaps = thresholds.sweep(Keep::Above, heatmap, nothing);
        Self {
            peak: heatmap.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            num_above: overlaps.iter().map(|overlap| overlap.predicted as u16).collect(),
        }
    }

    pub fn share_above(&self, step: usize) -> f64 {
        self.num_above.get(step).map_or(0.0, |&num| f64::from(num) / PIXELS as f64)
    }
}
