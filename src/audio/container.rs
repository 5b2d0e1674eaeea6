//! The container format of a sound file, recognised by its first bytes and not by its name.

use std::io::{self, Seek};

use crate::audio::bytes::read_up_to;
use crate::audio::input::Input;

/// The container format of a sound file.
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
    /// No known signature. This may be MP3 or raw AAC, which have frames but no container.
    Unframed,
}

/// Recognises the container by the first bytes of `file`, and rewinds it.
pub(super) fn identify(file: &mut Input) -> io::Result<Container> {
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
