//! A closer look: a picture cut into overlapping tiles, so that small objects become large enough to be found.
//!
//! The model sees every picture as a square of S × S pixels. What covers 1 % of a picture covers a few patches of it, and a
//! wide picture is squeezed. [`Localizer::encode_tiles`] encodes square tiles beside the whole picture, each as large to the
//! model as the whole, and [`Localizer::localize_tiles`] merges what is found in them into one heatmap.
//!
//! # Merging
//! There are several sizes of tiles, a pyramid: small tiles find small objects, large ones those that small ones cut in pieces.
//! The logits of each size are blended by windows that fall off towards the borders of a tile, and whose sum is 1 everywhere.
//! The merged logits are the mean of all sizes and the whole picture. What lights up in a tile for want of anything better is
//! dark in the others, so that the mean has fewer false peaks than a maximum, and it keeps the scale of the logits, which
//! thresholds and the presence rely on. `docs/miniature.md` has measurements.

use super::{Embedding, EncodedImage, Heatmap, Localizer};
use crate::error::{Error, Result};
use crate::image::Picture;

/// The most tiles along the shorter side.
pub const MAX_ACROSS: usize = 8;
/// The most tiles of a picture, of all sizes together.
pub const MAX_TILES: usize = 400;
/// Along the longer side, a step that would be shorter than this fraction of another one is shared among the others.
const SHORTEST_STEP: f64 = 0.2;
/// The least weight of a tile, at its border, beside 1 in its middle.
const BORDER: f32 = 1e-3;

/// A picture encoded as a whole and in tiles, reusable for many sounds.
#[derive(Clone, Debug)]
pub struct TiledImage {
    whole: EncodedImage,
    /// From the smallest tiles to the largest. Those of which one is the whole picture are left out.
    levels: Vec<Level>,
    across: usize,
    grid: (usize, usize),
}

/// Tiles of one size.
#[derive(Clone, Debug)]
struct Level {
    columns: Cuts,
    rows: Cuts,
    /// Row by row from the top left.
    tiles: Vec<EncodedImage>,
}

impl TiledImage {
    /// The encoding of the whole picture.
    pub fn whole(&self) -> &EncodedImage {
        &self.whole
    }

    /// The number of pictures that were encoded: the tiles of all sizes, and the whole.
    pub fn num_encoded(&self) -> usize {
        1 + self.levels.iter().map(|level| level.tiles.len()).sum::<usize>()
    }

    /// The numbers of columns and of rows of the smallest tiles. A picture that is a single tile has one of each.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// The number of the smallest tiles that fit along the shorter side without overlap.
    pub fn across(&self) -> usize {
        self.across
    }
}

/// How one side of a picture is cut.
#[derive(Clone, Debug, PartialEq)]
struct Cuts {
    /// The side, in pixels.
    side: usize,
    /// The length of every piece, in pixels.
    length: usize,
    /// Where the pieces begin.
    starts: Vec<usize>,
}

impl Cuts {
    /// Pieces of about `length` pixels, evenly spread, that overlap by about half.
    fn new(side: usize, length: f64) -> Self {
        let steps = 2.0 * (side as f64 / length - 1.0);
        let num_steps = (steps - SHORTEST_STEP).ceil().max(0.0) as usize;
        if num_steps == 0 {
            return Self { side, length: side, starts: vec![0] };
        }
        let length = (length.round() as usize).clamp(1, side);
        let start = |i: usize| (i as f64 * (side - length) as f64 / num_steps as f64).round() as usize;
        Self { side, length, starts: (0..=num_steps).map(start).collect() }
    }

    /// For each piece the samples that a map of `size` samples over the side takes from a map of `from` samples over the
    /// piece. The weights of all pieces in a sample sum to 1.
    fn samples(&self, from: usize, size: usize) -> Vec<Vec<Sample>> {
        let scale = self.side as f64 / size as f64;
        let piece = |&start: &usize| -> Vec<Sample> {
            let place = |target: usize| ((target as f64 + 0.5) * scale - start as f64) / self.length as f64;
            let inside =
                (0..size).map(|target| (target, place(target))).filter(|(_, place)| (0.0..=1.0).contains(place));
            inside.map(|(target, place)| Sample::new(target, place, from)).collect()
        };
        let mut pieces: Vec<Vec<Sample>> = self.starts.iter().map(piece).collect();
        let mut sums = vec![0.0; size];
        pieces.iter().flatten().for_each(|sample| sums[sample.target] += sample.weight);
        pieces.iter_mut().flatten().for_each(|sample| sample.weight /= sums[sample.target]);
        pieces
    }
}

