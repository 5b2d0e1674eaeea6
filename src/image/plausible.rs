//! Bounds the number of pixels that a file of a given length can contain.
//!
//! A file of one kilobyte can claim a size that takes seconds and a gigabyte of memory to decode. But every compression
//! method has a best case. A file that claims more than that is truncated, damaged or a decompression bomb, and is an
//! error before anything is decoded. Formats whose decoders stop at the end of the data need no such bound.

use image::ImageFormat;

use super::formats;
use crate::error::{Error, Result};

/// Pictures of up to this many pixels are always decoded; they take at most 16 MB and some milliseconds.
const HARMLESS: u64 = 1 << 22;

/// The maximum number of pixels per byte in a file of this `format`; `None` if there is no bound.
fn pixels_per_byte(format: ImageFormat, bytes: &[u8]) -> Option<u64> {
    match format {
        // Every block of 8 × 8 pixels takes at least one bit, that of the shortest possible Huffman code.
        ImageFormat::Jpeg => Some(8 * 8 * 8),
        // A byte of a deflate stream expands to at most 1032 bytes, each with eight pixels of one bit.
        ImageFormat::Png => Some(1032 * 8),
        // A code in the full table has 12 bits and represents fewer than 4096 pixels.
        ImageFormat::Gif => Some(4096 * 8 / 12 + 1),
        // Lossy: every macroblock of 16 × 16 pixels codes two prediction modes, which take at least 3.4 bits at their
        // fixed probabilities. Lossless: pixels of a single colour take no bits at all.
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
    // After a header of 13 bytes, the global colour table if the flags announce one: 2 to 256 colours of three bytes.
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
            // Some encoders write an extra empty block.
            [0, after @ ..] => rest = after,
            _ => return None,
        }
    }
}
