//! Matrices of frozen weights that are read piece by piece, so that packing them needs no copy of the whole.

use crate::error::Result;

use super::format::{BLOCK, BLOCK_BYTES};

/// A matrix `[N, K]` of frozen weights, in a file or in memory.
pub(crate) struct StoredMatrix<'a> {
    rows: usize,
    columns: usize,
    format: StoredFormat,
    read: ReadRows<'a>,
}

/// How the elements of a [`StoredMatrix`] are stored, in little-endian bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StoredFormat {
    F32,
    F16,
    Bf16,
    /// Blocks of `Q8_0`.
    Blocks,
}

/// Fills the slice with the bytes of whole rows, from this row on.
pub(crate) type ReadRows<'a> = Box<dyn Fn(usize, &mut [u8]) -> Result<()> + Send + Sync + 'a>;

impl StoredFormat {
    /// The number of bytes of a row of `columns` elements (for blocks, a multiple of 32).
    pub(crate) fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32 => 4 * columns,
            Self::F16 | Self::Bf16 => 2 * columns,
            Self::Blocks => columns / BLOCK * BLOCK_BYTES,
        }
    }
}

impl<'a> StoredMatrix<'a> {
    /// A matrix of this shape and format, which `read` reads.
    pub(crate) fn new(rows: usize, columns: usize, format: StoredFormat, read: ReadRows<'a>) -> Self {
        Self { rows, columns, format, read }
    }

    /// Stacks `parts` vertically. Returns `None` unless all of them have the same width and format.
    pub(super) fn stack(mut parts: Vec<Self>) -> Option<Self> {
        if parts.len() < 2 {
            return parts.pop();
        }
        let (columns, format) = parts.first().map(|first| (first.columns, first.format))?;
        if parts.iter().any(|part| (part.columns, part.format) != (columns, format)) {
            return None;
        }
        let rows = parts.iter().map(|part| part.rows).sum();
        let row_bytes = format.row_bytes(columns).max(1);
        let read = move |first: usize, mut to: &mut [u8]| {
            let mut skipped = first;
            for part in &parts {
                let left = part.rows.saturating_sub(skipped);
                let (here, rest) = to.split_at_mut(to.len().min(left * row_bytes));
                if !here.is_empty() {
                    part.read(skipped, here)?;
                }
                skipped = skipped.saturating_sub(part.rows);
                to = rest;
            }
            Ok(())
        };
        Some(Self { rows, columns, format, read: Box::new(read) })
    }

    /// The shape, (N, K).
    pub(super) fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    pub(super) fn format(&self) -> StoredFormat {
        self.format
    }

    /// Fills `to` with the bytes of whole rows, from row `first` on.
    pub(super) fn read(&self, first: usize, to: &mut [u8]) -> Result<()> {
        (self.read)(first, to)
    }
}
