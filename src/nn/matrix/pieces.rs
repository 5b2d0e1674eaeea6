//! Reading a stored matrix on all threads, in pieces that are packed while they are in the cache.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::stored::StoredMatrix;
use super::layout::NR;
use crate::error::Result;

/// Bytes of a piece, unless a single panel has more: small enough for the second-level cache.
const PIECE: usize = 256 << 10;

thread_local! {
    /// The bytes of a piece.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The number of panels of [`NR`] rows of `matrix` in each piece.
pub(super) fn panels_per_piece(matrix: &StoredMatrix<'_>) -> usize {
    let (_, columns) = matrix.dims();
    (PIECE / (NR * matrix.format().row_bytes(columns)).max(1)).max(1)
}

/// Passes the bytes of each piece to `pack`, with the output that belongs to it.
///
/// # Errors
/// Those of reading the matrix.
pub(super) fn read_pieces<O: Send>(
    matrix: &StoredMatrix<'_>,
    outputs: impl IndexedParallelIterator<Item = O>,
    pack: impl Fn(&[u8], O) + Sync,
) -> Result<()> {
    let (rows, columns) = matrix.dims();
    let row_bytes = matrix.format().row_bytes(columns);
    let height = panels_per_piece(matrix) * NR;
    outputs.enumerate().try_for_each(|(i, output)| {
        let first = i * height;
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(height.min(rows - first) * row_bytes, 0);
            matrix.read(first, buffer)?;
            pack(buffer, output);
            Ok(())
        })
    })
}
