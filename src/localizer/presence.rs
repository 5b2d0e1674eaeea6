//! Does something in the picture make this sound? A calibrated answer.
//!
//! A heatmap has a highest point even if nothing in the picture makes the sound. A [`PresenceCalibration`] turns the
//! [`Evidence`] of a heatmap into a probability: a logistic regression, fitted on held-out pairs of which it is known
//! whether the picture shows the source. It is stored in a model directory as `presence.json`, because it belongs to the
//! weights that it was fitted for.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Heatmap;
use crate::error::{Error, Result};
use crate::weights::write_presence;

/// The number of coefficients: one for each piece of evidence, and the constant.
const NUM_COEFFICIENTS: usize = Evidence::NAMES.len() + 1;
/// Newton's method stops after this many steps; it converges in about eight.
const MAX_STEPS: usize = 100;
/// The weight of the squared coefficients (of evidence in units of its standard deviation). It keeps them finite where
/// present and absent sounds can be separated perfectly.
const RIDGE: f64 = 1e-3;

/// What a heatmap says about the presence of its sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The heatmap's confidence, a cosine in [−1, 1].
    pub confidence: f32,
    /// The largest logit, with the masker's offset: the log-odds of the largest score.
    pub peak: f32,
}

impl Evidence {
    /// The names of the pieces of evidence, in the order of the coefficients.
    pub const NAMES: [&'static str; 2] = ["confidence", "peak"];

    /// The values in the order of [`Evidence::NAMES`].
    fn values(self) -> [f64; Self::NAMES.len()] {
        [self.confidence, self.peak].map(f64::from)
    }
}

impl Heatmap {
    /// The heatmap's evidence for the presence of the sound.
    pub fn evidence(&self) -> Evidence {
        let peak = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Evidence { confidence: self.confidence, peak: peak + self.offset }
    }
}

/// How the presence of a sound follows from the [`Evidence`]:
/// `p = σ(bias + confidence · c + peak · m)`, with the confidence c and the largest logit m.
///
/// The probability is calibrated for pairs that are as often present as absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresenceCalibration {
    /// The constant.
    pub bias: f64,
    /// The coefficient of [`Evidence::confidence`].
    pub confidence: f64,
    /// The coefficient of [`Evidence::peak`].
    pub peak: f64,
    /// The presence at which a sound counts as present, in [0, 1].
    pub threshold: f32,
    /// The fraction of absent sounds that reach the threshold, as it was chosen in the fit, in [0, 1].
    pub false_alarms: f64,
}

impl PresenceCalibration {
    /// Fits a logistic regression to the evidence of sounds whose source is in their picture and of others.
    ///
    /// Both groups count the same, however large they are; the coefficients maximise the likelihood (less a small penalty
    /// on their squares) by Newton's method. The threshold is the smallest at which at most a fraction `false_alarms` of
    /// the absent sounds counts as present.
    ///
    /// # Errors
    /// [`Error::Argument`] when one of the groups is empty, or for `false_alarms` outside [0, 1]; [`Error::NonFinite`] for
    /// evidence that is NaN or infinite.
    pub fn fit(present: &[Evidence], absent: &[Evidence], false_alarms: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&false_alarms) {
            return Err(Error::argument("false_alarms", "a fraction in [0, 1]", false_alarms));
        }
        for (name, group) in [("present", present), ("absent", absent)] {
            if group.is_empty() {
                return Err(Error::argument(format!("evidence of {name} sounds"), "at least one", 0));
            }
            if let Some(broken) = group.iter().find(|evidence| evidence.values().iter().any(|v| !v.is_finite())) {
                let what = format!("evidence of {name} sounds");
                return Err(Error::NonFinite { what, details: format!("{broken:?}") });
            }
        }
        let group = |group: &[Evidence], target: f64| {
            let weight = 0.5 / group.len() as f64;
            group.iter().map(|evidence| (evidence.values(), target, weight)).collect::<Vec<_>>()
        };
        let rows = [group(present, 1.0), group(absent, 0.0)].concat();
        let [bias, confidence, peak] = regression(&rows);
        let mut fitted = Self { bias, confidence, peak, threshold: 1.0, false_alarms: 0.0 };
        let wrong: Vec<f32> = absent.iter().map(|evidence| fitted.presence(*evidence)).collect();
        fitted.threshold = smallest_threshold(&wrong, false_alarms).min(1.0);
        let reached = wrong.iter().filter(|value| **value >= fitted.threshold).count();
        fitted.false_alarms = reached as f64 / wrong.len() as f64;
        Ok(fitted)
    }

    /// The probability in [0, 1] that the picture shows the source of the sound.
    pub fn presence(&self, evidence: Evidence) -> f32 {
        let coefficients = [self.confidence, self.peak];
        let sum: f64 = evidence.values().iter().zip(coefficients).map(|(value, weight)| value * weight).sum();
        logistic(self.bias + sum) as f32
    }

    /// The calibration of a model directory. `name` represents the model in error messages.
    pub(super) fn from_json(name: &str, json: &Value) -> Result<Self> {
        let failed = |error| Error::format(name, "calibration", "valid settings in \"presence.json\"", error);
        Self::deserialize(json).map_err(failed)
    }

    /// Writes the calibration as `presence.json` into the model directory `folder`, replacing any previous one.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_presence(folder, &json!(self))
    }

    /// Checks that the coefficients are finite, and that the threshold and the rate of false alarms are in [0, 1].
    ///
    /// # Errors
    /// [`Error::Config`] naming the first value that is not.
    pub fn validate(&self) -> Result<()> {
        let named = [("bias", self.bias), ("confidence", self.confidence), ("peak", self.peak)];
        if let Some((name, value)) = named.into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::config(format!("presence.{name}"), "a finite number", value));
        }
        let fractions = [("threshold", f64::from(self.threshold)), ("false_alarms", self.false_alarms)];
        match fractions.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((name, value)) => Err(Error::config(format!("presence.{name}"), "a number in [0, 1]", value)),
            None => Ok(()),
        }
    }
}

