//! Trivial heatmaps, to put scores into perspective.

use std::sync::LazyLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::grid::{PIXELS, SIZE};

/// A heatmap that depends on neither the picture nor the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Baseline {
    /// 1 everywhere.
    WholePicture,
    /// exp(−d² / 2σ²), where d is the distance from the centre and σ a quarter of the picture's side.
    CentreGaussian,
    /// Independent uniform values in [0, 1). The seed is the position of the sample, so results are reproducible.
    Random,
}

static WHOLE: [f32; PIXELS] = [1.0; PIXELS];

static CENTRE: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let sigma = SIZE as f32 / 4.0;
    let from_centre = |i: usize| i as f32 - (SIZE as f32 - 1.0) / 2.0;
    let squared = |pixel: usize| from_centre(pixel / SIZE).powi(2) + from_centre(pixel % SIZE).powi(2);
    (0..PIXELS).map(|pixel| (-squared(pixel) / (2.0 * sigma * sigma)).exp()).collect()
});

impl Baseline {
    /// All baselines, in the order in which reports list them.
    pub const ALL: [Self; 3] = [Self::WholePicture, Self::CentreGaussian, Self::Random];

    /// The name of the baseline in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::WholePicture => "whole picture",
            Self::CentreGaussian => "centre Gaussian",
            Self::Random => "random",
        }
    }

    /// Calls `use_it` with the heatmap `[224 * 224]` and the confidence for the sample at position `sample`. The
    /// confidence is 1, except for [`Random`](Self::Random), where it is uniform in [0, 1).
    pub(super) fn with_heatmap<T>(self, sample: usize, use_it: impl FnOnce(&[f32], f32) -> T) -> T {
        match self {
            Self::WholePicture => use_it(&WHOLE, 1.0),
            Self::CentreGaussian => use_it(&CENTRE, 1.0),
            Self::Random => {
                let mut rng = ChaCha8Rng::seed_from_u64(sample as u64);
                let confidence = rng.random();
                let heatmap: Vec<f32> = (0..PIXELS).map(|_| rng.random()).collect();
                use_it(&heatmap, confidence)
            }
        }
    }
}
