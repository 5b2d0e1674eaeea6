//! The panels of a packed matrix, uncompressed or compressed.

use std::sync::atomic::{AtomicBool, Ordering};

use half::{bf16, f16};
use pulp::Simd;
use rayon::prelude::*;

use super::super::format::{BLOCK, Precision, split_block};
use super::super::stored::{StoredFormat, StoredMatrix};
use super::layout::{NR, pack_columns};
use super::parts::{Products, TilePanels};
use super::pieces::{panels_per_piece, read_pieces};
use super::units::TileUnit;
use crate::error::Result;

/// The elements of a packed matrix: rows of [`NR`], panel after panel.
///
/// A compressed panel packs two or four rows into the bits of one row of `u32`s (the first row in the lowest bits), so
/// that expanding them only takes shifts within lanes.
#[derive(Clone)]
pub(super) enum Panels {
    F32(Vec<f32>),
    /// Finite `f16`s, two rows at a time.
    F16(Vec<Lanes>),
    /// `bf16`s, two rows at a time.
    Bf16(Vec<Lanes>),
    /// Signed bytes, four rows at a time, with one scale for every 32 rows. Every panel has a multiple of 32 rows.
    Q8 {
        quants: Vec<Lanes>,
        scales: Vec<[f32; NR]>,
    },
    /// For what multiplies them: sums of bf16, in tiles.
    Tiles(TileUnit, TilePanels),
}

/// A row of packed elements.
pub(super) type Lanes = [u32; NR];

/// Rows packed into one row of lanes.
const HALVES: usize = 2;
pub(super) const BYTES: usize = 4;
/// The exponent of an `f16`, whose bits are all ones if the number is infinite or not a number.
const F16_EXPONENT: u16 = 0x7c00;

/// 8-bit panels.
#[derive(Clone, Copy)]
pub(super) struct Quants<'a> {
    quants: &'a [Lanes],
    scales: &'a [[f32; NR]],
}

impl<'a> Quants<'a> {
    /// Panels of `quants`, and the scale of each column of 32 rows.
    pub(super) fn new(quants: &'a [Lanes], scales: &'a [[f32; NR]]) -> Self {
        Self { quants, scales }
    }

    /// The `count` rows of `panel` from `first` on, four in each row of lanes, and their scales. Both numbers are
    /// multiples of 32, and a panel has `k` rows.
    #[inline(always)]
    pub(super) fn rows(self, panel: usize, k: usize, first: usize, count: usize) -> (&'a [Lanes], &'a [[f32; NR]]) {
        let block = panel * (k / BLOCK) + first / BLOCK;
        let quants = &self.quants[block * (BLOCK / BYTES)..][..count / BYTES];
        (quants, &self.scales[block..][..count / BLOCK])
    }
}

impl Default for Panels {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

impl Panels {
    /// The panels of `matrix` `[N, K]`, for products `x·matrixᵀ`.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn stored(matrix: &StoredMatrix<'_>, precision: Precision) -> Result<Self> {
        let (n, k) = matrix.dims();
        match matrix.format() {
            StoredFormat::F32 => {
                let products = Products::of_floats(precision);
                match TileUnit::of(products, k, n) {
                    Some(unit) => Ok(Self::Tiles(unit, TilePanels::stored(matrix, products, f32::from_le_bytes)?)),
                    None => Self::floats(matrix, f32::from_le_bytes),
                }
            }
            StoredFormat::F16 => match Self::halves(matrix, |bits| bits & F16_EXPONENT != F16_EXPONENT)? {
                Some(lanes) => Ok(Self::F16(lanes)),
                None => Self::floats(matrix, |bytes| f16::from_le_bytes(bytes).to_f32()),
            },
            StoredFormat::Bf16 => {
                let products = Products::of_bf16(precision);
                let number = |bytes| bf16::from_le_bytes(bytes).to_f32();
                match TileUnit::of(products, k, n) {
                    Some(unit) => Ok(Self::Tiles(unit, TilePanels::stored(matrix, products, number)?)),
                    None => Ok(Self::Bf16(Self::halves(matrix, |_| true)?.unwrap_or_default())),
                }
            }
            StoredFormat::Blocks => Self::blocks(matrix),
        }
    }

