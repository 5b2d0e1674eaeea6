//! Pictures: reading, resizing, normalising, writing.
//!
//! A [`Picture`] is 8-bit RGB in memory, upright, whatever the file held. The pixels equal those of Pillow's
//! `ImageOps.exif_transpose(Image.open(path)).convert("RGB")`, and [`Picture::resize`] those of its
//! `resize(size, BICUBIC)`: the published network was trained and measured on both.
//!
//! ```
//! use soundsight::image::{NormalizeOptions, Picture};
//!
//! // Two pixels, red and blue; `Picture::open("dog.jpg")?` reads a file.
//! let picture = Picture::from_rgb8(2, 1, vec![255, 0, 0, 0, 0, 255])?;
//! let squeezed = picture.resize(352, 352)?;
//! let pixels = squeezed.to_tensor(&NormalizeOptions::default(), &candle_core::Device::Cpu)?;
//! assert_eq!(pixels.dims(), [3, 352, 352]);
//! # Ok::<(), soundsight::Error>(())
//! ```

mod decode;
mod encode;
mod formats;
mod jpeg;
mod normalize;
mod plausible;
mod resize;

pub use decode::{MAX_DECODED_BYTES, MAX_PIXELS, MAX_SIDE};
pub(crate) use decode::{SIZE_LIMITS, fits_limits};
pub(crate) use encode::write_png;
pub(crate) use formats::is_picture_extension;
pub use normalize::NormalizeOptions;
pub(crate) use resize::Filter;

use crate::error::{Error, Result};

/// The origin that errors name for pictures given as pixels.
const PIXELS: &str = "pixels";

/// A picture: 8-bit RGB, row after row from the top left corner, at least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture from decoded pixels: `width · height · 3` bytes, RGB interleaved, row after row.
    ///
    /// # Errors
    /// [`Error::Image`] without any pixel, beyond [`MAX_SIDE`] or [`MAX_PIXELS`], or when the number of bytes does not
    /// fit the size.
    pub fn from_rgb8(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        decode::check_size(PIXELS, width, height)?;
        // No overflow: `check_size` bounds the product.
        let expected = width * height * 3;
        if pixels.len() != expected {
            return Err(Error::Image {
                origin: PIXELS.into(),
                expected: format!("{width} × {height} × 3 = {expected} bytes"),
                found: format!("{} bytes", pixels.len()),
            });
        }
        Ok(Self { width, height, pixels })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `(width, height)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The bytes: RGB interleaved, row after row, `width · height · 3` of them.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels' buffer, without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The rectangle whose top left corner is (`x`, `y`).
    ///
    /// # Errors
    /// [`Error::Config`] when the rectangle is empty or leaves the picture.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |start: usize, length: usize, side: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(x, width, self.width) || !inside(y, height, self.height) {
            return Err(Error::config(
                "crop",
                format!("a rectangle within {} × {} pixels", self.width, self.height),
                format!("{width} × {height} pixels at ({x}, {y})"),
            ));
        }
        let rows = self.pixels.chunks_exact(self.width * 3).skip(y).take(height);
        let pixels = rows.flat_map(|row| &row[x * 3..(x + width) * 3]).copied().collect();
        Ok(Self { width, height, pixels })
    }

    /// The picture mirrored left to right.
    #[must_use]
    pub fn flip_horizontal(&self) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for row in self.pixels.chunks_exact(self.width * 3) {
            for pixel in row.rchunks_exact(3) {
                pixels.extend_from_slice(pixel);
            }
        }
        Self { pixels, ..*self }
    }
}

impl std::fmt::Debug for Picture {
    /// The size alone: nobody reads a megabyte of pixels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} × {})", self.width, self.height)
    }
}
