//! The weights that layers are built from.

use candle_core::{DType, Shape, Tensor};
use candle_nn::VarBuilder;

use super::compressed::CompressedMatrix;
use super::format::Precision;
use super::stored::StoredMatrix;
use crate::error::Result;

/// The weights of a model, by name: a [`VarBuilder`] and, if they are loaded from a file in a
/// [`WeightFormat`](super::WeightFormat), the file's matrices, which layers pack without making tensors of them.
///
/// Functions that take `Weights` also accept a `VarBuilder`, whose tensors are all in the compute precision.
#[derive(Clone)]
pub struct Weights<'a> {
    tensors: VarBuilder<'a>,
    matrices: Option<&'a dyn MatrixSource>,
    precision: Precision,
}

/// The matrices of a file, for layers that do not need them as tensors in the compute precision.
pub(crate) trait MatrixSource: Send + Sync {
    /// The matrix with the full name `name`, if it exists with the shape `[rows, columns]` and should stay compressed.
    fn compressed(&self, name: &str, rows: usize, columns: usize) -> Result<Option<CompressedMatrix>>;

    /// The same matrix to be packed for products on the CPU, in the format that it should have in memory. `None` if the
    /// layer should take the tensor.
    fn stored(&self, name: &str, rows: usize, columns: usize) -> Result<Option<StoredMatrix<'_>>>;
}

impl<'a> From<VarBuilder<'a>> for Weights<'a> {
    fn from(tensors: VarBuilder<'a>) -> Self {
        Self { tensors, matrices: None, precision: Precision::default() }
    }
}

impl<'a> Weights<'a> {
    /// Combines `tensors` with the matrices of the same file. Products with all matrices have this precision.
    pub(crate) fn with_matrices(tensors: VarBuilder<'a>, matrices: &'a dyn MatrixSource, precision: Precision) -> Self {
        Self { tensors, matrices: Some(matrices), precision }
    }

    /// The weights below `name`: appends `name` and a dot to the current prefix.
    #[must_use]
    pub fn pp(&self, name: impl ToString) -> Self {
        Self { tensors: self.tensors.pp(name), matrices: self.matrices, precision: self.precision }
    }

    /// Whether there is a tensor `name` below the current prefix.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_tensor(name)
    }

    /// The tensor `name` below the current prefix, in the compute precision.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the tensor is missing or has another shape.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        Ok(self.tensors.get(shape, name)?)
    }

    /// The compressed form of the matrix `name` `[rows, columns]` below the current prefix, if it should stay
    /// compressed.
    pub(super) fn compressed(&self, rows: usize, columns: usize, name: &str) -> Result<Option<CompressedMatrix>> {
        let Some(matrices) = self.matrices else { return Ok(None) };
        matrices.compressed(&self.tensors.pp(name).prefix(), rows, columns)
    }

    /// The matrix `name` `[rows, columns]` below the current prefix to be packed piece by piece, if it can be.
    pub(super) fn stored(&self, rows: usize, columns: usize, name: &str) -> Result<Option<StoredMatrix<'a>>> {
        let Some(matrices) = self.matrices else { return Ok(None) };
        matrices.stored(&self.tensors.pp(name).prefix(), rows, columns)
    }

    /// The builder of all tensors in the compute precision, for layers without support for compressed matrices.
    pub fn var_builder(&self) -> &VarBuilder<'a> {
        &self.tensors
    }

    /// The precision of products with the matrices.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The compute precision.
    pub fn dtype(&self) -> DType {
        self.tensors.dtype()
    }
}
