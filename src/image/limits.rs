//! The limits on the size of pictures.

use crate::error::{Error, Result};

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: usize = 1 << 15;

/// The maximum number of pixels of a picture: 16,384 × 16,384.
///
/// A file of a few kilobytes can claim any size; pictures within this limit fit in the memory of an ordinary machine.
pub const MAX_PIXELS: usize = 1 << 28;

/// The maximum number of bytes that a decoder may allocate for one picture: 1 GiB.
pub const MAX_DECODED_BYTES: u64 = 1 << 30;

/// The condition of [`fits_limits`], for error messages.
pub(crate) const SIZE_LIMITS: &str = "sides of 1 to 32768 pixels and at most 268435456 pixels in all";

/// Whether 1 ≤ `width`, `height` ≤ [`MAX_SIDE`] and `width · height` ≤ [`MAX_PIXELS`].
pub(crate) fn fits_limits(width: usize, height: usize) -> bool {
    // The sides first: once they are bounded, their product cannot overflow.
    (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height) && width * height <= MAX_PIXELS
}

/// [`Error::Image`] unless the size [`fits_limits`].
pub(super) fn check_size(origin: &str, width: usize, height: usize) -> Result<()> {
    if fits_limits(width, height) {
        return Ok(());
    }
    Err(Error::Image {
        origin: origin.into(),
        expected: SIZE_LIMITS.into(),
        found: format!("{width} × {height} pixels"),
    })
}
