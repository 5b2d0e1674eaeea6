//! One of the seven products, added to the quarters of the result.

use pulp::{Simd, WithSimd};

use super::super::block::{MR, TileRows, add_products, load, multiply, multiply_pair, store, tiles_are_high};
use super::super::layout::NR;
use super::super::prefetch::Ahead;
use super::algorithm::Sign;

/// A tile of the result in memory.
pub(super) type StoredTile<const P: usize> = [[[f32; NR]; P]; MR];

/// The product of all packed rows with one quarter of the right-hand side or the sum of two.
pub(super) struct Update<'a, const V: usize, const P: usize> {
    pub(super) right: Right<'a, P>,
    /// Strips of [`MR`] packed rows, each `depth` long.
    pub(super) strips: &'a [[f32; MR]],
    pub(super) depth: usize,
    pub(super) targets: [Option<Target>; 2],
    /// The four quarters of a part of the result, `2·P` panels wide: the tiles of each from top to bottom. Here they stay in
    /// the cache, while the rows of the result may be whole pages apart, and then displace each other.
    pub(super) tiles: &'a mut [StoredTile<P>],
    pub(super) ahead: Ahead<'a>,
}

/// The right-hand side of a product: `P` panels.
pub(super) enum Right<'a, const P: usize> {
    Quarter([&'a [f32]; P]),
    /// `x ± y`.
    Sum {
        sign: Sign,
        x: [&'a [f32]; P],
        y: [&'a [f32]; P],
        /// Memory for the sums of one panel each, as long as a panel.
        memory: [&'a mut [f32]; 2],
    },
}

/// The quarter of the result that a product is added to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) sign: Sign,
    /// The index of its first tile.
    pub(super) first_tile: usize,
}

impl<const V: usize, const P: usize> WithSimd for Update<'_, V, P> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { right, mut strips, depth, targets, tiles, ahead } = self;
        let zeros = [[[simd.splat_f32s(0.0); V]; P]; MR];
        let mut t = 0;
        let panels = match right {
            Right::Quarter(panels) => panels,
            Right::Sum { sign, x, y, memory: [first, second] } => {
                let (strip, rest) = strips.split_at(depth);
                let (first, second) = (&mut first[..depth * NR], &mut second[..depth * NR]);
                let tile = multiply_sum::<S, V, P>(simd, strip, (sign, x, y), [&mut *first, &mut *second], zeros);
                add(simd, &targets, &tile, tiles, t);
                ahead.fetch(t);
                (strips, t) = (rest, 1);
                let mut sums = [&*first; P];
                sums[P - 1] = if P == 1 { first } else { second };
                sums
            }
        };
        if tiles_are_high::<S>() {
            while let Some((pair, rest)) = strips.split_at_checked(2 * depth) {
                ahead.fetch(t);
                ahead.fetch(t + 1);
                let [upper, lower] = multiply_pair(simd, pair.split_at(depth), panels, [zeros, zeros]);
                add(simd, &targets, &upper, tiles, t);
                add(simd, &targets, &lower, tiles, t + 1);
                (strips, t) = (rest, t + 2);
            }
        }
        for strip in strips.chunks_exact(depth) {
            ahead.fetch(t);
            let tile = multiply::<S, V, P>(simd, strip, panels, zeros);
            add(simd, &targets, &tile, tiles, t);
            t += 1;
        }
    }
}

/// Adds tile `t` of a product to its targets.
#[inline(always)]
fn add<S: Simd, const V: usize, const P: usize>(
    simd: S,
    targets: &[Option<Target>; 2],
    tile: &TileRows<S, V, P>,
    tiles: &mut [StoredTile<P>],
    t: usize,
) {
    for target in targets.iter().flatten() {
        let factor = simd.splat_f32s(target.sign.factor());
        for (row, to) in tile.iter().zip(&mut tiles[target.first_tile + t]) {
            for (x, to) in row.iter().zip(to) {
                let mut sum = load::<S, V>(simd, to);
                for v in 0..V {
                    sum[v] = simd.mul_add_e_f32s(factor, x[v], sum[v]);
                }
                store::<S, V>(simd, &sum, to);
            }
        }
    }
}

/// The product of a strip and the sums `x ± y`, which are written to `memory` for the strips that follow. (The units that add
/// and the ports that load have time to spare here, so this costs less than to compute the sums first.)
#[inline(always)]
fn multiply_sum<S: Simd, const V: usize, const P: usize>(
    simd: S,
    strip: &[[f32; MR]],
    (sign, x, y): (Sign, [&[f32]; P], [&[f32]; P]),
    memory: [&mut [f32]; 2],
    tile: TileRows<S, V, P>,
) -> TileRows<S, V, P> {
    let vectors = |panel| S::as_simd_f32s(panel).0.as_chunks::<V>().0.iter();
    let [first, second] = memory.map(|sums| S::as_mut_simd_f32s(sums).0.as_chunks_mut::<V>().0.iter_mut());
    let x = vectors(x[0]).zip(vectors(x[P - 1]));
    let y = vectors(y[0]).zip(vectors(y[P - 1]));
    // Separate variables, as in the other products.
    let [mut r0, mut r1, mut r2, mut r3, mut r4, mut r5] = tile;
    for (((a, x), y), (first, second)) in strip.iter().zip(x).zip(y).zip(first.zip(second)) {
        for v in 0..V {
            first[v] = sign.apply(simd, x.0[v], y.0[v]);
            if P > 1 {
                second[v] = sign.apply(simd, x.1[v], y.1[v]);
            }
        }
        let (first, second) = (*first, *second);
        let sums = [&first, if P > 1 { &second } else { &first }];
        [r0, r1, r2, r3, r4, r5] = add_products(simd, a, sums, [r0, r1, r2, r3, r4, r5]);
    }
    [r0, r1, r2, r3, r4, r5]
}
