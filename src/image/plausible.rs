//! How many pixels the bytes of a file can stand for.
//!
//! A file of one kilobyte can claim a size that takes seconds, and a gigabyte of memory, to fill in. But each way of
//! compressing has a best case, and a file that claims more than that is cut off, damaged or a decompression bomb: it is
//! refused before anything is decoded. Formats whose decoders stop where the data ends need no such bound.

use image::ImageFormat;

use super::formats;
use crate::error::{Error, Result};

/// Pictures of up to so many pixels are always decoded: 16 MB, and some milliseconds, at most.
const HARMLESS: u64 = 1 << 22;

/// The most pixels that one byte of a file in `format` can stand for, whatever the picture; `None` without a bound.
fn pixels_per_byte(format: ImageFormat, bytes: &[u8]) -> Option<u64> {
    match format {
        // Every block of 8 × 8 pixels takes at least one bit, that of the shortest possible Huffman code.
        ImageFormat::Jpeg => Some(8 * 8 * 8),
        // A byte of a deflate stream becomes at most 1032; a byte holds eight pixels of one bit.
        ImageFormat::Png => Some(1032 * 8),
        // A code in the full table has 12 bits, and stands for fewer than 4096 pixels.
        ImageFormat::Gif => Some(4096 * 8 / 12 + 1),
        // Lossy: every macroblock of 16 × 16 pixels names two prediction modes, whose fixed probabilities make that
        // 3.4 bits at least. Lossless: pixels of one single colour take no bits at all.
        ImageFormat::WebP => (!bytes.windows(4).any(|name| name == b"VP8L")).then_some(16 * 16 * 8 / 3),
        // Run-length encoding: four bytes skip a rectangle of up to 255 × 255 pixels.
        ImageFormat::Bmp => Some(255 * 255 / 4),
        _ => None,
    }
}

/// [`Error::Image`] when `bytes`, the content of `origin`, are too few for `width` × `height` pixels.
pub(super) fn check(origin: &str, format: ImageFormat, bytes: &[u8], width: u64, height: u64) -> Result<()> {
    let pixels = width * height;
    if pixels <= HARMLESS {
        return Ok(());
    }
    let Some(per_byte) = pixels_per_byte(format, bytes) else { return Ok(()) };
    let most = per_byte.saturating_mul(bytes.len() as u64);
    if pixels <= most {
        return Ok(());
    }
    Err(Error::Image {
        origin: origin.into(),
        expected: format!(
            "at most {most} pixels (no {} file of {} bytes holds more)",
            formats::name(format),
            bytes.len()
        ),
        found: format!("{width} × {height} pixels"),
    })
}

/// `(width, height)` of the first frame of the GIF file `bytes`, which may be smaller than the whole picture, and, in a
/// damaged file, larger; `None` when there is no frame.
pub(super) fn first_gif_frame(bytes: &[u8]) -> Option<(u16, u16)> {
    // After a header of 13 bytes, the global colour table where flags tell of one: 2 to 256 colours of three bytes.
    let flags = *bytes.get(10)?;
    let table = if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut rest = bytes.get(13 + table..)?;
    loop {
        match rest {
            // An image: its place, then its size, in two bytes each.
            [0x2C, _, _, _, _, w0, w1, h0, h1, ..] => {
                return Some((u16::from_le_bytes([*w0, *w1]), u16::from_le_bytes([*h0, *h1])));
            }
            // An extension: its label, then blocks that begin with their length, the last of them empty.
            [0x21, _, blocks @ ..] => {
                rest = blocks;
                loop {
                    let (&length, after) = rest.split_first()?;
                    rest = after.get(usize::from(length)..)?;
                    if length == 0 {
                        break;
                    }
                }
            }
            // Some encoders write an empty block too many.
            [0, after @ ..] => rest = after,
            _ => return None,
        }
    }
}
