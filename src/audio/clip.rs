//! The input and the output of a decoder.

use crate::error::{Error, Result};

/// The requested part of a clip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Where it begins, in seconds.
    pub(super) start: f64,
    /// How long it is, in seconds; infinite for the whole clip.
    pub(super) seconds: f64,
}

impl Span {
    /// The whole clip.
    pub(super) const WHOLE: Self = Self { start: 0.0, seconds: f64::INFINITY };

    /// A span of `seconds` seconds from `start`; [`Error::Argument`] unless `start` ≥ 0, `seconds` > 0 and both are
    /// finite.
    pub(super) fn new(start: f64, seconds: f64) -> Result<Self> {
        if !(start.is_finite() && start >= 0.0) {
            return Err(Error::argument("start", "zero or more seconds", start));
        }
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err(Error::argument("seconds", "a positive number of seconds", seconds));
        }
        Ok(Self { start, seconds })
    }

    /// The first frame and the one after the last, at a sample rate in Hz.
    pub(super) fn frames(&self, sample_rate: u32) -> (u64, u64) {
        // Float-to-integer casts saturate, which is right for an infinite span.
        let frame = |seconds: f64| (seconds * f64::from(sample_rate)).round() as u64;
        let start = frame(self.start);
        (start, start.saturating_add(frame(self.seconds).max(1)))
    }
}

/// The decoded samples of a [`Span`], not yet validated.
pub(super) struct Clip {
    /// The span's samples, mono.
    pub(super) samples: Vec<f32>,
    pub(super) sample_rate: u32,
    pub(super) channels: u16,
    /// Frames of the whole clip.
    pub(super) num_frames: u64,
}

/// Appends the mean over the channels of each whole frame of `interleaved`.
pub(crate) fn mix_to_mono(interleaved: &[f32], channels: u16, mono: &mut Vec<f32>) {
    match channels {
        1 => mono.extend_from_slice(interleaved),
        _ => {
            let frames = interleaved.chunks_exact(usize::from(channels));
            mono.extend(frames.map(|frame| frame.iter().sum::<f32>() / f32::from(channels)));
        }
    }
}
