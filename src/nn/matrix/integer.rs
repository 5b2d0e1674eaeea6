//! Products with 8-bit weights, computed in integers.
//!
//! The rows of the left-hand side are scaled to 14-bit integers, block of depth by block of depth, and multiplied by the
//! weights in pairs: `pmaddwd` multiplies twice as many numbers per instruction as an `f32` multiply-add, VNNI's `vpdpwssd`
//! adds them as well, and the sums are exact.
//!
//! Every 32 rows of the right-hand side share a scale. To convert the sums to `f32` after every 32 products would take a
//! fifth of the time, so the weights of four such blocks are brought to a sixteenth of the largest of their scales while they
//! are widened to 16 bits for the multiplication: the sum of 128 products of 14 and 12 bits fits in 32. All this rounding
//! moves a result far less than the 8 bits of the weights do, even in a row with a few massive activations: they cost
//! precision only within their own row and block of depth.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables))] // other processors compute in floats

use std::ops::Range;
use std::sync::OnceLock;

use pulp::{Simd, WithSimd};

use super::super::format::BLOCK;
use super::super::instructions::arch;
#[cfg(target_arch = "x86_64")]
use super::super::instructions::{Limit, limit};
use super::super::simd::ROUND;
use super::block::{MR, Tile, TileRows};
use super::layout::{MatrixRef, NR};
#[cfg(target_arch = "x86_64")]
use super::native::vnni::{Vnni256, Vnni512};
use super::operands::Epilogue;
use super::pair_dot::{PairDot, U32s};
use super::panels::{BYTES, Lanes, Quants};

/// The maximum number of rows of a block. The weights are widened to 16 bits again for every block.
pub(super) const MC: usize = 192;
/// Depth of a block.
const KC: usize = 768;
/// Rows of the right-hand side that are multiplied together.
const PAIR: usize = 2;
/// Pairs of rows whose products are summed in integers.
const SUM: usize = 4 * BLOCK / PAIR;
/// Pairs in a step of the innermost loop.
const STEP: usize = 2;
/// The largest integer of the left-hand side; its negative is the smallest. (PAIR · SUM · 8,191 · 128 · 16 is below 2³¹.)
const LARGEST: f32 = 8_191.0;
/// What a byte of the right-hand side is multiplied by if its scale is the largest.
const STEPS: f32 = 16.0;
/// The same as a factor of [`PairDot::scale`] on a byte in the upper half of 16 bits.
const RATIO: f32 = STEPS * 128.0;
/// Rows whose elements are all smaller are zero, for the inverse of their scale could overflow.
const NEGLIGIBLE: f32 = 1e-30;
/// All bits of an `f32` but its sign.
const NO_SIGN: u32 = 0x7fff_ffff;

/// An instruction set on which integers are faster than floats.
#[derive(Clone, Copy)]
pub(super) enum Integers {
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Vnni256(Vnni256),
    #[cfg(target_arch = "x86_64")]
    Vnni512(Vnni512),
}

impl Integers {
    /// The one that the kernels use, if integers are faster than floats on it. It is determined once, at the first use.
    pub(super) fn available() -> Option<Self> {
        static INTEGERS: OnceLock<Option<Integers>> = OnceLock::new();
        *INTEGERS.get_or_init(|| match arch() {
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V3(simd) => Some(match Vnni256::try_new().filter(|_| limit() != Limit::Avx2) {
                Some(vnni) => Self::Vnni256(vnni),
                None => Self::Avx2(simd),
            }),
            #[cfg(target_arch = "x86_64")]
            pulp::Arch::V4(simd) => Some(Vnni512::try_new().map_or(Self::Avx512(simd), Self::Vnni512)),
            _ => None,
        })
    }

    /// Computes a block.
    pub(super) fn run(self, block: IntegerBlock<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, Run::<_, 2, 1>(simd, block)),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, Run::<_, 1, 2>(simd, block)),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni256(vnni) => vnni.vectorize(Run::<_, 2, 1>(vnni, block)),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni512(vnni) => vnni.vectorize(Run::<_, 1, 2>(vnni, block)),
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
struct Run<'a, T, const V: usize, const P: usize>(T, IntegerBlock<'a>);

/// Panels of one block of depth, widened for the multiplication, and the scales of every [`SUM`] pairs of their rows.
struct Widened<const P: usize> {
    pairs: [[Lanes; KC / PAIR]; P],
    scales: [[[f32; NR]; (KC / PAIR).div_ceil(SUM)]; P],
}

