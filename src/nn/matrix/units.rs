//! What multiplies tiles of bf16: instructions of the processor, or their portable form.

use std::sync::OnceLock;

use super::super::instructions::{Limit, limit};
use super::layout::NR;
#[cfg(target_arch = "x86_64")]
use super::native::bf16;
use super::parts::{PairTile, Products, ROWS, Sums, numbers};

/// Shallower and narrower matrices are multiplied faster in other ways.
const MIN_DEPTH: usize = 64;
const MIN_COLUMNS: usize = 32;

/// What multiplies tiles.
#[derive(Clone, Copy)]
pub(super) enum TileUnit {
    #[cfg(target_arch = "x86_64")]
    Amx(bf16::Amx),
    /// Only as fast as `f32`, unless both sides are rounded.
    #[cfg(target_arch = "x86_64")]
    Avx512(bf16::Avx512),
    /// The sums of AMX in the same order, without special instructions; for tests, because it is slow.
    Portable,
}

impl TileUnit {
    /// The one that is faster than `f32` for a right-hand side `[k, n]`, if the processor has it and the environment allows
    /// it.
    pub(super) fn of(products: Products, k: usize, n: usize) -> Option<Self> {
        if k < MIN_DEPTH || n < MIN_COLUMNS {
            return None;
        }
        match products {
            Products::OneByOne => Self::available().or_else(Self::for_rounded),
            _ => Self::available(),
        }
    }

    /// The one for all products. It is determined once, at the first use.
    pub(super) fn available() -> Option<Self> {
        static UNIT: OnceLock<Option<TileUnit>> = OnceLock::new();
        *UNIT.get_or_init(|| match limit() {
            Limit::PortableTiles => Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            Limit::None => bf16::Amx::try_new().map(Self::Amx),
            _ => None,
        })
    }

    /// The one for products of rounded matrices, if there is none for all.
    fn for_rounded() -> Option<Self> {
        match limit() {
            #[cfg(target_arch = "x86_64")]
            Limit::None | Limit::Avx512 => bf16::Avx512::try_new().map(Self::Avx512),
            _ => None,
        }
    }

    /// Whether there is one for rounded matrices.
    pub(super) fn multiplies_bf16() -> bool {
        Self::available().or_else(Self::for_rounded).is_some()
    }

    /// What [`instruction_set`](super::instruction_set) calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "AMX",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512 BF16",
            Self::Portable => "portable tiles",
        }
    }

    /// Prepares this thread.
    pub(super) fn start(self) -> Started {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => Started::Amx(amx.configure()),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => Started::Avx512(avx512),
            Self::Portable => Started::Portable,
        }
    }
}

/// A unit that is ready on this thread.
pub(super) enum Started {
    #[cfg(target_arch = "x86_64")]
    Amx(bf16::Configured),
    #[cfg(target_arch = "x86_64")]
    Avx512(bf16::Avx512),
    Portable,
}

impl Started {
    /// The products of two strips and two panels, all of the same depth.
    #[inline(always)]
    pub(super) fn multiply(
        &self,
        products: Products,
        left: [&[PairTile]; 2],
        right: [&[PairTile]; 2],
        sums: &mut Sums,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => amx.multiply(products, left, right, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.multiply(products, left, right, sums),
            Self::Portable => multiply_portable(products, left, right, sums),
        }
    }
}

/// What AMX computes, in the same order. (AMX treats numbers below 1.2e-38 as zero.)
#[inline(always)]
fn multiply_portable(products: Products, left: [&[PairTile]; 2], right: [&[PairTile]; 2], sums: &mut Sums) {
    let (left_parts, right_parts) = products.parts();
    for (i, left) in left.into_iter().enumerate() {
        for (j, right) in right.into_iter().enumerate() {
            let mut tile = [[0.0; NR]; ROWS];
            for (left, right) in left.chunks_exact(left_parts).zip(right.chunks_exact(right_parts)) {
                for (x, y) in products.pairs() {
                    add_product(&left[*x], &right[*y], &mut tile);
                }
            }
            for (sums, row) in sums.0[i * ROWS..].iter_mut().zip(&tile) {
                sums[j * NR..(j + 1) * NR].copy_from_slice(row);
            }
        }
    }
}

/// Adds the product of two tiles: the even and the odd depths are summed apart from each other.
#[inline(always)]
fn add_product(left: &PairTile, right: &PairTile, tile: &mut [[f32; NR]; ROWS]) {
    for (left, sums) in left.0.iter().zip(tile) {
        let (mut even, mut odd) = ([0.0; NR], [0.0; NR]);
        for (a, b) in left.iter().zip(&right.0) {
            let [a0, a1] = numbers(*a);
            for j in 0..NR {
                let [b0, b1] = numbers(b[j]);
                even[j] += a0 * b0;
                odd[j] += a1 * b1;
            }
        }
        for j in 0..NR {
            sums[j] += even[j] + odd[j];
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every unit that this machine has, whatever the environment says.
    pub(in super::super) fn units() -> Vec<TileUnit> {
        let mut units = vec![TileUnit::Portable];
        #[cfg(target_arch = "x86_64")]
        units.extend(bf16::Amx::try_new().map(TileUnit::Amx));
        #[cfg(target_arch = "x86_64")]
        units.extend(bf16::Avx512::try_new().map(TileUnit::Avx512));
        units
    }
}
