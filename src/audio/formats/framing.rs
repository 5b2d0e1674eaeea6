//! Whether the end of an Ogg file, or of a bare stream of MPEG audio, is missing.
//!
//! Decoders do not distinguish a truncated file from one that ends normally, so these checks detect truncation.

use std::io::{self, Read, Seek, SeekFrom};

use crate::audio::input::Input;

/// How many bytes at the end of an Ogg file are certain to contain its last page: two pages of maximum size.
const OGG_TAIL: u64 = 2 * 65_307;
/// How many bytes at the end of an MPEG audio file are examined.
const MPEG_TAIL: u64 = 8192;

/// An Ogg file that ends within a page. A missing end-of-stream mark alone is accepted, because a few real files lack
/// it.
pub(super) fn missing_from_ogg(file: &mut Input) -> io::Result<Option<String>> {
    let tail = read_tail(file, OGG_TAIL)?;
    // A page: "OggS", a version of 0, …, at 26 the number of segments, then their lengths, then the segments.
    let Some(at) = tail.windows(5).rposition(|window| window == b"OggS\0") else {
        return Ok(Some("no page at its end".into()));
    };
    let page = &tail[at..];
    let complete = page.get(26).and_then(|&count| page.get(27..27 + usize::from(count))).is_some_and(|lengths| {
        let body: usize = lengths.iter().map(|&length| usize::from(length)).sum();
        page.len() >= 27 + lengths.len() + body
    });
    Ok((!complete).then(|| "its last page is incomplete".into()))
}

/// The end of a file of MPEG audio: more than one frame and the tags that commonly follow it.
pub(super) fn read_mpeg_tail(file: &mut Input) -> io::Result<Vec<u8>> {
    read_tail(file, MPEG_TAIL)
}

/// Whether an incomplete MPEG audio frame follows `last`, the last complete one, at the end of a file.
pub(super) fn ends_within_mpeg_frame(tail: &[u8], last: &[u8]) -> bool {
    let [0xff, version, rate, ..] = last else {
        return false; // not MPEG audio
    };
    let Some(at) = tail.windows(last.len()).rposition(|window| window == last) else {
        return false;
    };
    // Sync, version and layer, and the two bits of the sample rate, are the same in every frame of a stream.
    match &tail[at + last.len()..] {
        [0xff] => true,
        [0xff, v] => v == version,
        [0xff, v, r, ..] => v == version && (r ^ rate) & 0x0c == 0,
        _ => false,
    }
}

/// The last `count` bytes of a file, or all of a shorter one.
fn read_tail(file: &mut Input, count: u64) -> io::Result<Vec<u8>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(count)))?;
    let mut tail = Vec::new();
    file.take(count).read_to_end(&mut tail)?;
    Ok(tail)
}
