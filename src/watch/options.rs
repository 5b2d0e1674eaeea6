//! How a film is watched.

use crate::error::{Error, Result};

/// The highest number of moments in a second.
const MAX_RATE: f64 = 1000.0;
/// The longest window and the longest radius of smoothing, in seconds.
const MAX_SECONDS: f64 = 60.0;

/// How often a film is analysed, how much sound belongs to a moment, and what neighbouring moments tell each other.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchOptions {
    /// Moments per second (5). Of the frames that are fed, the first one at or after each multiple of 1/`rate` becomes
    /// a moment.
    pub rate: f64,
    /// The length of the sound around a moment, in seconds (1). The window is centred on the moment.
    pub window: f64,
    /// The time between two windows, in seconds; `None` (the default) for 1/`rate`. Each window is heard once, and a moment
    /// uses the one whose middle is nearest.
    pub hop: Option<f64>,
    /// Whether a window that is shorter than what the model reads is repeated until it fills it (the default), rather than
    /// followed by silence.
    pub repeat: bool,
    /// How neighbouring moments are combined; `None` analyses each moment alone.
    pub smoothing: Option<Smoothing>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self { rate: 5.0, window: 1.0, hop: None, repeat: true, smoothing: Some(Smoothing::default()) }
    }
}

/// How neighbouring moments are combined.
///
/// The weight of a moment that lies Δt away is `exp(−2(Δt/r)²) · exp((cos − 1)/τ)`, with r the radius and cos the cosine
/// between the embeddings of the two sounds. A moment with another sound therefore counts little, however near it is.
/// Nothing is combined across a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothing {
    /// The radius within which the embeddings of the sound are averaged before the decoder runs, in seconds; 0 for none.
    pub hearing: f64,
    /// The radius within which logits are averaged, in seconds; 0 for none.
    pub seeing: f64,
    /// τ: how different two sounds may be. Infinity combines all moments alike.
    pub tolerance: f32,
    /// Whether the logits of other moments are moved along with what moved in the picture.
    pub follow_motion: bool,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self { hearing: 0.6, seeing: 0.6, tolerance: 0.2, follow_motion: true }
    }
}

impl WatchOptions {
    /// The time between two windows, in seconds.
    pub(super) fn hop(&self) -> f64 {
        self.hop.unwrap_or(1.0 / self.rate)
    }

    /// How long after a moment its result is known, in seconds of the film: the second half of the window, and the radii
    /// of the smoothing.
    pub fn latency(&self) -> f64 {
        let (hearing, seeing) = self.smoothing.as_ref().map_or((0.0, 0.0), |s| (s.hearing, s.seeing));
        // A window's middle is up to half a hop later than the moment.
        self.hop() / 2.0 + self.window / 2.0 + hearing + seeing
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
            within("hearing", smoothing.hearing, 0.0, MAX_SECONDS)?;
            within("seeing", smoothing.seeing, 0.0, MAX_SECONDS)?;
            if smoothing.tolerance.is_nan() || smoothing.tolerance <= 0.0 {
                return Err(Error::argument("tolerance", "a positive number", smoothing.tolerance));
            }
        }
        Ok(())
    }
}
