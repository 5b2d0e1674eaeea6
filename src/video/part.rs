//! A part of a film: where it begins and ends, and whether all of it was there.

use std::process::Command;

use super::ffmpeg::add_input;
use super::film::Film;
use super::process::Ending;
use crate::error::{Error, Result};

/// From when to when, in seconds from the beginning of the film.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) from: f64,
    /// Infinite for the end of the film.
    pub(super) to: f64,
}

impl Part {
    /// Checks that 0 ≤ `from` < the length of the film and `from` < `to`.
    pub(super) fn new(film: &Film, from: f64, to: Option<f64>) -> Result<Self> {
        let seconds = film.info().seconds;
        if !(from >= 0.0 && from < seconds.max(f64::MIN_POSITIVE)) {
            return Err(Error::argument("from", format!("0 up to the end of the film, at {seconds:.3} s"), from));
        }
        if let Some(to) = to
            && !(to.is_finite() && to > from)
        {
            return Err(Error::argument("to", format!("a time after `from`, {from} s"), to));
        }
        Ok(Self { from, to: to.unwrap_or(f64::INFINITY) })
    }

    /// Adds `film` to `command` as an input whose times are those in the file, and that begins at `start` or before, in
    /// seconds from the beginning of the film.
    pub(super) fn add_input_from(film: &Film, start: f64, command: &mut Command) {
        // Otherwise ffmpeg counts from the first track that is used, rounds to the clocks of the tracks, and leaves out
        // frames accordingly.
        command.args(["-copyts", "-noaccurate_seek"]);
        if start > 0.0 {
            command.arg("-ss").arg(format!("{start:.6}"));
        }
        add_input(command, film.path());
    }

    /// The error for a decoder that has ended, if it should have gone on. It has come to `reached`, and the film says
    /// that its track goes to `end`, if it says anything; `step` is the length of a frame, all in seconds.
    pub(super) fn check_end(
        &self,
        film: &Film,
        ending: &Ending,
        reached: f64,
        end: Option<f64>,
        step: f64,
    ) -> Result<()> {
        let expected = match end {
            Some(end) => format!("a track of {end:.3} s"),
            None => "a complete film".into(),
        };
        let found = |what: &str| format!("{what} after {reached:.3} s");
        if !ending.success {
            return Err(film.unusable(expected, found(&ending.description)));
        }
        // Some films claim to be longer than they are. Only where the decoder has complained as well, something is
        // missing.
        match end {
            Some(end) if !ending.messages.is_empty() && reached + 2.0 * step < end.min(self.to) => {
                Err(film.unusable(expected, found(&format!("a truncated or damaged one ({})", ending.messages))))
            }
            _ => Ok(()),
        }
    }
}