/// The smallest threshold that at most a fraction `false_alarms` of the presences of `absent` sounds reaches.
pub(crate) fn smallest_threshold(absent: &[f32], false_alarms: f64) -> f32 {
    let mut sorted = absent.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    // The first value that must stay below the threshold.
    let allowed = (false_alarms * sorted.len() as f64) as usize;
    sorted.get(allowed).map_or(0.0, |value| value.next_up())
}

/// σ(x).
fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The coefficients (first the constant) of the logistic regression on rows of (evidence, target in {0, 1}, weight), whose
/// weights add up to 1.
fn regression(rows: &[([f64; NUM_COEFFICIENTS - 1], f64, f64)]) -> [f64; NUM_COEFFICIENTS] {
    const N: usize = NUM_COEFFICIENTS;
    // In units of the standard deviation, so that the penalty treats all evidence alike.
    let weighted = |f: &dyn Fn(&[f64; N - 1]) -> f64| rows.iter().map(|(x, _, weight)| weight * f(x)).sum::<f64>();
    let means: [f64; N - 1] = std::array::from_fn(|i| weighted(&|x| x[i]));
    let deviations: [f64; N - 1] =
        std::array::from_fn(|i| weighted(&|x| (x[i] - means[i]).powi(2)).sqrt().max(f64::MIN_POSITIVE));
    let scaled = |x: &[f64; N - 1]| -> [f64; N] {
        std::array::from_fn(|i| if i == 0 { 1.0 } else { (x[i - 1] - means[i - 1]) / deviations[i - 1] })
    };
    let mut coefficients = [0.0; N];
    for _ in 0..MAX_STEPS {
        // The gradient and the Hessian of the penalised negative log likelihood.
        let (mut gradient, mut hessian) = ([0.0; N], [[0.0; N]; N]);
        for i in 1..N {
            gradient[i] = RIDGE * coefficients[i];
            hessian[i][i] = RIDGE;
        }
        for (x, target, weight) in rows {
            let x = scaled(x);
            let p = logistic(x.iter().zip(coefficients).map(|(x, c)| x * c).sum());
            for i in 0..N {
                gradient[i] += weight * (p - target) * x[i];
                for j in 0..N {
                    hessian[i][j] += weight * p * (1.0 - p) * x[i] * x[j];
                }
            }
        }
        let step = solve(hessian, gradient);
        coefficients.iter_mut().zip(step).for_each(|(c, step)| *c -= step);
        if step.iter().all(|step| step.abs() < 1e-10) {
            break;
        }
    }
    // Back to the units of the evidence.
    for i in 1..N {
        coefficients[i] /= deviations[i - 1];
        coefficients[0] -= coefficients[i] * means[i - 1];
    }
    coefficients
}

