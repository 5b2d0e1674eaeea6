//! A closer look: a picture cut into overlapping tiles, so that small objects become large enough to be found.
//!
//! The model sees every picture as a square of S × S pixels. What covers 2 % of a picture covers a few patches of it, and a
//! wide picture is squeezed. [`Localizer::encode_tiles`] encodes square tiles beside the whole picture, each as large to the
//! model as the whole, and [`Localizer::localize_tiles`] merges what is found in them into one heatmap.

use super::{Embedding, EncodedImage, Heatmap, Localizer, first};
use crate::error::{Error, Result};
use crate::image::Picture;

/// The most tiles along the shorter side.
pub const MAX_ACROSS: usize = 8;
/// The most tiles of a picture: those of a square one with [`MAX_ACROSS`] along a side.
pub const MAX_TILES: usize = (2 * MAX_ACROSS - 1) * (2 * MAX_ACROSS - 1);
/// Along the longer side, a step that would be shorter than this fraction of another one is shared among the others.
const SHORTEST_STEP: f64 = 0.2;
/// The least weight of a tile, at its border, beside 1 in its middle.
const BORDER: f32 = 1e-3;

/// A picture encoded as a whole and in tiles, reusable for many sounds.
#[derive(Clone, Debug)]
pub struct TiledImage {
    whole: EncodedImage,
    /// Row by row from the top left. A picture that is a single tile has none beside the whole.
    tiles: Vec<EncodedImage>,
    columns: Cuts,
    rows: Cuts,
    across: usize,
}

impl TiledImage {
    /// The encoding of the whole picture.
    pub fn whole(&self) -> &EncodedImage {
        &self.whole
    }

    /// DUMP
    pub fn tiles(&self) -> &[EncodedImage] {
        &self.tiles
    }

    /// The number of pictures that were encoded: the tiles and the whole, or 1 where a single tile is the whole.
    pub fn num_encoded(&self) -> usize {
        1 + self.tiles.len()
    }

    /// The number of columns and of rows of tiles. A picture that is a single tile has one of each.
    pub fn grid(&self) -> (usize, usize) {
        (self.columns.starts.len(), self.rows.starts.len())
    }

    /// The number of tiles along the shorter side, not counting those between them.
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
    /// many as keep them square. With `across` = 1 the tiles of a wide picture lie in a row; a picture that is about square is
    /// then its own single tile.
    ///
    /// # Errors
    /// [`Error::Argument`] for an `across` outside 1 to [`MAX_ACROSS`], or a picture so long that there would be more than
    /// [`MAX_TILES`] tiles; otherwise as [`Localizer::pixels`].
    pub fn encode_tiles(&self, picture: &Picture, across: usize) -> Result<TiledImage> {
        if !(1..=MAX_ACROSS).contains(&across) {
            return Err(Error::argument("tiles across", format!("1 to {MAX_ACROSS}"), across));
        }
        let (width, height) = picture.size();
        let length = width.min(height) as f64 / across as f64;
        let (columns, rows) = (Cuts::new(width, length), Cuts::new(height, length));
        let num_tiles = columns.starts.len() * rows.starts.len();
        if num_tiles > MAX_TILES {
            let found = format!("{num_tiles} of a picture of {width} × {height} pixels, {across} across");
            return Err(Error::argument("number of tiles", format!("at most {MAX_TILES}"), found));
        }
        let mut pictures = vec![picture.clone()];
        if num_tiles > 1 {
            for &y in &rows.starts {
                for &x in &columns.starts {
                    pictures.push(picture.crop(x, y, columns.length, rows.length)?);
                }
            }
        }
        let mut encoded = self.encode_image_batch(&pictures)?;
        let tiles = encoded.split_off(1);
        Ok(TiledImage { whole: first(encoded)?, tiles, columns, rows, across })
    }

    /// Finds the sound (or the text) in a picture and in its tiles. The heatmap has `across` times the model's side S, over the
    /// whole picture; that of a picture without tiles is the one of [`Localizer::localize`].
    ///
    /// # Errors
    /// As [`Localizer::localize`].
    pub fn localize_tiles(&self, embedding: &Embedding, image: &TiledImage) -> Result<Heatmap> {
        let whole = self.localize(embedding, &image.whole)?;
        if image.tiles.is_empty() {
            return Ok(whole);
        }
        let questions: Vec<_> = image.tiles.iter().map(|tile| (embedding, tile)).collect();
        let tiles = self.localize_batch(&questions)?;
        let size = whole.size * image.across;
        let (columns, rows) = (image.columns.samples(whole.size, size), image.rows.samples(whole.size, size));
        let mut blended = vec![0.0; size * size];
        for (tile, (rows, columns)) in
            tiles.iter().zip(rows.iter().flat_map(|row| columns.iter().map(move |c| (row, c))))
        {
            add(&mut blended, &tile.logits, whole.size, rows, columns);
        }
        let confidence = tiles.iter().map(|tile| tile.confidence).fold(whole.confidence, f32::max);
        whole.with_logits(blended, confidence)
    }
}

/// Adds the weighted samples of a piece's `map` (of `side` columns) to the larger square map `sum`.
fn add(sum: &mut [f32], map: &[f32], side: usize, rows: &[Sample], columns: &[Sample]) {
    let size = sum.len().isqrt();
    for row in rows {
        let [upper, lower] = row.sources.map(|source| &map[source * side..][..side]);
        let target = &mut sum[row.target * size..][..size];
        for column in columns {
            let along = |line: &[f32]| {
                let [left, right] = column.sources.map(|source| line[source]);
                left + (right - left) * column.share
            };
            let (upper, lower) = (along(upper), along(lower));
            target[column.target] += row.weight * column.weight * (upper + (lower - upper) * row.share);
        }
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
