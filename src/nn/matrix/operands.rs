//! The operands of a product: a packed matrix on the right, and the epilogue applied to the result.

use std::ops::Range;

use pulp::Scalar;
use rayon::prelude::*;

use super::super::activation::Activation;
use super::super::format::Precision;
use super::super::stored::StoredMatrix;
use super::layout::{MatrixRef, NR, pack_columns};
use super::panels::Panels;
use super::parts::{Products, TilePanels};
use super::units::TileUnit;
use crate::error::Result;

/// From this number of elements on, a matrix is packed by all threads.
const MANY: usize = 1 << 18;

/// The right-hand side `[K, N]` of a product, in panels of [`NR`] columns: `panel[p][k][j] = B[k, p·NR + j]`, the last
/// panel padded with zeros.
#[derive(Clone, Default)]
pub(crate) struct PackedMatrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) panels: Panels,
    pub(super) precision: Precision,
}

impl PackedMatrix {
    /// Packs `b` [K, N].
    pub(crate) fn new(b: MatrixRef<'_>) -> Self {
        let mut packed = Self::default();
        packed.pack(b);
        packed
    }

    /// Packs `b` [K, N] in the form that [`matmul`](super::matmul) multiplies fastest. (What uses the loops of a
    /// [`Block`](super::Block) needs [`PackedMatrix::new`].)
    pub(crate) fn for_matmul(b: MatrixRef<'_>, precision: Precision) -> Self {
        let products = Products::of_floats(precision);
        let panels = match TileUnit::of(products, b.rows, b.columns) {
            Some(unit) => Panels::Tiles(unit, TilePanels::new(b, products)),
            None => return Self { precision, ..Self::new(b) },
        };
        Self { rows: b.rows, columns: b.columns, panels, precision }
    }

    /// Packs `b` [K, N], reusing the memory of `self`.
    pub(crate) fn pack(&mut self, b: MatrixRef<'_>) {
        (self.rows, self.columns) = (b.rows, b.columns);
        let panels = b.columns.div_ceil(NR);
        let mut data = match std::mem::take(&mut self.panels) {
            Panels::F32(data) => data,
            _ => Vec::new(),
        };
        let len = panels * b.rows * NR;
        if data.capacity() < len {
            data = super::super::storage::zeros(len);
        } else {
            data.clear();
            data.resize(len, 0.0);
        }
        let per_panel = (b.rows * NR).max(1);
        if len < MANY {
            data.chunks_exact_mut(per_panel).enumerate().for_each(|(p, panel)| pack_panel(b, p, panel));
        } else {
            data.par_chunks_exact_mut(per_panel).enumerate().for_each(|(p, panel)| pack_panel(b, p, panel));
        }
        self.panels = Panels::F32(data);
    }

    /// Packs the transpose of a stored matrix `[N, K]` in the form that [`matmul`](super::matmul) multiplies fastest.
    ///
    /// # Errors
    /// Those of reading it.
    pub(crate) fn stored(matrix: &StoredMatrix<'_>, precision: Precision) -> Result<Self> {
        let (columns, rows) = matrix.dims();
        Ok(Self { rows, columns, panels: Panels::stored(matrix, precision)?, precision })
    }

    /// K, the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// N, the number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The precision of products.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Unpacks the matrix as row-major `[N, K]`: each column of B is a row.
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

/// Packs the columns of panel `p` of `b` into `panel`, which is filled with zeros.
fn pack_panel(b: MatrixRef<'_>, p: usize, panel: &mut [f32]) {
    let first = p * NR;
    let width = NR.min(b.columns - first);
    let (rows, _) = panel.as_chunks_mut::<NR>();
    if b.column_stride == 1 {
        for (k, row) in rows.iter_mut().enumerate() {
            let start = k * b.row_stride + first;
            row[..width].copy_from_slice(&b.data[start..start + width]);
        }
    } else if b.row_stride == 1 {
        pack_columns(|j| &b.data[(first + j) * b.column_stride..][..b.rows], width, rows, |x| x);
    } else {
        for j in 0..width {
            let column = &b.data[(first + j) * b.column_stride..];
            for (row, x) in rows.iter_mut().zip(column.iter().step_by(b.row_stride)) {
                row[j] = *x;
            }
        }
    }
}

/// The operations applied to each finished element of a product.
#[derive(Clone, Copy, Default)]
pub(crate) struct Epilogue<'a> {
    /// Added to every row; `[N]`.
    pub(crate) bias: Option<&'a [f32]>,
    /// Applied last.
    pub(crate) activation: Option<Activation>,
}

impl<'a> Epilogue<'a> {
    /// What the products of one block of depth are added to, in these columns.
    #[inline(always)]
    pub(super) fn start(self, is_first: bool, columns: Range<usize>) -> Start<'a> {
        match (is_first, self.bias) {
            (true, Some(bias)) => Start::Bias(&bias[columns]),
            (true, None) => Start::Zeros,
            (false, _) => Start::Result,
        }
    }
}

/// What a row of products is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zeros,
    /// As long as the row.
    Bias(&'a [f32]),
    /// The products of smaller depths, which are in the result.
    Result,
}

