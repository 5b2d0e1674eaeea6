//! The part of a sound track that windows still need.

use std::collections::VecDeque;
use std::ops::Range;

use super::changes::SoundChanges;
use super::level::level;
use crate::error::{Error, Result};

/// The sound around a moment.
pub(super) struct Window {
    pub(super) samples: Vec<f32>,
    /// The times between which the sound does not change, as far as the window shows.
    pub(super) steady: Range<f64>,
}

impl Window {
    /// Repeats the samples until there are `length`.
    pub(super) fn repeat(&mut self, length: usize) {
        let period = self.samples.len();
        self.samples.reserve(length.saturating_sub(period));
        (period..length).for_each(|at| self.samples.push(self.samples[at - period]));
    }
}

/// Samples are dropped once no window needs them, so that memory does not grow with the length of a film.
#[derive(Debug)]
pub(super) struct SoundTrack {
    rate: u32,
    kept: VecDeque<f32>,
    /// The position of the first kept sample in the track.
    first: u64,
    ended: bool,
}

impl SoundTrack {
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, kept: VecDeque::new(), first: 0, ended: false }
    }

    /// Samples per second.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Puts the first sample at `time` instead of 0; before anything is pushed.
    pub(super) fn begin_at(&mut self, time: f64) {
        self.first = self.position(time);
    }

    /// Appends samples.
    pub(super) fn push(&mut self, samples: &[f32]) -> Result<()> {
        if let Some(sample) = samples.iter().find(|sample| !sample.is_finite()) {
            return Err(Error::NonFinite { what: "a sample of the sound".into(), details: sample.to_string() });
        }
        self.kept.extend(samples);
        Ok(())
    }

    /// No more samples will come: silence follows.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The time after the last sample, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.end_of_kept() as f64 / f64::from(self.rate)
    }

    /// Whether everything up to `time` (in seconds) is known.
    pub(super) fn reaches(&self, time: f64) -> bool {
        self.ended || self.end_of_kept() >= self.position(time)
    }

    /// The samples of `seconds` around `time`, shorter at the beginning and at the end of the track, and a sample of
    /// silence where there are none. With `changes`, they begin and end where the sound changes.
    pub(super) fn window(&self, time: f64, seconds: f64, changes: Option<&SoundChanges>) -> Result<Window> {
        let mut samples = self.samples(time - seconds / 2.0, time + seconds / 2.0);
        let mut steady = f64::NEG_INFINITY..f64::INFINITY;
        if let Some(changes) = changes {
            let first = self.position(time - seconds / 2.0).max(self.first);
            let part = changes.steady(&samples, self.position(time).saturating_sub(first) as usize)?;
            let seconds = |at: usize| (first + at as u64) as f64 / f64::from(self.rate);
            if part.end < samples.len() {
                steady.end = seconds(part.end);
                samples.truncate(part.end);
            }
            if part.start > 0 {
                steady.start = seconds(part.start);
                samples.drain(..part.start);
            }
        }
        if samples.is_empty() {
            samples.push(0.0);
        }
        Ok(Window { samples, steady })
    }

    /// The effective value of the samples within `seconds` around `time`, in dB of full scale; silence where the track
    /// has none.
    pub(super) fn level(&self, time: f64, seconds: f64) -> f32 {
        level(&self.samples(time - seconds / 2.0, time + seconds / 2.0)) as f32
    }

    /// Drops the samples before `time`.
    pub(super) fn forget_before(&mut self, time: f64) {
        let drop = self.position(time).saturating_sub(self.first).min(self.kept.len() as u64);
        self.kept.drain(..drop as usize);
        self.first += drop;
    }

    fn samples(&self, from: f64, to: f64) -> Vec<f32> {
        let within = |time: f64| self.position(time).clamp(self.first, self.end_of_kept()) - self.first;
        self.kept.range(within(from) as usize..within(to) as usize).copied().collect()
    }

    /// The sample at `time`; casts saturate, so that it is the first one for negative times.
    fn position(&self, time: f64) -> u64 {
        (time * f64::from(self.rate)).round() as u64
    }

    /// The number of samples in memory.
    #[cfg(test)]
    pub(super) fn num_kept(&self) -> usize {
        self.kept.len()
    }

    fn end_of_kept(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}