    /// Panels of the numbers that `number` converts from `S` bytes each.
    fn floats<const S: usize>(matrix: &StoredMatrix<'_>, number: impl Fn([u8; S]) -> f32 + Sync) -> Result<Self> {
        let (n, k) = matrix.dims();
        let mut panels = vec![0.0; n.div_ceil(NR) * k * NR];
        let per_panel = (k * NR).max(1);
        read_pieces(matrix, panels.par_chunks_mut(panels_per_piece(matrix) * per_panel), |bytes, panels| {
            let (numbers, _) = bytes.as_chunks();
            for (rows, panel) in numbers.chunks(per_panel).zip(panels.chunks_exact_mut(per_panel)) {
                pack_columns(|j| &rows[j * k..][..k], rows.len() / k, panel.as_chunks_mut().0, &number);
            }
        })?;
        Ok(Self::F32(panels))
    }

    /// Two rows in each row of lanes; `None` if the bits of a number are not `valid`.
    fn halves(matrix: &StoredMatrix<'_>, valid: impl Fn(u16) -> bool + Sync) -> Result<Option<Vec<Lanes>>> {
        let (n, k) = matrix.dims();
        let per_panel = k.div_ceil(HALVES).max(1);
        let mut panels = vec![[0; NR]; n.div_ceil(NR) * per_panel];
        let all_valid = AtomicBool::new(true);
        read_pieces(matrix, panels.par_chunks_mut(panels_per_piece(matrix) * per_panel), |bytes, panels| {
            let (numbers, _) = bytes.as_chunks();
            if !numbers.iter().fold(true, |all, bytes| all & valid(u16::from_le_bytes(*bytes))) {
                all_valid.store(false, Ordering::Relaxed);
            }
            for (rows, panel) in numbers.chunks((NR * k).max(1)).zip(panels.chunks_exact_mut(per_panel)) {
                let (column, width) = (|j| rows[j * k..][..k].as_chunks().0, rows.len() / k);
                pack_columns(column, width, &mut panel[..k / HALVES], |pair: [[u8; 2]; HALVES]| {
                    let [[a, b], [c, d]] = pair;
                    u32::from_le_bytes([a, b, c, d])
                });
                if !k.is_multiple_of(HALVES) {
                    let last = rows.chunks_exact(k).map(|row| u32::from(u16::from_le_bytes(row[k - 1])));
                    panel[k / HALVES].iter_mut().zip(last).for_each(|(lane, bits)| *lane = bits);
                }
            }
        })?;
        Ok(all_valid.into_inner().then_some(panels))
    }

    /// Panels of 8 bits.
    fn blocks(matrix: &StoredMatrix<'_>) -> Result<Self> {
        let (n, k) = matrix.dims();
        let (per_row, lanes) = ((k / BLOCK).max(1), BLOCK / BYTES);
        let num_blocks = n.div_ceil(NR) * per_row;
        let mut scales = vec![[0.0; NR]; num_blocks];
        let mut quants = vec![[0; NR]; num_blocks * lanes];
        let per_piece = panels_per_piece(matrix) * per_row;
        let pieces = quants.par_chunks_mut(per_piece * lanes).zip(scales.par_chunks_mut(per_piece));
        read_pieces(matrix, pieces, |bytes, (quants, scales)| {
            for (n, row) in bytes.as_chunks().0.chunks_exact(per_row).enumerate() {
                let (panel, j) = (n / NR * per_row, n % NR);
                for (b, block) in row.iter().enumerate() {
                    let (scale, numbers) = split_block(block);
                    scales[panel + b][j] = scale.to_f32();
                    let to = &mut quants[(panel + b) * lanes..];
                    for (lanes, bytes) in to.iter_mut().zip(numbers.as_chunks().0) {
                        lanes[j] = u32::from_le_bytes(*bytes);
                    }
                }
            }
        })?;
        Ok(Self::Q8 { quants, scales })
    }

