//! Matrix products for `f32` on CPUs, with the right-hand side packed once.
//!
//! A weight never changes but is multiplied thousands of times, so it is packed once, in the order in which the
//! innermost loop reads it. That loop keeps a tile of the result in registers: 6 × 16 with AVX2 (twelve vectors, enough to
//! hide the latency of the additions), 12 × 32 with AVX-512. The left-hand side is packed per block of rows and
//! stays in the second-level cache. Bias and activation are applied while the tile is still in registers. The scheme is
//! that of Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008). This module distributes
//! the work over threads; the loops are in [`block`](mod@block). Products with enough rows use [`strassen`].
//!
//! Processors that multiply tiles of bf16 do so with each `f32` as a sum of bf16 ([`parts`], [`tiles`]).
//!
//! The rounding errors of a row depend on how the rows are split into blocks, and therefore on the number of rows and
//! threads. For a given number of rows and threads, results are identical bit for bit.

mod block;
mod integer;
mod layout;
#[cfg(target_arch = "x86_64")]
mod native;
mod operands;
mod pair_dot;
mod panels;
mod parts;
mod pieces;
mod prefetch;
mod scratch;
mod strassen;
#[cfg(test)]
mod tests;
mod tiles;
mod units;

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::format::Precision;
use super::instructions::arch;
pub(crate) use block::Block;
use block::MR;
use integer::{IntegerBlock, Integers};
pub(crate) use layout::{MatrixRef, NR, equal_blocks};
pub(crate) use operands::{Epilogue, PackedMatrix};
use panels::Quants;
use parts::{Products, SIDE};
use scratch::SCRATCH;
use tiles::{Right, TileBlock};
use units::TileUnit;

/// The name of the instruction set that the kernels for `f32` on CPUs use: `AMX`, `AVX-512`, `AVX2`, `scalar`, or `native`
/// on processors other than x86-64. With `AMX`, products with weights are computed in tiles of bf16, each number as the sum
/// of three, and everything else with AVX-512.
///
/// The environment variable `SOUNDSIGHT_SIMD` forbids wider ones than it names: `avx512`, `avx2` or `scalar`. With
/// `portable-tiles`, products are computed as with AMX, but without its instructions, which is slow and serves for tests.
/// Other values have no effect. Results differ by rounding from one instruction set to the next.
///
/// ```
/// println!("computing with {}", soundsight::nn::instruction_set());
/// ```
pub fn instruction_set() -> &'static str {
    match (TileUnit::available(), arch()) {
        (Some(unit), _) => unit.name(),
        (None, Arch::Scalar) => "scalar",
        #[cfg(target_arch = "x86_64")]
        (None, Arch::V3(_)) => "AVX2",
        #[cfg(target_arch = "x86_64")]
        (None, Arch::V4(_)) => "AVX-512",
        _ => "native",
    }
}

/// `out = activation(a · b + bias)` on all threads; `out` is `[M, N]` row-major. The depth K is at least one.
pub(crate) fn matmul(a: MatrixRef<'_>, b: &PackedMatrix, epilogue: Epilogue<'_>, out: &mut [f32]) {
    matmul_by(Method::fastest(b, a.rows), a, b, epilogue, out);
}

/// The fewest rows for which weights of 8 bits are expanded to bf16.
const MIN_EXPANDED: usize = 2 * SIDE;

/// Whether this processor multiplies bf16 faster than `f32`, with AMX or AVX-512 BF16. If so,
/// [`Precision::Medium`] makes a model faster.
pub fn multiplies_bf16() -> bool {
    TileUnit::multiplies_bf16()
}

