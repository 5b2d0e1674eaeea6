//! Collects the requested part of a decoder's output, packet by packet.

use std::path::Path;

use crate::audio::clip::{Clip, Span, mix_to_mono};
use crate::audio::errors::{start_beyond_end, unusable};
use crate::error::Result;

/// The part of an MP4 track that its edit list selects for playback, in seconds. AAC begins with a priming block and
/// ends with padding to a whole block, and neither belongs to the sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Edit {
    /// Where the sound begins, in the track's time.
    pub(super) start: f64,
    /// How long it is; infinite if the list does not state it.
    pub(super) seconds: f64,
}

impl Edit {
    /// All of a track.
    pub(super) const NONE: Self = Self { start: 0.0, seconds: f64::INFINITY };

    /// How much of a track of `seconds` seconds is played.
    pub(super) fn heard_seconds(&self, seconds: f64) -> f64 {
        (seconds - self.start).max(0.0).min(self.seconds)
    }
}

/// The requested part of the decoded samples. Frames are counted from the beginning of playback.
pub(super) struct Window {
    span: Span,
    edit: Edit,
    samples: Vec<f32>,
    format: Option<(u32, u16)>,
    /// The index of the next decoded frame; negative within the priming block.
    position: i64,
    /// The first requested frame, and the one after the last.
    start: u64,
    end: u64,
}

impl Window {
    pub(super) fn new(span: Span, edit: Edit) -> Self {
        Self { span, edit, samples: Vec::new(), format: None, position: 0, start: 0, end: u64::MAX }
    }

    /// A window that takes nothing and never fills, for walking to the end of a track.
    pub(super) fn of_nothing() -> Self {
        Self::new(Span { start: f64::INFINITY, seconds: f64::INFINITY }, Edit::NONE)
    }

    /// A window that the first frame fills.
    pub(super) fn of_first_frame() -> Self {
        Self::new(Span { start: 0.0, seconds: 0.0 }, Edit::NONE)
    }

    pub(super) fn is_full(&self) -> bool {
        self.position >= 0 && self.position as u64 >= self.end
    }

    /// The end of the decoded samples, in the track's time.
    pub(super) fn end_seconds(&self) -> Option<f64> {
        self.format.map(|(rate, _)| self.edit.start + self.position as f64 / f64::from(rate))
    }

    /// Takes the requested samples from a decoded packet, which begins at `begin` in the track's time.
    pub(super) fn push(
        &mut self,
        path: &Path,
        interleaved: &[f32],
        rate: u32,
        channels: u16,
        begin: f64,
    ) -> Result<()> {
        match self.format {
            Some((known, _)) if known != rate => {
                let (expected, found) = (format!("{known} Hz throughout"), format!("a change to {rate} Hz"));
                return Err(unusable(path.display(), expected, found));
            }
            Some(_) => {}
            None => {
                // Only the time of the first packet is used; after that, frames are counted.
                self.format = Some((rate, channels));
                self.position = ((begin - self.edit.start) * f64::from(rate)).round() as i64;
                (self.start, self.end) = self.span.frames(rate);
                self.end = self.end.min((self.edit.seconds * f64::from(rate)).round() as u64);
            }
        }
        let frames = (interleaved.len() / usize::from(channels)) as i64;
        // Where the wanted frames begin and end within this packet.
        let within = |frame: u64| i64::try_from(frame).unwrap_or(i64::MAX).saturating_sub(self.position);
        let (from, to) = (within(self.start).clamp(0, frames), within(self.end).clamp(0, frames));
        if from < to {
            let wanted = from as usize * usize::from(channels)..to as usize * usize::from(channels);
            mix_to_mono(&interleaved[wanted], channels, &mut self.samples);
        }
        self.position += frames;
        Ok(())
    }

    pub(super) fn into_clip(self, path: &Path, announced: Option<f64>, reached: Option<f64>) -> Result<Clip> {
        let reached = reached.map(|seconds| self.edit.heard_seconds(seconds));
        let seconds = announced.or(reached).unwrap_or(0.0);
        if self.samples.is_empty() && self.span.start > 0.0 {
            return Err(start_beyond_end(path.display(), self.span.start, seconds));
        }
        let Some((sample_rate, channels)) = self.format else {
            return Err(unusable(path.display(), "at least one sample", "none"));
        };
        // The clip has at least as many frames as were decoded, even if the header states fewer.
        let num_frames = ((seconds * f64::from(sample_rate)).round() as u64).max(self.samples.len() as u64);
        Ok(Clip { samples: self.samples, sample_rate, channels, num_frames })
    }
}
