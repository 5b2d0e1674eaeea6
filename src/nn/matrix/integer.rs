//! Products with 8-bit weights, computed in integers.
//!
//! The rows of the left-hand side are scaled to 16-bit integers, block of depth by block of depth, and multiplied by
//! the 8-bit weights in pairs: `pmaddwd` multiplies twice as many numbers per instruction as an `f32` multiply-add, and
//! its sums are exact. Every 32 rows of the right-hand side share a scale, so after 32 products the sums are converted
//! to `f32`, scaled and added.
//!
//! With 16 bits, rounding the left-hand side moves a result far less than the 8 bits of the weights do, even in a row
//! with a few massive activations: they cost precision only within their own row and block of depth.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables))] // other processors compute in floats

use std::ops::Range;

use pulp::{Scalar, Simd, WithSimd};

use super::super::format::BLOCK;
use super::super::instructions::arch;
use super::super::simd::ROUND;
use super::block::{KC, MR, Tile, TileRows};
use super::layout::{MatrixRef, NR};
use super::operands::Epilogue;
use super::panels::{BYTES, Lanes, Quants};

/// The maximum number of rows of a block. The weights are widened to 16 bits again for every block.
pub(super) const MC: usize = 192;
/// Rows of the right-hand side that are multiplied together.
const PAIR: usize = 2;
/// Pairs of rows that share a scale.
const BLOCK_PAIRS: usize = BLOCK / PAIR;
/// The largest 16-bit integer; its negative is the smallest that is used.
const LARGEST: f32 = 32_767.0;
/// Rows whose elements are all smaller are zero, for the inverse of their scale could overflow.
const NEGLIGIBLE: f32 = 1e-30;

/// Vectors that multiply pairs of 16-bit integers.
pub(super) trait PairDot: Simd {
    /// For each lane, `a₀·b₀ + a₁·b₁`, where the 16-bit halves of the lanes are signed integers.
    fn pair_dot(self, a: Self::u32s, b: Self::u32s) -> Self::u32s;
    /// The signed integers in the lanes as floats.
    fn float(self, x: Self::u32s) -> Self::f32s;
}

#[cfg(target_arch = "x86_64")]
impl PairDot for pulp::x86::V3 {
    #[inline(always)]
    fn pair_dot(self, a: Self::u32s, b: Self::u32s) -> Self::u32s {
        pulp::cast(self.multiply_wrapping_add_adjacent_i16x16(pulp::cast(a), pulp::cast(b)))
    }

    #[inline(always)]
    fn float(self, x: Self::u32s) -> Self::f32s {
        self.convert_i32x8_to_f32x8(pulp::cast(x))
    }
}

#[cfg(target_arch = "x86_64")]
impl PairDot for pulp::x86::V4 {
    #[inline(always)]
    fn pair_dot(self, a: Self::u32s, b: Self::u32s) -> Self::u32s {
        pulp::cast(self.multiply_wrapping_add_adjacent_i16x32(pulp::cast(a), pulp::cast(b)))
    }

    #[inline(always)]
    fn float(self, x: Self::u32s) -> Self::f32s {
        self.convert_i32x16_to_f32x16(pulp::cast(x))
    }
}

/// The portable form, to which the others are compared in tests.
impl PairDot for Scalar {
    #[inline(always)]
    fn pair_dot(self, a: u32, b: u32) -> u32 {
        let halves = |x: u32| [i32::from(x as u16 as i16), i32::from((x >> 16) as u16 as i16)];
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        (a0 * b0).wrapping_add(a1 * b1).cast_unsigned()
    }

    #[inline(always)]
    fn float(self, x: u32) -> f32 {
        x.cast_signed() as f32
    }
}

/// An instruction set on which integers are faster than floats.
#[derive(Clone, Copy)]
pub(super) enum Integers {
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
}

impl Integers {
    /// The one that the kernels use, if integers are faster than floats on it.
    pub(super) fn available() -> Option<Self> {
        match arch() {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(simd) => Some(Self::Avx2(simd)),
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(simd) => Some(Self::Avx512(simd)),
            _ => None,
        }
    }

    /// Computes a block.
    pub(super) fn run(self, block: IntegerBlock<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, Run::<_, 2, 1>(simd, block)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, Run::<_, 1, 2>(simd, block)),
        }
    }
}

/// `out = activation(a · b[panels] + bias)` for some rows and some panels, on the calling thread.
pub(super) struct IntegerBlock<'a> {
    pub(super) a: MatrixRef<'a>,
    pub(super) b: Quants<'a>,
    /// The number of columns of the right-hand side.
    pub(super) columns: usize,
    pub(super) panels: Range<usize>,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
}

/// A block in tiles of `P` panels, each `V` vectors wide.
struct Run<'a, S, const V: usize, const P: usize>(S, IntegerBlock<'a>);

