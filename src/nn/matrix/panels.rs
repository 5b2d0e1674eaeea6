//! The panels of a packed matrix, uncompressed or compressed.

use candle_core::CpuStorage;
use pulp::Simd;

use super::super::compressed::CompressedMatrix;
use super::super::format::{BLOCK, BLOCK_BYTES, Precision, split_block};
use super::layout::NR;
use super::parts::{Products, TilePanels};
use super::units::TileUnit;

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
    pub(super) fn compressed(matrix: &CompressedMatrix, precision: Precision) -> candle_core::Result<Self> {
        let unusable = || candle_core::Error::Msg("a compressed weight of an unknown kind".into()).bt();
        let (n, k) = matrix.dims();
        let (storage, layout) = matrix.rows().storage_and_layout();
        let (start, end) = layout.contiguous_offsets().unwrap_or_default();
        let candle_core::Storage::Cpu(storage) = &*storage else { return Err(unusable()) };
        match storage {
            CpuStorage::F16(all) => {
                let rows = &all[start..end];
                if rows.iter().all(|x| x.is_finite()) {
                    return Ok(Self::F16(pack_halves(rows, k, |x| x.to_bits())));
                }
                let mut panels = vec![0.0; n.div_ceil(NR) * k * NR];
                for (i, row) in rows.chunks_exact(k.max(1)).enumerate() {
                    let panel = &mut panels[i / NR * k * NR..];
                    for (to, x) in panel.iter_mut().skip(i % NR).step_by(NR).zip(row) {
                        *to = x.to_f32();
                    }
                }
                Ok(Self::F32(panels))
            }
            CpuStorage::BF16(all) => {
                let products = match precision {
                    Precision::Highest | Precision::High => Products::ThreeByOne,
                    Precision::Medium => Products::OneByOne,
                };
                Ok(match TileUnit::of(products, k, n) {
                    Some(unit) => Self::Tiles(unit, TilePanels::from_bf16(&all[start..end], k, products)),
                    None => Self::Bf16(pack_halves(&all[start..end], k, |x| x.to_bits())),
                })
            }
            CpuStorage::U8(all) => Ok(Self::pack_blocks(all[start..end].as_chunks().0, k / BLOCK)),
            _ => Err(unusable()),
        }
    }

    /// Packs rows of `per_row` blocks each.
    fn pack_blocks(blocks: &[[u8; BLOCK_BYTES]], per_row: usize) -> Self {
        let per_row = per_row.max(1);
        let num_blocks = (blocks.len() / per_row).div_ceil(NR) * per_row;
        let mut scales = vec![[0.0; NR]; num_blocks];
        let mut quants = vec![[0; NR]; num_blocks * (BLOCK / BYTES)];
        for (n, row) in blocks.chunks_exact(per_row).enumerate() {
            let (panel, j) = (n / NR * per_row, n % NR);
            for (b, block) in row.iter().enumerate() {
                let (scale, numbers) = split_block(block);
                scales[panel + b][j] = scale.to_f32();
                let to = &mut quants[(panel + b) * (BLOCK / BYTES)..];
                for (lanes, bytes) in to.iter_mut().zip(numbers.as_chunks().0) {
                    lanes[j] = u32::from_le_bytes(*bytes);
                }
            }
        }
        Self::Q8 { quants, scales }
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
            Self::F32(data) => return &data[(panel * k + first) * NR..][..count * NR],
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

/// Packs rows of `k` elements into panels of [`NR`] rows side by side, padding the last panel with zeros.
fn pack_halves<T: Copy>(rows: &[T], k: usize, bits: impl Fn(T) -> u16) -> Vec<Lanes> {
    let (k, per_panel) = (k.max(1), k.div_ceil(HALVES));
    let mut out = vec![[0; NR]; (rows.len() / k).div_ceil(NR) * per_panel];
    for (n, row) in rows.chunks_exact(k).enumerate() {
        for (lanes, x) in out[n / NR * per_panel..].iter_mut().zip(row.chunks(HALVES)) {
            let high = x.get(1).map_or(0, |x| u32::from(bits(*x)));
            lanes[n % NR] = u32::from(bits(x[0])) | high << 16;
        }
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
