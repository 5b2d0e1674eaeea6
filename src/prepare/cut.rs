//! One film: its sound, its pictures, and what is wrong with it.

use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::flaw::{Flaw, FlawKind};
use super::plan::Wanted;
use super::recipe::{Layout, MAX_SECONDS, Recipe};
use super::record::Record;
use super::source::Member;
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::files::{put_in_place, temporary_beside};
use crate::image::Picture;
use crate::video::{Ffmpeg, Film, Frame, FrameOptions, MOVING_PICTURES, PICTURE_TRACK};

/// The sample rate of the written sounds, Hz.
pub const SAMPLE_RATE: u32 = 16_000;
/// A sound whose samples are all below this is silent: -60 dB of the full scale.
pub const SILENCE: f32 = 0.001;
/// By how much a span may be too short, in seconds: codecs have packets of up to 46 ms.
const TOLERANCE: f64 = 0.05;
/// How far from the wanted time a picture may be, in seconds, where the frame rate varies or the pictures end before the
/// sound; or the length of a frame, if that is more.
const MAX_DISTANCE: f64 = 0.5;
/// Two pictures are equal if no pixel of them, scaled to this size, differs by more than so many levels.
const THUMBNAIL: (usize, usize) = (64, 36);
const MAX_DIFFERENCE: u8 = 8;
/// How many pictures a second are compared, Hz.
const COMPARED_RATE: f64 = 2.0;
/// How it reads that a decoder was ended from outside, by SIGKILL, SIGTERM or SIGINT. `ffmpeg` itself answers the last two
/// with 255.
const ENDED: [&str; 5] = ["signal: 9 ", "signal: 15 ", "signal: 2 ", "received signal", "exit status: 255"];
/// The quality of JPEG files, 1 to 100.
const QUALITY: u8 = 95;

/// Prepares single films.
pub(super) struct Cutter<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) ffmpeg: &'a Ffmpeg,
    pub(super) out: &'a Path,
    /// The folder for unfinished files, on the same file system as `out`.
    pub(super) temporary: &'a Path,
}

/// Why a film is not cut.
enum Obstacle {
    Flaw(Flaw),
    /// It has nothing to do with the film.
    Fatal(Error),
}

type Cut<T> = std::result::Result<T, Obstacle>;

/// What is taken from a film.
struct Span {
    sound: Waveform,
    pictures: Vec<Picture>,
    /// Flaws that may be tolerated.
    flaws: Vec<Flaw>,
}

