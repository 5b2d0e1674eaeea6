//! The loops of a product on one thread: over blocks of depth and rows, panels, and tiles.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::activation::Activation;
use super::layout::{MatrixRef, NR};
use super::operands::{Epilogue, PackedMatrix, Start};
use super::prefetch::Ahead;
use super::scratch::room;

/// Rows of a tile.
pub(super) const MR: usize = 6;
/// Depth of a block. Strips and panels of this depth stream from the second-level cache as fast as they are needed, and the
/// result is read and written less often than with smaller ones.
const KC: usize = 768;
/// The maximum number of rows of a block. Packed (288 KiB), they fit in the second-level cache; every block of rows reads all
/// panels.
pub(super) const MC: usize = 96;

/// Depths in a step of the innermost loop. Where two threads share a core, as virtual machines often do, it is limited by the
/// number of instructions, of which one in eight would count and jump without steps.
const STEP: usize = 4;

/// Work in tiles of `P` panels, each `V` vectors wide. Both depend on the instruction set and are constants in the
/// tile.
pub(super) trait InTiles: Sized {
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S);

    /// Calls [`InTiles::run`] with the constants for `S`.
    #[inline(always)]
    fn run_with<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            4 => self.run::<S, 4, 1>(simd),
            8 => self.run::<S, 2, 1>(simd),
            16 => self.run::<S, 1, 2>(simd),
            _ => self.run::<S, NR, 1>(simd),
        }
    }
}

/// `out = activation(a · b[panels] + bias)` for some rows and some panels, on the calling thread.
pub(crate) struct Block<'a> {
    pub(crate) a: MatrixRef<'a>,
    pub(crate) b: &'a PackedMatrix,
    pub(crate) panels: Range<usize>,
    pub(crate) epilogue: Epilogue<'a>,
    pub(crate) out: &'a mut [f32],
    pub(crate) out_stride: usize,
    /// Reusable memory for packed rows.
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl WithSimd for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run_with(simd);
    }
}

impl InTiles for Block<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S) {
        let Self { a, b, panels, epilogue, out, out_stride, scratch: packed } = self;
        let (k, n) = (b.rows, b.columns);
        let mut expanded = vec![0.0; if b.panels.is_compressed() { 2 * KC.min(k.next_multiple_of(2)) * NR } else { 0 }];
        let half = expanded.len() / 2;
        for rows in (0..a.rows).step_by(MC) {
            let a = a.slice_rows(rows..(rows + MC).min(a.rows));
            for depth in (0..k).step_by(KC) {
                let kc = KC.min(k - depth);
                let packed = room(packed, a.rows.div_ceil(MR) * kc * MR);
                pack_rows(a, depth, kc, packed);
                let strips = packed.as_chunks::<MR>().0;
                let (first, last) = (depth == 0, depth + kc == k);
                let activation = epilogue.activation.filter(|_| last);
                for p in panels.clone().step_by(P) {
                    let width = (P.min(panels.end - p) * NR).min(n - p * NR);
                    let start = epilogue.start(first, p * NR..p * NR + width);
                    let two = P == 2 && width > NR;
                    let (left, right) = expanded.split_at_mut(half);
                    let panel = b.panels.rows(simd, p, k, depth, kc, left);
                    let next = if two { b.panels.rows(simd, p + 1, k, depth, kc, right) } else { &[] };
                    let mut ahead = Ahead::new(kc, a.rows.div_ceil(MR));
                    for (next, rows) in (p + P..panels.end).zip(&mut ahead.panels[..P]) {
                        *rows = b.panels.uncompressed_rows(next, k, depth, kc);
                    }
                    let origin = rows * out_stride + (p - panels.start) * NR;
                    // A separate function: inlined next to the expansion, its tile would not stay in registers.
                    simd.vectorize(Column::<V> {
                        panels: [panel, next],
                        ahead,
                        strips,
                        depth: kc,
                        start,
                        activation,
                        out: &mut out[origin..],
                        out_stride,
                        width,
                        height: a.rows,
                    });
                }
            }
        }
    }
}

