//! A film on disk.

use std::path::{Path, PathBuf};

use super::ffmpeg::Ffmpeg;
use super::frames::{FrameOptions, Frames};
use super::probe::{FilmInfo, Tracks, probe};
use super::sound::Sound;
use crate::error::{Error, Result};

/// A film on disk, whose contents are known. Pictures and sound are decoded by iterators, as many as one likes.
#[derive(Clone, Debug)]
pub struct Film {
    path: PathBuf,
    ffmpeg: Ffmpeg,
    info: FilmInfo,
    pub(super) tracks: Tracks,
}

impl Film {
    /// Opens a film with the `ffprobe` on the `PATH`: any format that it reads. The format is recognised by the
    /// contents.
    ///
    /// A film without sound is no error.
    ///
    /// # Errors
    /// - [`Error::Io`] when the file cannot be read or is a directory.
    /// - [`Error::MissingProgram`] when `ffprobe` is not installed.
    /// - [`Error::Film`] for anything but a film: an empty file, another format, no picture track, a still picture, a
    ///   list of files, a file whose contents are unreadable because its end is missing, pictures beyond
    ///   [`MAX_SIDE`](crate::image::MAX_SIDE) or [`MAX_PIXELS`](crate::image::MAX_PIXELS).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Ffmpeg::default())
    }

    /// As [`open`](Self::open), with other programs than those on the `PATH`. The film is decoded with them, too.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, ffmpeg: Ffmpeg) -> Result<Self> {
        let path = path.as_ref();
        let metadata = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
        if metadata.is_dir() {
            return Err(Error::io(path, "read")(std::io::ErrorKind::IsADirectory.into()));
        }
        let unusable = |found: &str| {
            let origin = path.display().to_string();
            Err(Error::Film { origin, expected: "a film".into(), found: found.into() })
        };
        // A pipe could be read only once.
        if !metadata.is_file() {
            return unusable("something else than a file");
        }
        if metadata.len() == 0 {
            return unusable("an empty file");
        }
        std::fs::File::open(path).map_err(Error::io(path, "read"))?;
        let (info, tracks) = probe(path, &ffmpeg)?;
        Ok(Self { path: path.to_path_buf(), ffmpeg, info, tracks })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the film contains.
    pub fn info(&self) -> &FilmInfo {
        &self.info
    }

    /// The programs that the film is read with.
    pub fn ffmpeg(&self) -> &Ffmpeg {
        &self.ffmpeg
    }

    /// Decodes pictures, some of them ahead of their use in a thread.
    ///
    /// # Errors
    /// [`Error::Argument`] for options out of range, also when `from` is not before the end of the film;
    /// [`Error::MissingProgram`] when `ffmpeg` is not installed.
    ///
    /// The iterator ends with an error after the last picture that could be decoded: [`Error::Film`] when the film has
    /// no pictures or is truncated, or `ffmpeg` failed or was killed.
    pub fn frames(&self, options: &FrameOptions) -> Result<Frames> {
        Frames::new(self, options)
    }

    /// Decodes the sound from `from` to `to` (in seconds; `None` for the end of the sound track): chunks of mono samples,
    /// the mean of the channels, at the rate of the track.
    ///
    /// The first sample is the one at `from`, and no time is left out: there is silence before a sound that begins late,
    /// and where the track has a gap of more than 20 ms. The sound ends with its track, which may be before or after the
    /// end of the pictures.
    ///
    /// # Errors
    /// [`Error::Film`] when the film has no sound; [`Error::Argument`] when `from` is negative or not before the end of
    /// the film, or `to` is not after `from`; [`Error::MissingProgram`] when `ffmpeg` is not installed.
    ///
    /// The iterator ends with an error as that of [`frames`](Self::frames) does, and with [`Error::Film`] at samples
    /// that are NaN or infinite.
    pub fn sound(&self, from: f64, to: Option<f64>) -> Result<Sound> {
        Sound::new(self, from, to)
    }

    /// An [`Error::Film`] about this film.
    pub(super) fn unusable(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Film { origin: self.path.display().to_string(), expected: expected.into(), found: found.into() }
    }
}
