//! Decoding the sound track.

use std::io::Read;
use std::process::{ChildStdout, Command};

use super::film::Film;
use super::part::Part;
use super::probe::SoundInfo;
use super::process::Process;
use crate::audio::mix_to_mono;
use crate::error::Result;

/// How many samples a chunk has at most.
const CHUNK: usize = 4096;
/// How far before the first sample decoding begins, in seconds: decoders need some packets before their output is right.
const LEAD: f64 = 1.0;
/// The longest silence before a late sound that is left to `ffmpeg`, in seconds. It would keep all of it in memory.
const MAX_SILENCE: f64 = 0.5;
/// From what difference, in seconds, between a sound's times and its samples silence is put in or samples are left out.
const MAX_GAP: f64 = 0.02;

/// The sound of a film: chunks of at least one mono sample, nominally in [-1, 1]. Made by [`Film::sound`].
///
/// After an error there are no more items. Dropping it ends the decoder at once.
#[derive(Debug)]
pub struct Sound {
    film: Film,
    part: Part,
    sample_rate: u32,
    channels: u16,
    /// How long the track is expected to go on, in seconds from the beginning of the film.
    end: Option<f64>,
    /// The decoder; `None` once all of its samples have come.
    running: Option<(Process, ChildStdout)>,
    /// How many silent samples come before the decoder's.
    silent: u64,
    /// The number of the next sample, and of the last, counted from the beginning of the film.
    next: u64,
    last: u64,
}

impl Film {
    /// Decodes the sound from `from` to `to` (in seconds; `None` for the end of the sound track): chunks of mono samples,
    /// the mean of the channels, at the rate of the track.
    ///
    /// The first sample is the one at `from`, and no time is left out: there is silence before a sound that begins late,
    /// and where the track has a gap of more than 20 ms. The sound ends with its track, which may be before or after the
    /// end of the pictures.
    ///
    /// # Errors
    /// - [`Error::Film`](crate::Error::Film) when the film has no sound.
    /// - [`Error::Argument`](crate::Error::Argument) when `from` is negative or not before the end of the film, or `to`
    ///   is not after `from`.
    /// - [`Error::MissingProgram`](crate::Error::MissingProgram) when `ffmpeg` is not installed.
    ///
    /// The iterator ends with an error as that of [`frames`](Self::frames) does, and with
    /// [`Error::Film`](crate::Error::Film) at samples that are NaN or infinite.
    pub fn sound(&self, from: f64, to: Option<f64>) -> Result<Sound> {
        Sound::new(self, from, to)
    }
}

impl Sound {
    fn new(film: &Film, from: f64, to: Option<f64>) -> Result<Self> {
        let part = Part::new(film, from, to)?;
        let (Some(info), Some(track)) = (&film.info().sound, film.tracks.sound) else {
            return Err(film.unusable("a sound track", "none"));
        };
        // Float casts saturate, which is right for an infinite end.
        let number = |time: f64| (time * f64::from(info.sample_rate)).round() as u64;
        let (next, last) = (number(from), number(part.to));
        // Silence before this time is made here.
        let begin = from.max((info.start - MAX_SILENCE).min(part.to));

        let mut command = film.ffmpeg().ffmpeg();
        add_sound_input(film, begin, &mut command);
        let filter = on_time(film, info, begin);
        command.arg("-map").arg(format!("0:{track}")).args(["-af", &filter]);
        // The number of channels stays even where the track changes it.
        command.args(["-ac", &info.channels.to_string(), "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]);
        Ok(Self {
            film: film.clone(),
            part,
            sample_rate: info.sample_rate,
            channels: info.channels,
            end: info.seconds.map(|seconds| info.start + seconds),
            running: Some(Process::reader(command)?),
            silent: number(begin).saturating_sub(next),
            next,
            last,
        })
    }

    /// Samples per second, Hz.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Reads up to `count` samples of each channel; fewer only at the end of the track.
    fn read(&self, output: &mut ChildStdout, count: usize) -> Result<Vec<f32>> {
        let frame = usize::from(self.channels) * size_of::<f32>();
        let mut bytes = Vec::with_capacity(count * frame);
        output
            .take((count * frame) as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| self.film.unusable("samples from ffmpeg", error.to_string()))?;
        let interleaved: Vec<f32> = bytes.as_chunks().0.iter().map(|&sample| f32::from_le_bytes(sample)).collect();
        let mut mono = Vec::with_capacity(count);
        mix_to_mono(&interleaved, self.channels, &mut mono);
        match mono.iter().position(|sample| !sample.is_finite()) {
            Some(at) => {
                let time = (self.next + at as u64) as f64 / f64::from(self.sample_rate);
                Err(self.film.unusable("finite samples", format!("{} at {time:.3} s", mono[at])))
            }
            None => Ok(mono),
        }
    }
}

impl Iterator for Sound {
    type Item = Result<Vec<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut process, mut output) = self.running.take()?;
        let wanted = self.last.saturating_sub(self.next).min(CHUNK as u64);
        if wanted == 0 {
            return None;
        }
        let silent = self.silent.min(wanted);
        let samples = match silent {
            0 => self.read(&mut output, wanted as usize),
            silent => Ok(vec![0.0; silent as usize]),
        };
        self.silent -= silent;
        match samples {
            Ok(samples) if samples.is_empty() => {
                let reached = self.next as f64 / f64::from(self.sample_rate);
                let ending = process.wait();
                self.part.check_end(&self.film, &ending, reached, self.end, MAX_GAP).err().map(Err)
            }
            Ok(samples) => {
                self.next += samples.len() as u64;
                self.running = Some((process, output));
                Some(Ok(samples))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Sound {}

/// Adds `film` to `command` as an input for the sound from `begin` on, in seconds.
pub(super) fn add_sound_input(film: &Film, begin: f64, command: &mut Command) {
    Part::add_input_from(film, begin - LEAD, command);
}

/// The filter that makes the sound of `film` begin at `begin`, in seconds, whatever comes first in the input, and that
/// fills gaps.
pub(super) fn on_time(film: &Film, info: &SoundInfo, begin: f64) -> String {
    let rate = info.sample_rate;
    let first = ((film.tracks.start + begin) * f64::from(rate)).round() as i64;
    format!("aresample={rate}:async=1:min_hard_comp={MAX_GAP}:first_pts={first}")
}
