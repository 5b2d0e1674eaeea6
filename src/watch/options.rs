//! How a film is watched.

use crate::error::{Error, Result};
use crate::localizer::Heatmap;
use crate::video::MAX_RATE;

/// The longest window and the longest radius of smoothing, in seconds.
const MAX_SECONDS: f64 = 60.0;
/// The level of a moment is measured over this many seconds of sound.
pub(super) const LEVEL_SECONDS: f64 = 0.2;

/// How often a film is analysed, how much sound belongs to a moment, and what neighbouring moments tell each other.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// Moments per second (5). Of the frames that are fed, the first one at or after each multiple of 1/`rate` becomes
    /// a moment.
    pub rate: f64,
    /// The length of the sound around a moment, in seconds (1.5). The window is centred on the moment.
    pub window: f64,
    /// The time between two windows, in seconds; `None` (the default) for 1/`rate`. Each window is heard once, and a moment
    /// uses the one whose middle is nearest.
    pub hop: Option<f64>,
    /// Whether a window begins and ends where the sound changes from one source to another (the default), and moments before
    /// and after a change are not combined.
    pub sound_changes: bool,
    /// Whether a window that is shorter than what the model reads is repeated until it fills it (the default), rather than
    /// followed by silence.
    pub repeat: bool,
    /// How neighbouring moments are combined; `None` analyses each moment alone.
    pub smoothing: Option<Smoothing>,
    /// When something in the picture sounds.
    pub gate: Gate,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            rate: 5.0,
            window: 1.5,
            hop: None,
            sound_changes: true,
            repeat: true,
            smoothing: Some(Smoothing::default()),
            gate: Gate::default(),
        }
    }
}

/// How neighbouring moments are combined: the logits and the confidence of a moment become the weighted mean of those
/// within `radius`. Nothing is combined across a cut.
///
/// The weight of a moment that is Δt away and more confident by Δc is `exp(−2(Δt/radius)² + Δc/trust)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    /// How far away a moment may be, in seconds (0.4). So much later is a result known.
    pub radius: f64,
    /// How much more confident another moment must be to count e times as much (0.2). The confidence is a cosine, in −1..1;
    /// infinity disregards it.
    pub trust: f32,
    /// Whether the logits of other moments are moved along with what moved in the picture (the default).
    pub follow_motion: bool,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self { radius: 0.4, trust: 0.2, follow_motion: true }
    }
}

impl Smoothing {
    /// The weight of a moment `apart` seconds away whose confidence is higher by `surplus`.
    pub(super) fn weight(&self, apart: f64, surplus: f32) -> f32 {
        (-2.0 * (apart / self.radius).powi(2)).exp() as f32 * (surplus / self.trust).exp()
    }
}

/// When something in the picture sounds.
///
/// Nothing sounds where the sound's level is below `level`. Otherwise, the evidence of a moment is its presence, where the
/// model is calibrated ([`PresenceCalibration`](crate::localizer::PresenceCalibration)) and `by_presence` is set, or else its
/// confidence. It must reach one value for a sound to begin, and fall below another one for it to end, so that the decision
/// does not flicker. The calibration's own threshold is not used: it was chosen for few false alarms among sounds of any
/// kind, whereas most sounds of a film belong to what it shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Whether the presence decides, where the model has a calibration (the default).
    pub by_presence: bool,
    /// The presence at which something begins to sound, in 0..1 (0.36).
    pub open_presence: f32,
    /// The presence below which it ends, at most `open_presence` (0.18).
    pub close_presence: f32,
    /// The confidence at which something begins to sound, a cosine in −1..1 (0.06).
    pub open: f32,
    /// The confidence below which it ends, at most `open` (0).
    pub close: f32,
    /// The lowest level of a sound, in dB of full scale (−50).
    pub level: f32,
}

impl Default for Gate {
    fn default() -> Self {
        Self { by_presence: true, open_presence: 0.36, close_presence: 0.18, open: 0.06, close: 0.0, level: -50.0 }
    }
}

impl Gate {
    /// Whether something sounds at a moment, given whether it did before.
    pub(super) fn decide(&self, before: bool, heatmap: &Heatmap, level: f32) -> bool {
        let (evidence, open, close) = match heatmap.presence().filter(|_| self.by_presence) {
            Some(presence) => (presence, self.open_presence, self.close_presence),
            None => (heatmap.confidence, self.open, self.close),
        };
        level >= self.level && evidence >= if before { close } else { open }
    }
}

