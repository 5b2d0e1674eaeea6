//! Writing PNG files.

use std::io::Write;
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};

use super::picture::Picture;
use crate::error::{Error, Result};
use crate::files;

impl Picture {
    /// Writes the picture as an 8-bit RGB PNG. The file is replaced atomically.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written or the disk is full.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<()> {
        write_png(path.as_ref(), &self.pixels, self.size(), ExtendedColorType::Rgb8)
    }

    /// The picture as the bytes of an 8-bit RGB PNG file.
    ///
    /// # Errors
    /// [`Error::Image`] when the encoder fails.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        png_bytes(&self.pixels, self.size(), ExtendedColorType::Rgb8)
    }
}

/// `samples`, in the layout of `color`, as the bytes of a PNG file of `size` (width, height).
pub(crate) fn png_bytes(samples: &[u8], size: (usize, usize), color: ExtendedColorType) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    encode_png(&mut png, samples, size, color).map_err(|error| Error::Image {
        origin: "pixels".to_owned(),
        expected: "a picture that PNG can hold".to_owned(),
        found: error.to_string(),
    })?;
    Ok(png)
}

/// Writes `samples`, in the layout of `color` (16-bit ones in the machine's byte order), as a PNG of `size`
/// (width, height). The file is replaced atomically.
pub(crate) fn write_png(path: &Path, samples: &[u8], size: (usize, usize), color: ExtendedColorType) -> Result<()> {
    files::write_atomically(path, |file| {
        encode_png(file, samples, size, color).map_err(|error| {
            let source = match error {
                ImageError::IoError(source) => source,
                other => std::io::Error::other(other),
            };
            Error::io(path, "write")(source)
        })
    })
}

fn encode_png(
    to: impl Write,
    samples: &[u8],
    (width, height): (usize, usize),
    color: ExtendedColorType,
) -> Result<(), ImageError> {
    // No truncation: both sides are at most `MAX_SIDE`.
    PngEncoder::new(to).write_image(samples, width as u32, height as u32, color)
}
