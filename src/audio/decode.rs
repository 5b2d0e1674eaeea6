//! Chooses the reader for a file.

use std::fs::File;
use std::path::Path;

use crate::audio::clip::{Clip, Span};
use crate::audio::container::{self, Container};
use crate::audio::errors::{truncated, unusable};
#[cfg(feature = "audio-formats")]
use crate::audio::formats::decode as decode_other;
use crate::audio::input::Input;
use crate::audio::wav;
use crate::error::{Error, Result};

/// Decodes `span` of the sound file `path`.
pub(super) fn decode(path: &Path, span: Span) -> Result<Clip> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    if file.metadata().map_err(Error::io(path, "read"))?.is_dir() {
        return Err(Error::io(path, "read")(std::io::ErrorKind::IsADirectory.into()));
    }
    decode_input(path, Input::File(file), span)
}

/// Decodes `span` of the sound file `file`; `path` represents it in error messages.
pub(super) fn decode_input(path: &Path, mut file: Input, span: Span) -> Result<Clip> {
    let length = file.len().map_err(Error::io(path, "read"))?;
    if length == 0 {
        return Err(unusable(path.display(), "a sound file", "an empty file"));
    }
    let container = container::identify(&mut file).map_err(Error::io(path, "read"))?;
    if container == Container::Wav {
        if let Some(cut) = wav::missing(&mut file, length).map_err(Error::io(path, "read"))? {
            return Err(truncated(path, cut));
        }
        if let Some(clip) = wav::decode(path, &mut file, span)? {
            return Ok(clip);
        }
    }
    decode_other(path, file, container, span)
}

/// Returns an error that names the feature needed to read the file.
#[cfg(not(feature = "audio-formats"))]
fn decode_other(path: &Path, _: Input, container: Container, _: Span) -> Result<Clip> {
    let kind = match container {
        Container::Wav => "a WAV file that is not plain PCM or 32-bit float",
        Container::Ogg => "an Ogg file",
        Container::Flac => "a FLAC file",
        Container::Mp4 => "an MP4 file",
        Container::Other => "an AIFF, CAF or Matroska file",
        Container::Unframed => {
            let expected = "a sound in WAV (MP3 and raw AAC need the feature `audio-formats`)";
            return Err(unusable(path.display(), expected, "contents of no such format"));
        }
    };
    Err(Error::MissingFeature { what: format!("{}: {kind}", path.display()), feature: "audio-formats" })
}
