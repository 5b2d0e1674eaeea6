//! Which container a sound file is: told by its first bytes, whatever its name.

use std::fs::File;
use std::io::{self, Seek};

use crate::audio::bytes::read_up_to;

/// The container of a sound file, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// RIFF/WAVE.
    Wav,
    /// Ogg.
    Ogg,
    /// Native FLAC.
    Flac,
    /// MP4, M4A, QuickTime.
    Mp4,
    /// AIFF, CAF, Matroska.
    Other,
    /// No known signature: perhaps an MP3 or raw AAC, whose frames follow each other without a container.
    Unframed,
}

/// Tells the container from the first bytes of `file`, and rewinds it.
pub(super) fn identify(file: &mut File) -> io::Result<Container> {
    file.rewind()?;
    let (head, _) = read_up_to::<12>(file)?;
    file.rewind()?;
    Ok(match &head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => Container::Wav,
        [b'O', b'g', b'g', b'S', ..] => Container::Ogg,
        [b'f', b'L', b'a', b'C', ..] => Container::Flac,
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Container::Mp4,
        [b'F', b'O', b'R', b'M', ..] | [b'c', b'a', b'f', b'f', ..] | [0x1a, 0x45, 0xdf, 0xa3, ..] => Container::Other,
        _ => Container::Unframed,
    })
}