impl Cutter<'_> {
    /// Writes the sound and the pictures of a film in the file `path`, and says what became of it.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be written, [`Error::MissingProgram`] without `ffmpeg`. What is wrong with the film
    /// is no error.
    pub(super) fn cut(&self, wanted: &Wanted, member: &Member, path: &Path) -> Result<Record> {
        let unused = |flaw| {
            self.discard(&wanted.id)?;
            Ok(Record::unused(&wanted.id, &member.name, member.bytes, flaw))
        };
        let span = match self.read(wanted, path) {
            Ok(span) => span,
            Err(Obstacle::Flaw(Flaw { kind, reason })) => {
                // Copies of members have names of no meaning.
                let reason = reason.replace(&path.display().to_string(), &member.name);
                return unused(Flaw { kind, reason });
            }
            Err(Obstacle::Fatal(error)) => return Err(error),
        };
        if let Some(flaw) = span.flaws.iter().find(|flaw| !self.recipe.tolerates(flaw.kind)) {
            return unused(flaw.clone());
        }
        let names = self.recipe.picture_names(&wanted.id, span.pictures.len());
        for (name, picture) in names.iter().zip(&span.pictures) {
            self.write_picture(&self.out.join(name), picture)?;
        }
        self.write_sound(&self.out.join(self.recipe.sound_name(&wanted.id)), &span.sound)?;
        Ok(Record {
            id: wanted.id.clone(),
            film: member.name.clone(),
            bytes: member.bytes,
            seconds: span.sound.seconds(),
            pictures: span.pictures.len(),
            flaw: span.flaws.into_iter().next(),
            used: true,
        })
    }

    /// Removes what was written of an earlier film of this id. `evaluate` would take it for this one's.
    fn discard(&self, id: &str) -> Result<()> {
        let sound = self.out.join(self.recipe.sound_name(id));
        if !sound.exists() {
            return Ok(());
        }
        // The sound is written last and removed last. No film has more pictures than the longest span has seconds.
        let pictures = self.recipe.picture_names(id, MAX_SECONDS as usize);
        let pictures = pictures.iter().map(|name| self.out.join(name)).take_while(|path| path.exists());
        let mut files = pictures.chain([sound.clone()]);
        files.try_for_each(|path| std::fs::remove_file(&path).map_err(Error::io(&path, "remove")))
    }

    fn read(&self, wanted: &Wanted, path: &Path) -> Cut<Span> {
        let judge = |error| judge(error, path);
        let Recipe { seconds, min_seconds, pictures, .. } = *self.recipe;
        let film = Film::open_with(path, self.ffmpeg.clone()).map_err(judge)?;
        let (info, start) = (film.info(), wanted.start);
        let there = (info.seconds - start).min(seconds);
        let expected = format!("a span of {min_seconds} s from {start} s on");
        if there <= 0.0 || there < min_seconds - TOLERANCE {
            return Err(short(expected, format!("a film of {:.3} s", info.seconds)));
        }
        if info.sound.is_none() {
            return Err(Obstacle::Flaw(Flaw::new(FlawKind::NoSound, "a sound track", "none")));
        }
        let mut samples = Vec::new();
        let sound = film.sound(start, Some(start + seconds)).map_err(judge)?;
        let sample_rate = sound.sample_rate();
        for chunk in sound {
            samples.extend(chunk.map_err(judge)?);
        }
        let heard = samples.len() as f64 / f64::from(sample_rate);
        if samples.is_empty() || heard < min_seconds - TOLERANCE {
            return Err(short(expected, format!("{heard:.3} s of sound")));
        }
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let silent = (peak < SILENCE).then(|| {
            Flaw::new(FlawKind::Silent, format!("a sample of {SILENCE} or more"), format!("at most {peak:.6}"))
        });
        let still = is_still(&film, start, start + there)
            .map_err(judge)?
            .then(|| Flaw::new(FlawKind::Still, "pictures that change", format!("{there:.1} s of the same picture")));
        let first = start.max(info.picture_start);
        let times = pictures.times(seconds, there, 1.0 / info.frame_rate);
        let pictures =
            times.iter().map(|time| picture_at(&film, start, first + time, path)).collect::<Cut<Vec<_>>>()?;
        let sound = Waveform::from_samples(samples, sample_rate).and_then(|sound| sound.resample(SAMPLE_RATE));
        Ok(Span { sound: sound.map_err(judge)?, pictures, flaws: silent.into_iter().chain(still).collect() })
    }

    fn write_sound(&self, path: &Path, sound: &Waveform) -> Result<()> {
        let failed = |error| {
            let source = match error {
                hound::Error::IoError(source) => source,
                other => std::io::Error::other(other),
            };
            Error::io(path, "write")(source)
        };
        // The published code for AVSBench plays the left channel and then the right one.
        let channels = if self.recipe.layout == Layout::Avsbench { 2 } else { 1 };
        let spec =
            WavSpec { channels, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
        self.write(path, |file| {
            let mut writer = WavWriter::new(std::io::BufWriter::new(file), spec).map_err(failed)?;
            for sample in sound.samples() {
                // A float cast saturates.
                let sample = (sample * 32_768.0).round() as i16;
                for _ in 0..channels {
                    writer.write_sample(sample).map_err(failed)?;
                }
            }
            writer.finalize().map_err(failed)
        })
    }

    fn write_picture(&self, path: &Path, picture: &Picture) -> Result<()> {
        let bytes = match self.recipe.is_png() {
            true => picture.to_png()?,
            false => {
                let (width, height) = picture.size();
                let mut bytes = Vec::new();
                // No truncation: both sides are at most `MAX_SIDE`.
                JpegEncoder::new_with_quality(&mut bytes, QUALITY)
                    .encode(picture.pixels(), width as u32, height as u32, ExtendedColorType::Rgb8)
                    .map_err(|error| Error::io(path, "write")(std::io::Error::other(error)))?;
                bytes
            }
        };
        self.write(path, |file| std::io::Write::write_all(file, &bytes).map_err(Error::io(path, "write")))
    }

    /// Writes a file elsewhere, and then renames it.
    fn write(&self, path: &Path, fill: impl FnOnce(&mut std::fs::File) -> Result<()>) -> Result<()> {
        let mut file = temporary_beside(&self.temporary.join("file"))?;
        fill(file.as_file_mut())?;
        put_in_place(path, file)
    }
}