/// One sample of a larger map that a piece contributes to.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Its index in the larger map.
    target: usize,
    /// The indices of its two neighbours in the piece's map, and the share of the second.
    sources: [usize; 2],
    share: f32,
    /// The weight of the piece in this sample.
    weight: f32,
}

impl Sample {
    /// The sample at `place` (0 to 1) of a piece, whose map has `from` samples.
    fn new(target: usize, place: f64, from: usize) -> Self {
        let last = from - 1;
        let at = (place * from as f64 - 0.5).clamp(0.0, last as f64);
        let first = at as usize;
        // Falls off towards both ends of the piece, because an object that its border cuts is hard to recognise.
        let weight = (std::f64::consts::PI * place).sin().powi(2) as f32;
        let sources = [first, (first + 1).min(last)];
        Self { target, sources, share: (at - first as f64) as f32, weight: weight.max(BORDER) }
    }
}

impl Localizer {
    /// Encodes a picture as a whole and in square tiles, `across` of them (1 to [`MAX_ACROSS`]) along the shorter side. Others
    /// lie between them, so that neighbours overlap by half: 2 · `across` − 1 along the shorter side, and along the longer as
    /// many as keep them square. Larger tiles follow, half as many along the shorter side (rounded up) each time, down to a
    /// row of tiles as high as a wide picture; a picture that is about square is then its own single tile.
    ///
    /// Every tile costs as much time and memory as a picture. In a square picture there are 9 with `across` = 2, 34 with 3
    /// and 58 with 4.
    ///
    /// # Errors
    /// [`Error::Argument`] for an `across` outside 1 to [`MAX_ACROSS`], or a picture so long that there would be more than
    /// [`MAX_TILES`] tiles; otherwise as [`Localizer::pixels`].
    pub fn encode_tiles(&self, picture: &Picture, across: usize) -> Result<TiledImage> {
        if !(1..=MAX_ACROSS).contains(&across) {
            return Err(Error::argument("tiles across", format!("1 to {MAX_ACROSS}"), across));
        }
        let (width, height) = picture.size();
        let cuts: Vec<(Cuts, Cuts)> = levels(across)
            .map(|across| width.min(height) as f64 / across as f64)
            .map(|length| (Cuts::new(width, length), Cuts::new(height, length)))
            .collect();
        let grid = cuts.first().map_or((1, 1), |(columns, rows)| (columns.starts.len(), rows.starts.len()));
        let num_tiles: usize = cuts.iter().map(|(columns, rows)| columns.starts.len() * rows.starts.len()).sum();
        if num_tiles > MAX_TILES {
            let found = format!("{num_tiles} of a picture of {width} × {height} pixels, {across} across");
            return Err(Error::argument("number of tiles", format!("at most {MAX_TILES}"), found));
        }
        let level = |(columns, rows): (Cuts, Cuts)| -> Result<Level> {
            let tiles = self.encode_image_batch(&pieces(picture, &columns, &rows)?)?;
            Ok(Level { columns, rows, tiles })
        };
        let several = cuts.into_iter().filter(|(columns, rows)| columns.starts.len() * rows.starts.len() > 1);
        let levels = several.map(level).collect::<Result<_>>()?;
        Ok(TiledImage { whole: self.encode_image(picture)?, levels, across, grid })
    }

    /// Finds the sound (or the text) in a picture and in its tiles.
    ///
    /// The heatmap is square and spans the whole picture like any other. Its side is the model's side S times the number of
    /// the smallest tiles that fit along the longer side, at most [`MAX_ACROSS`]. The confidence is the mean of those of the
    /// tiles and of the whole at each place, weighted by the scores. A picture without tiles has the heatmap of
    /// [`Localizer::localize`].
    ///
    /// # Errors
    /// As [`Localizer::localize`].
    pub fn localize_tiles(&self, embedding: &Embedding, image: &TiledImage) -> Result<Heatmap> {
        let whole = self.localize(embedding, &image.whole)?;
        if image.levels.is_empty() {
            return Ok(whole);
        }
        let side = whole.size;
        let size = side * image.grid.0.max(image.grid.1).div_ceil(2).min(MAX_ACROSS);
        let mut sum = Sum::new(size);
        let all = Cuts::new(side, side as f64).samples(side, size).concat();
        sum.add(&whole, &all, &all);
        for level in &image.levels {
            let questions: Vec<_> = level.tiles.iter().map(|tile| (embedding, tile)).collect();
            let found = self.localize_batch(&questions)?;
            let (columns, rows) = (level.columns.samples(side, size), level.rows.samples(side, size));
            let places = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
            for (heatmap, (row, column)) in found.iter().zip(places) {
                sum.add(heatmap, row, column);
            }
        }
        sum.mean(&whole, 1 + image.levels.len())
    }
}

