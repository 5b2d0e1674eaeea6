//! Matrix products for `f32` on CPUs, with the right-hand side packed once.
//!
//! A weight is multiplied thousands of times and changes never, so it is laid out once in the order in which the
//! innermost loop reads it. The loop keeps a 6 × 16 tile of the result in registers (12 of AVX2's 16), the left-hand
//! side is packed per block of rows and stays in the second-level cache, and bias and activation are applied while the
//! tile is still in registers. The scheme is Goto and van de Geijn's ("Anatomy of High-Performance Matrix
//! Multiplication", 2008).

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::activation::Activation;

/// Rows of a tile.
const MR: usize = 6;
/// Columns of a tile, and the width of a packed panel.
pub(crate) const NR: usize = 16;
/// Depth of a block: a panel of it (16 KiB) fits the first-level cache beside a tile's rows.
const KC: usize = 256;
/// The most rows of a block: with `KC` columns (96 KiB) it fits the second-level cache.
const MC: usize = 96;

/// A read-only matrix inside a slice: element (i, j) is `data[i·row_stride + j·column_stride]`.
///
/// Rows may overlap (a sliding window is a matrix whose row stride is smaller than its width).
#[derive(Clone, Copy)]
pub(crate) struct MatrixRef<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> MatrixRef<'a> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The rows of `range`.
    fn slice_rows(self, range: Range<usize>) -> Self {
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// The same elements with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// The right-hand side `[K, N]` of a product, in panels of [`NR`] columns: `panel[p][k][j] = B[k, p·NR + j]`, the last
/// panel padded with zeros.
#[derive(Clone, Default)]
pub(crate) struct PackedMatrix {
    rows: usize,
    columns: usize,
    data: Vec<f32>,
}

impl PackedMatrix {
    /// Packs `b` [K, N].
    pub(crate) fn new(b: MatrixRef<'_>) -> Self {
        let mut packed = Self::default();
        packed.pack(b);
        packed
    }

    /// Packs `b` [K, N] into the memory of `self`.
    pub(crate) fn pack(&mut self, b: MatrixRef<'_>) {
        (self.rows, self.columns) = (b.rows, b.columns);
        let panels = b.columns.div_ceil(NR);
        self.data.clear();
        self.data.resize(panels * b.rows * NR, 0.0);
        if b.rows == 0 {
            return;
        }
        for (p, panel) in self.data.chunks_exact_mut(b.rows * NR).enumerate() {
            let first = p * NR;
            let width = NR.min(b.columns - first);
            if b.column_stride == 1 {
                for (k, row) in panel.chunks_exact_mut(NR).enumerate() {
                    let start = k * b.row_stride + first;
                    row[..width].copy_from_slice(&b.data[start..start + width]);
                }
            } else {
                for j in 0..width {
                    let column = &b.data[(first + j) * b.column_stride..];
                    for (row, x) in panel.chunks_exact_mut(NR).zip(column.iter().step_by(b.row_stride)) {
                        row[j] = *x;
                    }
                }
            }
        }
    }

    /// K, the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// N, the number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The matrix back as `[N, K]` row-major: each column of B is a row.
    pub(crate) fn unpack_transposed(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        for (n, row) in out.chunks_exact_mut(self.rows.max(1)).enumerate() {
            let panel = &self.data[(n / NR) * self.rows * NR..];
            for (x, source) in row.iter_mut().zip(panel.chunks_exact(NR)) {
                *x = source[n % NR];
            }
        }
        out
    }
}

/// What becomes of a finished element of a product.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// Added to every row; `[N]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Applied last.
    pub(crate) activation: Option<Activation>,
}

