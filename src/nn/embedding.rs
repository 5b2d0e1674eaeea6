//! Embedding tables.

use candle_core::{DType, Device, Tensor};

use super::compressed::CompressedMatrix;
use super::weights::Weights;
use crate::error::Result;

/// A table of vectors, looked up by index. It stays compressed if the weights are compressed.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    table: Table,
    dim: usize,
    /// The type of the vectors returned by a lookup.
    dtype: DType,
}

/// The table, `[V, D]`.
#[derive(Clone, Debug)]
enum Table {
    Full(Tensor),
    Compressed(CompressedMatrix),
}

impl Embedding {
    /// Creates a table of `count` vectors of width `dim` from the tensor `weight` in `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the tensor is missing or has another shape.
    pub fn new(count: usize, dim: usize, weights: Weights<'_>) -> Result<Self> {
        let table = match weights.compressed(count, dim, "weight")? {
            Some(table) => Table::Compressed(table),
            None => Table::Full(weights.get((count, dim), "weight")?),
        };
        Ok(Self { table, dim, dtype: weights.dtype() })
    }

    /// The device that the table is on.
    pub fn device(&self) -> &Device {
        match &self.table {
            Table::Full(table) => table.device(),
            Table::Compressed(_) => &Device::Cpu,
        }
    }

    /// Looks up the indices `ids` `[…]`, of type U32, and returns their vectors `[…, D]`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for an index outside the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut shape = ids.dims().to_vec();
        shape.push(self.dim);
        let ids = ids.flatten_all()?;
        let rows = match &self.table {
            Table::Full(table) => table.index_select(&ids, 0)?,
            Table::Compressed(table) => table.select(&ids)?,
        };
        Ok(rows.to_dtype(self.dtype)?.reshape(shape)?)
    }
}
