//! The overlap of a heatmap and a ground truth, at many thresholds in one pass.

use super::grid::PIXELS;
use super::sample::TruthMap;

/// The number of thresholds in result tables.
pub const NUM_THRESHOLDS: usize = 19;
/// The thresholds in result tables: 0.05, 0.1 … 0.95, in f32, as the published evaluators compare them.
pub const THRESHOLDS: [f32; NUM_THRESHOLDS] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// Which pixels a threshold keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Keep {
    /// Those at or above the threshold.
    AtLeast,
    /// Those above the threshold.
    Above,
}

impl Keep {
    /// Whether `threshold` keeps `value`.
    #[inline]
    pub fn keeps(self, value: f32, threshold: f32) -> bool {
        match self {
            Self::AtLeast => value >= threshold,
            Self::Above => value > threshold,
        }
    }
}

/// How a thresholded heatmap and a ground truth overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Overlap {
    /// The sum of the ground truth's weights over the predicted pixels.
    pub inside: f64,
    /// The number of predicted pixels where the ground truth has no weight.
    pub outside: f64,
    /// The number of predicted pixels.
    pub predicted: f64,
    /// The sum of all weights of the ground truth.
    pub truth: f64,
}

impl Overlap {
    /// Consensus IoU: Σ(pred · gt) / (Σ gt + Σ(pred · \[gt = 0\])).
    ///
    /// Returns 0 if both prediction and ground truth are empty. The published evaluators return NaN in this case, which
    /// occurs for a few degenerate VGG-SS boxes.
    pub fn ciou(&self) -> f64 {
        let union = self.truth + self.outside;
        if union > 0.0 { self.inside / union } else { 0.0 }
    }

    /// [`ciou`](Self::ciou) with 10⁻¹² added to the denominator, as in the evaluators of the Extended benchmarks.
    ///
    /// This affects results: an overlap of exactly one half falls below 0.5, unless the union is so large that the
    /// addition has no effect in floating point.
    pub fn extended_ciou(&self) -> f64 {
        self.inside / (self.truth + self.outside + 1e-12)
    }

    /// The IoU of AVSBench. If the mask is empty, this is the IoU of the background: |pixels not predicted| / |pixels|.
    pub fn mask_iou(&self) -> f64 {
        const EPSILON: f64 = 1e-7;
        let (intersection, union) = if self.truth == 0.0 {
            (PIXELS as f64 - self.predicted, PIXELS as f64)
        } else {
            (self.inside, self.truth + self.outside)
        };
        intersection / (union + EPSILON)
    }

    /// The overlap at one threshold.
    pub fn at(threshold: f32, keep: Keep, heatmap: &[f32], truth: &TruthMap) -> Self {
        let mut counts = [0_u32; 3];
        for (&value, &level) in heatmap.iter().zip(truth.levels()) {
            counts[usize::from(level)] += u32::from(keep.keeps(value, threshold));
        }
        Self::from_counts(counts, truth.weight())
    }

    /// From the number of predicted pixels at each level of the ground truth.
    fn from_counts([none, half, whole]: [u32; 3], truth: f64) -> Self {
        Self {
            inside: f64::from(half) / 2.0 + f64::from(whole),
            outside: f64::from(none),
            predicted: f64::from(none) + f64::from(half) + f64::from(whole),
            truth,
        }
    }
}

/// Evenly spaced thresholds: the position of a value among them can be computed to within one, without a search.
pub(super) struct Thresholds {
    /// −∞, the thresholds in ascending order, +∞: every value has a neighbour on both sides.
    bounded: Vec<f32>,
    /// Number of thresholds per unit.
    scale: f32,
    /// Number of thresholds that are at most 0.
    num_at_zero: usize,
}

impl Thresholds {
    fn new(values: impl Iterator<Item = f32>, scale: f32) -> Self {
        let mut bounded = vec![f32::NEG_INFINITY];
        bounded.extend(values);
        bounded.push(f32::INFINITY);
        let num_at_zero = bounded.partition_point(|&threshold| threshold <= 0.0) - 1;
        Self { bounded, scale, num_at_zero }
    }

