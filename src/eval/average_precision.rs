//! Pixel-wise average precision.

use super::sample::TruthMap;

/// Pixel-wise average precision of a heatmap, in [0, 1], as computed by scikit-learn's `average_precision_score`.
///
/// AP = Σ (R_n − R_{n−1}) P_n over the distinct values of the heatmap in descending order. A pixel is positive where
/// the ground truth has any weight. Returns 0 for an empty ground truth.
pub fn pixel_average_precision(heatmap: &[f32], truth: &TruthMap) -> f64 {
    let num_positives = truth.num_inside();
    if num_positives == 0 {
        return 0.0;
    }
    let mut pixels: Vec<(f32, bool)> = heatmap.iter().zip(truth.levels()).map(|(&v, &level)| (v, level > 0)).collect();
    // Equal values are merged below by ==, for which 0.0 and -0.0 are equal too.
    pixels.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut hits, mut seen, mut precision_sum) = (0_usize, 0_usize, 0.0);
    for tied in pixels.chunk_by(|a, b| a.0 == b.0) {
        let new_hits = tied.iter().filter(|pixel| pixel.1).count();
        hits += new_hits;
        seen += tied.len();
        precision_sum += new_hits as f64 * (hits as f64 / seen as f64);
    }
    precision_sum / num_positives as f64
}
