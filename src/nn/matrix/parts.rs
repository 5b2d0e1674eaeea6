//! Matrices of `f32`s as sums of matrices of bf16, in the tiles that matrix instructions multiply.
//!
//! A bf16 is the upper half of an `f32` and keeps 8 of its 24 bits of precision. Three of them therefore hold an `f32`
//! exactly, the first the most significant bits. A product of two such sums is a sum of products of bf16, of which those
//! of the least significant parts are too small to matter ([`Products`]). Instructions that multiply bf16 sum in `f32`,
//! in which the product of two bf16 is exact.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::format::Precision;
use super::super::instructions::arch;
use super::super::stored::StoredMatrix;
use super::layout::{MatrixRef, NR};
use super::pieces::{panels_per_piece, read_pieces};
use crate::error::Result;

/// Rows of a tile of the left-hand side. A tile of the right-hand side has [`NR`] columns.
pub(super) const ROWS: usize = 16;
/// The side of two tiles.
pub(super) const SIDE: usize = 2 * ROWS;
/// Depth of a tile.
pub(super) const DEPTH: usize = 32;
/// Consecutive numbers along the depth, which share a lane (the first in the lower bits).
const PAIR: usize = 2;
/// The upper half of an `f32`.
const UPPER: u32 = 0xffff_0000;

/// 16 × 16 pairs of bf16, in 1 KiB. On the left-hand side, a row of the tile belongs to a row of the matrix and has
/// [`DEPTH`] numbers; on the right-hand side, a row has two numbers for each of [`NR`] columns.
// Aligned, so that a row is one line of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct PairTile(pub(super) [[u32; 16]; 16]);

/// The sums of products for [`SIDE`] rows and columns, which are computed in one go: two by two tiles.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; SIDE]; SIDE]);

/// A tile of zeros.
pub(super) const ZEROS: PairTile = PairTile([[0; 16]; 16]);

/// Into how many parts both sides are split, and which of their products are summed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Products {
    /// Three parts each: six products, down to 2⁻¹⁶ of the largest, for the precision of `f32`.
    ThreeByThree,
    /// Two parts each: three products, for 16 bits of precision.
    TwoByTwo,
    /// Three parts of the left-hand side: three products, for right-hand sides in bf16.
    ThreeByOne,
    /// Both sides rounded to bf16.
    OneByOne,
}

impl Products {
    /// Those of this precision with right-hand sides in `f32`.
    pub(super) fn of_floats(precision: Precision) -> Self {
        match precision {
            Precision::Highest => Self::ThreeByThree,
            Precision::High => Self::TwoByTwo,
            Precision::Medium => Self::OneByOne,
        }
    }

    /// Those of this precision with right-hand sides in bf16.
    pub(super) fn of_bf16(precision: Precision) -> Self {
        match precision {
            Precision::Highest | Precision::High => Self::ThreeByOne,
            Precision::Medium => Self::OneByOne,
        }
    }

    /// The numbers of parts of both sides.
    pub(super) fn parts(self) -> (usize, usize) {
        match self {
            Self::ThreeByThree => (3, 3),
            Self::TwoByTwo => (2, 2),
            Self::ThreeByOne => (3, 1),
            Self::OneByOne => (1, 1),
        }
    }

    /// The parts that are multiplied, small products first, in the order in which AMX multiplies them.
    pub(super) fn pairs(self) -> &'static [(usize, usize)] {
        match self {
            Self::ThreeByThree => &[(1, 1), (0, 1), (0, 2), (0, 0), (1, 0), (2, 0)],
            Self::TwoByTwo => &[(0, 1), (0, 0), (1, 0)],
            Self::ThreeByOne => &[(2, 0), (1, 0), (0, 0)],
            Self::OneByOne => &[(0, 0)],
        }
    }
}

/// The right-hand side `[K, N]` of a product: panels of [`NR`] columns, each a sequence of tiles along the depth with all
/// parts of a tile side by side. The last panel and the last depth are padded with zeros.
#[derive(Clone)]
pub(super) struct TilePanels {
    products: Products,
    /// Tiles along the depth.
    chunks: usize,
    tiles: Vec<PairTile>,
}

