//! A process's part of a batch, and exchanges of rows that gradients pass through.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::collective::{Alone, Collective};
use crate::error::Result;
use crate::nn::substitute;

/// A process's part of a batch: consecutive pairs, after those of the processes with lower ranks.
#[derive(Debug, Clone)]
pub struct Part {
    group: Arc<dyn Collective>,
    first: usize,
    len: usize,
    total: usize,
}

impl Part {
    /// A whole batch of `len` pairs, in one process.
    pub fn whole(len: usize) -> Self {
        Self { group: Arc::new(Alone), first: 0, len, total: len }
    }

    /// The part of `len` pairs (0 or more) that this process of `group` has of a batch. The processes exchange the sizes
    /// of their parts.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub fn of(group: &Arc<dyn Collective>, len: usize) -> Result<Self> {
        let lens = group.all_gather(&(len as u64).to_le_bytes())?;
        let len_of = |bytes: &Vec<u8>| bytes.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let first = lens.iter().take(group.rank()).map(len_of).sum();
        Ok(Self { group: group.clone(), first, len, total: lens.iter().map(len_of).sum() })
    }

    /// The place of this part's first pair in the batch.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The number of pairs in this part.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether this process has no pair of the batch.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of pairs in the batch.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The rows of the whole batch `[N, D]` in f32, from the `rows` `[B, D]` of this part.
    ///
    /// The gradient that reaches `rows` is the sum of the gradients in all processes. If every process computes the same
    /// loss from all rows, the mean over the processes of the gradients of a weight is its gradient of that loss, as if a
    /// single process had computed it.
    ///
    /// # Errors
    /// Those of [`Collective::all_gather`].
    pub(super) fn gather(&self, rows: &Tensor) -> Result<Tensor> {
        if self.group.size() == 1 {
            return Ok(rows.clone());
        }
        let width = rows.dim(1)?;
        let bytes: Vec<u8> = values(rows)?.into_iter().flat_map(f32::to_le_bytes).collect();
        let all = self.group.all_gather(&bytes)?.concat();
        let all = all.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let all = Tensor::from_vec(all.collect::<Vec<_>>(), (self.total, width), rows.device())?;
        let part = self.clone();
        substitute(rows, &all, move |_, gradient| {
            let mut sums = values(gradient)?;
            part.group.all_reduce_sum(&mut sums)?;
            let sums = Tensor::from_vec(sums, gradient.shape(), gradient.device())?;
            Ok(sums.narrow(0, part.first, part.len)?.contiguous()?)
        })
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}
