//! Reads the boxes of an MP4 file to detect truncation, and to find the part of a track that is meant to be played.

use std::io::{self, Read, Seek, SeekFrom};

use super::window::Edit;
use crate::audio::bytes::read_up_to;
use crate::audio::input::Input;

/// The largest `moov` box that is read; it has room for the sample tables of many hours.
const MAX_MOOV: u64 = 1 << 28;

/// An MP4 with a top-level box that is longer than the file.
pub(super) fn missing(file: &mut Input, length: u64) -> io::Result<Option<String>> {
    let mut at = 0;
    while let Some((kind, _, end)) = read_box_header(file, at, length)? {
        // Other kinds may be junk after the last box.
        if end > length && matches!(&kind, b"moov" | b"moof" | b"mdat") {
            let name = String::from_utf8_lossy(&kind).into_owned();
            return Ok(Some(format!("its `{name}` box lacks {} bytes", end - length)));
        }
        at = end;
    }
    Ok(None)
}

/// Type, start of the contents and end of the box at `at`; `None` when there is none.
fn read_box_header(file: &mut Input, at: u64, length: u64) -> io::Result<Option<([u8; 4], u64, u64)>> {
    file.seek(SeekFrom::Start(at))?;
    let (header, filled) = read_up_to::<16>(file)?;
    let [s0, s1, s2, s3, k0, k1, k2, k3, large @ ..] = header;
    let kind = [k0, k1, k2, k3];
    let (start, end) = match u32::from_be_bytes([s0, s1, s2, s3]) {
        0 => (8, length),
        1 if filled == 16 => (16, at.saturating_add(u64::from_be_bytes(large))),
        size => (8, at + u64::from(size)),
    };
    let start = at + start;
    Ok((filled >= 8 && end >= start).then_some((kind, start, end)))
}

/// The edits of an MP4 file's tracks by track identifier, for tracks with exactly one edit.
pub(super) fn edits(file: &mut Input) -> io::Result<Vec<(u32, Edit)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut at = 0;
    while let Some((kind, start, end)) = read_box_header(file, at, length)? {
        if kind == *b"moov" && end - start <= MAX_MOOV {
            file.seek(SeekFrom::Start(start))?;
            let mut moov = Vec::new();
            file.take(end - start).read_to_end(&mut moov)?;
            return Ok(track_edits(&moov));
        }
        at = end;
    }
    Ok(Vec::new())
}

fn track_edits(moov: &[u8]) -> Vec<(u32, Edit)> {
    let Some(movie_timescale) = child(moov, b"mvhd").and_then(timescale) else {
        return Vec::new();
    };
    let tracks = boxes(moov).filter(|(kind, _)| kind == b"trak");
    tracks.filter_map(|(_, trak)| track_edit(trak, movie_timescale)).collect()
}

fn track_edit(trak: &[u8], movie_timescale: f64) -> Option<(u32, Edit)> {
    let header = child(trak, b"tkhd")?;
    // Headers of version 1 have 64-bit times.
    let track_id = be_u32(header, if header.first() == Some(&1) { 20 } else { 12 })?;
    let media_timescale = timescale(child(child(trak, b"mdia")?, b"mdhd")?)?;
    let list = child(child(trak, b"edts")?, b"elst")?;
    let long = list.first() == Some(&1);
    let mut entries = list.get(8..)?.chunks_exact(if long { 20 } else { 12 }).take(be_u32(list, 4)? as usize);
    let (entry, None) = (entries.next()?, entries.next()) else {
        return None;
    };
    let (duration, media_time) = if long {
        (be_u64(entry, 0)?, be_u64(entry, 8)? as i64)
    } else {
        (u64::from(be_u32(entry, 0)?), i64::from(be_u32(entry, 4)? as i32))
    };
    // A negative media time is an empty edit, that is, a pause and not a part of the track.
    let start = u64::try_from(media_time).ok()? as f64 / media_timescale;
    let seconds = if duration == 0 { f64::INFINITY } else { duration as f64 / movie_timescale };
    Some((track_id, Edit { start, seconds }))
}

/// The boxes in `bytes` as (type, contents), up to the first one that exceeds `bytes`.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = be_u32(rest, 0)? as usize;
        let kind = rest.get(4..8)?.try_into().ok()?;
        let body = rest.get(8..size)?;
        rest = &rest[size..];
        Some((kind, body))
    })
}

fn child<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(kind, _)| kind == wanted).map(|(_, body)| body)
}

/// Ticks per second of an `mvhd` or `mdhd` box.
fn timescale(header: &[u8]) -> Option<f64> {
    let ticks = be_u32(header, if header.first() == Some(&1) { 20 } else { 12 })?;
    (ticks > 0).then_some(f64::from(ticks))
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn be_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
