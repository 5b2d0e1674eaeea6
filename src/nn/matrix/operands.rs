//! The operands of a product: a packed matrix on the right, and the epilogue applied to the result.

use pulp::Scalar;
use rayon::prelude::*;

use super::super::activation::Activation;
use super::super::compressed::CompressedMatrix;
use super::super::format::Precision;
use super::layout::{MatrixRef, NR};
use super::panels::Panels;
use super::parts::{Products, TilePanels};
use super::units::TileUnit;

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
        let products = match precision {
            Precision::Highest => Products::ThreeByThree,
            Precision::High => Products::TwoByTwo,
            Precision::Medium => Products::OneByOne,
        };
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

    /// Packs the transpose of a compressed matrix `[N, K]`.
    pub(crate) fn compressed(matrix: &CompressedMatrix, precision: Precision) -> candle_core::Result<Self> {
        let (columns, rows) = matrix.dims();
        Ok(Self { rows, columns, panels: Panels::compressed(matrix, precision)?, precision })
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
    } else if b.row_stride == 1 && width == NR {
        let columns: [&[f32]; NR] = std::array::from_fn(|j| &b.data[(first + j) * b.column_stride..][..b.rows]);
        for (k, row) in rows.iter_mut().enumerate() {
            for (x, column) in row.iter_mut().zip(columns) {
                *x = column[k];
            }
        }
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