    /// [`THRESHOLDS`].
    pub fn of_tables() -> Self {
        Self::new(THRESHOLDS.into_iter(), 20.0)
    }

    /// The `num_steps + 1` thresholds i / num_steps from 0 to 1.
    pub fn fine(num_steps: u16) -> Self {
        let scale = f32::from(num_steps);
        Self::new((0..=num_steps).map(|i| f32::from(i) / scale), scale)
    }

    /// `torch.linspace(0, 1 - 1e-10, num)`. In f32 the end is 1; PyTorch computes each half from its own end.
    pub fn linspace(num: u16) -> Self {
        let last = num - 1;
        let scale = f32::from(last);
        let step = 1.0 / scale;
        let value = |i| if i < num / 2 { step * f32::from(i) } else { (-step).mul_add(f32::from(last - i), 1.0) };
        Self::new((0..num).map(value), scale)
    }

    /// Counts the pixels at each level of the ground truth, by the number of thresholds that keep them.
    fn histogram(&self, keeps: impl Fn(f32, f32) -> bool, heatmap: &[f32], truth: &TruthMap) -> Vec<[u32; 3]> {
        let num = self.bounded.len() - 2;
        let mut histogram = vec![[0_u32; 3]; num + 1];
        for (&value, &level) in heatmap.iter().zip(truth.levels()) {
            // The cast saturates, so any finite value gives a valid guess. Rounding makes it wrong by at most one; the
            // comparisons with both neighbours correct that.
            let guess = ((value * self.scale) as usize).saturating_add(self.num_at_zero).min(num);
            let place = guess + usize::from(keeps(value, self.bounded[guess + 1]));
            let place = place - usize::from(!keeps(value, self.bounded[guess]));
            histogram[place][usize::from(level)] += 1;
        }
        histogram
    }

    /// The overlap at every threshold, in one pass over the heatmap: one histogram of pixels per level of the ground
    /// truth, summed up from the highest threshold down.
    pub fn sweep(&self, keep: Keep, heatmap: &[f32], truth: &TruthMap) -> Vec<Overlap> {
        let histogram = match keep {
            Keep::AtLeast => self.histogram(|value, threshold| value >= threshold, heatmap, truth),
            Keep::Above => self.histogram(|value, threshold| value > threshold, heatmap, truth),
        };
        let weight = truth.weight();
        let mut counts = [0_u32; 3];
        let from_above = histogram.iter().skip(1).rev().map(|bucket| {
            counts.iter_mut().zip(bucket).for_each(|(count, n)| *count += n);
            Overlap::from_counts(counts, weight)
        });
        let mut overlaps: Vec<_> = from_above.collect();
        overlaps.reverse();
        overlaps
    }
}

/// The adaptive threshold of newer papers, as published for IS3 (ICCV 2023): an oracle that matches the predicted area
/// to the area of the ground truth.
///
/// It is the heatmap's n-th largest value, where n is the number of pixels in the ground truth (half of all pixels if
/// the ground truth is empty). Only values *above* it are kept: one pixel fewer than n, and none of a flat heatmap.
pub(super) fn adaptive_threshold(heatmap: &[f32], truth: &TruthMap) -> f32 {
    let area = match truth.num_inside() {
        0 => PIXELS / 2,
        area => area,
    };
    let mut values = heatmap.to_vec();
    let rank = values.len().saturating_sub(area);
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}

/// Whether the maximum of the heatmap (the first, if there are several) lies inside the ground truth.
pub(super) fn peak_is_inside(heatmap: &[f32], truth: &TruthMap) -> bool {
    let mut peak = (f32::NEG_INFINITY, false);
    for (&value, &level) in heatmap.iter().zip(truth.levels()) {
        if value > peak.0 {
            peak = (value, level > 0);
        }
    }
    peak.1
}