impl<T: PairDot, const V: usize, const P: usize> WithSimd for Run<'_, T, V, P> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self(dot, IntegerBlock { a, b, columns, panels, epilogue, out, out_stride }) = self;
        let simd = dot.simd();
        let k = a.columns;
        let mut strips = Vec::new();
        let mut row_scales = Vec::new();
        let mut widened = Widened { pairs: [[[0; NR]; KC / PAIR]; P], scales: [[[0.0; NR]; _]; P] };
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
                    let start = epilogue.start(first, p * NR..p * NR + width);
                    for j in 0..P {
                        // Where there is no second panel, the first one is multiplied twice, and one result dropped.
                        let (quants, scales) = b.rows((p + j).min(panels.end - 1), k, depth, kc);
                        widen(dot, quants, scales, &mut widened.pairs[j], &mut widened.scales[j]);
                    }
                    let origin = rows * out_stride + (p - panels.start) * NR;
                    for (t, (strip, row_scales)) in strips.chunks_exact(kc / PAIR).zip(&row_scales).enumerate() {
                        let height = MR.min(a.rows - t * MR);
                        let origin = origin + t * MR * out_stride;
                        let end = origin + (height - 1) * out_stride + width;
                        let out = &mut out[origin..end];
                        let tile = Tile { start, activation, out, out_stride, width, height };
                        let sums = multiply::<T, V, P>(dot, strip, &widened);
                        let mut rows = tile.start::<T::Simd, V, P>(simd);
                        for i in 0..MR {
                            let scale = simd.splat_f32s(row_scales[i]);
                            for j in 0..P {
                                for v in 0..V {
                                    rows[i][j][v] = simd.mul_add_e_f32s(sums[i][j][v], scale, rows[i][j][v]);
                                }
                            }
                        }
                        tile.finish::<T::Simd, V, P>(simd, rows);
                    }
                }
            }
        }
    }
}

/// The product of a strip and `P` panels, in units of the scales of the strip's rows.
#[inline(always)]
fn multiply<T: PairDot, const V: usize, const P: usize>(
    dot: T,
    strip: &[[u32; MR]],
    panels: &Widened<P>,
) -> TileRows<T::Simd, V, P> {
    let simd = dot.simd();
    let mut sums = [[[simd.splat_f32s(0.0); V]; P]; MR];
    for (s, strip) in strip.chunks(SUM).enumerate() {
        let vectors = |j: usize| {
            let pairs = &panels.pairs[j][s * SUM..][..strip.len()];
            T::Simd::as_simd_u32s(pairs.as_flattened()).0.as_chunks::<V>().0.as_chunks::<STEP>().0
        };
        let zeros = [[simd.splat_u32s(0); V]; P];
        // Separate variables, as in the product of floats.
        let [mut r0, mut r1, mut r2, mut r3, mut r4, mut r5] = [zeros; MR];
        let steps = strip.as_chunks::<STEP>().0.iter();
        for ((strip, left), right) in steps.zip(vectors(0)).zip(vectors(P - 1)) {
            for (&[a0, a1, a2, a3, a4, a5], b) in strip.iter().zip(left.iter().zip(right)) {
                r0 = add_products(dot, a0, b, r0);
                r1 = add_products(dot, a1, b, r1);
                r2 = add_products(dot, a2, b, r2);
                r3 = add_products(dot, a3, b, r3);
                r4 = add_products(dot, a4, b, r4);
                r5 = add_products(dot, a5, b, r5);
            }
        }
        let tile = [r0, r1, r2, r3, r4, r5];
        for j in 0..P {
            let scales = T::Simd::as_simd_f32s(&panels.scales[j][s]).0;
            for v in 0..V {
                for i in 0..MR {
                    sums[i][j][v] = simd.mul_add_e_f32s(dot.float(tile[i][j][v]), scales[v], sums[i][j][v]);
                }
            }
        }
    }
    sums
}

/// Adds the products of a pair of numbers with a pair of rows, panel by panel.
#[inline(always)]
fn add_products<T: PairDot, const V: usize, const P: usize>(
    dot: T,
    a: u32,
    b: (&[U32s<T>; V], &[U32s<T>; V]),
    mut row: [[U32s<T>; V]; P],
) -> [[U32s<T>; V]; P] {
    let b = [b.0, b.1];
    let a = dot.simd().splat_u32s(a);
    for j in 0..P {
        for v in 0..V {
            row[j][v] = dot.add_products(row[j][v], a, b[j][v]);
        }
    }
    row
}

