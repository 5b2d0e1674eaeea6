//! The Extended benchmarks: is there a source at all, and where? Average precision, maximal F1, LocAcc.

use super::rates::mean;

/// The overlap from which a detection is a true positive.
const TRUE_POSITIVE: f64 = 0.5;

/// The pairs of an Extended benchmark, ready to be asked how a confidence threshold would do.
///
/// A pair counts as detected when its confidence is at least the threshold; it is a true positive when it is a sounding
/// one and its cIoU at least 0.5 too. A sounding pair detected in the wrong place is a false positive, but no false
/// negative, so that recall is no monotone function of the threshold. No detections mean precision 1, no positives
/// recall 1.
#[derive(Clone, Debug)]
pub struct Detections {
    /// Rising.
    confidences: Vec<f32>,
    /// For each confidence, the (true positives, false positives) from it on, and one more entry of zeros.
    detected: Vec<(u32, u32)>,
    /// For each confidence, the sounding pairs before it, and one more entry with all of them.
    sounding: Vec<u32>,
    located: Option<f64>,
}

impl Detections {
    /// Of each pair whether it sounds, its cIoU and its confidence.
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

    /// Precision and recall when everything with at least this confidence counts as detected.
    pub fn precision_recall(&self, confidence: f32) -> (f64, f64) {
        let first = self.confidences.partition_point(|&c| c < confidence);
        let (true_positives, false_positives) = self.detected[first];
        let ratio = |part, rest| if part + rest == 0 { 1.0 } else { f64::from(part) / f64::from(part + rest) };
        (ratio(true_positives, false_positives), ratio(true_positives, self.sounding[first]))
    }

    /// Average precision, in [0, 1], as the published evaluators walk it: thresholds are the sorted confidences without
    /// the largest, from the high end in steps of max(1, n / 200); precision made monotone from the right; then
    /// Σ precision_i · (recall_{i+1} − recall_i). Fewer than three pairs give 0.
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

    /// The largest F1, in *percent and rounded to one decimal*, as published, over every max(1, n / 10)-th of the
    /// sorted confidences as threshold; 0 without pairs.
    pub fn max_f1(&self) -> f64 {
        let step = (self.confidences.len() / 10).max(1);
        let f1 = |&confidence: &f32| {
            let (precision, recall) = self.precision_recall(confidence);
            let f1 = if precision + recall > 0.0 { 2.0 * recall * precision / (recall + precision) } else { 0.0 };
            // Rounding by way of text rounds the exact binary value, half to even, as Python's format does.
            format!("{:.1}", f1 * 100.0).parse().unwrap_or(0.0)
        };
        self.confidences.iter().step_by(step).map(f1).fold(0.0, f64::max)
    }

    /// LocAcc, in [0, 1]: the share of sounding pairs with a cIoU *above* 0.5; `None` when all pairs are silent.
    pub fn localization_accuracy(&self) -> Option<f64> {
        self.located
    }
}
