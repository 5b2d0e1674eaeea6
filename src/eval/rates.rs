//! Summarizes per-sample scores: success rate, the area under its curve, mean.

/// The success levels of the AUC: 0, 0.05 … 1.
const NUM_LEVELS: usize = 21;

fn level(index: usize) -> f64 {
    // As in the published evaluators: 0.05 * 3 is 0.15000000000000002, and scores are compared with that.
    0.05 * index as f64
}

/// The fraction of `scores` that are at least `level`; `None` without scores.
pub fn success_rate(scores: &[f64], level: f64) -> Option<f64> {
    mean(scores.iter().map(|&score| f64::from(u8::from(score >= level))))
}

/// The mean of `values`; `None` without values.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut num) = (0.0, 0_usize);
    for value in values {
        sum += value;
        num += 1;
    }
    (num > 0).then(|| sum / num as f64)
}

/// The area under `rate`, sampled at the 21 levels 0, 0.05 … 1, by the trapezoidal rule.
fn area(rate: impl Fn(f64) -> Option<f64>) -> Option<f64> {
    let rates: Vec<f64> = (0..NUM_LEVELS).map(|i| rate(level(i))).collect::<Option<_>>()?;
    let trapezoid = |(i, pair): (usize, &[f64])| (level(i + 1) - level(i)) * (pair[0] + pair[1]) / 2.0;
    Some(rates.windows(2).enumerate().map(trapezoid).sum())
}

/// The AUC in result tables, in [0, 1]: the area under the success rates at the levels 0, 0.05 … 1, by the trapezoidal
/// rule; `None` without scores.
pub fn area_under_success_curve(scores: &[f64]) -> Option<f64> {
    area(|level| success_rate(scores, level))
}

/// Like [`area_under_success_curve`], for fractions that should be small: those *at most* the level are successes.
pub(super) fn area_under_smallness_curve(shares: &[f64]) -> Option<f64> {
    area(|level| mean(shares.iter().map(|&share| f64::from(u8::from(share <= level)))))
}
