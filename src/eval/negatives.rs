//! One threshold for everything, judged with sounds that have no source in the picture.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::audio::Waveform;
use crate::error::Result;

use super::overlap::{Keep, Thresholds};
use super::rates::area_under_smallness_curve;
use super::{PIXELS, Record, TruthMap, area_under_success_curve, mean, success_rate};

/// A sound without source in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Negative {
    /// Digital silence.
    Silence,
    /// White noise.
    Noise,
    /// A sound from elsewhere.
    Offscreen,
    /// Whatever the silent and mismatched pairs of an Extended benchmark hold.
    Pair,
}

impl Negative {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Silence, Self::Noise, Self::Offscreen, Self::Pair];

    /// The name in reports, and in a predictions file: `silence.<id>`, `noise.<id>`, `offscreen.<id>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Noise => "noise",
            Self::Offscreen => "offscreen",
            Self::Pair => "pair",
        }
    }

    /// The sound that every picture can be asked with: digital silence, or white noise (uniform in [-1, 1), from a fixed
    /// seed), at 16 kHz; `None` for the kinds that come with the data.
    ///
    /// # Errors
    /// [`Error::Audio`](crate::Error::Audio) for less than one sample.
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

/// Steps per unit of the universal threshold.
pub(super) const NUM_STEPS: u16 = 1000;

/// Results at the universal threshold: the third quartile of the maxima of all heatmaps of negative sounds, rounded to
/// three decimals (Juanola et al., "A Critical Assessment of Visual Sound Source Localization Models Including Negative
/// Audio", ICASSP 2025). Percentages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UniversalThreshold {
    /// The threshold. Above 1 or below 0 it is moved to the end of [0, 1].
    pub threshold: f64,
    /// Percent of the positive pairs with a cIoU of at least 0.5.
    #[serde(rename = "cIoU")]
    pub success: Option<f64>,
    /// The mean cIoU of the positive pairs.
    #[serde(rename = "mIoU")]
    pub mean_ciou: Option<f64>,
    /// The area under the success curve of the positive pairs.
    #[serde(rename = "AUC")]
    pub auc: Option<f64>,
    /// Per kind of negative sound: the mean share of the picture that is (wrongly) active, and the area under the curve
    /// of pictures with at most that share active.
    pub negatives: BTreeMap<Negative, NegativeScores>,
    /// Harmonic mean of the mean cIoU and of 100 − pIA (averaged over the kinds).
    #[serde(rename = "F_LOC")]
    pub f_loc: Option<f64>,
    /// Harmonic mean of the AUC and of AUC_N (averaged over the kinds).
    #[serde(rename = "F_AUC")]
    pub f_auc: Option<f64>,
}

/// How quiet the heatmaps of one kind of negative sound are. Percentages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NegativeScores {
    /// Heatmaps of this kind.
    pub samples: usize,
    /// Percentage of image area above the threshold: 0 is right.
    #[serde(rename = "pIA")]
    pub active: f64,
    /// Area under the curve of pictures with at most 0, 5 … 100 % active: 100 is right.
    #[serde(rename = "AUC_N")]
    pub auc: f64,
}

/// What one heatmap of a negative sound leaves behind.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    /// The heatmap's maximum.
    pub peak: f32,
    /// Pixels above i / 1000, for i from 0 to 1000.
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

    fn share_above(&self, step: usize) -> f64 {
        self.num_above.get(step).map_or(0.0, |&num| f64::from(num) / PIXELS as f64)
    }
}

impl UniversalThreshold {
    /// `None` without negative sounds.
    pub(super) fn new(records: &[Record]) -> Option<Self> {
        let negatives = || records.iter().flat_map(|record| &record.negatives);
        let step = quartile_step(negatives().map(|negative| negative.activity.peak).collect())?;
        let cious: Vec<f64> = records.iter().filter(|r| r.sounding).filter_map(|r| r.fine.get(step).copied()).collect();
        let mut scores = BTreeMap::new();
        for kind in Negative::ALL {
            let of_kind = negatives().filter(|negative| negative.kind == kind);
            let shares: Vec<f64> = of_kind.map(|negative| negative.activity.share_above(step)).collect();
            if let (Some(active), Some(auc)) = (mean(shares.iter().copied()), area_under_smallness_curve(&shares)) {
                let (active, auc) = (active * 100.0, auc * 100.0);
                scores.insert(kind, NegativeScores { samples: shares.len(), active, auc });
            }
        }
        let percent = |share: Option<f64>| share.map(|share| share * 100.0);
        let (mean_ciou, auc) = (percent(mean(cious.iter().copied())), percent(area_under_success_curve(&cious)));
        Some(Self {
            threshold: step as f64 / f64::from(NUM_STEPS),
            success: percent(success_rate(&cious, 0.5)),
            f_loc: harmonic_mean(mean_ciou, mean(scores.values().map(|s| 100.0 - s.active))),
            f_auc: harmonic_mean(auc, mean(scores.values().map(|s| s.auc))),
            mean_ciou,
            auc,
            negatives: scores,
        })
    }
}

/// The third quartile (interpolated linearly between ranks), in thousandths.
fn quartile_step(mut peaks: Vec<f32>) -> Option<usize> {
    peaks.sort_unstable_by(f32::total_cmp);
    let rank = 0.75 * peaks.len().checked_sub(1)? as f64;
    let (below, above) = (*peaks.get(rank.floor() as usize)?, *peaks.get(rank.ceil() as usize)?);
    let quartile = f64::from(below) + (f64::from(above) - f64::from(below)) * rank.fract();
    Some((quartile * f64::from(NUM_STEPS)).round().clamp(0.0, f64::from(NUM_STEPS)) as usize)
}

fn harmonic_mean(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    let (a, b) = (a?, b?);
    Some(if a + b > 0.0 { 2.0 * a * b / (a + b) } else { 0.0 })
}