fn short(expected: String, found: String) -> Obstacle {
    Obstacle::Flaw(Flaw::new(FlawKind::Short, expected, found))
}

/// What an error in reading the film at `path` means.
fn judge(error: Error, path: &Path) -> Obstacle {
    match error {
        // Somebody has ended the decoder: the system for want of memory, or a cluster that ends the whole job.
        Error::Film { ref found, .. } if ENDED.iter().any(|ended| found.contains(ended)) => Obstacle::Fatal(error),
        Error::Film { expected, found, .. } => {
            let kind = match expected.as_str() {
                PICTURE_TRACK => FlawKind::NoPicture,
                MOVING_PICTURES => FlawKind::Still,
                _ => FlawKind::Broken,
            };
            let expected = if kind == FlawKind::Still { "a film" } else { &expected };
            Obstacle::Flaw(Flaw::new(kind, expected, found))
        }
        Error::Io { path: at, source, .. } if at == path => {
            Obstacle::Flaw(Flaw::new(FlawKind::Broken, "a film that can be read", source))
        }
        Error::Argument { .. } | Error::Audio { .. } | Error::Image { .. } => {
            Obstacle::Flaw(Flaw { kind: FlawKind::Broken, reason: error.to_string() })
        }
        other => Obstacle::Fatal(other),
    }
}

/// The picture nearest to `time`, in seconds from the beginning of the film, in the span that begins at `start`.
fn picture_at(film: &Film, start: f64, time: f64, path: &Path) -> Cut<Picture> {
    let expected = || format!("a picture at {time:.3} s");
    if time >= film.info().seconds {
        return Err(short(expected(), format!("a film of {:.3} s", film.info().seconds)));
    }
    let step = 1.0 / film.info().frame_rate;
    let nearest = |from: f64| -> Result<Option<Frame>> {
        let mut nearest: Option<Frame> = None;
        for frame in film.frames(&FrameOptions { from, ..FrameOptions::default() })? {
            let frame = frame?;
            let is_last = frame.time >= time;
            if nearest.as_ref().is_none_or(|best| (frame.time - time).abs() < (best.time - time).abs()) {
                nearest = Some(frame);
            }
            if is_last {
                break;
            }
        }
        Ok(nearest)
    };
    // Where the frame rate varies, or the pictures have ended, there may be none nearby.
    let found = match nearest((time - 1.5 * step).max(0.0)) {
        Ok(None) => nearest(start),
        found => found,
    };
    match found.map_err(|error| judge(error, path))? {
        Some(frame) if (frame.time - time).abs() <= MAX_DISTANCE.max(step) => Ok(frame.picture),
        Some(frame) => Err(short(expected(), format!("the nearest one at {:.3} s", frame.time))),
        None => Err(short(expected(), "none".into())),
    }
}

/// Whether all pictures from `from` to `to`, in seconds, are equal. They are decoded to the end, which finds damage, too.
fn is_still(film: &Film, from: f64, to: f64) -> Result<bool> {
    let options = FrameOptions { rate: Some(COMPARED_RATE), from, to: Some(to), size: Some(THUMBNAIL) };
    let mut first: Option<Picture> = None;
    let mut changes = false;
    for frame in film.frames(&options)? {
        let picture = frame?.picture;
        match &first {
            None => first = Some(picture),
            Some(first) => {
                let mut pixels = first.pixels().iter().zip(picture.pixels());
                changes |= pixels.any(|(a, b)| a.abs_diff(*b) > MAX_DIFFERENCE);
            }
        }
    }
    Ok(!changes)
}
