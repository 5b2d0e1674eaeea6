//! How loud a sound is.

/// The power that counts as silence: −100 dB.
const SILENCE_POWER: f64 = 1e-10;

/// The effective value of samples, in dB of full scale; −100 for silence and where there are none.
pub(super) fn level(samples: &[f32]) -> f64 {
    let power = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len().max(1) as f64;
    10.0 * power.max(SILENCE_POWER).log10()
}
