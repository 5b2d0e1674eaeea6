//! The picture itself.

use super::limits::check_size;
use crate::error::{Error, Result};

/// The origin that errors name for pictures given as pixels.
const PIXELS: &str = "pixels";

/// A picture: 8-bit RGB, row after row from the top left corner, at least one pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    /// A picture from decoded pixels: `width · height · 3` bytes, RGB interleaved, row after row.
    ///
    /// # Errors
    /// [`Error::Image`] for a picture without pixels or beyond [`MAX_SIDE`](super::MAX_SIDE) or
    /// [`MAX_PIXELS`](super::MAX_PIXELS), or when the number of bytes does not match the size.
    pub fn from_rgb8(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_size(PIXELS, width, height)?;
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

    /// Consumes the picture and returns its pixels without a copy.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The rectangle whose top left corner is (`x`, `y`).
    ///
    /// # Errors
    /// [`Error::Argument`] when the rectangle is empty or extends beyond the picture.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |start: usize, length: usize, side: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(x, width, self.width) || !inside(y, height, self.height) {
            return Err(Error::argument(
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
    /// Writes only the size, not the pixels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} × {})", self.width, self.height)
    }
}