/// The product of all packed rows with one or two panels.
struct Column<'a, const V: usize> {
    /// The second panel is empty if there is only one.
    panels: [&'a [f32]; 2],
    ahead: Ahead<'a>,
    /// Strips of [`MR`] packed rows, each `depth` long.
    strips: &'a [[f32; MR]],
    depth: usize,
    start: Start<'a>,
    activation: Option<Activation>,
    out: &'a mut [f32],
    out_stride: usize,
    width: usize,
    height: usize,
}

impl<const V: usize> WithSimd for Column<'_, V> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [first, second] = self.panels;
        if second.is_empty() { self.multiply(simd, [first]) } else { self.multiply(simd, [first, second]) }
    }
}

impl<const V: usize> Column<'_, V> {
    #[inline(always)]
    fn multiply<S: Simd, const P: usize>(mut self, simd: S, panels: [&[f32]; P]) {
        let mut strips = self.strips;
        let mut t = 0;
        if tiles_are_high::<S>() {
            while let Some((pair, rest)) = strips.split_at_checked(2 * self.depth) {
                self.ahead.fetch(t);
                self.ahead.fetch(t + 1);
                let rows = [self.tile(t).start::<S, V, P>(simd), self.tile(t + 1).start::<S, V, P>(simd)];
                let [upper, lower] = multiply_pair(simd, pair.split_at(self.depth), panels, rows);
                self.tile(t).finish(simd, upper);
                self.tile(t + 1).finish(simd, lower);
                (strips, t) = (rest, t + 2);
            }
        }
        for (i, strip) in strips.chunks_exact(self.depth).enumerate() {
            self.ahead.fetch(t + i);
            let rows = self.tile(t + i).start::<S, V, P>(simd);
            let rows = multiply(simd, strip, panels, rows);
            self.tile(t + i).finish(simd, rows);
        }
    }

    /// The tile of strip `t`.
    #[inline(always)]
    fn tile(&mut self, t: usize) -> Tile<'_> {
        let Self { start, activation, out_stride, width, .. } = *self;
        let height = MR.min(self.height - t * MR);
        let origin = t * MR * out_stride;
        let end = origin + (height - 1) * out_stride + width;
        Tile { start, activation, out: &mut self.out[origin..end], out_stride, width, height }
    }
}

/// Whether two strips form one tile: 12 × 32 with AVX-512, whose 32 registers hold it. Each load of the right-hand side then
/// serves twice as many multiplications.
#[inline(always)]
pub(super) const fn tiles_are_high<S: Simd>() -> bool {
    S::F32_LANES == 16
}

/// A tile of the result, up to [`MR`] rows high.
pub(super) struct Tile<'a> {
    pub(super) start: Start<'a>,
    pub(super) activation: Option<Activation>,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

impl Tile<'_> {
    /// The values before the product is added.
    #[inline(always)]
    pub(super) fn start<S: Simd, const V: usize, const P: usize>(&self, simd: S) -> TileRows<S, V, P> {
        let Self { start, ref out, out_stride, width, height, .. } = *self;
        let mut tile = [[[simd.splat_f32s(0.0); V]; P]; MR];
        match start {
            Start::Zeros => {}
            Start::Bias(bias) => {
                for j in 0..P {
                    let start = load::<S, V>(simd, columns(bias, j));
                    for row in &mut tile {
                        row[j] = start;
                    }
                }
            }
            Start::Result => {
                for (i, row) in tile.iter_mut().enumerate() {
                    if i < height {
                        let out = &out[i * out_stride..i * out_stride + width];
                        for (j, x) in row.iter_mut().enumerate() {
                            *x = load::<S, V>(simd, columns(out, j));
                        }
                    }
                }
            }
        }
        tile
    }

    /// Applies the activation and stores the values.
    #[inline(always)]
    pub(super) fn finish<S: Simd, const V: usize, const P: usize>(self, simd: S, mut tile: TileRows<S, V, P>) {
        let Self { activation, out, out_stride, width, height, .. } = self;
        if let Some(activation) = activation {
            for row in &mut tile {
                for panel in row {
                    for x in panel {
                        *x = activation.apply_simd(simd, *x);
                    }
                }
            }
        }
        for (i, row) in tile.iter().enumerate() {
            if i < height {
                let out = &mut out[i * out_stride..i * out_stride + width];
                for (j, x) in row.iter().enumerate() {
                    let first = (j * NR).min(width);
                    let end = ((j + 1) * NR).min(width);
                    store::<S, V>(simd, x, &mut out[first..end]);
                }
            }
        }
    }
}