impl Start<'_> {
    /// The same for the columns from `first` on.
    #[inline(always)]
    pub(super) fn skip(self, first: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[first..]),
            start => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::super::stored::StoredFormat;
    use super::super::tests::numbers;
    use super::*;
    use crate::error::Error;

    /// The rows `[height, k]` in this format, and what they are in `f32`.
    fn rows(height: usize, k: usize, format: StoredFormat, seed: u32) -> (Vec<u8>, Vec<f32>) {
        let numbers = numbers(height * k, seed);
        match format {
            StoredFormat::F32 => (numbers.iter().flat_map(|x| x.to_le_bytes()).collect(), numbers),
            StoredFormat::F16 => {
                let halves: Vec<f16> = numbers.into_iter().map(f16::from_f32).collect();
                (halves.iter().flat_map(|x| x.to_le_bytes()).collect(), halves.iter().map(|x| x.to_f32()).collect())
            }
            StoredFormat::Bf16 => {
                let halves: Vec<bf16> = numbers.into_iter().map(bf16::from_f32).collect();
                (halves.iter().flat_map(|x| x.to_le_bytes()).collect(), halves.iter().map(|x| x.to_f32()).collect())
            }
            StoredFormat::Blocks => {
                let bytes: Vec<u8> = numbers
                    .chunks_exact(32)
                    .enumerate()
                    .flat_map(|(i, block)| {
                        let quants = block.iter().map(|x| (x * 127.0) as i8 as u8);
                        f16::from_f32(i as f32).to_le_bytes().into_iter().chain(quants).collect::<Vec<_>>()
                    })
                    .collect();
                let mut expanded = Vec::new();
                super::super::super::format::append_blocks(&bytes, &mut expanded);
                (bytes, expanded)
            }
        }
    }

    fn in_memory(bytes: Vec<u8>, height: usize, k: usize, format: StoredFormat) -> StoredMatrix<'static> {
        let read = move |first: usize, to: &mut [u8]| {
            to.copy_from_slice(&bytes[first * format.row_bytes(k)..][..to.len()]);
            Ok(())
        };
        StoredMatrix::new(height, k, format, Box::new(read))
    }

    #[test]
    fn stacks_are_packed_from_pieces_as_a_matrix_is_from_memory() {
        let formats = [StoredFormat::F32, StoredFormat::F16, StoredFormat::Bf16, StoredFormat::Blocks];
        // The widest rows are read a panel at a time, and panels have rows of several parts.
        for (k, heights) in
            [(32usize, &[1][..]), (96, &[10, 10, 10]), (33, &[16, 5]), (4096, &[3, 40, 21, 16]), (1, &[7])]
        {
            for format in formats {
                if format == StoredFormat::Blocks && !k.is_multiple_of(32) {
                    continue;
                }
                let (mut parts, mut expected) = (Vec::new(), Vec::new());
                for (i, &height) in heights.iter().enumerate() {
                    let (bytes, numbers) = rows(height, k, format, i as u32);
                    parts.push(in_memory(bytes, height, k, format));
                    expected.extend(numbers);
                }
                let stack = StoredMatrix::stack(parts).unwrap();
                let packed = PackedMatrix::stored(&stack, Precision::Highest).unwrap();
                assert_eq!((packed.rows(), packed.columns()), (k, heights.iter().sum()));
                assert_eq!(packed.unpack_transposed(), expected, "{k} columns of {format:?}");
            }
        }
    }

    #[test]
    fn only_matrices_of_one_width_and_format_are_stacked() {
        let part = |k, format: StoredFormat| in_memory(vec![0; 64 * format.row_bytes(k)], 64, k, format);
        let stack = |second| StoredMatrix::stack(vec![part(32, StoredFormat::F16), second]);
        assert!(stack(part(32, StoredFormat::F16)).is_some());
        assert!(stack(part(64, StoredFormat::F16)).is_none());
        assert!(stack(part(32, StoredFormat::Bf16)).is_none());
        assert!(StoredMatrix::stack(Vec::new()).is_none());
    }

    #[test]
    fn numbers_that_are_not_finite_are_kept() {
        let mut halves = vec![f16::ONE; 20 * 33];
        (halves[40], halves[600]) = (f16::NEG_INFINITY, f16::NAN);
        let bytes = halves.iter().flat_map(|x| x.to_le_bytes()).collect();
        let packed = PackedMatrix::stored(&in_memory(bytes, 20, 33, StoredFormat::F16), Precision::Highest).unwrap();
        let unpacked = packed.unpack_transposed();
        assert_eq!((unpacked[39], unpacked[40]), (1.0, f32::NEG_INFINITY));
        assert!(unpacked[600].is_nan());
    }

    #[test]
    fn an_error_of_one_piece_is_the_error_of_the_matrix() {
        for format in [StoredFormat::F32, StoredFormat::F16, StoredFormat::Bf16, StoredFormat::Blocks] {
            let read = |first: usize, _: &mut [u8]| match first {
                0 => Ok(()),
                _ => Err(Error::argument("rows", "the first ones", first)),
            };
            let matrix = StoredMatrix::new(100, 32_768, format, Box::new(read));
            let error = PackedMatrix::stored(&matrix, Precision::Highest).err().unwrap();
            assert!(matches!(error, Error::Argument { .. }), "{error}");
        }
    }
}
