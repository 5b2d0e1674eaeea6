//! Galleries of pictures.

use crate::error::{Error, Result};
use crate::image::{Picture, SIZE_LIMITS, fits_limits};

/// The gap between pictures is a cell's shorter side divided by this.
const GAP_FRACTION: usize = 32;

/// Arranges `pictures` in reading order on a white grid with the given number of `columns`.
///
/// Each cell is as wide as the widest picture and as high as the highest; smaller pictures are centred.
///
/// # Errors
/// [`Error::Argument`] when there are no pictures or no columns, or when the result would exceed the size limits of a
/// [`Picture`].
pub fn panel(pictures: &[Picture], columns: usize) -> Result<Picture> {
    let (Some(cell_width), Some(cell_height)) =
        (pictures.iter().map(Picture::width).max(), pictures.iter().map(Picture::height).max())
    else {
        return Err(Error::argument("pictures", "at least one", 0));
    };
    if columns == 0 {
        return Err(Error::argument("columns", "at least 1", columns));
    }
    let columns = columns.min(pictures.len());
    let gap = (cell_width.min(cell_height) / GAP_FRACTION).max(1);
    // There are gaps only between cells, not around them.
    let side = |cell: usize, count: usize| (cell + gap).saturating_mul(count) - gap;
    let (width, height) = (side(cell_width, columns), side(cell_height, pictures.len().div_ceil(columns)));
    if !fits_limits(width, height) {
        return Err(Error::argument("panel", SIZE_LIMITS, format!("{width} × {height} pixels")));
    }

    let mut pixels = vec![255; width * height * 3];
    for (index, picture) in pictures.iter().enumerate() {
        let x = index % columns * (cell_width + gap) + (cell_width - picture.width()) / 2;
        let y = index / columns * (cell_height + gap) + (cell_height - picture.height()) / 2;
        let row_bytes = picture.width() * 3;
        let targets = pixels.chunks_exact_mut(width * 3).skip(y);
        for (source, target) in picture.pixels().chunks_exact(row_bytes).zip(targets) {
            target[x * 3..x * 3 + row_bytes].copy_from_slice(source);
        }
    }
    Picture::from_rgb8(width, height, pixels)
}
