//! The metrics of the Extended benchmarks, which combine detection and localization: average precision, maximum F1 and
//! LocAcc.

use super::rates::mean;

/// The minimum overlap of a true positive.
const TRUE_POSITIVE: f64 = 0.5;

/// The pairs of an Extended benchmark, indexed for evaluation at any confidence threshold.
///
/// A pair is detected if its confidence is at least the threshold. A detected pair is a true positive if it is sounding
/// and its cIoU is at least 0.5, and a false positive otherwise. A sounding pair that is not detected is a false
/// negative; one detected in the wrong place is only a false positive, so recall is not monotone in the threshold.
/// Precision is 1 without detections, and recall is 1 without true positives and false negatives.
#[derive(Clone, Debug)]
pub struct Detections {
    /// In ascending order.
    confidences: Vec<f32>,
    /// For each confidence, the number of (true positives, false positives) from there on; then a final (0, 0).
    detected: Vec<(u32, u32)>,
    /// For each confidence, the number of sounding pairs before it; then the number of all sounding pairs.
    sounding: Vec<u32>,
    located: Option<f64>,
}

impl Detections {
    /// Collects `pairs` of (sounding, cIoU, confidence).
    pub fn new(pairs: impl IntoIterator<Item = (bool, f64, f32)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mut sounding = vec![0];
        let mut num_sounding = 0;
        for pair in &pairs {
            num_sounding += u32::from(pair.0);
            sounding.push(num_sounding);
        }
        let mut detected = vec![(0, 0)];
        let (mut hits, mut misses) = (0, 0);
        for &(sounds, ciou, _) in pairs.iter().rev() {
            if sounds && ciou >= TRUE_POSITIVE {
                hits += 1
            } else {
                misses += 1
            }
            detected.push((hits, misses));
        }
        detected.reverse();
        let is_located = |&(_, ciou, _): &(bool, f64, f32)| f64::from(u8::from(ciou > TRUE_POSITIVE));
        Self {
            located: mean(pairs.iter().filter(|pair| pair.0).map(is_located)),
            confidences: pairs.iter().map(|pair| pair.2).collect(),
            detected,
            sounding,
        }
    }

    /// Precision and recall at the threshold `confidence`.
    pub fn precision_recall(&self, confidence: f32) -> (f64, f64) {
        let first = self.confidences.partition_point(|&c| c < confidence);
        let (true_positives, false_positives) = self.detected[first];
        let ratio = |part, rest| if part + rest == 0 { 1.0 } else { f64::from(part) / f64::from(part + rest) };
        (ratio(true_positives, false_positives), ratio(true_positives, self.sounding[first]))
    }

    /// Average precision, in [0, 1], as the published evaluators compute it.
    ///
    /// The thresholds are the confidences except the largest, in descending order, in steps of max(1, ⌊n / 200⌋).
    /// Precision is made monotone from the right; then AP = Σ precision_i · (recall_{i+1} − recall_i). Returns 0 for
    /// fewer than three pairs.
    pub fn average_precision(&self) -> f64 {
        let step = (self.confidences.len() / 200).max(1);
        let without_largest = self.confidences.split_last().map_or(&[][..], |(_, rest)| rest);
        let walked = without_largest.iter().rev().step_by(step).map(|&c| self.precision_recall(c));
        let (mut precisions, recalls): (Vec<f64>, Vec<f64>) = walked.unzip();
        let mut best = f64::NEG_INFINITY;
        for precision in precisions.iter_mut().rev() {
            best = best.max(*precision);
            *precision = best;
        }
        precisions.iter().zip(recalls.windows(2)).map(|(precision, pair)| precision * (pair[1] - pair[0])).sum()
    }

    /// The maximum F1, in *percent, rounded to one decimal* as in the published evaluators.
    ///
    /// The thresholds are every max(1, ⌊n / 10⌋)-th of the sorted confidences. Returns 0 without pairs.
    pub fn max_f1(&self) -> f64 {
        let step = (self.confidences.len() / 10).max(1);
        let f1 = |&confidence: &f32| {
            let (precision, recall) = self.precision_recall(confidence);
            let f1 = if precision + recall > 0.0 { 2.0 * recall * precision / (recall + precision) } else { 0.0 };
            // Formatting rounds the exact binary value, half to even, like Python's `format`.
            format!("{:.1}", f1 * 100.0).parse().unwrap_or(0.0)
        };
        self.confidences.iter().step_by(step).map(f1).fold(0.0, f64::max)
    }

    /// LocAcc, in [0, 1]: the fraction of sounding pairs with a cIoU *above* 0.5; `None` if no pair is sounding.
    pub fn localization_accuracy(&self) -> Option<f64> {
        self.located
    }
}
