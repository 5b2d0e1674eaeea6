//! Multi-head self-attention.

mod backward;

use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, Layout, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::instructions::arch;
use super::matrix::{Block, Epilogue, MatrixRef, NR, PackedMatrix, equal_blocks};
use super::simd;
use crate::error::{Error, Result};

/// Scaled dot-product self-attention, over concatenated queries, keys and values: `softmax(scale · q·kᵀ + bias)·v` per
/// head (Vaswani et al., arXiv 1706.03762).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attention {
    /// Number of heads. Divides the width.
    pub num_heads: usize,
    /// Factor applied to `q·kᵀ`, usually `1/√head_dim`.
    pub scale: f64,
    /// Whether a token attends only to itself and to earlier tokens.
    pub causal: bool,
}

/// An additive bias that depends on the distance from query to key and is scaled separately for each query (BEATs'
/// gated relative position bias): `bias[b, h, i, j] = gate[b, h, i] · table[h, N − 1 + j − i]`.
#[derive(Clone, Debug)]
pub(crate) struct GatedBias {
    /// The bias per head and distance j − i, from −(N − 1) to N − 1: `[H, 2N − 1]`.
    pub table: Tensor,
    /// The gate per sample, head and query position, `[B, H, N]`.
    pub gate: Tensor,
}

impl Attention {
    /// Creates an attention over `width` = heads × head_dim with the usual scale, `1/√head_dim`.
    ///
    /// # Errors
    /// [`Error::Argument`] when `width` is not divisible by `num_heads`.
    pub fn new(width: usize, num_heads: usize, causal: bool) -> Result<Self> {
        if num_heads == 0 || !width.is_multiple_of(num_heads) {
            return Err(Error::argument("number of attention heads", format!("a divisor of {width}"), num_heads));
        }
        Ok(Self { num_heads, scale: ((width / num_heads) as f64).powf(-0.5), causal })
    }

    /// `qkv` `[B, N, 3D]` (concatenated queries, keys and values) → `[B, N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the width is not three times a multiple of the number of heads.
    pub fn forward(&self, qkv: &Tensor, bias: Option<&GatedBias>) -> Result<Tensor> {
        let (_, _, width) = qkv.dims3()?;
        if !width.is_multiple_of(3 * self.num_heads) || width == 0 {
            return Err(Error::shape(
                "queries, keys and values",
                format!("[B, N, 3·{}·d]", self.num_heads),
                qkv.dims(),
            ));
        }
        if !super::storage::is_cpu_f32(qkv) {
            return self.forward_composed(qkv, bias);
        }
        let op = Fused(*self);
        match bias {
            None => Ok(qkv.contiguous()?.apply_op1(op)?),
            Some(bias) => {
                let (table, gate) = (bias.table.contiguous()?, bias.gate.contiguous()?);
                Ok(qkv.contiguous()?.apply_op3(&table, &gate, op)?)
            }
        }
    }

    /// The same, composed of Candle's differentiable operations.
    fn forward_composed(&self, qkv: &Tensor, bias: Option<&GatedBias>) -> Result<Tensor> {
        let (b, n, width) = qkv.dims3()?;
        let d = width / 3 / self.num_heads;
        let heads = |i: usize| -> candle_core::Result<Tensor> {
            // [B, N, 3D] → [B, H, N, d]
            let part = qkv.narrow(D::Minus1, i * width / 3, width / 3)?;
            part.reshape((b, n, self.num_heads, d))?.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (heads(0)?, heads(1)?, heads(2)?);
        let mut logits = (q * self.scale)?.matmul(&k.t()?)?; // [B, H, N, N]
        if let Some(bias) = bias {
            let distances: Vec<u32> = (0..n * n).map(|i| (n - 1 + i % n - i / n) as u32).collect();
            let distances = Tensor::from_vec(distances, n * n, qkv.device())?;
            let table = bias.table.index_select(&distances, 1)?.reshape((1, self.num_heads, n, n))?;
            logits = logits.broadcast_add(&bias.gate.unsqueeze(D::Minus1)?.broadcast_mul(&table)?)?;
        }
        if self.causal {
            let above: Vec<f32> = (0..n * n).map(|i| if i % n > i / n { f32::NEG_INFINITY } else { 0.0 }).collect();
            let mask = Tensor::from_vec(above, (n, n), qkv.device())?.to_dtype(logits.dtype())?;
            logits = logits.broadcast_add(&mask)?;
        }
        let out = super::softmax::softmax_composed(&logits)?.matmul(&v)?; // [B, H, N, d]
        Ok(out.transpose(1, 2)?.reshape((b, n, width / 3))?)
    }
}

/// One sample's queries, keys and values within the `[B, N, 3D]` slice.
#[derive(Clone, Copy)]
struct Heads<'a> {
    qkv: &'a [f32],
    num_tokens: usize,
    width: usize,
    head_dim: usize,
}