impl<T: PairDot, const V: usize, const P: usize> WithSimd for Run<'_, T, V, P> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(simd, IntegerBlock { a, b, columns, panels, epilogue, out, out_stride }) = self;
        let k = a.columns;
        let mut strips = Vec::new();
        let mut row_scales = Vec::new();
        let mut pairs = [[[0; NR]; KC / PAIR]; P];
        for rows in (0..a.rows).step_by(MC) {
            let a = a.slice_rows(rows..(rows + MC).min(a.rows));
            for depth in (0..k).step_by(KC) {
                let kc = KC.min(k - depth);
                let num_strips = a.rows.div_ceil(MR);
                strips.resize(num_strips * (kc / PAIR), [0; MR]);
                row_scales.resize(num_strips, [0.0; MR]);
                pack_rows(a, depth, kc, &mut strips, &mut row_scales);
                let (first, last) = (depth == 0, depth + kc == k);
                let activation = epilogue.activation.filter(|_| last);
                for p in panels.clone().step_by(P) {
                    let width = (P.min(panels.end - p) * NR).min(columns - p * NR);
                    let bias = epilogue.bias.map_or(&[][..], |bias| &bias[p * NR..p * NR + width]);
                    let mut scales = [&[][..]; P];
                    for (j, pairs) in pairs.iter_mut().enumerate() {
                        // Where there is no second panel, the first one is multiplied twice, and one result dropped.
                        let (quants, panel_scales) = b.rows((p + j).min(panels.end - 1), k, depth, kc);
                        scales[j] = panel_scales;
                        for (pairs, lanes) in pairs.as_chunks_mut().0.iter_mut().zip(quants) {
                            widen(lanes, pairs);
                        }
                    }
                    let origin = rows * out_stride + (p - panels.start) * NR;
                    for (t, (strip, row_scales)) in strips.chunks_exact(kc / PAIR).zip(&row_scales).enumerate() {
                        let height = MR.min(a.rows - t * MR);
                        let origin = origin + t * MR * out_stride;
                        let end = origin + (height - 1) * out_stride + width;
                        let out = &mut out[origin..end];
                        let tile = Tile { bias: first.then_some(bias), activation, out, out_stride, width, height };
                        let sums = multiply::<T, V, P>(simd, strip, &pairs, scales);
                        let mut rows = tile.start::<T, V, P>(simd);
                        for i in 0..MR {
                            let scale = simd.splat_f32s(row_scales[i]);
                            for j in 0..P {
                                for v in 0..V {
                                    rows[i][j][v] = simd.mul_add_e_f32s(sums[i][j][v], scale, rows[i][j][v]);
                                }
                            }
                        }
                        tile.finish::<T, V, P>(simd, rows);
                    }
                }
            }
        }
    }
}

/// The product of a strip and `P` panels, in units of the scales of the strip's rows.
#[inline(always)]
fn multiply<S: PairDot, const V: usize, const P: usize>(
    simd: S,
    strip: &[[u32; MR]],
    panels: &[[Lanes; KC / PAIR]; P],
    scales: [&[[f32; NR]]; P],
) -> TileRows<S, V, P> {
    let mut sums = [[[simd.splat_f32s(0.0); V]; P]; MR];
    for (block, strip) in strip.as_chunks::<BLOCK_PAIRS>().0.iter().enumerate() {
        let first = block * BLOCK_PAIRS;
        let vectors = |j: usize| S::as_simd_u32s(panels[j][first..first + BLOCK_PAIRS].as_flattened()).0;
        let (left, right) = (vectors(0).as_chunks::<V>().0, vectors(P - 1).as_chunks::<V>().0);
        let zeros = [[simd.splat_u32s(0); V]; P];
        // Separate variables, as in the product of floats.
        let [mut r0, mut r1, mut r2, mut r3, mut r4, mut r5] = [zeros; MR];
        for ((&[a0, a1, a2, a3, a4, a5], left), right) in strip.iter().zip(left).zip(right) {
            let b = [left, right];
            r0 = add_products(simd, a0, b, r0);
            r1 = add_products(simd, a1, b, r1);
            r2 = add_products(simd, a2, b, r2);
            r3 = add_products(simd, a3, b, r3);
            r4 = add_products(simd, a4, b, r4);
            r5 = add_products(simd, a5, b, r5);
        }
        let tile = [r0, r1, r2, r3, r4, r5];
        for j in 0..P {
            let scales = S::as_simd_f32s(&scales[j][block]).0;
            for v in 0..V {
                for i in 0..MR {
                    sums[i][j][v] = simd.mul_add_e_f32s(simd.float(tile[i][j][v]), scales[v], sums[i][j][v]);
                }
            }
        }
    }
    sums
}

/// Adds the products of a pair of numbers with a pair of rows, panel by panel.
#[inline(always)]
fn add_products<S: PairDot, const V: usize, const P: usize>(
    simd: S,
    a: u32,
    b: [&[S::u32s; V]; 2],
    mut row: [[S::u32s; V]; P],
) -> [[S::u32s; V]; P] {
    let a = simd.splat_u32s(a);
    for j in 0..P {
        for v in 0..V {
            row[j][v] = simd.add_u32s(row[j][v], simd.pair_dot(a, b[j][v]));
        }
    }
    row
}

