//! Watching a film.

use std::collections::VecDeque;

use super::moment::Moment;
use super::options::WatchOptions;
use super::watcher::Watcher;
use crate::error::{Error, Result};
use crate::localizer::Localizer;
use crate::video::{Film, FrameOptions, Frames, Sound};

impl Localizer {
    /// Finds where it sounds in a film, from moment to moment.
    ///
    /// The film is decoded while it is analysed, and memory does not grow with its length.
    ///
    /// # Errors
    /// [`Error::Argument`] for an option out of its range; [`Error::Film`] when the film has no sound track; the errors
    /// of [`Film::frames`] and [`Film::sound`].
    pub fn watch(&self, film: &Film, options: &WatchOptions) -> Result<Moments<'_>> {
        self.watch_span(film, 0.0, None, options)
    }

    /// As [`Localizer::watch`], for the part of the film from `from` to `to` (its end if `None`), in seconds. The sound
    /// outside this part is not heard.
    ///
    /// # Errors
    /// As [`Localizer::watch`].
    pub fn watch_span(&self, film: &Film, from: f64, to: Option<f64>, options: &WatchOptions) -> Result<Moments<'_>> {
        let sound = film.sound(from, to)?;
        let mut watcher = Watcher::new(self, sound.sample_rate(), options.clone())?;
        watcher.begin_at(from);
        let frames = film.frames(&FrameOptions { rate: Some(options.rate), from, to, ..Default::default() })?;
        Ok(Moments {
            watcher,
            frames,
            sound: Some(sound),
            reach: options.latency(),
            ready: VecDeque::new(),
            end: f64::INFINITY,
            error: None,
            ended: false,
        })
    }
}

/// The moments of a film, in order.
///
/// When the film turns out to be damaged, the moments before the damage come first, then the error, then nothing.
pub struct Moments<'a> {
    watcher: Watcher<'a>,
    frames: Frames,
    /// Until it has ended.
    sound: Option<Sound>,
    /// How much later than a frame its sound ends, in seconds.
    reach: f64,
    ready: VecDeque<Moment>,
    /// The time from which frames are left out, because the sound is damaged there.
    end: f64,
    /// What comes after the last moment.
    error: Option<Error>,
    ended: bool,
}

impl Moments<'_> {
    /// Decodes and analyses as many frames as there are threads.
    fn advance(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..rayon::current_num_threads() {
            match self.frames.next() {
                Some(Ok(frame)) if frame.time < self.end => {
                    last = Some(frame.time);
                    self.watcher.hold_frame(frame.time, frame.picture)?;
                    continue;
                }
                Some(Err(error)) => {
                    self.error.get_or_insert(error);
                }
                Some(Ok(_)) | None => {}
            }
            self.ended = true;
            break;
        }
        while let (Some(sound), Some(last)) = (&mut self.sound, last) {
            if self.watcher.has_heard(last + self.reach) {
                break;
            }
            match sound.next() {
                Some(Ok(samples)) => {
                    self.watcher.hold_sound(&samples)?;
                    continue;
                }
                Some(Err(error)) => {
                    // The frames before the damage are still analysed.
                    self.error.get_or_insert(error);
                    self.end = self.watcher.drop_unheard();
                }
                None => {}
            }
            self.watcher.end_sound();
            self.sound = None;
        }
        self.ready.extend(if self.ended { self.watcher.end()? } else { self.watcher.advance()? });
        Ok(())
    }
}

impl Iterator for Moments<'_> {
    type Item = Result<Moment>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(moment) = self.ready.pop_front() {
                return Some(Ok(moment));
            }
            if self.ended {
                return self.error.take().map(Err);
            }
            if let Err(error) = self.advance() {
                self.error = Some(error);
                self.ended = true;
            }
        }
    }
}

impl std::iter::FusedIterator for Moments<'_> {}