/// How a product is computed.
#[derive(Clone, Copy)]
enum Method<'a> {
    Floats,
    /// With weights of 8 bits, in integers.
    Integers(Integers, Quants<'a>),
    /// In tiles of bf16.
    Tiles(TileUnit, Right<'a>),
}

impl<'a> Method<'a> {
    /// The fastest one on this processor for `rows` rows.
    fn fastest(b: &'a PackedMatrix, rows: usize) -> Self {
        if let Some((unit, tiles)) = b.panels.tiles() {
            return Self::Tiles(unit, Right::Tiles(tiles));
        }
        let Some(quants) = b.panels.quants() else { return Self::Floats };
        let products = match b.precision {
            Precision::Medium => Products::OneByOne,
            // More than 16 bits are nothing beside the 8 bits of the weights.
            Precision::High | Precision::Highest => Products::TwoByTwo,
        };
        // To expand them for a few rows would take longer than the product.
        match TileUnit::available().filter(|_| rows >= MIN_EXPANDED) {
            Some(unit) => Self::Tiles(unit, Right::Quants(quants, products)),
            None => Integers::available().map_or(Self::Floats, |integers| Self::Integers(integers, quants)),
        }
    }

    /// The height and the number of panels of what is computed in one go.
    fn granularity(self) -> (usize, usize) {
        match self {
            Self::Floats | Self::Integers(..) => (MR, 1),
            Self::Tiles(..) => (SIDE, SIDE / NR),
        }
    }

    /// The fewest rows for which a thread gets rows of its own, and reads all panels.
    fn min_rows(self) -> usize {
        match self {
            Self::Floats | Self::Integers(..) => 2 * MR,
            Self::Tiles(..) => SIDE,
        }
    }
}

/// The same by `method`.
fn matmul_by(method: Method<'_>, a: MatrixRef<'_>, b: &PackedMatrix, epilogue: Epilogue<'_>, out: &mut [f32]) {
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    if matches!(method, Method::Floats)
        && let Some(parts) = strassen::Parts::of(m, b, threads)
    {
        parts.multiply(a, b, epilogue, out);
        return;
    }
    let panels = n.div_ceil(NR);
    let (height, width) = method.granularity();
    if m >= method.min_rows() * threads || threads == 1 {
        // Equal blocks of whole tiles; their number is a multiple of the threads. Each block packs its own rows and
        // reads all panels.
        let block_rows = match method {
            Method::Integers(..) => integer::MC,
            Method::Tiles(..) => tiles::MC,
            Method::Floats => block::MC,
        };
        let block = equal_blocks(m, threads, block_rows, height);
        out.par_chunks_mut(block * n).enumerate().for_each(|(i, out)| {
            let a = a.slice_rows(i * block..(i * block + block).min(m));
            multiply_block(method, a, b, 0..panels, epilogue, out, n);
        });
    } else {
        // Few rows (the text tower has six): the panels are distributed over the threads, and the results are joined
        // side by side.
        let share = panels.div_ceil(threads * 2).next_multiple_of(width);
        let parts: Vec<(usize, usize, Vec<f32>)> = (0..panels.div_ceil(share))
            .into_par_iter()
            .map(|i| {
                let range = i * share..((i + 1) * share).min(panels);
                let width = (range.end * NR).min(n) - range.start * NR;
                let first = range.start * NR;
                let mut out = vec![0.0; m * width];
                multiply_block(method, a, b, range, epilogue, &mut out, width);
                (first, width, out)
            })
            .collect();
        for (first, width, part) in parts {
            for (row, part) in out.chunks_exact_mut(n).zip(part.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(part);
            }
        }
    }
}

/// `out = activation(a · b[panels] + bias)` on this thread.
fn multiply_block(
    method: Method<'_>,
    a: MatrixRef<'_>,
    b: &PackedMatrix,
    panels: Range<usize>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let columns = b.columns;
    match method {
        Method::Floats => {
            SCRATCH.with_borrow_mut(|scratch| {
                arch().dispatch(Block { a, b, panels, epilogue, out, out_stride, scratch });
            });
        }
        Method::Integers(integers, b) => {
            integers.run(IntegerBlock { a, b, columns, panels, epilogue, out, out_stride });
        }
        Method::Tiles(unit, b) => {
            arch().dispatch(TileBlock { unit, a, b, columns, panels, epilogue, out, out_stride });
        }
    }
}