    /// The panels as tiles, and what multiplies them.
    pub(super) fn tiles(&self) -> Option<(TileUnit, &TilePanels)> {
        match self {
            Self::Tiles(unit, tiles) => Some((*unit, tiles)),
            _ => None,
        }
    }

    /// Whether reading the panels needs memory to expand them into.
    pub(super) fn is_compressed(&self) -> bool {
        !matches!(self, Self::F32(_))
    }

    /// The panels, if their elements have 8 bits.
    pub(super) fn quants(&self) -> Option<Quants<'_>> {
        match self {
            Self::Q8 { quants, scales } => Some(Quants::new(quants, scales)),
            _ => None,
        }
    }

    /// The `count` rows of `panel` from `first` on, or nothing if they are compressed.
    #[inline(always)]
    pub(super) fn uncompressed_rows(&self, panel: usize, k: usize, first: usize, count: usize) -> &[f32] {
        match self {
            Self::F32(data) => &data[(panel * k + first) * NR..][..count * NR],
            _ => &[],
        }
    }

    /// The `count` rows of `panel` from `first` on, where `first` is a multiple of 32 and a panel has `k` rows.
    /// Compressed rows are expanded into `scratch`, which has room for an even number of rows.
    #[inline(always)]
    pub(super) fn rows<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        k: usize,
        first: usize,
        count: usize,
        scratch: &'a mut [f32],
    ) -> &'a [f32] {
        let (rows, _) = scratch.as_chunks_mut::<NR>();
        match self {
            Self::F32(_) => return self.uncompressed_rows(panel, k, first, count),
            Self::F16(data) => {
                let lanes = &data[panel * k.div_ceil(HALVES) + first / HALVES..][..count.div_ceil(HALVES)];
                for (rows, lanes) in rows.as_chunks_mut::<HALVES>().0.iter_mut().zip(lanes) {
                    expand_f16(simd, lanes, rows);
                }
            }
            Self::Bf16(data) => {
                let lanes = &data[panel * k.div_ceil(HALVES) + first / HALVES..][..count.div_ceil(HALVES)];
                for (rows, lanes) in rows.as_chunks_mut::<HALVES>().0.iter_mut().zip(lanes) {
                    expand_bf16(simd, lanes, rows);
                }
            }
            Self::Q8 { quants, scales } => {
                let (quants, scales) = Quants::new(quants, scales).rows(panel, k, first, count);
                let (blocks, _) = rows.as_chunks_mut::<BLOCK>();
                for ((rows, quants), scale) in blocks.iter_mut().zip(quants.chunks_exact(BLOCK / BYTES)).zip(scales) {
                    for (rows, lanes) in rows.as_chunks_mut::<BYTES>().0.iter_mut().zip(quants) {
                        rows[0] = expand_byte(lanes, 24, scale);
                        rows[1] = expand_byte(lanes, 16, scale);
                        rows[2] = expand_byte(lanes, 8, scale);
                        rows[3] = expand_byte(lanes, 0, scale);
                    }
                }
            }
            Self::Tiles(_, tiles) => tiles.expand(panel, first, &mut rows[..count]),
        }
        &scratch[..count * NR]
    }
}

/// Expands two rows of finite `f16`s to `f32`s, exactly.
// Explicit vectors: on its own, the compiler vectorises across rows, one lane at a time, which is three times slower.
#[inline(always)]
fn expand_f16<S: Simd>(simd: S, lanes: &Lanes, rows: &mut [[f32; NR]; HALVES]) {
    let [first, second] = rows;
    let (first, second) = (S::as_mut_simd_f32s(first).0, S::as_mut_simd_f32s(second).0);
    let up = simd.splat_u32s(16);
    for ((first, second), lanes) in first.iter_mut().zip(second).zip(S::as_simd_u32s(lanes).0) {
        *first = f16_bits(simd, *lanes);
        *second = f16_bits(simd, simd.wrapping_dyn_shr_u32s(*lanes, up));
    }
}

