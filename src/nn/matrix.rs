//! Matrix products for `f32` on CPUs, with the right-hand side packed once.
//!
//! A weight is multiplied thousands of times and changes never, so it is laid out once in the order in which the
//! innermost loop reads it. The loop keeps a tile of the result in registers, 6 × 16 with AVX2 and 6 × 32 with AVX-512
//! (twelve vectors: enough to hide the latency of their additions), the left-hand side is packed per block of rows and stays in the second-level cache, and bias and
//! activation are applied while the tile is still in registers. The scheme is Goto and van de Geijn's ("Anatomy of
//! High-Performance Matrix Multiplication", 2008).

use std::ops::Range;

use candle_core::Tensor;
use pulp::{Arch, Scalar, Simd, WithSimd};
use rayon::prelude::*;

use super::activation::Activation;
use super::panels::Panels;

/// Rows of a tile.
const MR: usize = 6;
/// The width of a packed panel.
pub(crate) const NR: usize = 16;
/// Depth of a block: a panel of it (24 KiB) fits the first-level cache; measured against 256 and 768.
const KC: usize = 384;
/// The most rows of a block: few, so that their part of a wide result stays in the second-level cache from one depth to
/// the next, beside the packed rows (72 KiB).
const MC: usize = 48;
/// The same where the right-hand side is compressed: its panels are expanded for every block of rows, and twice as many
/// rows halve the cost of that.
const MC_COMPRESSED: usize = 96;

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
    panels: Panels,
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
        let mut data = match std::mem::take(&mut self.panels) {
            Panels::F32(data) => data,
            _ => Vec::new(),
        };
        data.clear();
        data.resize(panels * b.rows * NR, 0.0);
        for (p, panel) in data.chunks_exact_mut((b.rows * NR).max(1)).enumerate() {
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
        self.panels = Panels::F32(data);
    }

    /// Packs the transpose of a compressed matrix: `n` rows of `k` numbers, of type F16 or BF16, or in `Q8_0` blocks of type
    /// U8.
    pub(crate) fn compressed(rows: &Tensor, n: usize, k: usize) -> candle_core::Result<Self> {
        Ok(Self { rows: k, columns: n, panels: Panels::compressed(rows, n, k)? })
    }

    /// How many rows of the left-hand side make a block.
    fn block_rows(&self) -> usize {
        if self.panels.is_compressed() { MC_COMPRESSED } else { MC }
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
        let k = self.rows.max(1);
        let mut out = vec![0.0; self.rows * self.columns];
        let mut scratch = vec![0.0; if self.panels.is_compressed() { k.next_multiple_of(2) * NR } else { 0 }];
        for (p, rows) in out.chunks_mut(k * NR).enumerate() {
            let panel = self.panels.rows(Scalar::new(), p, self.rows, 0, self.rows, &mut scratch);
            for (j, row) in rows.chunks_exact_mut(k).enumerate() {
                for (x, source) in row.iter_mut().zip(panel.chunks_exact(NR)) {
                    *x = source[j];
                }
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
        let blocks = threads * m.div_ceil(b.block_rows() * threads);
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
    let scratch = Scratch { out, out_stride, packed: scratch };
    // How many vectors make one panel's width is known per instruction set, and must be a constant in the tile.
    match S::F32_LANES {
        4 => block_of::<S, 4, 1>(simd, a, b, panels, epilogue, scratch),
        8 => block_of::<S, 2, 1>(simd, a, b, panels, epilogue, scratch),
        16 => block_of::<S, 1, 2>(simd, a, b, panels, epilogue, scratch),
        _ => block_of::<S, NR, 1>(simd, a, b, panels, epilogue, scratch),
    }
}

/// Where a block's result goes, and the memory for its packed rows.
struct Scratch<'a> {
    out: &'a mut [f32],
    out_stride: usize,
    packed: &'a mut Vec<f32>,
}

/// A block in tiles of `PANELS` panels of `V` vectors each.
#[inline(always)]
fn block_of<S: Simd, const V: usize, const PANELS: usize>(
    simd: S,
    a: MatrixRef<'_>,
    b: &PackedMatrix,
    panels: Range<usize>,
    epilogue: Epilogue<'_>,
    scratch: Scratch<'_>,
) {
    let Scratch { out, out_stride, packed } = scratch;
    let (k, n) = (b.rows, b.columns);
    let block_rows = b.block_rows();
    let mut expanded = vec![0.0; if b.panels.is_compressed() { 2 * KC * NR } else { 0 }];
    let half = expanded.len() / 2;
    for rows in (0..a.rows).step_by(block_rows) {
        let a = a.slice_rows(rows..(rows + block_rows).min(a.rows));
        for depth in (0..k).step_by(KC) {
            let kc = KC.min(k - depth);
            pack_rows(a, depth, kc, packed);
            let (first, last) = (depth == 0, depth + kc == k);
            let activation = epilogue.activation.filter(|_| last);
            for p in panels.clone().step_by(PANELS) {
                let width = (PANELS.min(panels.end - p) * NR).min(n - p * NR);
                let bias = epilogue.bias.map_or(&[][..], |bias| &bias[p * NR..p * NR + width]);
                let two = PANELS == 2 && width > NR;
                let (left, right) = expanded.split_at_mut(half);
                let panel = b.panels.rows(simd, p, k, depth, kc, left);
                let next = if two { b.panels.rows(simd, p + 1, k, depth, kc, right) } else { &[] };
                let origin = rows * out_stride + (p - panels.start) * NR;
                // A function of its own: inlined beside the expansion, its tile would not stay in registers.
                simd.vectorize(Column::<V> {
                    panels: [panel, next],
                    strips: packed.as_chunks::<MR>().0,
                    depth: kc,
                    bias: first.then_some(bias),
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

/// All packed rows times one panel, or two.
struct Column<'a, const V: usize> {
    /// The second one is empty where there is but one.
    panels: [&'a [f32]; 2],
    /// Strips of [`MR`] packed rows, `depth` long each.
    strips: &'a [[f32; MR]],
    depth: usize,
    bias: Option<&'a [f32]>,
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
        let Self { panels, strips, depth, bias, activation, out, out_stride, width, height } = self;
        for (t, strip) in strips.chunks_exact(depth).enumerate() {
            let height = MR.min(height - t * MR);
            let origin = t * MR * out_stride;
            let end = origin + (height - 1) * out_stride + width;
            let out = &mut out[origin..end];
            let tile = Tile { strip, bias, activation, out, out_stride, width, height };
            if panels[1].is_empty() {
                tile.run::<S, V, 1>(simd, [panels[0]]);
            } else {
                tile.run::<S, V, 2>(simd, panels);
            }
        }
    }
}

/// A tile of the result, up to [`MR`] rows high.
struct Tile<'a> {
    /// The packed rows of the left-hand side.
    strip: &'a [[f32; MR]],
    /// What the result starts from, or `None` to go on from what is there; nothing for zeros.
    bias: Option<&'a [f32]>,
    activation: Option<Activation>,
    out: &'a mut [f32],
    out_stride: usize,
    width: usize,
    height: usize,
}

impl Tile<'_> {
    /// The strip times `P` panels.
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S, panels: [&[f32]; P]) {
        let Self { strip, bias, activation, out, out_stride, width, height } = self;
        // Every loop over the tile has a constant number of turns, and none of it is borrowed as a slice: only so is it
        // sure to be unrolled and to stay in registers.
        let mut tile = [[[simd.splat_f32s(0.0); V]; P]; MR];
        match bias {
            Some([]) => {}
            Some(bias) => {
                for j in 0..P {
                    let start = load::<S, V>(simd, columns(bias, j));
                    for row in &mut tile {
                        row[j] = start;
                    }
                }
            }
            None => {
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
        let panels = panels.map(|panel| &S::as_simd_f32s(panel).0.as_chunks::<V>().0[..strip.len()]);
        for (k, a) in strip.iter().enumerate() {
            let mut b = [[simd.splat_f32s(0.0); V]; P];
            for (b, panel) in b.iter_mut().zip(&panels) {
                *b = panel[k];
            }
            for i in 0..MR {
                let a = simd.splat_f32s(a[i]);
                for j in 0..P {
                    for v in 0..V {
                        tile[i][j][v] = simd.mul_add_e_f32s(a, b[j][v], tile[i][j][v]);
                    }
                }
            }
        }
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
                    let end = ((j + 1) * NR).min(width);
                    store::<S, V>(simd, x, &mut out[j * NR..end]);
                }
            }
        }
    }
}

/// Panel `j`'s part of a row.
#[inline(always)]
fn columns(row: &[f32], j: usize) -> &[f32] {
    &row[j * NR..((j + 1) * NR).min(row.len())]
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
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device};
    use half::f16;

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
    fn compressed_products_are_those_of_the_expanded_weights() {
        for (m, k, n) in [(1, 32, 1), (7, 800, 33), (200, 416, 19), (30, 64, 48), (30, 401, 17)] {
            let (a, rows) = (numbers(m * k, 7), numbers(n * k, 8));
            let rows = Tensor::from_vec(rows, (n, k), &Device::Cpu).unwrap();
            let half = |dtype| {
                let half = rows.to_dtype(dtype).unwrap();
                (half.clone(), half.to_dtype(DType::F32).unwrap())
            };
            let mut formats = vec![half(DType::F16), half(DType::BF16)];
            if k.is_multiple_of(32) {
                let blocks = QTensor::quantize(&rows, GgmlDType::Q8_0).unwrap();
                let bytes = blocks.data().unwrap().into_owned();
                let bytes = Tensor::from_vec(bytes, (n, k / 32 * 34), &Device::Cpu).unwrap();
                formats.push((bytes, blocks.dequantize(&Device::Cpu).unwrap()));
            }
            for (compressed, expanded) in formats {
                let packed = PackedMatrix::compressed(&compressed, n, k).unwrap();
                assert!(packed.panels.is_compressed());
                let expanded = expanded.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(packed.unpack_transposed(), expanded);
                let full = PackedMatrix::new(MatrixRef::new(&expanded, n, k).transposed());
                let product = |b: &PackedMatrix| {
                    let mut out = vec![f32::NAN; m * n];
                    matmul(MatrixRef::new(&a, m, k), b, Epilogue::default(), &mut out);
                    out
                };
                assert_eq!(product(&packed), product(&full), "{m} {k} {n} {:?}", compressed.dtype());
            }
        }
    }

    #[test]
    fn infinite_weights_stay_infinite() {
        let half = Tensor::from_vec(vec![f16::INFINITY, f16::NAN, f16::ONE, f16::ZERO], (2, 2), &Device::Cpu).unwrap();
        let packed = PackedMatrix::compressed(&half, 2, 2).unwrap();
        let unpacked = packed.unpack_transposed();
        assert!(unpacked[0] == f32::INFINITY && unpacked[1].is_nan() && unpacked[2..] == [1.0, 0.0]);
        let mut block = vec![1u8; 34];
        block[..2].copy_from_slice(&f16::INFINITY.to_le_bytes());
        let block = Tensor::from_vec(block, (1, 34), &Device::Cpu).unwrap();
        let packed = PackedMatrix::compressed(&block, 1, 32).unwrap();
        assert_eq!(packed.unpack_transposed(), [f32::INFINITY; 32]);
        // Not a kind that anything makes.
        let odd = Tensor::zeros((1, 32), DType::U8, &Device::Cpu).unwrap();
        assert!(PackedMatrix::compressed(&odd, 1, 31).is_err());
        assert!(PackedMatrix::compressed(&odd, 1, 32).is_err());
    }

    #[test]
    fn unpacking_returns_what_was_packed() {
        let b = numbers(37 * 21, 6);
        let packed = PackedMatrix::new(MatrixRef::new(&b, 37, 21).transposed());
        assert_eq!((packed.rows(), packed.columns()), (21, 37));
        assert_eq!(packed.unpack_transposed(), b);
    }
}