/// Widens rows of signed bytes, four in each row of `quants`, to pairs of integers of at most 128 [`STEPS`]: of four rows
/// the first and the third, then the other two. `scales` has the scale of every 32 rows; that of every [`SUM`] pairs is written
/// to `sum_scales`.
#[inline(always)]
fn widen<T: PairDot>(
    dot: T,
    quants: &[Lanes],
    scales: &[[f32; NR]],
    pairs: &mut [Lanes],
    sum_scales: &mut [[f32; NR]],
) {
    const BLOCKS: usize = PAIR * SUM / BLOCK;
    let simd = dot.simd();
    let (low, high) = (simd.splat_u32s(0x00ff_00ff), simd.splat_u32s(0xff00_ff00));
    let (byte, no_sign) = (simd.splat_u32s(8), simd.splat_u32s(NO_SIGN));
    let (quants, pairs) = (quants.chunks(BLOCKS * BLOCK / BYTES), pairs.chunks_mut(SUM));
    for ((scales, largest), (quants, pairs)) in scales.chunks(BLOCKS).zip(sum_scales).zip(quants.zip(pairs)) {
        let mut magnitudes = [0; NR];
        for scales in scales {
            // In vectors by hand: compilers may gather the scales of one column instead.
            let most = T::Simd::as_mut_simd_u32s(&mut magnitudes).0;
            for (most, scale) in most.iter_mut().zip(T::Simd::as_simd_f32s(scales).0) {
                *most = simd.max_u32s(simd.and_u32s(simd.transmute_u32s_f32s(*scale), no_sign), *most);
            }
        }
        for (largest, most) in largest.iter_mut().zip(magnitudes) {
            *largest = f32::from_bits(most);
        }
        let mut inverse = [0.0; NR];
        for (inverse, largest) in inverse.iter_mut().zip(largest.iter_mut()) {
            *inverse = if *largest > 0.0 { RATIO / *largest } else { 0.0 };
            *largest /= STEPS;
        }
        let blocks = quants.as_chunks::<{ BLOCK / BYTES }>().0.iter().zip(pairs.as_chunks_mut::<{ BLOCK / PAIR }>().0);
        for (scales, (quants, pairs)) in scales.iter().zip(blocks) {
            let mut ratios = [0; NR];
            for ((ratio, scale), inverse) in ratios.iter_mut().zip(scales).zip(&inverse) {
                let bits = (scale * inverse + ROUND).to_bits() & 0xffff;
                *ratio = bits | bits << 16;
            }
            let ratios = T::Simd::as_simd_u32s(&ratios).0;
            for ([first, second], quants) in pairs.as_chunks_mut::<{ BYTES / PAIR }>().0.iter_mut().zip(quants) {
                let (first, second) = (T::Simd::as_mut_simd_u32s(first).0, T::Simd::as_mut_simd_u32s(second).0);
                let quants = T::Simd::as_simd_u32s(quants).0;
                for (((first, second), quants), ratio) in first.iter_mut().zip(second).zip(quants).zip(ratios) {
                    // The bytes in the upper halves of 16 bits.
                    let even = simd.wrapping_dyn_shl_u32s(simd.and_u32s(*quants, low), byte);
                    *first = dot.scale(even, *ratio);
                    *second = dot.scale(simd.and_u32s(*quants, high), *ratio);
                }
            }
        }
    }
}

/// The bits of |x|. As integers, magnitudes are in the order of their values, and NaN is the largest.
#[inline(always)]
fn magnitude(x: f32) -> u32 {
    x.to_bits() & NO_SIGN
}

/// Packs the columns `depth..depth + kc` of `a` in strips of [`MR`] rows, scaled to integers of at most [`LARGEST`], two columns
/// in each lane, in the order of [`widen`]. `scales` are what the integers have to be multiplied by. Missing rows are zeros.
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
            let mut largest = 0;
            for x in &row[..kc] {
                largest = magnitude(*x).max(largest);
            }
            let largest = f32::from_bits(largest);
            *scale = largest / LARGEST;
            let inverse = if largest < NEGLIGIBLE { 0.0 } else { LARGEST / largest };
            let quads = row[..kc].as_chunks::<BYTES>().0.iter();
            for (pairs, x) in pairs.as_chunks_mut::<{ BYTES / PAIR }>().0.iter_mut().zip(quads) {
                let bits = x.map(|x| (x * inverse + ROUND).to_bits());
                *pairs = [bits[0] & 0xffff | bits[2] << 16, bits[1] & 0xffff | bits[3] << 16];
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
    use pulp::Scalar;

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
            if let Some(vnni) = Vnni256::try_new() {
                check(product(&|block| Integers::Vnni256(vnni).run(block)));
            }
            if let Some(vnni) = Vnni512::try_new() {
                check(product(&|block| Integers::Vnni512(vnni).run(block)));
            }
        }
    }
}