/// `out = activation(a · b + bias)` on all threads; `out` is `[M, N]` row-major. The depth K is at least one.
pub(crate) fn matmul(a: MatrixRef<'_>, b: &PackedMatrix, epilogue: Epilogue<'_>, out: &mut [f32]) {
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    if m >= 2 * MR * threads || threads == 1 {
        // Equal blocks of whole tiles, a multiple of the threads: each packs its own rows and reads all panels.
        let blocks = threads * m.div_ceil(MC * threads);
        let block = m.div_ceil(blocks).next_multiple_of(MR);
        out.par_chunks_mut(block * n).enumerate().for_each(|(i, out)| {
            let rows = i * block..(i * block + block).min(m);
            let mut scratch = Vec::new();
            Arch::new().dispatch(Block {
                a: a.slice_rows(rows),
                b,
                panels: 0..n.div_ceil(NR),
                epilogue,
                out,
                out_stride: n,
                scratch: &mut scratch,
            });
        });
    } else {
        // Few rows (the text tower has six): the panels are shared out, and the results are put side by side.
        let panels = n.div_ceil(NR);
        let share = panels.div_ceil(threads * 2).max(1);
        let parts: Vec<(usize, usize, Vec<f32>)> = (0..panels.div_ceil(share))
            .into_par_iter()
            .map(|i| {
                let range = i * share..((i + 1) * share).min(panels);
                let width = (range.end * NR).min(n) - range.start * NR;
                let first = range.start * NR;
                let mut out = vec![0.0; m * width];
                let mut scratch = Vec::new();
                Arch::new().dispatch(Block {
                    a,
                    b,
                    panels: range,
                    epilogue,
                    out: &mut out,
                    out_stride: width,
                    scratch: &mut scratch,
                });
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

/// One thread's share of a product: some rows times some panels.
struct Block<'a> {
    a: MatrixRef<'a>,
    b: &'a PackedMatrix,
    panels: Range<usize>,
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
    out_stride: usize,
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, panels, epilogue, out, out_stride, scratch } = self;
        block(simd, a, b, panels, epilogue, out, out_stride, scratch);
    }
}

/// `out = activation(a · b[panels] + bias)` on the calling thread; `scratch` is reused memory.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // an inner kernel: a struct would only rename the arguments
pub(crate) fn block<S: Simd>(
    simd: S,
    a: MatrixRef<'_>,
    b: &PackedMatrix,
    panels: Range<usize>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut Vec<f32>,
) {
    // How many vectors make one panel's width is known per instruction set, and must be a constant in the tile.
    match S::F32_LANES {
        4 => block_of::<S, 4>(simd, a, b, panels, epilogue, out, out_stride, scratch),
        8 => block_of::<S, 2>(simd, a, b, panels, epilogue, out, out_stride, scratch),
        16 => block_of::<S, 1>(simd, a, b, panels, epilogue, out, out_stride, scratch),
        _ => block_of::<S, NR>(simd, a, b, panels, epilogue, out, out_stride, scratch),
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn block_of<S: Simd, const V: usize>(
    simd: S,
    a: MatrixRef<'_>,
    b: &PackedMatrix,
    panels: Range<usize>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut Vec<f32>,
) {
    let (k, n) = (b.rows, b.columns);
    let first_column = panels.start * NR;
    for rows in (0..a.rows).step_by(MC) {
        let a = a.slice_rows(rows..(rows + MC).min(a.rows));
        for depth in (0..k).step_by(KC) {
            let kc = KC.min(k - depth);
            pack_rows(a, depth, kc, scratch);
            let (first, last) = (depth == 0, depth + kc == k);
            for p in panels.clone() {
                let panel = &b.data[(p * k + depth) * NR..(p * k + depth + kc) * NR];
                let (panel, _) = S::as_simd_f32s(panel).0.as_chunks::<V>();
                let width = NR.min(n - p * NR);
                let bias = epilogue.bias.map(|bias| &bias[p * NR..p * NR + width]);
                for (t, strip) in scratch.chunks_exact(kc * MR).enumerate() {
                    let height = MR.min(a.rows - t * MR);
                    let origin = (rows + t * MR) * out_stride + p * NR - first_column;
                    let mut tile = if first {
                        [load::<S, V>(simd, bias.unwrap_or(&[])); MR]
                    } else {
                        let mut tile = [[simd.splat_f32s(0.0); V]; MR];
                        for (i, row) in tile.iter_mut().enumerate().take(height) {
                            let start = origin + i * out_stride;
                            *row = load::<S, V>(simd, &out[start..start + width]);
                        }
                        tile
                    };
                    let (strip, _) = strip.as_chunks::<MR>();
                    for (a, b) in strip.iter().zip(panel) {
                        for i in 0..MR {
                            let a = simd.splat_f32s(a[i]);
                            for j in 0..V {
                                tile[i][j] = simd.mul_add_e_f32s(a, b[j], tile[i][j]);
                            }
                        }
                    }
                    if let (true, Some(activation)) = (last, epilogue.activation) {
                        for row in &mut tile {
                            for x in row {
                                *x = activation.apply_simd(simd, *x);
                            }
                        }
                    }
                    for (i, row) in tile.iter().enumerate().take(height) {
                        let start = origin + i * out_stride;
                        store::<S, V>(simd, row, &mut out[start..start + width]);
                    }
                }
            }
        }
    }
}

/// Up to [`NR`] floats as vectors, zeros behind them.
#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, x: &[f32]) -> [S::f32s; V] {
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

/// The first `out.len()` floats of a row of a tile.
#[inline(always)]
fn store<S: Simd, const V: usize>(simd: S, x: &[S::f32s; V], out: &mut [f32]) {
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

/// Columns `depth..depth + kc` of `a` in strips of [`MR`] rows: `strip[t][k][i] = A[t·MR + i, depth + k]`, zeros below.
#[inline(always)]
fn pack_rows(a: MatrixRef<'_>, depth: usize, kc: usize, scratch: &mut Vec<f32>) {
    let strips = a.rows.div_ceil(MR);
    // Every element of a whole strip is written below; only the padding of the last one must be cleared.
    scratch.resize(strips * kc * MR, 0.0);
    for (t, strip) in scratch.chunks_exact_mut(kc * MR).enumerate() {
        let height = MR.min(a.rows - t * MR);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Small numbers without a pattern, the same in every run.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn check(a: MatrixRef<'_>, b: MatrixRef<'_>, bias: Option<&[f32]>) {
        let mut out = vec![f32::NAN; a.rows * b.columns];
        matmul(a, &PackedMatrix::new(b), Epilogue { bias, activation: None }, &mut out);
        for i in 0..a.rows {
            for j in 0..b.columns {
                let mut expected = bias.map_or(0.0, |b| b[j] as f64);
                for k in 0..a.columns {
                    expected += a.data[i * a.row_stride + k * a.column_stride] as f64
                        * b.data[k * b.row_stride + j * b.column_stride] as f64;
                }
                let found = out[i * b.columns + j] as f64;
                assert!((found - expected).abs() < 1e-4, "({i}, {j}): {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn products_of_every_remainder_agree_with_the_definition() {
        for (m, k, n) in [(1, 1, 1), (6, 16, 16), (7, 300, 33), (13, 2, 5), (97, 257, 1), (3, 5, 48), (200, 19, 17)] {
            let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let (left, right) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
            check(left, right, None);
            check(left, right, Some(&bias));
            check(MatrixRef::new(&a, k, m).transposed(), MatrixRef::new(&b, n, k).transposed(), Some(&bias));
        }
    }

    #[test]
    fn overlapping_rows_are_a_sliding_window() {
        let (a, b) = (numbers(40 + 12, 4), numbers(12 * 5, 5));
        let window = MatrixRef { data: &a, rows: 21, columns: 12, row_stride: 2, column_stride: 1 };
        check(window, MatrixRef::new(&b, 12, 5), None);
    }

    #[test]
    fn unpacking_returns_what_was_packed() {
        let b = numbers(37 * 21, 6);
        let packed = PackedMatrix::new(MatrixRef::new(&b, 37, 21).transposed());
        assert_eq!((packed.rows(), packed.columns()), (21, 37));
        assert_eq!(packed.unpack_transposed(), b);
    }
}
