//! Learning rates as pure functions of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How the learning rate changes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Decay {
    /// Not at all, as in the published recipe.
    Constant,
    /// Along half a cosine wave, from the peak rate down to `floor` at the end of the run.
    Cosine {
        /// The final rate as a fraction of the peak rate, 0 to 1.
        floor: f64,
    },
}

/// A linear warm-up followed by a [`Decay`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The number of steps until the peak rate is reached; with 0, training starts at the peak rate.
    pub warmup_steps: usize,
    /// How the learning rate changes afterwards.
    pub decay: Decay,
}

impl Schedule {
    /// The peak rate throughout.
    pub const CONSTANT: Self = Self { warmup_steps: 0, decay: Decay::Constant };

    /// The fraction of the peak rate at `step` (from 0) of `total_steps`.
    ///
    /// - step < w (warm-up): (step + 1) / w, so that no step is wasted at rate 0 and step w − 1 has the peak rate;
    /// - cosine: floor + (1 − floor) · ½ (1 + cos(π · (step − w) / (total − w))).
    ///
    /// Steps beyond `total_steps` keep the final rate.
    pub fn factor(&self, step: usize, total_steps: usize) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine { floor } => {
                let span = total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
                let progress = ((step - self.warmup_steps) as f64 / span).min(1.0);
                floor + (1.0 - floor) * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }

    /// Checks that the settings are in range.
    ///
    /// # Errors
    /// [`Error::Config`] when the floor is not between 0 and 1.
    pub fn validate(&self) -> Result<()> {
        match self.decay {
            Decay::Cosine { floor } if !(0.0..=1.0).contains(&floor) => {
                Err(Error::config("schedule.decay.cosine.floor", "a fraction from 0 to 1", floor))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_linearly_to_the_peak() {
        let schedule = Schedule { warmup_steps: 4, decay: Decay::Constant };
        let factors: Vec<f64> = (0..6).map(|step| schedule.factor(step, 100)).collect();
        assert_eq!(factors, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        assert_eq!(Schedule::CONSTANT.factor(0, 100), 1.0);
    }

    #[test]
    fn cosine_falls_from_the_peak_to_its_floor() {
        let schedule = Schedule { warmup_steps: 10, decay: Decay::Cosine { floor: 0.1 } };
        assert_eq!(schedule.factor(10, 110), 1.0);
        assert!((schedule.factor(60, 110) - 0.55).abs() < 1e-12);
        assert!((schedule.factor(110, 110) - 0.1).abs() < 1e-12);
        assert_eq!(schedule.factor(500, 110), schedule.factor(110, 110));
        let factors: Vec<f64> = (10..110).map(|step| schedule.factor(step, 110)).collect();
        assert!(factors.is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn degenerate_lengths_stay_finite() {
        for (warmup_steps, total) in [(0, 0), (5, 3), (3, 3), (0, 1)] {
            let schedule = Schedule { warmup_steps, decay: Decay::Cosine { floor: 0.0 } };
            assert!((0..10).all(|step| (0.0..=1.0).contains(&schedule.factor(step, total))));
        }
    }

    #[test]
    fn a_floor_beyond_the_peak_is_refused() {
        let schedule = Schedule { warmup_steps: 0, decay: Decay::Cosine { floor: 1.5 } };
        match schedule.validate().unwrap_err() {
            Error::Config { what, found, .. } => {
                assert_eq!((what.as_str(), found.as_str()), ("schedule.decay.cosine.floor", "1.5"))
            }
            other => panic!("{other:?}"),
        }
    }
}