/// The numbers of tiles across, from the smallest tiles to the largest: each time half as many, rounded up.
fn levels(across: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(across), |across| (*across > 1).then(|| across.div_ceil(2)))
}

/// The tiles of a picture, row by row.
fn pieces(picture: &Picture, columns: &Cuts, rows: &Cuts) -> Result<Vec<Picture>> {
    let corners = rows.starts.iter().flat_map(|y| columns.starts.iter().map(move |x| (*x, *y)));
    corners.map(|(x, y)| picture.crop(x, y, columns.length, rows.length)).collect()
}

/// A sum of heatmaps of parts of a picture.
struct Sum {
    size: usize,
    /// size · size values, row by row.
    logits: Vec<f32>,
    confidences: Vec<f32>,
}

impl Sum {
    fn new(size: usize) -> Self {
        Self { size, logits: vec![0.0; size * size], confidences: vec![0.0; size * size] }
    }

    /// Adds the heatmap of the part whose rows and columns contribute to these.
    fn add(&mut self, heatmap: &Heatmap, rows: &[Sample], columns: &[Sample]) {
        for row in rows {
            let [upper, lower] = row.sources.map(|source| &heatmap.logits[source * heatmap.size..][..heatmap.size]);
            for column in columns {
                let along = |line: &[f32]| {
                    let [left, right] = column.sources.map(|source| line[source]);
                    left + (right - left) * column.share
                };
                let (upper, lower) = (along(upper), along(lower));
                let weight = row.weight * column.weight;
                let target = row.target * self.size + column.target;
                self.logits[target] += weight * (upper + (lower - upper) * row.share);
                self.confidences[target] += weight * heatmap.confidence;
            }
        }
    }

    /// The mean of `count` heatmaps of the whole picture that have been added; `like` is one of them.
    fn mean(mut self, like: &Heatmap, count: usize) -> Result<Heatmap> {
        let share = 1.0 / count as f32;
        self.logits.iter_mut().for_each(|logit| *logit *= share);
        let merged = like.with_logits(self.logits, like.confidence)?;
        let (mut weights, mut confidences) = (0.0, 0.0);
        for (score, confidence) in merged.scores.iter().zip(&self.confidences) {
            weights += f64::from(*score);
            confidences += f64::from(*score) * f64::from(confidence * share);
        }
        // Scores can be too small for their type.
        let confidence = if weights > 0.0 { (confidences / weights) as f32 } else { like.confidence };
        Ok(Heatmap { confidence, ..merged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_sample_with_weights_that_sum_to_one() {
        for (side, length) in [(96, 96.0), (100, 96.0), (160, 90.0), (64, 32.0), (341, 96.0), (7, 1.4), (3, 0.375)] {
            let cuts = Cuts::new(side, length);
            assert_eq!(cuts.starts[0], 0, "{cuts:?}");
            assert_eq!(cuts.starts[cuts.starts.len() - 1] + cuts.length, side, "{cuts:?}");
            assert!(cuts.starts.windows(2).all(|pair| pair[1] <= pair[0] + cuts.length), "{cuts:?}");
            for size in [16, 33, 128] {
                let mut sums = vec![0.0; size];
                for sample in cuts.samples(16, size).iter().flatten() {
                    assert!(sample.weight > 0.0 && sample.sources.iter().all(|source| *source < 16), "{sample:?}");
                    sums[sample.target] += sample.weight;
                }
                assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{cuts:?}: {sums:?}");
            }
        }
    }

    #[test]
    fn a_square_has_twice_as_many_pieces_less_one() {
        for across in 1..=MAX_ACROSS {
            for side in [90, 256, 1000] {
                let cuts = Cuts::new(side, side as f64 / across as f64);
                assert_eq!(cuts.starts.len(), 2 * across - 1, "{cuts:?}");
            }
        }
    }
}
