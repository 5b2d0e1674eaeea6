//! A large product, divided into one or a few parts per thread.

use rayon::prelude::*;

use super::super::super::instructions::arch;
use super::super::block::MR;
use super::super::layout::{MatrixRef, NR, equal_blocks};
use super::super::operands::{Epilogue, PackedMatrix};
use super::super::scratch::SCRATCH;
use super::block::{MC, StrassenBlock, pays};

/// The fewest columns of a part that has not all of them. Every part packs its rows, which would take too long with fewer.
const MIN_COLUMNS: usize = 384;

/// The size of the parts.
pub(in super::super) struct Parts {
    rows: usize,
    columns: usize,
}

impl Parts {
    /// Parts of a product of `rows` rows for which the algorithm pays off, a multiple of `threads`, if there are any. Parts of
    /// whole rows are best. If they were too few rows, the columns are divided, too.
    pub(in super::super) fn of(rows: usize, b: &PackedMatrix, threads: usize) -> Option<Self> {
        let divisions = (1..=threads).filter(|across| threads.is_multiple_of(*across));
        divisions.take_while(|across| *across == 1 || b.columns >= across * MIN_COLUMNS).find_map(|across| {
            let threads = threads / across;
            pays(rows.div_ceil(threads), b).then(|| Self {
                rows: equal_blocks(rows, threads, MC, MR),
                columns: b.columns.div_ceil(across).next_multiple_of(4 * NR),
            })
        })
    }

    /// `out = activation(a · b + bias)`, where `out` is contiguous.
    pub(in super::super) fn multiply(
        self,
        a: MatrixRef<'_>,
        b: &PackedMatrix,
        epilogue: Epilogue<'_>,
        out: &mut [f32],
    ) {
        let n = b.columns;
        let mut parts = Vec::new();
        for (i, rows) in out.chunks_mut(self.rows * n).enumerate() {
            let mut across: Vec<Vec<&mut [f32]>> = Vec::new();
            across.resize_with(n.div_ceil(self.columns), || Vec::with_capacity(self.rows));
            for row in rows.chunks_mut(n) {
                for (part, row) in across.iter_mut().zip(row.chunks_mut(self.columns)) {
                    part.push(row);
                }
            }
            let first_row = i * self.rows;
            parts.extend(across.into_iter().enumerate().map(|(j, out)| (first_row, j * self.columns / NR, out)));
        }
        parts.into_par_iter().with_max_len(1).for_each(|(first_row, panel, mut out)| {
            let a = a.slice_rows(first_row..first_row + out.len());
            let panels = panel..(panel + self.columns / NR).min(n.div_ceil(NR));
            SCRATCH.with_borrow_mut(|scratch| {
                arch().dispatch(StrassenBlock { a, b, panels, epilogue, out: &mut out, scratch });
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::numbers;
    use super::*;

    #[test]
    fn columns_are_divided_where_rows_are_too_few() {
        let b = PackedMatrix::new(MatrixRef::new(&[0.0; 64 * 2304], 64, 2304));
        let parts = |rows, threads| Parts::of(rows, &b, threads).map(|parts| (parts.rows, parts.columns));
        assert_eq!(parts(485, 1), Some((246, 2304)));
        assert_eq!(parts(485, 2), Some((246, 2304)));
        assert_eq!(parts(485, 5), Some((102, 2304)));
        assert_eq!(parts(485, 6), Some((162, 1152)));
        assert_eq!(parts(485, 7), None);
        assert_eq!(parts(485, 8), Some((126, 1152)));
        assert_eq!(parts(485, 16), Some((126, 576)));
        assert_eq!(parts(485, 32), None);
        assert_eq!(parts(4 * 485, 16), Some((126, 2304)));
        assert_eq!(parts(60, 1), None);
    }

    #[test]
    fn any_parts_give_the_product() {
        // The last parts have one row, and columns that fill no tile.
        let (m, k, n) = (2 * 96 + 1, 64, 870);
        let (a, weights, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let b = PackedMatrix::new(MatrixRef::new(&weights, k, n));
        let product = |parts: Parts| {
            let mut out = vec![f32::NAN; m * n];
            parts.multiply(MatrixRef::new(&a, m, k), &b, Epilogue { bias: Some(&bias), activation: None }, &mut out);
            out
        };
        let whole = product(Parts { rows: m.next_multiple_of(MR), columns: n.next_multiple_of(NR) });
        for parts in
            [Parts { rows: 96, columns: 448 }, Parts { rows: 102, columns: 896 }, Parts { rows: 198, columns: 384 }]
        {
            let size = (parts.rows, parts.columns);
            for (at, (found, expected)) in product(parts).iter().zip(&whole).enumerate() {
                assert!((found - expected).abs() < 1e-4, "{size:?}, at {at}: {found}, expected {expected}");
            }
        }
    }
}