/// Solves `A x = b` for a positive definite A by Gaussian elimination, which needs no pivoting there.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for i in 0..N {
        let pivot = a[i];
        for j in i + 1..N {
            let factor = a[j][i] / pivot[i];
            a[j].iter_mut().zip(pivot).for_each(|(x, above)| *x -= factor * above);
            b[j] -= factor * b[i];
        }
    }
    for i in (0..N).rev() {
        let known: f64 = (i + 1..N).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - known) / a[i][i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(confidence: f32, peak: f32) -> Evidence {
        Evidence { confidence, peak }
    }

    /// Points on a grid around a centre.
    fn cloud(centre: f32) -> Vec<Evidence> {
        (0..1000).map(|i| evidence((i % 10) as f32 / 5.0 + centre, (i / 10) as f32)).collect()
    }

    #[test]
    fn the_gradient_vanishes_and_the_probabilities_are_calibrated() {
        let (present, absent) = (cloud(0.5), cloud(-0.5));
        let fitted = PresenceCalibration::fit(&present, &absent, 0.1).unwrap();
        fitted.validate().unwrap();
        let mean =
            |group: &[Evidence]| group.iter().map(|e| f64::from(fitted.presence(*e))).sum::<f64>() / group.len() as f64;
        // With a constant among the coefficients, the mean probability is the share of present sounds.
        assert!((mean(&present) + mean(&absent) - 1.0).abs() < 1e-6);
        assert!(fitted.confidence > 1.0 && fitted.peak.abs() < 1e-6, "{fitted:?}");
        assert!(fitted.presence(evidence(2.0, 0.0)) > 0.9);
        assert!(fitted.presence(evidence(-2.0, 0.0)) < 0.1);
    }

    #[test]
    fn the_threshold_keeps_to_the_rate_of_false_alarms() {
        let (present, absent) = (cloud(0.5), cloud(-0.5));
        for rate in [0.0, 0.05, 0.33, 1.0] {
            let fitted = PresenceCalibration::fit(&present, &absent, rate).unwrap();
            let alarms = absent.iter().filter(|e| fitted.presence(**e) >= fitted.threshold).count();
            assert!(alarms as f64 <= rate * 1000.0, "{alarms} at {rate}");
            assert_eq!(fitted.false_alarms, alarms as f64 / 1000.0);
        }
    }

    #[test]
    fn groups_of_different_sizes_count_the_same() {
        let (present, absent) = (cloud(0.5), cloud(-0.5));
        let few: Vec<Evidence> = absent.iter().copied().step_by(10).collect();
        let many = [few.clone(), few.clone(), few.clone()].concat();
        let fitted = |absent: &[Evidence]| PresenceCalibration::fit(&present, absent, 0.1).unwrap();
        let (few, many) = (fitted(&few), fitted(&many));
        assert!((few.bias - many.bias).abs() < 1e-9 && (few.confidence - many.confidence).abs() < 1e-9);
    }

    #[test]
    fn what_can_be_separated_perfectly_stays_finite() {
        let fitted = PresenceCalibration::fit(&[evidence(1.0, 3.0)], &[evidence(0.0, 3.0)], 0.0).unwrap();
        fitted.validate().unwrap();
        assert!(fitted.presence(evidence(1.0, 3.0)) >= fitted.threshold);
        assert!(fitted.presence(evidence(0.0, 3.0)) < fitted.threshold);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused_by_name() {
        let one = [evidence(0.0, 0.0)];
        let broken = [evidence(f32::NAN, 0.0)];
        let refused = |present: &[Evidence], absent: &[Evidence], rate| {
            PresenceCalibration::fit(present, absent, rate).unwrap_err().to_string()
        };
        assert!(refused(&[], &one, 0.1).contains("present"), "{}", refused(&[], &one, 0.1));
        assert!(refused(&one, &[], 0.1).contains("absent"));
        assert!(refused(&one, &one, 1.5).contains("false_alarms"));
        assert!(refused(&broken, &one, 0.1).contains("NaN"));
        let fitted = PresenceCalibration::fit(&one, &one, 0.1).unwrap();
        for (name, wrong) in [
            ("presence.bias", PresenceCalibration { bias: f64::NAN, ..fitted }),
            ("presence.peak", PresenceCalibration { peak: f64::INFINITY, ..fitted }),
            ("presence.threshold", PresenceCalibration { threshold: -0.1, ..fitted }),
            ("presence.false_alarms", PresenceCalibration { false_alarms: 1.1, ..fitted }),
        ] {
            assert!(matches!(wrong.validate(), Err(Error::Config { what, .. }) if what == name));
        }
    }
}
