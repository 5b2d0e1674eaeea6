//! Resizes pictures to exactly the bytes that Pillow computes.
//!
//! Reimplements Pillow's [bicubic kernel] and its [fixed-point weights]. The `fast_image_resize` crate uses the same
//! scheme with less precise weights; its bytes differ by up to 2.
//!
//! [bicubic kernel]: https://github.com/python-pillow/Pillow/blob/01f132fb086af790cbd67cfb0ad9aaac607ef567/src/libImaging/Resample.c#L46-L62
//! [fixed-point weights]: https://github.com/python-pillow/Pillow/blob/01f132fb086af790cbd67cfb0ad9aaac607ef567/src/libImaging/Resample.c#L181-L284

use rayon::prelude::*;

use super::limits::{SIZE_LIMITS, fits_limits};
use super::picture::Picture;
use crate::error::{Error, Result};

/// The parameter of the cubic: −1/2 (Catmull–Rom), as in Pillow; PyTorch's `interpolate` takes −3/4.
const CUBIC: f64 = -0.5;
/// The extent of the cubic on each side, in samples of the coarser grid.
const SUPPORT: f64 = 2.0;
/// The fractional bits of fixed-point weights: 32 minus 8 for the byte and 2 for the sign and sums above 1.
const PRECISION: u32 = 32 - 8 - 2;

impl Picture {
    /// The picture at another size: exactly the bytes of Pillow's `resize((width, height), BICUBIC)`, version 13.
    ///
    /// The kernel is the cubic convolution with a = −1/2, widened by the scale when shrinking (antialiasing). Rows are
    /// resampled first and columns second, with rounding to bytes in between. For a picture that becomes wider and
    /// lower the order is reversed (versions before 13 always begin with the rows). The aspect ratio may change: the
    /// network reads pictures that are stretched to a square.
    ///
    /// # Errors
    /// [`Error::Argument`] for a side of 0 or beyond [`MAX_SIDE`](super::MAX_SIDE), or more than
    /// [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn resize(&self, width: usize, height: usize) -> Result<Self> {
        if !fits_limits(width, height) {
            return Err(Error::argument("resize", SIZE_LIMITS, format!("{width} × {height} pixels")));
        }
        // In this order the intermediate picture is never larger than both others.
        Ok(if width > self.width && height < self.height {
            self.with_height(height).with_width(width)
        } else {
            self.with_width(width).with_height(height)
        })
    }

    /// The picture with each row resampled to `width` pixels.
    fn with_width(&self, width: usize) -> Self {
        if width == self.width {
            return self.clone();
        }
        let filter = Filter::bicubic(self.width, width, to_fixed);
        let mut pixels = vec![0; width * self.height * 3];
        let rows = pixels.par_chunks_exact_mut(width * 3).zip(self.pixels.par_chunks_exact(self.width * 3));
        rows.for_each(|(target, source)| {
            for (target, (start, weights)) in target.chunks_exact_mut(3).zip(filter.taps()) {
                let mut sums = [HALF; 3];
                for (pixel, weight) in source[start * 3..].chunks_exact(3).zip(weights) {
                    for (sum, &byte) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(byte) * weight;
                    }
                }
                target.copy_from_slice(&sums.map(to_byte));
            }
        });
        Self { width, height: self.height, pixels }
    }

    /// The picture with each column resampled to `height` pixels.
    fn with_height(&self, height: usize) -> Self {
        if height == self.height {
            return self.clone();
        }
        let filter = Filter::bicubic(self.height, height, to_fixed);
        let row_bytes = self.width * 3;
        let mut pixels = vec![0; height * row_bytes];
        let taps: Vec<_> = filter.taps().collect();
        pixels.par_chunks_exact_mut(row_bytes).zip(taps).for_each(|(target, (start, weights))| {
            let mut sums = vec![HALF; row_bytes];
            for (source, weight) in self.pixels[start * row_bytes..].chunks_exact(row_bytes).zip(weights) {
                for (sum, &byte) in sums.iter_mut().zip(source) {
                    *sum += i32::from(byte) * weight;
                }
            }
            for (byte, sum) in target.iter_mut().zip(sums) {
                *byte = to_byte(sum);
            }
        });
        Self { width: self.width, height, pixels }
    }
}

/// One half in fixed point, the initial value of sums, for rounding.
const HALF: i32 = 1 << (PRECISION - 1);

/// A weight in fixed point, rounded half away from zero.
fn to_fixed(weight: f64) -> i32 {
    (weight * f64::from(1_u32 << PRECISION)).round() as i32
}

/// Converts a fixed-point sum to a byte, clamped to 0..=255.
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// The weights of a resize along one side: for each target sample, some neighbouring source samples.
#[derive(Clone)]
pub(crate) struct Filter<W> {
    /// For each target sample, the first source sample and their number.
    spans: Vec<(usize, usize)>,
    /// The weights of all spans, one span after the other.
    weights: Vec<W>,
}

impl<W> Filter<W> {
    /// Pillow's bicubic filter from `from` to `to` samples (both at least 1), with pixel centres at half-integers. The
    /// weights of each span sum to 1 and are converted by `represent`.
    pub fn bicubic(from: usize, to: usize, represent: impl Fn(f64) -> W) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = SUPPORT * stretch;
        let (mut spans, mut weights) = (Vec::with_capacity(to), Vec::new());
        for target in 0..to {
            let center = (target as f64 + 0.5) * scale;
            // Float casts saturate at 0.
            let start = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let raw = (start..end).map(|source| cubic((source as f64 + 0.5 - center) / stretch)).collect::<Vec<_>>();
            let sum: f64 = raw.iter().sum();
            spans.push((start, raw.len()));
            weights.extend(raw.into_iter().map(|weight| represent(weight / sum)));
        }
        Self { spans, weights }
    }

    /// For each target sample in order: its first source sample and its weights.
    pub fn taps(&self) -> impl Iterator<Item = (usize, &[W])> {
        self.spans.iter().scan(&self.weights[..], |rest, &(start, length)| {
            let (weights, after) = rest.split_at(length);
            *rest = after;
            Some((start, weights))
        })
    }
}

/// The cubic convolution kernel (Keys 1981) with a = [`CUBIC`].
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0
    } else if x < SUPPORT {
        (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC
    } else {
        0.0
    }
}