/// Converts the finite `f16`s in the lower halves of `bits` to `f32`s.
#[inline(always)]
fn f16_bits<S: Simd>(simd: S, bits: S::u32s) -> S::f32s {
    /// The difference between the exponent biases of the two types, shifted into place.
    const REBIAS: u32 = (127 - 15) << 23;
    /// 2⁻¹⁴, the smallest normal `f16`.
    const SMALLEST: u32 = (127 - 14) << 23;
    let magnitude = simd.and_u32s(bits, simd.splat_u32s(0x7fff));
    let magnitude = simd.wrapping_dyn_shl_u32s(magnitude, simd.splat_u32s(13));
    let normal = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, simd.splat_u32s(REBIAS)));
    // Subnormal numbers have a fraction but no exponent: give the fraction the exponent of 2⁻¹⁴, then subtract 2⁻¹⁴.
    let smallest = simd.splat_f32s(f32::from_bits(SMALLEST));
    let subnormal = simd.transmute_f32s_u32s(simd.add_u32s(magnitude, simd.splat_u32s(SMALLEST)));
    let subnormal = simd.sub_f32s(subnormal, smallest);
    let is_subnormal = simd.less_than_u32s(magnitude, simd.splat_u32s(1 << 23));
    let x = simd.select_f32s(is_subnormal, subnormal, normal);
    let sign = simd.and_u32s(bits, simd.splat_u32s(0x8000));
    let sign = simd.wrapping_dyn_shl_u32s(sign, simd.splat_u32s(16));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(x), sign))
}

/// Expands two rows of `bf16`s, which are the upper halves of `f32`s.
#[inline(always)]
fn expand_bf16<S: Simd>(simd: S, lanes: &Lanes, rows: &mut [[f32; NR]; HALVES]) {
    let [first, second] = rows;
    let (first, second) = (S::as_mut_simd_f32s(first).0, S::as_mut_simd_f32s(second).0);
    let (up, upper) = (simd.splat_u32s(16), simd.splat_u32s(0xffff_0000));
    for ((first, second), lanes) in first.iter_mut().zip(second).zip(S::as_simd_u32s(lanes).0) {
        *first = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(*lanes, up));
        *second = simd.transmute_f32s_u32s(simd.and_u32s(*lanes, upper));
    }
}

/// Converts the signed bytes that are `shift` bits below the top of their lanes, times `scale`.
#[inline(always)]
fn expand_byte(lanes: &Lanes, shift: u32, scale: &[f32; NR]) -> [f32; NR] {
    let mut out = [0.0; NR];
    for ((out, lane), scale) in out.iter_mut().zip(lanes).zip(scale) {
        *out = ((lane << shift).cast_signed() >> 24) as f32 * scale;
    }
    out
}

#[cfg(test)]
mod tests {
    use half::f16;
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Expand<'a>(&'a Lanes);

    impl WithSimd for Expand<'_> {
        type Output = [[f32; NR]; HALVES];
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let mut rows = [[0.0; NR]; HALVES];
            expand_f16(simd, self.0, &mut rows);
            rows
        }
    }

    #[test]
    fn every_finite_half_expands_exactly() {
        for bits in (0..=u16::MAX).collect::<Vec<_>>().as_chunks::<NR>().0 {
            let lanes = bits.map(|bits| u32::from(bits) | u32::from(bits ^ 0x8001) << 16);
            let [first, second] = Arch::new().dispatch(Expand(&lanes));
            for (i, bits) in bits.iter().enumerate() {
                for (bits, found) in [(*bits, first[i]), (bits ^ 0x8001, second[i])] {
                    let expected = f16::from_bits(bits);
                    if expected.is_finite() {
                        assert_eq!(found.to_bits(), expected.to_f32().to_bits(), "{bits:#x}");
                    }
                }
            }
        }
    }
}
