//! How matrices lie in memory.

use std::ops::Range;

/// The number of columns in a packed panel.
pub(crate) const NR: usize = 16;

/// A read-only view of a slice as a matrix: element (i, j) is `data[i·row_stride + j·column_stride]`.
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
    /// A contiguous row-major matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The rows in `range`.
    pub(super) fn slice_rows(self, range: Range<usize>) -> Self {
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }

    /// The transposed matrix, over the same elements.
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

/// The height of equal blocks of at most `most` rows, rounded up to a multiple of `unit`. Their number is a multiple of `threads`.
pub(crate) fn equal_blocks(rows: usize, threads: usize, most: usize, unit: usize) -> usize {
    let blocks = threads * rows.div_ceil(most * threads);
    rows.div_ceil(blocks.max(1)).next_multiple_of(unit)
}

/// Packs columns side by side into the first `width` columns of a panel, converting each element with `number`.
pub(super) fn pack_columns<'a, T: Copy + 'a, P>(
    column: impl Fn(usize) -> &'a [T],
    width: usize,
    panel: &mut [[P; NR]],
    number: impl Fn(T) -> P,
) {
    if width == NR {
        let columns: [&[T]; NR] = std::array::from_fn(column);
        for (k, row) in panel.iter_mut().enumerate() {
            for (to, column) in row.iter_mut().zip(columns) {
                *to = number(column[k]);
            }
        }
    } else {
        for j in 0..width {
            for (row, x) in panel.iter_mut().zip(column(j)) {
                row[j] = number(*x);
            }
        }
    }
}