impl<'a> Heads<'a> {
    /// The matrix `part` (0 queries, 1 keys, 2 values) of `head` in `sample`, `[N, d]`.
    fn matrix(self, sample: usize, part: usize, head: usize) -> MatrixRef<'a> {
        let start = sample * self.num_tokens * 3 * self.width + part * self.width + head * self.head_dim;
        MatrixRef {
            data: &self.qkv[start..],
            rows: self.num_tokens,
            columns: self.head_dim,
            row_stride: 3 * self.width,
            column_stride: 1,
        }
    }
}

struct Fused(Attention);

impl Fused {
    fn heads<'a>(&self, qkv: &'a [f32], layout: &Layout) -> candle_core::Result<(usize, Heads<'a>)> {
        let (batch, num_tokens, width3) = layout.shape().dims3()?;
        let width = width3 / 3;
        Ok((batch, Heads { qkv, num_tokens, width, head_dim: width / self.0.num_heads }))
    }

    /// `[B, N, 3D]` → `[B, N, D]`, with the optional table `[H, 2N − 1]` and gate `[B, H, N]`.
    fn run(&self, batch: usize, heads: Heads<'_>, bias: Option<(&[f32], &[f32])>) -> Vec<f32> {
        let Attention { num_heads, scale, causal } = self.0;
        let Heads { num_tokens: n, width, .. } = heads;
        // Keys and values are packed once per head. Each task then processes one block of query rows for all heads, so
        // that it owns whole rows of the output.
        let packed: Vec<(PackedMatrix, PackedMatrix)> = (0..batch * num_heads)
            .into_par_iter()
            .map(|i| {
                let (sample, head) = (i / num_heads, i % num_heads);
                let keys = PackedMatrix::new(heads.matrix(sample, 1, head).transposed());
                (keys, PackedMatrix::new(heads.matrix(sample, 2, head)))
            })
            .collect();
        let threads = rayon::current_num_threads();
        let rows = equal_blocks(n, if batch >= threads { 1 } else { threads }, 96, 1).max(1);
        let mut out = super::storage::zeros(batch * n * width);
        out.par_chunks_mut(n * width).enumerate().for_each(|(sample, out)| {
            out.par_chunks_mut(rows * width).enumerate().for_each(|(i, out)| {
                arch().dispatch(QueryBlock {
                    heads,
                    packed: &packed[sample * num_heads..(sample + 1) * num_heads],
                    bias: bias.map(|(table, gate)| (table, &gate[sample * num_heads * n..])),
                    sample,
                    first: i * rows,
                    scale: scale as f32,
                    causal,
                    out,
                });
            });
        });
        out
    }
}

/// The output rows of one sample from row `first` on.
struct QueryBlock<'a> {
    heads: Heads<'a>,
    packed: &'a [(PackedMatrix, PackedMatrix)],
    bias: Option<(&'a [f32], &'a [f32])>,
    sample: usize,
    first: usize,
    scale: f32,
    causal: bool,
    out: &'a mut [f32],
}

