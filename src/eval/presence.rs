//! How well a model says whether the picture shows the source of a sound.

use std::collections::BTreeMap;

use serde::Serialize;

use super::negatives::{NUM_STEPS, Negative};
use super::rates::{mean, success_rate};
use super::record::Record;
use super::universal::quartile_step;
use crate::localizer::smallest_threshold;

/// The number of intervals of the calibration curve.
const NUM_BINS: usize = 10;
/// The fraction of negative sounds that count as present, where no threshold was given.
const FALSE_ALARMS: f64 = 0.05;

/// The area under the ROC curve: the probability that a value of `present` is above one of `absent`, with ties counted half;
/// `None` when one of them is empty.
pub fn auroc(present: &[f32], absent: &[f32]) -> Option<f64> {
    let mut absent = absent.to_vec();
    absent.sort_unstable_by(f32::total_cmp);
    let below = |value: &f32| {
        let less = absent.partition_point(|other| other < value);
        let not_more = absent.partition_point(|other| other <= value);
        (less + not_more) as f64 / (2 * absent.len()) as f64
    };
    if absent.is_empty() { None } else { mean(present.iter().map(below)) }
}

/// How well the presence separates sounding pairs from negative sounds. Percentages, except for thresholds, presences and
/// areas under curves, which are fractions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresenceReport {
    /// The presence from which on a sound counts as present: the given one, or else the smallest at which at most 5 % of the
    /// negative sounds do.
    pub threshold: f32,
    /// The percentage of sounding pairs that count as present.
    pub detected: f64,
    /// The scores for each kind of negative sound.
    pub negatives: BTreeMap<Negative, PresenceScores>,
    /// The calibration curve, without its empty intervals.
    pub calibration: Vec<CalibrationBin>,
    /// The cIoU where a heatmap shows nothing unless its sound counts as present.
    pub gated: GatedScore,
}

/// How well the presence tells one kind of negative sound from the sounding pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PresenceScores {
    /// The number of sounds of this kind.
    pub samples: usize,
    /// The area under the ROC curve ([`auroc`]), a fraction.
    #[serde(rename = "AUROC")]
    pub auroc: f64,
    /// The percentage that counts as present.
    pub false_alarms: f64,
}

/// An interval of the calibration curve. Sounding pairs and negative sounds have the same total weight, as often as there
/// may be of each.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CalibrationBin {
    /// The mean presence.
    pub presence: f64,
    /// The fraction of sounding pairs.
    pub sounding: f64,
    /// The number of pairs and negative sounds.
    pub samples: usize,
}

/// The localization at one threshold for all heatmaps, of which those of sounds that count as absent are empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GatedScore {
    /// The universal threshold (the third quartile of the maxima over negative sounds) of these heatmaps. Where less than a
    /// quarter of the negative sounds counts as present, it is 0: nothing else is needed to keep them dark.
    pub universal: f64,
    /// The threshold at or above it with the highest cIoU.
    pub threshold: f64,
    /// The percentage of sounding pairs that count as present and have a cIoU of at least 0.5 at this threshold.
    #[serde(rename = "cIoU")]
    pub success: f64,
}

