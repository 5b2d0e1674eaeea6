//! Tables of embeddings.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::format;
use crate::error::Result;

/// A table of vectors, looked up by number; kept compressed where the builder says so.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    /// `[V, D]`, or `Q8_0` blocks `[V, D / 32 · 34]` of type U8.
    table: Tensor,
    dim: usize,
    /// The type of the looked up vectors.
    dtype: DType,
}

impl Embedding {
    /// A table of `count` vectors of width `dim` from `weight` of `vb`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the builder has no such tensor.
    pub fn new(count: usize, dim: usize, vb: VarBuilder) -> Result<Self> {
        let table = match format::compressed(&vb, count, dim)? {
            Some(table) => table,
            None => vb.get((count, dim), "weight")?,
        };
        Ok(Self { table, dim, dtype: vb.dtype() })
    }

    /// Where the table is.
    pub fn device(&self) -> &Device {
        self.table.device()
    }

    /// Vectors `[…, D]` of the numbers `ids` `[…]`, of type U32.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for a number outside of the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let mut shape = ids.dims().to_vec();
        shape.push(self.dim);
        let rows = self.table.index_select(&ids.flatten_all()?, 0)?;
        if rows.dtype() != DType::U8 {
            return Ok(rows.to_dtype(self.dtype)?.reshape(shape)?);
        }
        let mut numbers = Vec::with_capacity(ids.elem_count() * self.dim);
        format::append_blocks(&rows.flatten_all()?.to_vec1()?, &mut numbers);
        Ok(Tensor::from_vec(numbers, shape, self.device())?.to_dtype(self.dtype)?)
    }
}