/// A tile in registers.
pub(super) type TileRows<S, const V: usize, const P: usize> = [[[<S as Simd>::f32s; V]; P]; MR];

/// `strip · panels + tile`.
#[inline(always)]
pub(super) fn multiply<S: Simd, const V: usize, const P: usize>(
    simd: S,
    strip: &[[f32; MR]],
    panels: [&[f32]; P],
    tile: TileRows<S, V, P>,
) -> TileRows<S, V, P> {
    let vectors = |panel| S::as_simd_f32s(panel).0.as_chunks::<V>().0;
    let (left, right) = (vectors(panels[0]), vectors(panels[P - 1]));
    // Separate variables instead of indexed rows, and a loop that cannot panic: only this reliably keeps the tile in
    // registers, regardless of the code before and after. If it fails, `cargo bench` reports half the speed.
    let [mut r0, mut r1, mut r2, mut r3, mut r4, mut r5] = tile;
    let ((steps, rest), (left, last_left), (right, last_right)) =
        (strip.as_chunks::<STEP>(), left.as_chunks::<STEP>(), right.as_chunks::<STEP>());
    for ((a, left), right) in steps.iter().zip(left).zip(right) {
        for i in 0..STEP {
            [r0, r1, r2, r3, r4, r5] = add_products(simd, &a[i], [&left[i], &right[i]], [r0, r1, r2, r3, r4, r5]);
        }
    }
    for ((a, left), right) in rest.iter().zip(last_left).zip(last_right) {
        [r0, r1, r2, r3, r4, r5] = add_products(simd, a, [left, right], [r0, r1, r2, r3, r4, r5]);
    }
    [r0, r1, r2, r3, r4, r5]
}

/// The same for two strips at once, if [`tiles_are_high`].
#[inline(always)]
pub(super) fn multiply_pair<S: Simd, const V: usize, const P: usize>(
    simd: S,
    (upper, lower): (&[[f32; MR]], &[[f32; MR]]),
    panels: [&[f32]; P],
    tiles: [TileRows<S, V, P>; 2],
) -> [TileRows<S, V, P>; 2] {
    let vectors = |panel| S::as_simd_f32s(panel).0.as_chunks::<V>().0;
    let (left, right) = (vectors(panels[0]), vectors(panels[P - 1]));
    // As above.
    let [[mut r0, mut r1, mut r2, mut r3, mut r4, mut r5], [mut r6, mut r7, mut r8, mut r9, mut r10, mut r11]] = tiles;
    for (((a, next), left), right) in upper.iter().zip(lower).zip(left).zip(right) {
        [r0, r1, r2, r3, r4, r5] = add_products(simd, a, [left, right], [r0, r1, r2, r3, r4, r5]);
        [r6, r7, r8, r9, r10, r11] = add_products(simd, next, [left, right], [r6, r7, r8, r9, r10, r11]);
    }
    [[r0, r1, r2, r3, r4, r5], [r6, r7, r8, r9, r10, r11]]
}

