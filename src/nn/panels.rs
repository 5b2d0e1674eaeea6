//! The panels of a packed matrix, in full or compressed.

use candle_core::{CpuStorage, DType, Tensor};

use super::format::{BLOCK, BLOCK_BYTES, append_blocks, split_block};
use super::matrix::NR;

/// The elements of a packed matrix: rows of [`NR`], panel after panel.
#[derive(Clone)]
pub(super) enum Panels {
    F32(Vec<f32>),
    /// The bits of finite `f16`s.
    F16(Vec<u16>),
    /// The bits of `bf16`s.
    Bf16(Vec<u16>),
    /// `quants[row][j] · scales[row / 32][j]`, the latter the bits of finite `f16`s. Every panel has a multiple of 32 rows.
    Q8 {
        quants: Vec<i8>,
        scales: Vec<u16>,
    },
}

impl Default for Panels {
    fn default() -> Self {
        Self::F32(Vec::new())
    }
}

impl Panels {
    /// The panels of `rows` `[N, K]` of type F16 or BF16, or rows of `Q8_0` blocks of type U8, for products `x·rowsᵀ`.
    pub(super) fn compressed(rows: &Tensor, n: usize, k: usize) -> candle_core::Result<Self> {
        let width = if rows.dtype() == DType::U8 { k / BLOCK * BLOCK_BYTES } else { k };
        if rows.dims2()? != (n, width) {
            let found = rows.dims();
            return Err(candle_core::Error::Msg(format!("a compressed weight {found:?} for [{n}, {k}]")).bt());
        }
        let rows = rows.contiguous()?;
        let (storage, layout) = rows.storage_and_layout();
        let (start, end) = layout.contiguous_offsets().unwrap_or_default();
        let unusable = || candle_core::Error::Msg("a compressed weight of an unknown kind".into()).bt();
        let candle_core::Storage::Cpu(storage) = &*storage else { return Err(unusable()) };
        match storage {
            CpuStorage::F16(all) => {
                let rows = &all[start..end];
                if rows.iter().all(|x| x.is_finite()) {
                    return Ok(Self::F16(pack(rows, k, |x| x.to_bits())));
                }
                Ok(Self::F32(pack(rows, k, |x| x.to_f32())))
            }
            CpuStorage::BF16(all) => Ok(Self::Bf16(pack(&all[start..end], k, |x| x.to_bits()))),
            CpuStorage::U8(all) if k.is_multiple_of(BLOCK) => {
                let (blocks, _) = all[start..end].as_chunks::<BLOCK_BYTES>();
                if blocks.iter().all(|block| split_block(block).0.is_finite()) {
                    return Ok(Self::pack_blocks(blocks, k / BLOCK));
                }
                let mut numbers = Vec::new();
                append_blocks(blocks.as_flattened(), &mut numbers);
                Ok(Self::F32(pack(&numbers, k, |x| x)))
            }
            _ => Err(unusable()),
        }
    }

    /// Rows of `per_row` blocks.
    fn pack_blocks(blocks: &[[u8; BLOCK_BYTES]], per_row: usize) -> Self {
        let panels = (blocks.len() / per_row.max(1)).div_ceil(NR);
        let mut scales = vec![0; panels * per_row * NR];
        let mut quants = vec![0; panels * per_row * BLOCK * NR];
        for (n, row) in blocks.chunks_exact(per_row.max(1)).enumerate() {
            let (panel, j) = (n / NR * per_row, n % NR);
            for (b, block) in row.iter().enumerate() {
                let (scale, numbers) = split_block(block);
                scales[(panel + b) * NR + j] = scale.to_bits();
                let to = quants[(panel + b) * BLOCK * NR..].iter_mut().skip(j).step_by(NR);
                for (to, &q) in to.zip(numbers) {
                    *to = q as i8;
                }
            }
        }
        Self::Q8 { quants, scales }
    }

    /// Whether reading needs memory to expand into.
    pub(super) fn is_compressed(&self) -> bool {
        !matches!(self, Self::F32(_))
    }