/// Widens four rows of signed bytes, one in each byte of the lanes, to two rows of pairs of 16-bit integers.
#[inline(always)]
fn widen(lanes: &Lanes, pairs: &mut [Lanes; BYTES / PAIR]) {
    let [first, second] = pairs;
    for ((first, second), lanes) in first.iter_mut().zip(second).zip(lanes) {
        let byte = |up: u32| ((lanes << up).cast_signed() >> 24).cast_unsigned();
        *first = byte(24) & 0xffff | byte(16) << 16;
        *second = byte(8) & 0xffff | byte(0) << 16;
    }
}

/// Packs the columns `depth..depth + kc` of `a` in strips of [`MR`] rows, scaled to 16-bit integers, two columns in each
/// lane. `scales` are what the integers have to be multiplied by. Missing rows are zeros.
///
/// Rows that contain NaN or infinity get such a scale, too.
#[inline(always)]
fn pack_rows(a: MatrixRef<'_>, depth: usize, kc: usize, strips: &mut [[u32; MR]], scales: &mut [[f32; MR]]) {
    let mut row = [0.0; KC];
    let mut pairs = [[0; KC / PAIR]; MR];
    for (t, (strip, scales)) in strips.chunks_exact_mut(kc / PAIR).zip(scales).enumerate() {
        for (i, (pairs, scale)) in pairs.iter_mut().zip(scales).enumerate() {
            if t * MR + i >= a.rows {
                (*pairs, *scale) = ([0; KC / PAIR], 0.0);
                continue;
            }
            let from = &a.data[(t * MR + i) * a.row_stride + depth * a.column_stride..];
            if a.column_stride == 1 {
                row[..kc].copy_from_slice(&from[..kc]);
            } else {
                row[..kc].iter_mut().zip(from.iter().step_by(a.column_stride)).for_each(|(to, x)| *to = *x);
            }
            // As integers, magnitudes are in the order of their values, and NaN is the largest.
            let mut largest = 0;
            for x in &row[..kc] {
                largest = largest.max(x.to_bits() & 0x7fff_ffff);
            }
            let largest = f32::from_bits(largest);
            *scale = largest / LARGEST;
            let inverse = if largest < NEGLIGIBLE { 0.0 } else { LARGEST / largest };
            for (pair, x) in pairs.iter_mut().zip(row[..kc].as_chunks::<PAIR>().0) {
                let low = (x[0] * inverse + ROUND).to_bits() & 0xffff;
                *pair = low | (x[1] * inverse + ROUND).to_bits() << 16;
            }
        }
        for (k, column) in strip.iter_mut().enumerate() {
            for (x, pairs) in column.iter_mut().zip(&pairs) {
                *x = pairs[k];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_agrees_with_the_portable_form() {
        let (m, k, n): (usize, usize, usize) = (13, 416, 37);
        let a: Vec<f32> = (0..m * k).map(|i| ((i * 7919) % 1009) as f32 / 504.0 - 1.0).collect();
        let panels = n.div_ceil(NR);
        let quants: Vec<Lanes> = (0..panels * k / BYTES)
            .map(|i| std::array::from_fn(|j| ((i * NR + j) as u32).wrapping_mul(2_654_435_761)))
            .collect();
        let scales: Vec<[f32; NR]> =
            (0..panels * k / BLOCK).map(|i| std::array::from_fn(|j| 0.01 + ((i + j) % 7) as f32 * 1e-3)).collect();
        let product = |run: &dyn Fn(IntegerBlock<'_>)| {
            let mut out = vec![f32::NAN; m * n];
            run(IntegerBlock {
                a: MatrixRef::new(&a, m, k),
                b: Quants::new(&quants, &scales),
                columns: n,
                panels: 0..panels,
                epilogue: Epilogue::default(),
                out: &mut out,
                out_stride: n,
            });
            out
        };
        let portable = product(&|block| Scalar::new().vectorize(Run::<_, NR, 1>(Scalar::new(), block)));
        assert!(portable.iter().all(|x| x.is_finite()));
        #[cfg(target_arch = "x86_64")]
        {
            // They differ by fused multiplication and addition alone.
            let check = |found: Vec<f32>| {
                for (x, y) in found.iter().zip(&portable) {
                    assert!((x - y).abs() <= 1e-5 * (1.0 + y.abs()), "{x}, not {y}");
                }
            };
            if let Some(simd) = pulp::x86::V3::try_new() {
                check(product(&|block| Integers::Avx2(simd).run(block)));
            }
            if let Some(simd) = pulp::x86::V4::try_new() {
                check(product(&|block| Integers::Avx512(simd).run(block)));
            }
        }
    }
}
