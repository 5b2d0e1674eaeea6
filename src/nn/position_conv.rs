//! The convolutional position embedding, as one matrix product per group of channels.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::activation::Activation;
use super::format::Precision;
use super::matrix::{Epilogue, MatrixRef, PackedMatrix, matmul};
use crate::error::{Error, Result};

/// The convolutional position embedding of wav2vec 2.0 and its descendants (Baevski et al., arXiv 2006.11477): a
/// grouped convolution along the tokens with a wide kernel. The input is padded on both sides by half of the kernel
/// width, and the surplus output of an even kernel is dropped.
#[derive(Clone, Debug)]
pub(crate) struct PositionConv {
    kernel: Kernel,
    bias: Tensor,
    groups: usize,
    width: usize,
}

#[derive(Clone)]
enum Kernel {
    /// Frozen `f32` weights on the CPU: one packed matrix `[width · D/groups, D/groups]` per group.
    Packed(Arc<Vec<PackedMatrix>>),
    /// All others, `[D, D/groups, width]`.
    Plain(Tensor),
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Packed(_) => "packed",
            Self::Plain(_) => "plain",
        })
    }
}

impl PositionConv {
    /// Creates a convolution from `weight` `[D, D/groups, width]` and `bias` `[D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shape of the weight does not match the number of groups.
    pub fn from_tensors(weight: Tensor, bias: Tensor, groups: usize) -> Result<Self> {
        let (dim, per_group, width) = weight.dims3()?;
        if groups == 0 || per_group * groups != dim {
            return Err(Error::shape(
                "weight of the position convolution",
                format!("[D, D/{groups}, width]"),
                weight.dims(),
            ));
        }
        let kernel = if super::storage::is_cpu_f32(&weight) && !weight.track_op() && !bias.track_op() {
            Kernel::Packed(Arc::new(pack(&weight)?))
        } else {
            Kernel::Plain(weight)
        };
        Ok(Self { kernel, bias, groups, width })
    }

    /// `[B, N, D]` → `gelu(conv(x))`, `[B, N, D]`.
    ///
    /// # Errors
    /// [`Error::Candle`] when the number of channels differs. A frozen `f32` convolution on the CPU has no backward
    /// pass.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Packed(groups) => {
                let op = Frozen { groups: groups.clone(), bias: self.bias.to_vec1()?, width: self.width };
                Ok(x.contiguous()?.apply_op1(op)?)
            }
            Kernel::Plain(weight) if super::storage::is_cpu_f32(weight) && super::storage::is_cpu_f32(x) => {
                let y = x.contiguous()?.apply_op2(&weight.contiguous()?, Trainable { groups: self.groups })?;
                Activation::Gelu.forward(&y.broadcast_add(&self.bias)?)
            }
            Kernel::Plain(weight) => self.forward_composed(x, weight),
        }
    }

    /// The same, composed of Candle operations.
    fn forward_composed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let tokens = x.dim(1)?;
        let y = if weight.track_op() {
            self.windows_composed(x, weight)?
        } else {
            let y = x.transpose(1, 2)?.contiguous()?.conv1d(weight, self.width / 2, 1, 1, self.groups)?;
            y.narrow(2, 0, tokens)?.transpose(1, 2)?
        };
        Activation::Gelu.forward(&y.broadcast_add(&self.bias)?.contiguous()?)
    }

    /// The convolution as a product with copied windows. Candle 0.11 computes a wrong gradient for the kernel of
    /// `conv1d` with more than one input channel.
    fn windows_composed(&self, x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, dim) = x.dims3()?;
        let (width, groups, per_group) = (self.width, self.groups, dim / self.groups);
        let padded = x.pad_with_zeros(1, width / 2, width - width / 2)?;
        let windows = (0..width).map(|i| padded.narrow(1, i, tokens)).collect::<candle_core::Result<Vec<_>>>()?;
        let windows = Tensor::stack(&windows, 2)? // [B, N, width, D]
            .reshape((batch * tokens, width, groups, per_group))?
            .permute((2, 0, 3, 1))? // [groups, B·N, D/groups, width]
            .reshape((groups, batch * tokens, per_group * width))?;
        let kernels = weight.reshape((groups, per_group, per_group * width))?.transpose(1, 2)?.contiguous()?;
        windows.matmul(&kernels)?.transpose(0, 1)?.reshape((batch, tokens, dim))
    }
}

