//! Statistical tests: whether a difference is significant, and how well a number separates two classes.

/// The exact one-sided sign test: the probability that at least `better` of `better + worse` fair coins show heads. For
/// two localizers on the same questions, with the numbers of questions that only the first or only the second answered
/// correctly, this is McNemar's exact test: the smaller the value, the less likely it is that the lead of the first is
/// due to chance.
pub fn sign_test(better: usize, worse: usize) -> f64 {
    let total = better + worse;
    // ln of (total choose k) / 2^total, from k = total downwards, so that no factorial overflows.
    let mut log_probability = -(total as f64) * std::f64::consts::LN_2;
    let mut sum = 0.0;
    for k in (better..=total).rev() {
        sum += log_probability.exp();
        log_probability += (k as f64).ln() - ((total - k + 1) as f64).ln();
    }
    sum.min(1.0)
}

/// The number of questions that only the first, and that only the second, answered correctly.
pub fn discordant(first: impl IntoIterator<Item = bool>, second: impl IntoIterator<Item = bool>) -> (usize, usize) {
    first.into_iter().zip(second).fold((0, 0), |(better, worse), pair| match pair {
        (true, false) => (better + 1, worse),
        (false, true) => (better, worse + 1),
        _ => (better, worse),
    })
}

/// The area under the ROC curve ([`soundsight::eval::auroc`]); NaN without values.
pub fn auroc(present: &[f32], absent: &[f32]) -> f64 {
    soundsight::eval::auroc(present, absent).unwrap_or(f64::NAN)
}

/// The ROC curve: for every threshold, the fractions of `absent` and `present` that reach it.
pub fn roc(present: &[f32], absent: &[f32]) -> Vec<(f64, f64)> {
    let (present, absent) = (sorted(present), sorted(absent));
    let reach = |values: &[f32], threshold: f32| {
        let below = values.partition_point(|value| *value < threshold);
        (values.len() - below) as f64 / values.len() as f64
    };
    let mut thresholds = sorted(&[present.as_slice(), &absent].concat());
    thresholds.reverse();
    let points = thresholds.iter().map(|threshold| (reach(&absent, *threshold), reach(&present, *threshold)));
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

/// The quantile of the values at `share`; NaN without values.
pub fn quantile(values: &[f32], share: f64) -> f32 {
    let place = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    sorted(values).get(place).copied().unwrap_or(f32::NAN)
}

fn sorted(values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f32::total_cmp);
    values
}
