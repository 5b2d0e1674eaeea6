//! Ground-truth masks in PNG files, as in AVSBench.

use std::io::Cursor;
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, ImageDecoder, Rgb, RgbImage};

use crate::error::{Error, Result};

use super::grid::{PIXELS, SIZE};

/// Reads a mask → `[224 * 224]`, true where it is white.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Image`] when it is not a PNG file of 224 × 224 pixels.
pub(super) fn read_mask(path: &Path) -> Result<Vec<bool>> {
    let unusable = |found: String| Error::Image {
        origin: path.display().to_string(),
        expected: format!("a PNG mask of {SIZE} x {SIZE} pixels"),
        found,
    };
    let png = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let decoder = PngDecoder::new(Cursor::new(&png)).map_err(|e| unusable(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    if (width as usize, height as usize) != (SIZE, SIZE) {
        return Err(unusable(format!("{width} x {height} pixels")));
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| unusable(e.to_string()))?.into_rgb8();
    let has_palette = png.get(PNG_COLOUR_TYPE) == Some(&PNG_PALETTE);
    Ok(if has_palette { picture.pixels().map(|p| luminance(p) >= 128).collect() } else { diffuse(&picture) })
}

/// Offset of the colour type in a PNG file, after the signature and the first chunk's length, type, width, height and
/// bit depth.
const PNG_COLOUR_TYPE: usize = 8 + 4 + 4 + 4 + 4 + 1;
const PNG_PALETTE: u8 = 3;

fn luminance(&Rgb([r, g, b]): &Rgb<u8>) -> i32 {
    (299 * i32::from(r) + 587 * i32::from(g) + 114 * i32::from(b)) / 1000
}

/// Converts a picture without a palette to black and white, like Pillow's `convert("1")` in the published reader.
///
/// This is Floyd–Steinberg error diffusion in Pillow's integer arithmetic (errors in sixteenths, truncated towards
/// zero). It affects grey pixels only: AVSBench's own masks are already black and white, and remain unchanged.
fn diffuse(picture: &RgbImage) -> Vec<bool> {
    let mut white = Vec::with_capacity(PIXELS);
    // errors[x + 1]: the error that the row above passes down to pixel x.
    let mut errors = vec![0; picture.width() as usize + 1];
    for row in picture.rows() {
        let (mut right, mut below, mut below_right) = (0, 0, 0);
        for (x, pixel) in row.enumerate() {
            let value = (luminance(pixel) + (right + errors[x + 1]) / 16).clamp(0, 255);
            let is_white = value > 128;
            white.push(is_white);
            let error = if is_white { value - 255 } else { value };
            errors[x] = below + 3 * error;
            below = below_right + 5 * error;
            below_right = error;
            right = 7 * error;
        }
        if let Some(last) = errors.last_mut() {
            *last = below;
        }
    }
    white
}
