//! Tables of embeddings.

use candle_core::{DType, Device, Tensor};

use super::compressed::CompressedMatrix;
use super::weights::Weights;
use crate::error::Result;

/// A table of vectors, looked up by number; kept compressed where the weights are.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    table: Table,
    dim: usize,
    /// The type of the looked up vectors.
    dtype: DType,
}

/// `[V, D]`.
#[derive(Clone, Debug)]
enum Table {
    Full(Tensor),
    Compressed(CompressedMatrix),
}

impl Embedding {
    /// A table of `count` vectors of width `dim` from `weight` of `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when there is no such tensor.
    pub fn new(count: usize, dim: usize, weights: Weights<'_>) -> Result<Self> {
        let table = match weights.compressed(count, dim, "weight")? {
            Some(table) => Table::Compressed(table),
            None => Table::Full(weights.get((count, dim), "weight")?),
        };
        Ok(Self { table, dim, dtype: weights.dtype() })
    }

    /// Where the table is.
    pub fn device(&self) -> &Device {
        match &self.table {
            Table::Full(table) => table.device(),
            Table::Compressed(_) => &Device::Cpu,
        }
    }

    /// Vectors `[…, D]` of the numbers `ids` `[…]`, of type U32.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for a number outside of the table.
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