impl WatchOptions {
    /// The time between two windows, in seconds.
    pub(super) fn hop(&self) -> f64 {
        self.hop.unwrap_or(1.0 / self.rate)
    }

    /// How much sound is needed on each side of a window's middle, in seconds.
    pub(super) fn reach(&self) -> f64 {
        self.window.max(LEVEL_SECONDS) / 2.0
    }

    /// How much later than its frame a moment is known, in seconds of film: the second half of its window, whose middle
    /// may be half a hop later than the frame, and the radius of the smoothing. The computation takes time besides.
    pub fn latency(&self) -> f64 {
        let radius = self.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.radius);
        self.hop() / 2.0 + self.reach() + radius
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first option out of its range.
    pub fn validate(&self) -> Result<()> {
        let within = |what: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::argument(what, format!("{low} to {high}"), value))
        };
        within("rate", self.rate, 1.0 / MAX_SECONDS, MAX_RATE)?;
        within("window", self.window, 1.0 / MAX_RATE, MAX_SECONDS)?;
        within("hop", self.hop(), 1.0 / MAX_RATE, MAX_SECONDS)?;
        if let Some(smoothing) = &self.smoothing {
            within("radius", smoothing.radius, 1.0 / MAX_RATE, MAX_SECONDS)?;
            if smoothing.trust.is_nan() || smoothing.trust <= 0.0 {
                return Err(Error::argument("trust", "a positive number", smoothing.trust));
            }
        }
        let Gate { open_presence, close_presence, open, close, level, .. } = self.gate;
        let pairs = [(open, close), (open_presence, close_presence)];
        if level.is_nan() || pairs.iter().any(|(open, close)| open.is_nan() || close.is_nan() || close > open) {
            return Err(Error::argument(
                "gate",
                "numbers that close at most where they open",
                format!("{:?}", self.gate),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::localizer::{Localizer, PresenceCalibration};
    use crate::{Picture, Waveform};

    fn heatmap(calibration: Option<PresenceCalibration>) -> Heatmap {
        let mut localizer = Localizer::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/alt")).unwrap();
        if let Some(calibration) = calibration {
            localizer = localizer.with_calibration(calibration).unwrap();
        }
        let sound = Waveform::from_samples(vec![0.1; 800], 16_000).unwrap();
        localizer.localize_pair(&sound, &Picture::from_rgb8(4, 4, vec![99; 48]).unwrap()).unwrap()
    }

    /// Decides about moments of (confidence, level) in order, and compares.
    fn check(gate: &Gate, heatmap: &Heatmap, moments: &[(f32, f32, bool)]) {
        let mut sounding = false;
        for &(confidence, level, expected) in moments {
            let heatmap = heatmap.with_logits(heatmap.logits.clone(), confidence).unwrap();
            sounding = gate.decide(sounding, &heatmap, level);
            assert_eq!(sounding, expected, "{confidence} at {level} dB");
        }
    }

    #[test]
    fn the_gate_opens_and_closes_at_different_confidences() {
        let gate = Gate { open: 0.3, close: 0.1, level: -40.0, ..Default::default() };
        let moments = [
            (0.29, -10.0, false),
            (0.3, -10.0, true),
            (0.2, -10.0, true),
            (0.1, -40.0, true),
            (0.09, -10.0, false),
            (0.2, -10.0, false),
            (0.9, -41.0, false),
            (0.9, f32::NEG_INFINITY, false),
            (0.9, 0.0, true),
            (0.9, -41.0, false),
        ];
        check(&gate, &heatmap(None), &moments);
    }

    #[test]
    fn the_presence_decides_where_there_is_one() {
        let calibration =
            PresenceCalibration { bias: 0.0, confidence: 10.0, peak: 0.0, threshold: 0.8, false_alarms: 0.05 };
        let heatmap = heatmap(Some(calibration));
        let opens = Gate { open_presence: 0.8, close_presence: 0.4, ..Default::default() };
        let gate = Gate { open: -0.9, close: -0.9, level: -40.0, ..opens };
        // σ(1.4) = 0.80, σ(−0.4) = 0.40.
        let moments = [
            (0.13, -10.0, false),
            (0.14, -10.0, true),
            (-0.03, -10.0, true),
            (-0.05, -10.0, false),
            (0.9, -41.0, false),
        ];
        check(&gate, &heatmap, &moments);
        let gate = Gate { by_presence: false, ..gate };
        check(&gate, &heatmap, &[(0.13, -10.0, true), (-0.5, -10.0, true)]);
    }
}
