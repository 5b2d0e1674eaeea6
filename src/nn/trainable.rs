//! The product of a linear layer in training, for `f32` on the CPU.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::format::Precision;
use super::matrix::{Epilogue, MatrixRef, PackedMatrix, matmul};

/// `x·Wᵀ + b` for `x` `[…, K]`, `W` [N, K] and `b` [N]. Of the gradients `dx = g·W`, `dW = gᵀ·x` and `db = Σ g`, only
/// those that a variable needs are computed. Candle's own product always computes the gradients of both sides, and
/// copies its transposes.
pub(super) struct TrainableLinear;

impl CustomOp3 for TrainableLinear {
    fn name(&self) -> &'static str {
        "trainable-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k) = weight_layout.shape().dims2()?;
        let x = super::storage::slice(x, x_layout)?;
        let weight = MatrixRef::new(super::storage::slice(weight, weight_layout)?, n, k);
        let epilogue = Epilogue { bias: Some(super::storage::slice(bias, bias_layout)?), activation: None };
        Ok(rows_times(x, x_layout, weight.transposed(), epilogue))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let dx = if x.track_op() { Some(g.apply_op2_no_bwd(&weight.detach(), &Input)?) } else { None };
        let dweight = if weight.track_op() { Some(g.apply_op2_no_bwd(&x.detach(), &Outer)?) } else { None };
        let dbias = if bias.track_op() { Some(column_sums(&g)?) } else { None };
        Ok((dx, dweight, dbias))
    }
}

/// `g·W` for `g` `[…, N]` and `W` [N, K].
struct Input;

impl CustomOp2 for Input {
    fn name(&self) -> &'static str {
        "trainable-linear-input-gradient"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, k) = weight_layout.shape().dims2()?;
        let weight = MatrixRef::new(super::storage::slice(weight, weight_layout)?, n, k);
        Ok(rows_times(super::storage::slice(g, g_layout)?, g_layout, weight, Epilogue::default()))
    }
}

/// `gᵀ·x` [N, K], for `g` `[…, N]` and `x` `[…, K]`.
struct Outer;

impl CustomOp2 for Outer {
    fn name(&self) -> &'static str {
        "trainable-linear-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (g, x) =
            (rows(super::storage::slice(g, g_layout)?, g_layout), rows(super::storage::slice(x, x_layout)?, x_layout));
        let mut out = super::storage::zeros(g.columns * x.columns);
        if g.rows > 0 {
            matmul(g.transposed(), &PackedMatrix::for_matmul(x, Precision::Highest), Epilogue::default(), &mut out);
        }
        Ok((CpuStorage::F32(out), (g.columns, x.columns).into()))
    }
}

/// Views a contiguous `[…, D]` as a matrix whose rows have D elements.
fn rows<'a>(data: &'a [f32], layout: &Layout) -> MatrixRef<'a> {
    let columns = layout.dims().last().copied().unwrap_or(1);
    MatrixRef::new(data, data.len() / columns.max(1), columns)
}

/// `x·B` for `x` `[…, K]` and `B` [K, N], which is packed for this product only.
fn rows_times(x: &[f32], layout: &Layout, b: MatrixRef<'_>, epilogue: Epilogue<'_>) -> (CpuStorage, Shape) {
    let x = rows(x, layout);
    let mut out = super::storage::zeros(x.rows * b.columns);
    matmul(x, &PackedMatrix::for_matmul(b, Precision::Highest), epilogue, &mut out);
    let mut dims = layout.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = b.columns;
    }
    (CpuStorage::F32(out), dims.into())
}

/// Rows summed by one task. Fixed, so that the sum does not depend on the number of threads.
pub(super) const SUM_ROWS: usize = 256;

/// `Σ g` over all dimensions but the last of a contiguous `[…, N]`.
pub(super) fn column_sums(g: &Tensor) -> Result<Tensor> {
    struct Sums;
    impl candle_core::CustomOp1 for Sums {
        fn name(&self) -> &'static str {
            "column-sums"
        }

        fn cpu_fwd(&self, g: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
            let g = rows(super::storage::slice(g, layout)?, layout);
            let parts: Vec<Vec<f32>> =
                g.data.par_chunks(SUM_ROWS * g.columns.max(1)).map(|part| add_rows(part, g.columns)).collect();
            let sums = add_rows(&parts.concat(), g.columns);
            Ok((CpuStorage::F32(sums), g.columns.into()))
        }
    }
    g.apply_op1_no_bwd(&Sums)
}

/// Sums the rows of a matrix.
pub(super) fn add_rows(data: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0f32; columns];
    for row in data.chunks_exact(columns.max(1)) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
    sums
}