    /// The `count` rows from `first` on as `f32`, expanded into `scratch` if need be; they begin at a multiple of 32 rows of
    /// their panel.
    #[inline(always)]
    pub(super) fn rows<'a>(&'a self, first: usize, count: usize, scratch: &'a mut [f32]) -> &'a [f32] {
        let range = first * NR..(first + count) * NR;
        let (quants, scales) = match self {
            Self::F32(data) => return &data[range],
            Self::F16(data) => {
                let (to, from) = (scratch.as_chunks_mut::<NR>().0, data[range].as_chunks::<NR>().0);
                for (to, from) in to.iter_mut().zip(from) {
                    *to = expand_f16(from);
                }
                return &scratch[..count * NR];
            }
            Self::Bf16(data) => {
                let (to, from) = (scratch.as_chunks_mut::<NR>().0, data[range].as_chunks::<NR>().0);
                for (to, from) in to.iter_mut().zip(from) {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = f32::from_bits(u32::from(*from) << 16);
                    }
                }
                return &scratch[..count * NR];
            }
            Self::Q8 { quants, scales } => (quants, scales),
        };
        let scales = scales[first / BLOCK * NR..].as_chunks::<NR>().0;
        let to = scratch[..count * NR].as_chunks_mut::<NR>().0.chunks_mut(BLOCK);
        let from = quants[range].as_chunks::<NR>().0.chunks(BLOCK);
        for ((to, from), scale) in to.zip(from).zip(scales) {
            let scale = expand_f16(scale);
            for (to, from) in to.iter_mut().zip(from) {
                for ((to, from), scale) in to.iter_mut().zip(from).zip(&scale) {
                    *to = f32::from(*from) * scale;
                }
            }
        }
        &scratch[..count * NR]
    }
}

/// Finite `f16`s as `f32`s, exactly, in steps that every instruction set has for vectors.
#[inline(always)]
fn expand_f16(bits: &[u16; NR]) -> [f32; NR] {
    /// What the exponents of the two types differ by, in place.
    const REBIAS: u32 = (127 - 15) << 23;
    /// 2⁻¹⁴, the smallest normal `f16`.
    const SMALLEST: u32 = (127 - 14) << 23;
    let mut out = [0.0; NR];
    for (out, &h) in out.iter_mut().zip(bits) {
        let h = u32::from(h);
        let magnitude = (h & 0x7fff) << 13;
        let normal = f32::from_bits(magnitude + REBIAS);
        // Without an exponent the fraction counts from zero: put it behind that of 2⁻¹⁴ and take this off again.
        let subnormal = f32::from_bits(magnitude + SMALLEST) - f32::from_bits(SMALLEST);
        let x = if magnitude < 1 << 23 { subnormal } else { normal };
        *out = f32::from_bits(x.to_bits() | ((h & 0x8000) << 16));
    }
    out
}

/// Rows of `k` elements as panels of [`NR`] of them side by side, the last one padded with zeros.
fn pack<T: Copy, U: Copy + Default>(rows: &[T], k: usize, convert: impl Fn(T) -> U) -> Vec<U> {
    let k = k.max(1);
    let mut out = vec![U::default(); (rows.len() / k).div_ceil(NR) * k * NR];
    for (n, row) in rows.chunks_exact(k).enumerate() {
        let panel = &mut out[n / NR * k * NR..];
        for (to, x) in panel.iter_mut().skip(n % NR).step_by(NR).zip(row) {
            *to = convert(*x);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_half_expands_exactly() {
        for bits in (0..=u16::MAX).collect::<Vec<_>>().as_chunks::<NR>().0 {
            for (bits, found) in bits.iter().zip(expand_f16(bits)) {
                let expected = f16::from_bits(*bits);
                if expected.is_finite() {
                    assert_eq!(found.to_bits(), expected.to_f32().to_bits(), "{bits:#x}");
                }
            }
        }
    }
}