/// `a · b + tile`, for one column of the left-hand side and one row of the right.
#[inline(always)]
pub(super) fn add_products<S: Simd, const V: usize, const P: usize>(
    simd: S,
    &[a0, a1, a2, a3, a4, a5]: &[f32; MR],
    b: [&[S::f32s; V]; 2],
    [r0, r1, r2, r3, r4, r5]: TileRows<S, V, P>,
) -> TileRows<S, V, P> {
    [
        multiply_add(simd, a0, b, r0),
        multiply_add(simd, a1, b, r1),
        multiply_add(simd, a2, b, r2),
        multiply_add(simd, a3, b, r3),
        multiply_add(simd, a4, b, r4),
        multiply_add(simd, a5, b, r5),
    ]
}

/// `a · b + row`, panel by panel.
#[inline(always)]
fn multiply_add<S: Simd, const V: usize, const P: usize>(
    simd: S,
    a: f32,
    b: [&[S::f32s; V]; 2],
    mut row: [[S::f32s; V]; P],
) -> [[S::f32s; V]; P] {
    let a = simd.splat_f32s(a);
    for j in 0..P {
        for v in 0..V {
            row[j][v] = simd.mul_add_e_f32s(a, b[j][v], row[j][v]);
        }
    }
    row
}

/// Panel `j`'s part of a row.
#[inline(always)]
fn columns(row: &[f32], j: usize) -> &[f32] {
    &row[(j * NR).min(row.len())..((j + 1) * NR).min(row.len())]
}

/// Loads up to [`NR`] floats as vectors, padded with zeros.
#[inline(always)]
pub(super) fn load<S: Simd, const V: usize>(simd: S, x: &[f32]) -> [S::f32s; V] {
    let mut out = [simd.splat_f32s(0.0); V];
    if x.len() == NR {
        for (out, x) in out.iter_mut().zip(S::as_simd_f32s(x).0) {
            *out = *x;
        }
    } else {
        for (out, x) in out.iter_mut().zip(x.chunks(S::F32_LANES)) {
            *out = simd.partial_load_f32s(x);
        }
    }
    out
}

/// Stores the first `out.len()` floats of a row of a tile.
#[inline(always)]
pub(super) fn store<S: Simd, const V: usize>(simd: S, x: &[S::f32s; V], out: &mut [f32]) {
    if out.len() == NR {
        for (out, x) in S::as_mut_simd_f32s(out).0.iter_mut().zip(x) {
            *out = *x;
        }
    } else {
        for (out, x) in out.chunks_mut(S::F32_LANES).zip(x) {
            simd.partial_store_f32s(out, *x);
        }
    }
}

/// Packs the columns `depth..depth + kc` of `a` in strips of [`MR`] rows: `strip[t][k][i] = A[t·MR + i, depth + k]`,
/// padded with rows of zeros.
#[inline(always)]
pub(super) fn pack_rows(a: MatrixRef<'_>, depth: usize, kc: usize, packed: &mut [f32]) {
    for (t, strip) in packed.chunks_exact_mut(kc * MR).enumerate() {
        let height = MR.min(a.rows.saturating_sub(t * MR));
        if height < MR {
            strip.fill(0.0);
        }
        let first = t * MR * a.row_stride + depth * a.column_stride;
        if a.column_stride == 1 && height == MR {
            let row = |i: usize| &a.data[first + i * a.row_stride..][..kc];
            let rows: [&[f32]; MR] = std::array::from_fn(row);
            let (columns, _) = strip.as_chunks_mut::<MR>();
            for (k, column) in columns.iter_mut().enumerate() {
                for (x, row) in column.iter_mut().zip(rows) {
                    *x = row[k];
                }
            }
        } else if a.row_stride == 1 && height == MR {
            let (columns, _) = strip.as_chunks_mut::<MR>();
            for (k, column) in columns.iter_mut().enumerate() {
                column.copy_from_slice(&a.data[first + k * a.column_stride..][..MR]);
            }
        } else {
            for i in 0..height {
                let row = &a.data[first + i * a.row_stride..];
                for (column, x) in strip.chunks_exact_mut(MR).zip(row.iter().step_by(a.column_stride)) {
                    column[i] = *x;
                }
            }
        }
    }
}
