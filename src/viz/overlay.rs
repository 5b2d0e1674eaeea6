//! Overlays of heatmaps on pictures.

use rayon::prelude::*;

use super::outline::Outline;
use super::scores::check_threshold;
use super::{BAND, ScoreMap};
use crate::error::{Error, Result};
use crate::image::Picture;

/// Colours for scores from 0 to 1. All but [`Colormap::Turbo`] are perceptually uniform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Colormap {
    /// Black, purple, orange, pale yellow.
    #[default]
    Inferno,
    /// Black, purple, pink, cream.
    Magma,
    /// Blue, magenta, orange, yellow.
    Plasma,
    /// Purple, green, yellow.
    Viridis,
    /// Blue, grey, yellow; looks similar with and without colour blindness.
    Cividis,
    /// Rainbow colours.
    Turbo,
}

impl Colormap {
    /// The colour (red, green, blue) of a score in 0..1.
    pub fn color(self, score: f32) -> [u8; 3] {
        let gradient = match self {
            Self::Inferno => colorous::INFERNO,
            Self::Magma => colorous::MAGMA,
            Self::Plasma => colorous::PLASMA,
            Self::Viridis => colorous::VIRIDIS,
            Self::Cividis => colorous::CIVIDIS,
            Self::Turbo => colorous::TURBO,
        };
        gradient.eval_continuous(f64::from(score.clamp(0.0, 1.0))).into_array()
    }
}

/// Options of [`overlay`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OverlayOptions {
    /// The threshold of the mask that is outlined, in 0..1; 0.5 by default.
    pub threshold: f32,
    /// The opacity of the colour at a score of 1, in 0..1; 0.7 by default. It is proportional to the score.
    pub opacity: f32,
    /// The colours of the scores; [`Colormap::Inferno`] by default.
    pub colormap: Colormap,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self { threshold: 0.5, opacity: 0.7, colormap: Colormap::default() }
    }
}

/// The number of distinct colours, a power of two.
const SHADES: usize = 1024;
/// The outline's width as a fraction of the picture's shorter side.
const LINE_FRACTION: f32 = 1.0 / 160.0;
/// The minimum width of the outline, in pixels.
const MIN_LINE: f32 = 1.5;

/// Draws the scores over the picture.
///
/// The colour of a pixel depends on its score; its opacity is proportional to the score. The mask, that is, the pixels
/// with scores ≥ `options.threshold`, is outlined by a white line with a dark rim, which is visible on any background.
/// The width of the line is 1/160 of the picture's shorter side, but at least 1.5 pixels.
///
/// # Errors
/// [`Error::Shape`] when `scores` is for a picture of another size; [`Error::Argument`] when an option is out of range.
pub fn overlay(picture: &Picture, scores: &ScoreMap, options: &OverlayOptions) -> Result<Picture> {
    check_threshold(options.threshold)?;
    if !(0.0..=1.0).contains(&options.opacity) {
        return Err(Error::argument("opacity", "a number in 0..1", options.opacity));
    }
    let (width, height) = picture.size();
    if (scores.width(), scores.height()) != (width, height) {
        let expected = format!("[{height}, {width}], the picture's");
        return Err(Error::shape("scores", expected, &[scores.height(), scores.width()]));
    }

    let shades = Shades::new(options);
    let line = (width.min(height) as f32 * LINE_FRACTION).max(MIN_LINE) / 2.0;
    let rim = line * 2.0 + 0.5;
    // The soft edge takes another half pixel.
    let outline = Outline::new(options.threshold, rim + 0.5);

    let mut pixels = picture.pixels().to_vec();
    pixels.par_chunks_mut(BAND * width * 3).enumerate().try_for_each(|(band, pixels)| {
        let rows = band * BAND..band * BAND + pixels.len() / (width * 3);
        let first = rows.start.saturating_sub(outline.margin());
        let around = scores.rows(first..(rows.end + outline.margin()).min(height))?;
        let distances = outline.distances(&around, first, width, height, rows.clone());
        let within = &around[(rows.start - first) * width..];
        shades.blend_into(pixels, within);
        for (pixel, distance) in pixels.chunks_exact_mut(3).zip(distances) {
            if distance < rim + 0.5 {
                blend(pixel, [0, 0, 0], 0.55 * (rim + 0.5 - distance).clamp(0.0, 1.0));
                blend(pixel, [255, 255, 255], 0.95 * (line + 0.5 - distance).clamp(0.0, 1.0));
            }
        }
        Ok::<_, Error>(())
    })?;
    Picture::from_rgb8(width, height, pixels)
}

/// The colours of [`SHADES`] evenly spaced scores, in units of 1/256 of a pixel's value.
struct Shades {
    /// What is kept of the pixel's own value, in 0..=256.
    keep: [u16; SHADES],
    /// What is added to each of the three values, with half a unit for rounding. All sums fit into 16 bits.
    add: [[u16; 3]; SHADES],
}

impl Shades {
    fn new(options: &OverlayOptions) -> Self {
        let (mut keep, mut add) = ([0; SHADES], [[0; 3]; SHADES]);
        for (shade, (keep, add)) in keep.iter_mut().zip(&mut add).enumerate() {
            let score = shade as f32 / (SHADES - 1) as f32;
            // The opacity rises with the score; otherwise low scores, which cover most of a picture, would darken it.
            let opacity = (options.opacity * score * 256.0).round() as u16;
            *keep = 256 - opacity;
            *add = options.colormap.color(score).map(|value| u16::from(value) * opacity + 128);
        }
        Self { keep, add }
    }

    /// Blends the colours of `scores` into as many `pixels`.
    fn blend_into(&self, pixels: &mut [u8], scores: &[f32]) {
        /// Adding 2²³ rounds a score's shade to an integer in the lowest mantissa bits.
        const ROUND: f32 = 8_388_608.0;
        /// Pixels at a time.
        const CHUNK: usize = 256;
        let (mut keep, mut add) = ([0; 3 * CHUNK], [0; 3 * CHUNK]);
        for (pixels, scores) in pixels.chunks_mut(3 * CHUNK).zip(scores.chunks(CHUNK)) {
            // Looked up pixel by pixel, so that what follows is a plain loop over bytes, which is vectorised.
            let places = keep.as_chunks_mut::<3>().0.iter_mut().zip(add.as_chunks_mut::<3>().0);
            for ((keep, add), score) in places.zip(scores) {
                let shade = (score * (SHADES - 1) as f32 + ROUND).to_bits() as usize % SHADES;
                (*keep, *add) = ([self.keep[shade]; 3], self.add[shade]);
            }
            for ((value, keep), add) in pixels.iter_mut().zip(&keep).zip(&add) {
                *value = ((u16::from(*value) * keep + add) >> 8) as u8;
            }
        }
    }
}

/// Blends `color` into `pixel`.
fn blend(pixel: &mut [u8], color: [u8; 3], alpha: f32) {
    for (below, above) in pixel.iter_mut().zip(color) {
        // Adding 0.5 rounds, since the cast truncates; `round` is a function call on baseline x86-64.
        *below = (f32::from(*below) + (f32::from(above) - f32::from(*below)) * alpha + 0.5) as u8;
    }
}
