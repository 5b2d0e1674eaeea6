//! The universal threshold, which is derived from the heatmaps of negative sounds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::negatives::{NUM_STEPS, Negative};
use super::rates::{area_under_smallness_curve, area_under_success_curve, mean, success_rate};
use super::record::Record;

/// Results at the universal threshold, as percentages.
///
/// The universal threshold is the third quartile of the maxima of all heatmaps of negative sounds, rounded to three
/// decimals (Juanola et al., "A Critical Assessment of Visual Sound Source Localization Models Including Negative
/// Audio", ICASSP 2025).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UniversalThreshold {
    /// The threshold, clamped to [0, 1]; a fraction.
    pub threshold: f64,
    /// The percentage of positive pairs with a cIoU of at least 0.5.
    #[serde(rename = "cIoU")]
    pub success: Option<f64>,
    /// The mean cIoU of the positive pairs.
    #[serde(rename = "mIoU")]
    pub mean_ciou: Option<f64>,
    /// The area under the success curve of the positive pairs.
    #[serde(rename = "AUC")]
    pub auc: Option<f64>,
    /// The scores for each kind of negative sound.
    pub negatives: BTreeMap<Negative, NegativeScores>,
    /// The harmonic mean of the mean cIoU and 100 − pIA, the latter averaged over the kinds of negative sounds.
    #[serde(rename = "F_LOC")]
    pub f_loc: Option<f64>,
    /// The harmonic mean of AUC and AUC_N, the latter averaged over the kinds of negative sounds.
    #[serde(rename = "F_AUC")]
    pub f_auc: Option<f64>,
}

/// How little the heatmaps respond to one kind of negative sound. Percentages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NegativeScores {
    /// The number of heatmaps of this kind.
    pub samples: usize,
    /// The mean percentage of the image area above the threshold; ideally 0.
    #[serde(rename = "pIA")]
    pub active: f64,
    /// The area under the curve of the fraction of heatmaps with at most 0, 5 … 100 % of their area active; ideally
    /// 100.
    #[serde(rename = "AUC_N")]
    pub auc: f64,
}

impl UniversalThreshold {
    /// `None` if there are no negative sounds.
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

/// The third quartile of `peaks`, interpolated linearly between ranks, in units of 1 / [`NUM_STEPS`].
pub(super) fn quartile_step(mut peaks: Vec<f32>) -> Option<usize> {
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