/// Packs the kernels `[D, D/groups, width]` for products with windows of tokens, as one `[width · D/groups, D/groups]`
/// per group. Channels are innermost, so that a window is one contiguous row.
fn pack(weight: &Tensor) -> candle_core::Result<Vec<PackedMatrix>> {
    let (_, per_group, width) = weight.dims3()?;
    let rows = weight.permute((0, 2, 1))?.flatten_all()?.to_vec1::<f32>()?;
    let depth = width * per_group;
    let groups = rows.chunks_exact(depth * per_group);
    Ok(groups
        .map(|g| PackedMatrix::for_matmul(MatrixRef::new(g, per_group, depth).transposed(), Precision::Highest))
        .collect())
}

/// `[B, N, D]`, split into groups of channels.
#[derive(Clone, Copy)]
struct Grouped<'a> {
    x: &'a [f32],
    tokens: usize,
    dim: usize,
    per_group: usize,
}

impl<'a> Grouped<'a> {
    fn new(x: &'a [f32], layout: &Layout, num_groups: usize) -> candle_core::Result<Self> {
        let (_, tokens, dim) = layout.shape().dims3()?;
        Ok(Self { x, tokens, dim, per_group: dim / num_groups.max(1) })
    }

    /// The channels of one group in one sample, `[tokens + width, per_group]`, padded with zeros: `left` tokens before,
    /// the remaining ones after.
    fn padded(&self, sample: usize, group: usize, width: usize, left: usize) -> Vec<f32> {
        let per_group = self.per_group;
        let mut padded = vec![0f32; (self.tokens + width) * per_group];
        let body = padded[left * per_group..].chunks_exact_mut(per_group).take(self.tokens);
        for (token, out) in body.enumerate() {
            let row = (sample * self.tokens + token) * self.dim;
            out.copy_from_slice(&self.x[row + group * per_group..][..per_group]);
        }
        padded
    }

    /// Every window of `width` tokens as a row. Each starts one token after the previous one, so the rows overlap.
    fn windows<'b>(&self, padded: &'b [f32], width: usize) -> MatrixRef<'b> {
        MatrixRef {
            data: padded,
            rows: self.tokens,
            columns: width * self.per_group,
            row_stride: self.per_group,
            column_stride: 1,
        }
    }

    /// Each group's windows times its kernel, `[B, N, D]`.
    fn convolve(&self, kernels: &[PackedMatrix], width: usize, left: usize, bias: Option<&[f32]>) -> Vec<f32> {
        let (tokens, dim, per_group) = (self.tokens, self.dim, self.per_group);
        let num_groups = kernels.len();
        let batch = self.x.len() / (tokens * dim).max(1);
        let parts: Vec<Vec<f32>> = (0..batch * num_groups)
            .into_par_iter()
            .map(|i| {
                let (sample, group) = (i / num_groups, i % num_groups);
                let padded = self.padded(sample, group, width, left);
                let mut out = vec![0f32; tokens * per_group];
                let epilogue = Epilogue {
                    bias: bias.map(|bias| &bias[group * per_group..][..per_group]),
                    activation: bias.map(|_| Activation::Gelu),
                };
                matmul(self.windows(&padded, width), &kernels[group], epilogue, &mut out);
                out
            })
            .collect();
        let mut out = super::storage::zeros(self.x.len());
        out.par_chunks_mut(dim).enumerate().for_each(|(row, out)| {
            let (sample, token) = (row / tokens, row % tokens);
            for (group, part) in parts[sample * num_groups..(sample + 1) * num_groups].iter().enumerate() {
                out[group * per_group..][..per_group].copy_from_slice(&part[token * per_group..][..per_group]);
            }
        });
        out
    }
}

/// `gelu(conv(x) + bias)` with constant kernels.
struct Frozen {
    groups: Arc<Vec<PackedMatrix>>,
    bias: Vec<f32>,
    width: usize,
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "position-conv"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = Grouped::new(super::storage::slice(x, layout)?, layout, self.groups.len())?;
        if x.dim != self.bias.len() {
            candle_core::bail!("position convolution: expected {} channels, found {}", self.bias.len(), x.dim);
        }
        let out = x.convolve(&self.groups, self.width, self.width / 2, Some(&self.bias));
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

/// `conv(x)` with trainable kernels `[D, D/groups, width]`.
struct Trainable {
    groups: usize,
}

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "trainable-position-conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = Grouped::new(super::storage::slice(x, layout)?, layout, self.groups)?;
        let (dim, per_group, width) = weight_layout.shape().dims3()?;
        if x.dim != dim {
            candle_core::bail!("position convolution: expected {dim} channels, found {}", x.dim);
        }
        let weight = Tensor::from_slice(
            super::storage::slice(weight, weight_layout)?,
            (dim, per_group, width),
            &candle_core::Device::Cpu,
        )?;
        let out = x.convolve(&pack(&weight)?, width, width / 2, None);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    /// The gradient of the input is the convolution of `g` with the flipped kernels; that of a kernel is the product of
    /// `gᵀ` and the windows.
    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let (dim, per_group, width) = weight.dims3()?;
        let dx = if x.track_op() {
            let kernels = weight.detach().reshape((self.groups, per_group, per_group, width))?;
            let turned = kernels.transpose(1, 2)?.contiguous()?.flip(&[3])?.reshape((dim, per_group, width))?;
            let kernels = pack(&turned)?;
            Some(g.apply_op1_no_bwd(&InputGradient { kernels, width })?)
        } else {
            None
        };
        let dweight = g.apply_op2_no_bwd(&x.detach(), &KernelGradient { groups: self.groups, width })?;
        Ok((dx, Some(dweight)))
    }
}