impl TilePanels {
    /// Splits `b` [K, N] on all threads.
    pub(super) fn new(b: MatrixRef<'_>, products: Products) -> Self {
        let mut packed = Self::zeros(b.rows, b.columns, products);
        let per_panel = packed.per_panel();
        packed.tiles.par_chunks_exact_mut(per_panel).enumerate().for_each(|(p, tiles)| {
            pack_panel(b.transposed(), p, products, tiles);
        });
        packed
    }

    /// Splits the transpose of a matrix whose elements `number` converts from `S` bytes each.
    pub(super) fn stored<const S: usize>(
        matrix: &StoredMatrix<'_>,
        products: Products,
        number: impl Fn([u8; S]) -> f32 + Sync,
    ) -> Result<Self> {
        let (n, k) = matrix.dims();
        let mut packed = Self::zeros(k, n, products);
        let per_panel = packed.per_panel();
        let panels = panels_per_piece(matrix);
        read_pieces(matrix, packed.tiles.par_chunks_mut(panels * per_panel), |bytes, tiles| {
            let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect();
            let rows = MatrixRef::new(&numbers, numbers.len() / k.max(1), k);
            for (p, tiles) in tiles.chunks_exact_mut(per_panel).enumerate() {
                pack_panel(rows, p, products, tiles);
            }
        })?;
        Ok(packed)
    }

    /// Panels of zeros for a matrix `[k, n]`.
    fn zeros(k: usize, n: usize, products: Products) -> Self {
        let (_, parts) = products.parts();
        let chunks = k.div_ceil(DEPTH);
        Self { products, chunks, tiles: vec![ZEROS; n.div_ceil(NR) * chunks * parts] }
    }

    /// The number of tiles of a panel, at least one.
    fn per_panel(&self) -> usize {
        let (_, parts) = self.products.parts();
        (self.chunks * parts).max(1)
    }

    pub(super) fn products(&self) -> Products {
        self.products
    }

    /// The tiles of a panel at some depths.
    pub(super) fn panel(&self, panel: usize, chunks: Range<usize>) -> &[PairTile] {
        let (_, parts) = self.products.parts();
        &self.tiles[(panel * self.chunks + chunks.start) * parts..][..chunks.len() * parts]
    }

    /// Writes the rows of a panel to `rows`, from `first` on, which is a multiple of [`DEPTH`].
    pub(super) fn expand(&self, panel: usize, first: usize, rows: &mut [[f32; NR]]) {
        let (_, parts) = self.products.parts();
        let tiles = self.panel(panel, first / DEPTH..self.chunks);
        for (rows, tiles) in rows.chunks_mut(DEPTH).zip(tiles.chunks_exact(parts)) {
            for (k, row) in rows.iter_mut().enumerate() {
                for (j, x) in row.iter_mut().enumerate() {
                    let lanes = tiles.iter().map(|tile| numbers(tile.0[k / PAIR][j])[k % PAIR]);
                    *x = lanes.sum();
                }
            }
        }
    }
}

/// Splits panel `p` of a right-hand side, given its columns as rows.
fn pack_panel(rows: MatrixRef<'_>, p: usize, products: Products, tiles: &mut [PairTile]) {
    let range = p * NR..rows.rows.min((p + 1) * NR);
    let (_, parts) = products.parts();
    arch().dispatch(PackPanel { rows, range, parts, tiles });
}

/// The work for one panel: the columns in `range`, which are rows of `rows`.
struct PackPanel<'a> {
    rows: MatrixRef<'a>,
    range: Range<usize>,
    parts: usize,
    tiles: &'a mut [PairTile],
}

impl WithSimd for PackPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.parts {
            1 => self.run::<1>(),
            2 => self.run::<2>(),
            _ => self.run::<3>(),
        }
    }
}

impl PackPanel<'_> {
    #[inline(always)]
    fn run<const P: usize>(self) {
        let Self { rows, range, tiles, .. } = self;
        let mut numbers = [0.0; DEPTH];
        for (chunk, tiles) in tiles.chunks_exact_mut(P).enumerate() {
            for (j, column) in range.clone().enumerate() {
                copy(rows, column, chunk * DEPTH, &mut numbers);
                let lanes = split_row::<P>(&numbers);
                for (tile, lanes) in tiles.iter_mut().zip(lanes) {
                    for (row, lane) in tile.0.iter_mut().zip(lanes) {
                        row[j] = lane;
                    }
                }
            }
        }
    }
}