impl WithSimd for QueryBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads, packed, bias, sample, first, scale, causal, out } = self;
        let Heads { num_tokens: n, width, head_dim, .. } = heads;
        let rows = out.len() / width;
        let mut scores = vec![0f32; rows * n];
        let mut scratch = Vec::new();
        for (head, (keys, values)) in packed.iter().enumerate() {
            let queries = heads.matrix(sample, 0, head);
            let start = (first * queries.row_stride).min(queries.data.len());
            let queries = MatrixRef { data: &queries.data[start..], rows, ..queries };
            let panels = 0..n.div_ceil(NR);
            let (epilogue, scratch) = (Epilogue::default(), &mut scratch);
            Block { a: queries, b: keys, panels, epilogue, out: &mut scores, out_stride: n, scratch }.with_simd(simd);
            for (i, row) in scores.chunks_exact_mut(n).enumerate() {
                let query = first + i;
                simd::scale_in_place(simd, row, scale);
                if let Some((table, gate)) = bias {
                    let table = &table[head * (2 * n - 1) + n - 1 - query..][..n];
                    simd::add_scaled(simd, row, table, gate[head * n + query]);
                }
                let visible = if causal { query + 1 } else { n };
                simd::softmax_in_place(simd, &mut row[..visible]);
                row[visible..].fill(0.0);
            }
            let weights = MatrixRef::new(&scores, rows, n);
            let panels = 0..head_dim.div_ceil(NR);
            let out = &mut out[head * head_dim..];
            Block { a: weights, b: values, panels, epilogue, out, out_stride: width, scratch }.with_simd(simd);
        }
    }
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, heads) = self.heads(super::storage::slice(qkv, layout)?, layout)?;
        let out = self.run(batch, heads, None);
        Ok((CpuStorage::F32(out), (batch, heads.num_tokens, heads.width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, g: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(backward::without_bias(self.0, qkv, g)?))
    }
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "attention-gated-bias"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        table: &CpuStorage,
        table_layout: &Layout,
        gate: &CpuStorage,
        gate_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, heads) = self.heads(super::storage::slice(qkv, layout)?, layout)?;
        let (table, gate) = (super::storage::slice(table, table_layout)?, super::storage::slice(gate, gate_layout)?);
        let (n, num_heads) = (heads.num_tokens, self.0.num_heads);
        if table.len() != num_heads * (2 * n - 1) || gate.len() != batch * num_heads * n {
            candle_core::bail!(
                "gated bias: expected a table [{num_heads}, 2·{n} − 1] and a gate [{batch}, {num_heads}, {n}], \
                 found {table_layout:?} and {gate_layout:?}"
            );
        }
        let out = self.run(batch, heads, Some((table, gate)));
        Ok((CpuStorage::F32(out), (batch, n, heads.width).into()))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        table: &Tensor,
        gate: &Tensor,
        _out: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dqkv, dtable, dgate) = backward::with_bias(self.0, qkv, table, gate, g)?;
        Ok((Some(dqkv), Some(dtable), Some(dgate)))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::nn::testing::{max_difference, random};

    #[test]
    fn fused_and_composed_agree_in_value_and_gradient() {
        for (b, n, heads, d, causal) in
            [(2, 6, 2, 4, true), (1, 101, 3, 20, false), (3, 37, 4, 16, false), (1, 1, 1, 8, true)]
        {
            let attention = Attention::new(heads * d, heads, causal).unwrap();
            let qkv = Var::from_tensor(&random(&[b, n, 3 * heads * d])).unwrap();
            let fused = attention.forward(&qkv, None).unwrap();
            let composed = attention.forward_composed(&qkv, None).unwrap();
            assert!(max_difference(&fused, &composed) < 1e-5);
            let weight = random(&[b, n, heads * d]);
            let gradient = |y: &Tensor| {
                let grads = (y * &weight).unwrap().sum_all().unwrap().backward().unwrap();
                grads.get(&qkv).unwrap().clone()
            };
            assert!(max_difference(&gradient(&fused), &gradient(&composed)) < 1e-5);
        }
    }

    #[test]
    fn the_gated_bias_agrees_with_its_composed_form_in_value_and_gradients() {
        let attention = Attention::new(24, 3, false).unwrap();
        let [qkv, table, gate] =
            [&[2, 53, 72][..], &[3, 105], &[2, 3, 53]].map(|shape| Var::from_tensor(&random(shape)).unwrap());
        let bias = GatedBias { table: table.as_tensor().clone(), gate: gate.as_tensor().clone() };
        let fused = attention.forward(&qkv, Some(&bias)).unwrap();
        let composed = attention.forward_composed(&qkv, Some(&bias)).unwrap();
        assert!(max_difference(&fused, &composed) < 1e-5);
        assert!(max_difference(&fused, &attention.forward(&qkv, None).unwrap()) > 1e-2);
        let weight = random(&[2, 53, 24]);
        let gradients = |y: &Tensor| (y * &weight).unwrap().sum_all().unwrap().backward().unwrap();
        let (fused, composed) = (gradients(&fused), gradients(&composed));
        for var in [&qkv, &table, &gate] {
            assert!(max_difference(fused.get(var).unwrap(), composed.get(var).unwrap()) < 1e-5);
        }
    }

    #[test]
    fn half_precision_stays_close_to_single() {
        let attention = Attention::new(32, 2, false).unwrap();
        let qkv = random(&[1, 17, 96]);
        let half = attention.forward(&qkv.to_dtype(DType::F16).unwrap(), None).unwrap();
        let single = attention.forward(&qkv, None).unwrap();
        assert!(max_difference(&half.to_dtype(DType::F32).unwrap(), &single) < 2e-2);
    }

    #[test]
    fn heads_that_do_not_divide_the_width_are_an_error() {
        assert!(matches!(Attention::new(10, 3, false), Err(Error::Argument { .. })));
        assert!(matches!(Attention::new(10, 0, false), Err(Error::Argument { .. })));
    }
}