struct InputGradient {
    kernels: Vec<PackedMatrix>,
    width: usize,
}

impl CustomOp1 for InputGradient {
    fn name(&self) -> &'static str {
        "position-conv-input-gradient"
    }

    fn cpu_fwd(&self, g: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let grouped = Grouped::new(super::storage::slice(g, layout)?, layout, self.kernels.len())?;
        let left = self.width - 1 - self.width / 2;
        let out = grouped.convolve(&self.kernels, self.width, left, None);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }
}

struct KernelGradient {
    groups: usize,
    width: usize,
}

impl CustomOp2 for KernelGradient {
    fn name(&self) -> &'static str {
        "position-conv-kernel-gradient"
    }

    fn cpu_fwd(
        &self,
        g: &CpuStorage,
        g_layout: &Layout,
        x: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, tokens, dim) = layout.shape().dims3()?;
        let width = self.width;
        let x = Grouped::new(super::storage::slice(x, layout)?, layout, self.groups)?;
        let g = super::storage::slice(g, g_layout)?;
        let per_group = x.per_group;
        let parts: Vec<Vec<f32>> = (0..self.groups)
            .into_par_iter()
            .map(|group| {
                let mut sum = vec![0f32; per_group * width * per_group]; // [out, width, in]
                let mut part = sum.clone();
                let mut packed = PackedMatrix::default();
                for sample in 0..batch {
                    let g = MatrixRef {
                        data: &g[sample * tokens * dim + group * per_group..],
                        rows: tokens,
                        columns: per_group,
                        row_stride: dim,
                        column_stride: 1,
                    };
                    let padded = x.padded(sample, group, width, width / 2);
                    packed.pack(x.windows(&padded, width));
                    matmul(g.transposed(), &packed, Epilogue::default(), &mut part);
                    sum.iter_mut().zip(&part).for_each(|(sum, x)| *sum += x);
                }
                sum
            })
            .collect();
        let mut out = vec![0f32; dim * per_group * width];
        for (o, out) in out.chunks_exact_mut(per_group * width).enumerate() {
            let kernel = &parts[o / per_group][o % per_group * width * per_group..];
            for (i, out) in out.iter_mut().enumerate() {
                *out = kernel[i % width * per_group + i / width];
            }
        }
        Ok((CpuStorage::F32(out), (dim, per_group, width).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::{max_difference, random};

    #[test]
    fn the_position_convolution_agrees_with_candle() {
        for (dim, groups, width, tokens) in [(12, 3, 8, 20), (8, 8, 5, 3), (6, 1, 4, 9)] {
            let (w, b, x) = (random(&[dim, dim / groups, width]), random(&[dim]), random(&[2, tokens, dim]));
            let layer = PositionConv::from_tensors(w.clone(), b, groups).unwrap();
            let composed = layer.forward_composed(&x, &w).unwrap();
            assert!(max_difference(&layer.forward(&x).unwrap(), &composed) < 1e-4);

            let (w, x) = (Var::from_tensor(&w).unwrap(), Var::from_tensor(&x).unwrap());
            let layer = PositionConv::from_tensors(w.as_tensor().clone(), layer.bias, groups).unwrap();
            let fused = layer.forward(&x).unwrap();
            assert!(max_difference(&fused, &composed) < 1e-4);
            let gradients = |y: &Tensor| y.sin().unwrap().sum_all().unwrap().backward().unwrap();
            let (fused, composed) = (gradients(&fused), gradients(&layer.forward_composed(&x, &w).unwrap()));
            for var in [&w, &x] {
                assert!(max_difference(fused.get(var).unwrap(), composed.get(var).unwrap()) < 1e-3);
            }
        }
    }
}