/// Splits the rows of `a` at some depths into `P` parts, in strips of [`ROWS`] rows: `tiles[strip][chunk][part]`. Missing
/// rows and depths are zeros.
#[inline(always)]
pub(super) fn pack_strips<const P: usize>(a: MatrixRef<'_>, chunks: Range<usize>, tiles: &mut Vec<PairTile>) {
    let num_strips = a.rows.div_ceil(ROWS);
    tiles.resize(num_strips * chunks.len() * P, ZEROS);
    let mut numbers = [0f32; DEPTH];
    for (strip, tiles) in tiles.chunks_exact_mut((chunks.len() * P).max(1)).enumerate() {
        for i in 0..ROWS {
            for (chunk, tiles) in chunks.clone().zip(tiles.chunks_exact_mut(P)) {
                copy(a, strip * ROWS + i, chunk * DEPTH, &mut numbers);
                let lanes = split_row::<P>(&numbers);
                for part in 0..P {
                    tiles[part].0[i] = lanes[part];
                }
            }
        }
    }
}

/// Copies a part of a row of `a`. What is beyond its last row or column is zero.
#[inline(always)]
fn copy(a: MatrixRef<'_>, row: usize, first: usize, numbers: &mut [f32; DEPTH]) {
    let width = if row < a.rows { DEPTH.min(a.columns - first) } else { 0 };
    let from = a.data.get(row * a.row_stride + first * a.column_stride..).unwrap_or_default();
    match from.first_chunk() {
        // Of constant length, which is several times faster.
        Some(whole) if a.column_stride == 1 && width == DEPTH => *numbers = *whole,
        _ => {
            numbers[width..].fill(0.0);
            for (to, x) in numbers[..width].iter_mut().zip(from.iter().step_by(a.column_stride)) {
                *to = *x;
            }
        }
    }
}

/// Splits numbers into `P` parts each, and packs them in pairs.
#[inline(always)]
fn split_row<const P: usize>(numbers: &[f32; DEPTH]) -> [[u32; DEPTH / PAIR]; P] {
    let mut lanes = [[0; DEPTH / PAIR]; P];
    for (lane, pair) in numbers.as_chunks::<PAIR>().0.iter().enumerate() {
        let split = split_pair::<P>(pair[0], pair[1]);
        for part in 0..P {
            lanes[part][lane] = split[part];
        }
    }
    lanes
}

/// Splits two numbers into `P` parts each, and packs the parts in pairs.
#[inline(always)]
pub(super) fn split_pair<const P: usize>(first: f32, second: f32) -> [u32; P] {
    let (first, second) = (split::<P>(first), split::<P>(second));
    let mut lanes = [0; P];
    for part in 0..P {
        lanes[part] = first[part] >> 16 | second[part];
    }
    lanes
}

/// The parts of a number, as `f32`s whose lower half is empty: each is what the parts before it leave, rounded to bf16.
#[inline(always)]
fn split<const P: usize>(x: f32) -> [u32; P] {
    let mut parts = [0; P];
    let mut rest = x;
    for part in &mut parts {
        *part = round(rest);
        rest -= f32::from_bits(*part);
    }
    parts
}

/// The nearest bf16, with ties to even, as the upper half of an `f32`. NaN stays NaN.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if is_nan { bits | 0x0040_0000 } else { rounded }) & UPPER
}

/// The two numbers in a lane.
#[inline(always)]
pub(super) fn numbers(lane: u32) -> [f32; PAIR] {
    [f32::from_bits(lane << 16), f32::from_bits(lane & UPPER)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_exact_and_the_first_is_the_nearest_bf16() {
        for bits in (0..u32::MAX).step_by(10_007) {
            let x = f32::from_bits(bits);
            let parts = split::<3>(x);
            let nearest = half::bf16::from_f32(x);
            if x.is_nan() {
                assert!(f32::from_bits(parts[0]).is_nan());
                continue;
            }
            assert_eq!(parts[0] >> 16, u32::from(nearest.to_bits()), "{x}");
            // Parts of numbers below 2⁻¹¹⁰ may be smaller than the smallest bf16; the largest numbers round to infinity.
            if nearest.is_finite() && x.abs() > 1e-33 {
                let [a, b, c] = parts.map(f32::from_bits);
                assert_eq!((a + b) + c, x);
            }
        }
    }
}
