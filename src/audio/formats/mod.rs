//! Decodes all sound files except plain WAV, using symphonia. Needs the feature `audio-formats`.

mod framing;
mod mp4;
mod reader;
mod window;

use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use self::reader::{PRE_ROLL_SECONDS, Reader};
use self::window::{Edit, Window};
use crate::audio::clip::{Clip, Span};
use crate::audio::container::Container;
use crate::audio::errors::{start_beyond_end, truncated};
use crate::audio::input::Input;
use crate::error::{Error, Result};

/// Decodes `span` of `file`.
pub(super) fn decode(path: &Path, mut file: Input, container: Container, span: Span) -> Result<Clip> {
    if let Some(cut) = missing(&mut file, container).map_err(Error::io(path, "read"))? {
        return Err(truncated(path, cut));
    }
    let tail = match container {
        Container::Unframed => framing::read_mpeg_tail(&mut file).map_err(Error::io(path, "read"))?,
        _ => Vec::new(),
    };
    let edits = match container {
        Container::Mp4 => mp4::edits(&mut file).map_err(Error::io(path, "read"))?,
        _ => Vec::new(),
    };
    let mut reader = Reader::open(path, &file, container)?;
    let edit = edits.iter().find(|(id, _)| *id == reader.track.id).map_or(Edit::NONE, |&(_, edit)| edit);
    let announced = reader.clip_seconds().map(|seconds| edit.heard_seconds(seconds));
    if let Some(seconds) = announced
        && span.start > 0.0
        && span.start >= seconds
    {
        return Err(start_beyond_end(path.display(), span.start, seconds));
    }
    // Decoding WAV is cheap, and if the header does not state the length, only decoding finds it exactly.
    let decode_from = if container == Container::Wav { 0.0 } else { edit.start + span.start - PRE_ROLL_SECONDS };
    // Files without a container have to be scanned frame by frame anyway, and symphonia cannot seek in the kinds of WAV
    // that hound does not read.
    if decode_from > 0.0 && !matches!(container, Container::Unframed | Container::Wav) {
        reader = reader.sought(&file, decode_from)?;
    }

    let mut window = Window::new(span, edit);
    let mut end = reader.fill(&mut window, decode_from)?;
    if window.is_full() {
        end = reader.find_end(&file, end)?;
    }
    reader.check_end(&end, &tail)?;
    window.into_clip(path, announced, end.seconds)
}

/// Describes what is missing at the end of the file, judging by its container alone; `None` if it is complete.
fn missing(file: &mut Input, container: Container) -> io::Result<Option<String>> {
    match container {
        Container::Ogg => framing::missing_from_ogg(file),
        Container::Mp4 => {
            let length = file.seek(SeekFrom::End(0))?;
            mp4::missing(file, length)
        }
        // WAV files were checked before hound was tried.
        Container::Wav | Container::Flac | Container::Other | Container::Unframed => Ok(None),
    }
}
