//! The gradient of attention.
//!
//! The attention weights are recomputed, which is cheaper than keeping `[B, H, N, N]` from the forward pass. Let `P` be
//! the weights and `dP = g·vᵀ`. Then `dv = Pᵀ·g`, `dS = P∘(dP − Σⱼ P∘dP)`, `dq = scale·dS·k` and `dk = scale·dSᵀ·q`.
//! For a gated bias, `dgate_i = Σⱼ dS_ij·table_(j−i)` and `dtable_(j−i) = Σᵢ gate_i·dS_ij`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::instructions::arch;
use super::super::matrix::{Block, Epilogue, MatrixRef, NR, PackedMatrix};
use super::super::simd;
use super::{Attention, Fused, Heads};

/// The gradient of `qkv` `[B, N, 3D]`, given the gradient `g` `[B, N, D]` of the output.
pub(super) fn without_bias(attention: Attention, qkv: &Tensor, g: &Tensor) -> Result<Tensor> {
    let op = Backward { attention, bias: None };
    qkv.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &op)?.reshape(qkv.shape())
}

/// The gradients of `qkv` `[B, N, 3D]`, `table` `[H, 2N − 1]` and `gate` `[B, H, N]`.
pub(super) fn with_bias(
    attention: Attention,
    qkv: &Tensor,
    table: &Tensor,
    gate: &Tensor,
    g: &Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let op = Backward { attention, bias: Some((values(table)?, values(gate)?)) };
    let all = qkv.contiguous()?.apply_op2_no_bwd(&g.contiguous()?, &op)?;
    let mut start = 0;
    let mut next = |like: &Tensor| {
        let part = all.narrow(0, start, like.elem_count())?.reshape(like.shape());
        start += like.elem_count();
        part
    };
    Ok((next(qkv)?, next(table)?, next(gate)?))
}

/// All gradients, concatenated.
struct Backward {
    attention: Attention,
    /// The gradients of table and gate.
    bias: Option<(Vec<f32>, Vec<f32>)>,
}

impl CustomOp2 for Backward {
    fn name(&self) -> &'static str {
        "attention-backward"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, heads) = Fused(self.attention).heads(super::super::storage::slice(qkv, layout)?, layout)?;
        let g = super::super::storage::slice(g, g_layout)?;
        let Attention { num_heads, scale, causal } = self.attention;
        let Heads { num_tokens: n, width, head_dim, .. } = heads;
        let reach = 2 * n - 1;
        let parts: Vec<HeadGradients> = (0..batch * num_heads)
            .into_par_iter()
            .map(|i| {
                let (sample, head) = (i / num_heads, i % num_heads);
                let g = MatrixRef {
                    data: &g[sample * n * width + head * head_dim..],
                    rows: n,
                    columns: head_dim,
                    row_stride: width,
                    column_stride: 1,
                };
                let [q, k, v] = [0, 1, 2].map(|part| heads.matrix(sample, part, head));
                let bias =
                    self.bias.as_ref().map(|(table, gate)| (&table[head * reach..][..reach], &gate[i * n..][..n]));
                arch().dispatch(HeadBackward { q, k, v, g, bias, scale: scale as f32, causal })
            })
            .collect();
        let mut out = super::super::storage::zeros(batch * n * 3 * width);
        out.par_chunks_mut(3 * width).enumerate().for_each(|(row, out)| {
            let (sample, token) = (row / n, row % n);
            for (head, part) in parts[sample * num_heads..(sample + 1) * num_heads].iter().enumerate() {
                let part = &part.qkv[token * 3 * head_dim..(token + 1) * 3 * head_dim];
                for (i, gradient) in part.chunks_exact(head_dim).enumerate() {
                    out[i * width + head * head_dim..][..head_dim].copy_from_slice(gradient);
                }
            }
        });
        if self.bias.is_some() {
            let mut table = vec![0f32; num_heads * reach];
            for (i, part) in parts.iter().enumerate() {
                let sums = &mut table[i % num_heads * reach..][..reach];
                sums.iter_mut().zip(&part.table).for_each(|(sum, x)| *sum += x);
            }
            out.extend(table);
            parts.iter().for_each(|part| out.extend(&part.gate));
        }
        let len = out.len();
        Ok((CpuStorage::F32(out), len.into()))
    }
}