impl PresenceReport {
    /// `None` unless there are sounding pairs and negative sounds, all with a presence.
    pub(super) fn new(records: &[Record], threshold: Option<f32>) -> Option<Self> {
        let sounding: Vec<&Record> = records.iter().filter(|record| record.sounding).collect();
        let present: Vec<f32> = sounding.iter().map(|record| record.presence).collect::<Option<_>>()?;
        let negatives: Vec<(Negative, f32, f32)> = records
            .iter()
            .flat_map(|record| &record.negatives)
            .map(|negative| Some((negative.kind, negative.presence?, negative.activity.peak)))
            .collect::<Option<_>>()?;
        if present.is_empty() || negatives.is_empty() {
            return None;
        }
        let absent: Vec<f32> = negatives.iter().map(|negative| negative.1).collect();
        let threshold = threshold.unwrap_or_else(|| smallest_threshold(&absent, FALSE_ALARMS));
        let percent = |values: &[f32]| {
            100.0 * values.iter().filter(|value| **value >= threshold).count() as f64 / values.len() as f64
        };
        let mut scores = BTreeMap::new();
        for kind in Negative::ALL {
            let of_kind: Vec<f32> = negatives.iter().filter(|n| n.0 == kind).map(|n| n.1).collect();
            if let Some(auroc) = auroc(&present, &of_kind) {
                let (samples, false_alarms) = (of_kind.len(), percent(&of_kind));
                scores.insert(kind, PresenceScores { samples, auroc, false_alarms });
            }
        }
        let peaks = negatives.iter().map(|n| if n.1 >= threshold { n.2 } else { 0.0 }).collect();
        let universal = quartile_step(peaks)?;
        let gated = |step: usize| {
            let score = |record: &&Record| {
                let shown = record.presence.is_some_and(|presence| presence >= threshold);
                if shown { record.fine.get(step).copied().unwrap_or(0.0) } else { 0.0 }
            };
            success_rate(&sounding.iter().map(score).collect::<Vec<_>>(), 0.5)
        };
        let (step, success) = (universal..=usize::from(NUM_STEPS))
            .filter_map(|step| Some((step, gated(step)?)))
            .reduce(|best, other| if other.1 > best.1 { other } else { best })?;
        let fraction = |step: usize| step as f64 / f64::from(NUM_STEPS);
        Some(Self {
            threshold,
            detected: percent(&present),
            negatives: scores,
            calibration: calibration(&present, &absent),
            gated: GatedScore { universal: fraction(universal), threshold: fraction(step), success: 100.0 * success },
        })
    }
}

fn calibration(present: &[f32], absent: &[f32]) -> Vec<CalibrationBin> {
    let bin = |value: f32| ((value * NUM_BINS as f32) as usize).min(NUM_BINS - 1);
    let in_bin = |index: usize| {
        let inside =
            |values: &[f32]| values.iter().copied().filter(|v| bin(*v) == index).map(f64::from).collect::<Vec<_>>();
        let (yes, no) = (inside(present), inside(absent));
        let (of_yes, of_no) = (1.0 / present.len() as f64, 1.0 / absent.len() as f64);
        let weight = yes.len() as f64 * of_yes + no.len() as f64 * of_no;
        let sum = yes.iter().sum::<f64>() * of_yes + no.iter().sum::<f64>() * of_no;
        let samples = yes.len() + no.len();
        let sounding = yes.len() as f64 * of_yes / weight;
        (samples > 0).then_some(CalibrationBin { presence: sum / weight, sounding, samples })
    };
    (0..NUM_BINS).filter_map(in_bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_under_the_curve_by_hand() {
        assert_eq!(auroc(&[0.9, 0.4], &[0.1, 0.4, 0.6, 0.0]), Some((4.0 + 2.5) / 8.0));
        assert_eq!(auroc(&[0.5], &[0.5]), Some(0.5));
        assert_eq!(auroc(&[], &[0.5]), None);
        assert_eq!(auroc(&[0.5], &[]), None);
    }

    #[test]
    fn a_calibrated_presence_lies_on_the_diagonal() {
        // Of the presences around p, a fraction p belongs to sounding pairs.
        let repeated = |count: fn(usize) -> usize| -> Vec<f32> {
            (0..NUM_BINS).flat_map(|i| vec![(i as f32 + 0.5) / NUM_BINS as f32; count(i)]).collect()
        };
        let (present, absent) = (repeated(|i| 2 * i + 1), repeated(|i| 19 - 2 * i));
        let curve = calibration(&present, &absent);
        assert_eq!(curve.len(), NUM_BINS);
        for bin in curve {
            assert!((bin.presence - bin.sounding).abs() < 1e-6 && bin.samples == 20, "{bin:?}");
        }
    }

    #[test]
    fn the_threshold_lets_at_most_one_in_twenty_through() {
        let absent: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
        let threshold = smallest_threshold(&absent, FALSE_ALARMS);
        assert_eq!(absent.iter().filter(|value| **value >= threshold).count(), 5);
    }
}
