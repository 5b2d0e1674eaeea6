//! Scores for every pixel of a picture.

use std::ops::Range;
use std::path::Path;

use image::ExtendedColorType;
use rayon::prelude::*;

use super::BAND;
use crate::error::{Error, Result};
use crate::image::{Filter, SIZE_LIMITS, fits_limits, write_png};
use crate::nn::{sigmoid_in_place, weighted_sum};

/// Scores in 0..1 for every pixel of a picture, interpolated from a map of another size.
///
/// The interpolation is bicubic in f32 (a = −0.5, pixel centres aligned, antialiased when downscaling). Only the
/// original map is stored; rows are computed on request.
#[derive(Clone)]
pub struct ScoreMap {
    values: Vec<f32>,
    from: (usize, usize),
    size: (usize, usize),
    /// From the map's columns to the picture's.
    horizontal: Filter<f32>,
    /// From the map's rows to the picture's.
    vertical: Filter<f32>,
    /// For logits: the offset that is added before the sigmoid.
    offset: Option<f32>,
}

impl ScoreMap {
    /// Scores from a heatmap of size `from` (row-major values in 0..1), for a picture of size `size`. Sizes are (width,
    /// height).
    ///
    /// Interpolated values are clamped to 0..1.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of `values` does not match `from`; [`Error::NonFinite`] for a value that is NaN
    /// or infinite; [`Error::Argument`] for a value outside 0..1, or a size that is 0 or exceeds the limits of a
    /// [`Picture`](crate::image::Picture).
    pub fn from_heatmap(values: &[f32], from: (usize, usize), size: (usize, usize)) -> Result<Self> {
        let map = Self::new(values, from, size, None)?;
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(Error::argument("heatmap", "values in 0..1", value));
        }
        Ok(map)
    }

    /// Scores σ(m + `offset`) from logits m of size `from` (row-major), for a picture of size `size`. Sizes are (width,
    /// height).
    ///
    /// The logits are interpolated before the sigmoid is applied, so even a saturated heatmap has a smooth outline.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for an `offset` that is NaN or infinite; otherwise the same as
    /// [`ScoreMap::from_heatmap`], but values are not limited to 0..1.
    pub fn from_logits(values: &[f32], from: (usize, usize), size: (usize, usize), offset: f32) -> Result<Self> {
        if !offset.is_finite() {
            return Err(Error::NonFinite { what: "the offset of the logits".into(), details: offset.to_string() });
        }
        Self::new(values, from, size, Some(offset))
    }

    fn new(values: &[f32], from: (usize, usize), size: (usize, usize), offset: Option<f32>) -> Result<Self> {
        for (what, size) in [("score map", from), ("picture", size)] {
            if !fits_limits(size.0, size.1) {
                return Err(Error::argument(what, SIZE_LIMITS, format!("{} × {} pixels", size.0, size.1)));
            }
        }
        if values.len() != from.0 * from.1 {
            return Err(Error::shape("scores", format!("[{} · {}]", from.1, from.0), &[values.len()]));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let details = format!("{} at ({}, {})", values[index], index % from.0, index / from.0);
            return Err(Error::NonFinite { what: "a score".into(), details });
        }
        let filter = |from, to| Filter::bicubic(from, to, |weight| weight as f32);
        let (horizontal, vertical) = (filter(from.0, size.0), filter(from.1, size.1));
        Ok(Self { values: values.to_vec(), from, size, horizontal, vertical, offset })
    }

    /// The picture's width in pixels.
    pub fn width(&self) -> usize {
        self.size.0
    }

    /// The picture's height in pixels.
    pub fn height(&self) -> usize {
        self.size.1
    }

    /// The scores in 0..1 of the given rows of the picture: `rows.len() · width` values, row-major.
    ///
    /// # Errors
    /// [`Error::Argument`] when the range is empty or extends beyond the picture.
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let (width, height) = self.size;
        if rows.is_empty() || rows.end > height {
            return Err(Error::argument("rows", format!("a non-empty range within 0..{height}"), format!("{rows:?}")));
        }
        let taps: Vec<_> = self.vertical.taps().skip(rows.start).take(rows.len()).collect();
        // The taps move down from row to row, so the first and the last row span all required rows of the map. These
        // are first resized to the picture's width.
        let first = taps.first().map_or(0, |(start, _)| *start);
        let last = taps.last().map_or(first, |(start, weights)| start + weights.len());
        let sources = self.values[first * self.from.0..last * self.from.0].chunks_exact(self.from.0);
        let wide: Vec<f32> = sources.flat_map(|row| self.horizontal.taps().map(|tap| weigh(row, tap))).collect();

        let mut scores = vec![0.0; rows.len() * width];
        for (target, (start, weights)) in scores.chunks_exact_mut(width).zip(taps) {
            weighted_sum(&wide[(start - first) * width..], weights, target);
        }
        match self.offset {
            Some(offset) => sigmoid_in_place(&mut scores, offset),
            None => scores.iter_mut().for_each(|score| *score = score.clamp(0.0, 1.0)),
        }
        Ok(scores)
    }

    /// Calls `work` with the index of the first row and the scores of each band of rows, in parallel. Returns the
    /// results in order.
    pub(super) fn map_bands<T: Send>(&self, work: impl Fn(usize, Vec<f32>) -> T + Sync) -> Result<Vec<T>> {
        let height = self.height();
        (0..height.div_ceil(BAND))
            .into_par_iter()
            .map(|band| {
                let first = band * BAND;
                Ok(work(first, self.rows(first..(first + BAND).min(height))?))
            })
            .collect()
    }

    /// Writes the scores as a 16-bit greyscale PNG of the picture's size; 65,535 stands for a score of 1. The file is
    /// replaced atomically.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written or the disk is full.
    pub fn write_heatmap(&self, path: impl AsRef<Path>) -> Result<()> {
        let to_bytes = |score: f32| ((score * 65_535.0).round() as u16).to_ne_bytes();
        let bands = self.map_bands(|_, scores| scores.into_iter().flat_map(to_bytes).collect::<Vec<u8>>())?;
        write_png(path.as_ref(), &bands.concat(), self.size, ExtendedColorType::L16)
    }

    /// Writes the mask as an 8-bit greyscale PNG of the picture's size: 255 where the score is at least `threshold`, 0
    /// elsewhere. The file is replaced atomically.
    ///
    /// # Errors
    /// [`Error::Argument`] for a threshold outside 0..1; [`Error::Io`] when the folder cannot be written or the disk is
    /// full.
    pub fn write_mask(&self, path: impl AsRef<Path>, threshold: f32) -> Result<()> {
        check_threshold(threshold)?;
        let to_byte = |score: f32| if score >= threshold { 255 } else { 0 };
        let bands = self.map_bands(|_, scores| scores.into_iter().map(to_byte).collect::<Vec<u8>>())?;
        write_png(path.as_ref(), &bands.concat(), self.size, ExtendedColorType::L8)
    }
}

impl std::fmt::Debug for ScoreMap {
    /// Shows only the sizes, not the values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((from_width, from_height), (width, height)) = (self.from, self.size);
        write!(f, "ScoreMap({from_width} × {from_height} over {width} × {height})")
    }
}

/// The weighted sum of the elements of `row` from `start` on.
fn weigh(row: &[f32], (start, weights): (usize, &[f32])) -> f32 {
    row[start..].iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// Returns [`Error::Argument`] if `threshold` is not in 0..1.
pub(super) fn check_threshold(threshold: f32) -> Result<()> {
    if (0.0..=1.0).contains(&threshold) {
        return Ok(());
    }
    Err(Error::argument("threshold", "a number in 0..1", threshold))
}
