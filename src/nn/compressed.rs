//! Matrices stored in fewer bits than `f32`.

use candle_core::{CpuStorage, DType, Result, Storage, Tensor};

use super::format::{BLOCK, BLOCK_BYTES, append_blocks};
use super::stored::{StoredFormat, StoredMatrix};

/// A matrix `[N, K]` stored in 16 bits, or in blocks of 8 bits, in main memory.
#[derive(Clone, Debug)]
pub(crate) struct CompressedMatrix {
    /// The values `[N, K]` of type F16 or BF16, or the bytes of each row's `Q8_0` blocks, `[N, K / 32 · 34]`.
    rows: Tensor,
    columns: usize,
}

impl CompressedMatrix {
    /// Wraps a matrix `[N, K]` of type F16 or BF16.
    pub(crate) fn half(matrix: Tensor) -> Result<Self> {
        let (_, columns) = matrix.dims2()?;
        if !matches!(matrix.dtype(), DType::F16 | DType::BF16) {
            return Err(candle_core::Error::Msg(format!("expected F16 or BF16, found {:?}", matrix.dtype())).bt());
        }
        Ok(Self { rows: matrix.contiguous()?, columns })
    }

    /// Wraps a matrix of `Q8_0` blocks, given the bytes of its rows `[N, K / 32 · 34]` of type U8.
    pub(crate) fn blocks(bytes: Tensor) -> Result<Self> {
        let (_, width) = bytes.dims2()?;
        if bytes.dtype() != DType::U8 || !width.is_multiple_of(BLOCK_BYTES) {
            let found = format!("expected whole Q8_0 blocks of U8, found rows of {width} {:?}", bytes.dtype());
            return Err(candle_core::Error::Msg(found).bt());
        }
        Ok(Self { rows: bytes.contiguous()?, columns: width / BLOCK_BYTES * BLOCK })
    }

    /// The shape, (N, K).
    #[cfg(test)]
    pub(crate) fn dims(&self) -> (usize, usize) {
        (self.rows.dims()[0], self.columns)
    }

    /// The matrix, to be packed.
    pub(crate) fn into_stored(self) -> StoredMatrix<'static> {
        let format = match self.rows.dtype() {
            DType::F16 => StoredFormat::F16,
            DType::BF16 => StoredFormat::Bf16,
            _ => StoredFormat::Blocks,
        };
        let (rows, columns) = (self.rows.dims()[0], self.columns);
        let read = move |first: usize, to: &mut [u8]| Ok(self.read(first, format.row_bytes(columns), to)?);
        StoredMatrix::new(rows, columns, format, Box::new(read))
    }

    /// Fills `to` with the bytes of rows of `row_bytes` each, from row `first` on.
    fn read(&self, first: usize, row_bytes: usize, to: &mut [u8]) -> Result<()> {
        let (storage, layout) = self.rows.storage_and_layout();
        let start = layout.start_offset() + first * row_bytes / self.rows.dtype().size_in_bytes();
        let halves = to.as_chunks_mut().0.iter_mut();
        match &*storage {
            Storage::Cpu(CpuStorage::F16(all)) => {
                halves.zip(&all[start..]).for_each(|(bytes, x)| *bytes = x.to_le_bytes());
            }
            Storage::Cpu(CpuStorage::BF16(all)) => {
                halves.zip(&all[start..]).for_each(|(bytes, x)| *bytes = x.to_le_bytes());
            }
            Storage::Cpu(CpuStorage::U8(all)) => to.copy_from_slice(&all[start..][..to.len()]),
            _ => return Err(candle_core::Error::Msg("a compressed weight of an unknown kind".into()).bt()),
        }
        Ok(())
    }

    /// The rows with the indices `ids` `[I]`, of type U32, as `f32`: `[I, K]`.
    pub(super) fn select(&self, ids: &Tensor) -> Result<Tensor> {
        let rows = self.rows.index_select(ids, 0)?;
        if rows.dtype() != DType::U8 {
            return rows.to_dtype(DType::F32);
        }
        let mut numbers = Vec::with_capacity(ids.elem_count() * self.columns);
        append_blocks(&rows.flatten_all()?.to_vec1()?, &mut numbers);
        Tensor::from_vec(numbers, (ids.elem_count(), self.columns), rows.device())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn only_matrices_in_fewer_bits_are_taken() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            assert_eq!(CompressedMatrix::half(zeros(&[2, 33], dtype)).unwrap().dims(), (2, 33));
            assert!(CompressedMatrix::blocks(zeros(&[2, 34], dtype)).is_err());
            assert!(CompressedMatrix::half(zeros(&[2], dtype)).is_err());
        }
        for dtype in [DType::F32, DType::U8] {
            assert!(CompressedMatrix::half(zeros(&[2, 34], dtype)).is_err());
        }
        assert_eq!(CompressedMatrix::blocks(zeros(&[2, 68], DType::U8)).unwrap().dims(), (2, 64));
        assert!(CompressedMatrix::blocks(zeros(&[2, 32], DType::U8)).is_err());
    }
}
