//! Where layers take their weights from.

use candle_core::{DType, Shape, Tensor};
use candle_nn::VarBuilder;

use super::compressed::CompressedMatrix;
use crate::error::Result;

/// The weights of a model, by name: a [`VarBuilder`] and, where a file is loaded in a
/// [`WeightFormat`](super::WeightFormat), the matrices that stay compressed.
///
/// Whatever takes `Weights` takes a `VarBuilder` as well; all of its tensors are in the precision of computing.
#[derive(Clone)]
pub struct Weights<'a> {
    tensors: VarBuilder<'a>,
    matrices: Option<&'a dyn CompressedMatrices>,
}

/// The matrices that a file keeps compressed.
pub(crate) trait CompressedMatrices: Send + Sync {
    /// The matrix with the full name `name`, if it is there in the shape `[rows, columns]` and to be kept compressed.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Option<CompressedMatrix>>;
}

impl<'a> From<VarBuilder<'a>> for Weights<'a> {
    fn from(tensors: VarBuilder<'a>) -> Self {
        Self { tensors, matrices: None }
    }
}

impl<'a> Weights<'a> {
    /// The weights of `tensors`, some of which `matrices` has in compressed form.
    pub(crate) fn with_compressed(tensors: VarBuilder<'a>, matrices: &'a dyn CompressedMatrices) -> Self {
        Self { tensors, matrices: Some(matrices) }
    }

    /// The weights whose names begin with the present prefix, `name` and a dot.
    #[must_use]
    pub fn pp(&self, name: impl ToString) -> Self {
        Self { tensors: self.tensors.pp(name), matrices: self.matrices }
    }

    /// The tensor `name` below the present prefix, in the precision of computing.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when there is no such tensor, or one of another shape.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        Ok(self.tensors.get(shape, name)?)
    }

    /// The compressed form of the matrix `name` `[rows, columns]` below the present prefix, if it is to be kept so.
    pub(super) fn compressed(&self, rows: usize, columns: usize, name: &str) -> Result<Option<CompressedMatrix>> {
        let Some(matrices) = self.matrices else { return Ok(None) };
        matrices.matrix(&self.tensors.pp(name).prefix(), rows, columns)
    }

    /// The builder of all tensors in the precision of computing, for layers that know nothing of compressed matrices.
    pub fn var_builder(&self) -> &VarBuilder<'a> {
        &self.tensors
    }

    /// The precision of computing.
    pub fn dtype(&self) -> DType {
        self.tensors.dtype()
    }
}