/// Products on the calling thread, with reusable memory.
#[derive(Default)]
struct Products {
    packed: PackedMatrix,
    scratch: Vec<f32>,
}

impl Products {
    /// `out = a · b`. Not a closure: closures are not always inlined, and outside the function that enables the vector
    /// instructions, each of those instructions would become a function call.
    #[inline(always)]
    fn run<S: Simd>(&mut self, simd: S, a: MatrixRef<'_>, b: MatrixRef<'_>, out: &mut [f32], stride: usize) {
        self.packed.pack(b);
        let panels = 0..b.columns.div_ceil(NR);
        let Self { packed: b, scratch } = self;
        Block { a, b, panels, epilogue: Epilogue::default(), out, out_stride: stride, scratch }.with_simd(simd);
    }
}

/// The gradients of one head in one sample.
struct HeadGradients {
    /// dq, dk and dv side by side, `[N, 3d]`.
    qkv: Vec<f32>,
    /// `[2N − 1]`; empty without a bias.
    table: Vec<f32>,
    /// `[N]`; empty without a bias.
    gate: Vec<f32>,
}

struct HeadBackward<'a> {
    q: MatrixRef<'a>,
    k: MatrixRef<'a>,
    v: MatrixRef<'a>,
    g: MatrixRef<'a>,
    /// This head's table `[2N − 1]` and gate `[N]`.
    bias: Option<(&'a [f32], &'a [f32])>,
    scale: f32,
    causal: bool,
}

impl WithSimd for HeadBackward<'_> {
    type Output = HeadGradients;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> HeadGradients {
        let Self { q, k, v, g, bias, scale, causal } = self;
        let (n, d) = (q.rows, q.columns);
        let mut products = Products::default();
        let mut weights = vec![0f32; n * n];
        products.run(simd, q, k.transposed(), &mut weights, n);
        for (i, row) in weights.chunks_exact_mut(n).enumerate() {
            let visible = if causal { i + 1 } else { n };
            simd::scale_in_place(simd, &mut row[..visible], scale);
            if let Some((table, gate)) = bias {
                simd::add_scaled(simd, row, &table[n - 1 - i..][..n], gate[i]);
            }
            simd::softmax_in_place(simd, &mut row[..visible]);
            row[visible..].fill(0.0);
        }
        let mut out = vec![0f32; n * 3 * d];
        products.run(simd, MatrixRef::new(&weights, n, n).transposed(), g, &mut out[2 * d..], 3 * d);
        let mut dlogits = vec![0f32; n * n];
        products.run(simd, g, v.transposed(), &mut dlogits, n);
        for (ds, p) in dlogits.chunks_exact_mut(n).zip(weights.chunks_exact(n)) {
            let mean = simd::dot(simd, ds, p);
            for (ds, p) in ds.iter_mut().zip(p) {
                *ds = p * (*ds - mean);
            }
        }
        let (mut dtable, mut dgate) = (Vec::new(), Vec::new());
        if let Some((table, gate)) = bias {
            dtable.resize(2 * n - 1, 0.0);
            for (i, (ds, gate)) in dlogits.chunks_exact(n).zip(gate).enumerate() {
                dgate.push(simd::dot(simd, ds, &table[n - 1 - i..][..n]));
                simd::add_scaled(simd, &mut dtable[n - 1 - i..][..n], ds, *gate);
            }
        }
        simd::scale_in_place(simd, &mut dlogits, scale);
        let ds = MatrixRef::new(&dlogits, n, n);
        products.run(simd, ds, k, &mut out, 3 * d);
        products.run(simd, ds.transposed(), q, &mut out[d..], 3 * d);
        HeadGradients { qkv: out, table: dtable, gate: dgate }
    }
}
