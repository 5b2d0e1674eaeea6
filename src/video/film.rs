//! A film on disk.

use std::path::{Path, PathBuf};

use super::ffmpeg::Ffmpeg;
use super::probe::{FilmInfo, Tracks, probe};
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

    /// An [`Error::Film`] about this film.
    pub(super) fn unusable(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Film { origin: self.path.display().to_string(), expected: expected.into(), found: found.into() }
    }
}
