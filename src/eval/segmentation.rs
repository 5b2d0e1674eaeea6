//! The metrics of AVSBench: mIoU over mini-batches, and the maximum mean F-measure.

use std::sync::LazyLock;

use super::overlap::{Keep, Thresholds};
use super::rates::mean;
use super::sample::TruthMap;

/// The number of thresholds of the F-measure.
const NUM_F_THRESHOLDS: u16 = 255;
static F_THRESHOLDS: LazyLock<Thresholds> = LazyLock::new(|| Thresholds::linspace(NUM_F_THRESHOLDS));
/// β² of the F-measure, which weighs precision against recall.
const BETA_SQUARED: f64 = 0.3;
/// The number of frames per video, and thus per mini-batch of the published evaluation.
const BATCH: usize = 5;

/// The F-measure F = (1 + β²) P R / (β² P + R), β² = 0.3, at 255 thresholds from 0 to 1; 0 where no pixel is predicted
/// correctly.
///
/// Returns `None` for an empty mask: such frames are excluded. The official AVSBench code chooses the best threshold of
/// each mini-batch; like ACL's code, this crate first averages the curves over all frames ([`max_mean_f_measure`]).
pub fn f_measure_curve(heatmap: &[f32], truth: &TruthMap) -> Option<Vec<f64>> {
    let mask = truth.weight();
    if mask == 0.0 {
        return None;
    }
    let f_measure = |inside: f64, predicted: f64| {
        let (precision, recall) = (inside / (predicted + 1e-20), inside / (mask + 1e-20));
        let f = (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall);
        if f.is_nan() { 0.0 } else { f }
    };
    let overlaps = F_THRESHOLDS.sweep(Keep::AtLeast, heatmap, truth);
    Some(overlaps.iter().map(|overlap| f_measure(overlap.inside, overlap.predicted)).collect())
}

/// The F-measure in result tables, in [0, 1]: the maximum of the mean curve; `None` without curves.
pub fn max_mean_f_measure<'a>(curves: impl IntoIterator<Item = &'a [f64]>) -> Option<f64> {
    let mut sums = vec![0.0; usize::from(NUM_F_THRESHOLDS)];
    let mut num_curves = 0_u32;
    for curve in curves {
        sums.iter_mut().zip(curve).for_each(|(sum, f)| *sum += f);
        num_curves += 1;
    }
    (num_curves > 0).then(|| sums.into_iter().fold(0.0, f64::max) / f64::from(num_curves))
}

/// The mIoU in AVSBench's result tables: the mean over mini-batches of the mean within each mini-batch.
///
/// A mini-batch consists of five consecutive scores; the last may be smaller. `scores` must be sorted by id. Returns
/// `None` without scores.
pub fn mini_batch_mean(scores: &[f64]) -> Option<f64> {
    mean(scores.chunks(BATCH).filter_map(|batch| mean(batch.iter().copied())))
}
