//! The convolutions before and after the vision tower, each implemented as a matrix product.

use candle_core::{D, Tensor};

use super::activation::Activation;
use super::linear::Linear;
use super::weights::Weights;
use crate::error::{Error, Result};

/// A convolution that cuts the picture into square patches, each of which becomes a token (Dosovitskiy et al., arXiv
/// 2010.11929). Usually its stride is the patch size; with a smaller one, patches overlap.
#[derive(Clone, Debug)]
pub(crate) struct PatchEmbedding {
    projection: Linear,
    channels: usize,
    patch: usize,
    /// From a patch to the one below it, and to the one beside it.
    strides: (usize, usize),
}

impl PatchEmbedding {
    /// Maps `channels` → `dim` over patches of `patch` × `patch`. Takes `weight` `[dim, channels, patch, patch]` and,
    /// if `bias` is true, `bias` `[dim]` from `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape.
    pub fn new(channels: usize, dim: usize, patch: usize, bias: bool, weights: Weights<'_>) -> Result<Self> {
        Self::with_strides(channels, dim, patch, (patch, patch), bias, weights)
    }

    /// Like [`PatchEmbedding::new`], with patches that begin every `strides` pixels, vertically and horizontally.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape; [`Error::Argument`] for a stride of zero.
    pub fn with_strides(
        channels: usize,
        dim: usize,
        patch: usize,
        strides: (usize, usize),
        bias: bool,
        weights: Weights<'_>,
    ) -> Result<Self> {
        if strides.0 == 0 || strides.1 == 0 {
            return Err(Error::argument("strides of patches", "at least 1", format!("{strides:?}")));
        }
        let weight = weights.get((dim, channels, patch, patch), "weight")?;
        let bias = if bias { Some(weights.get(dim, "bias")?) } else { None };
        let projection = Linear::derived(move || Ok((weight.flatten_from(1)?, bias.clone())))?;
        Ok(Self { projection, channels, patch, strides })
    }

    /// `[B, C, H, W]` → `[B, rows·columns, dim]`, in row-major order, with `rows = ⌊(H − patch)/stride⌋ + 1` (H/patch, if
    /// patches do not overlap). Incomplete patches at the lower and right borders are dropped, as in a convolution.
    ///
    /// # Errors
    /// [`Error::Shape`] when the picture is smaller than one patch, or the number of channels differs.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (p, c) = (self.patch, self.channels);
        let expected = || Error::shape("picture", format!("[B, {c}, ≥ {p}, ≥ {p}]"), x.dims());
        let [batch, channels, height, width] = *x.dims() else { return Err(expected()) };
        if channels != c || height < p || width < p {
            return Err(expected());
        }
        let (rows, columns) = ((height - p) / self.strides.0 + 1, (width - p) / self.strides.1 + 1);
        let x = lay_out(x, 2, p, self.strides.0, rows)?;
        let x = lay_out(&x, 3, p, self.strides.1, columns)?;
        let patches = x
            .reshape((batch, c, rows, p, columns, p))?
            .permute((0, 2, 4, 1, 3, 5))? // [B, rows, columns, C, p, p]
            .reshape((batch, rows * columns, c * p * p))?;
        self.projection.forward(&patches)
    }
}

/// The `count` pieces of `size` elements that begin every `stride` elements of dimension `dim`, one after the other.
fn lay_out(x: &Tensor, dim: usize, size: usize, stride: usize, count: usize) -> Result<Tensor> {
    if size == stride {
        return Ok(if count * size == x.dim(dim)? { x.clone() } else { x.narrow(dim, 0, count * size)? });
    }
    let indices: Vec<u32> = (0..count).flat_map(|i| (0..size).map(move |j| (i * stride + j) as u32)).collect();
    let indices = Tensor::from_vec(indices, count * size, x.device())?;
    Ok(x.contiguous()?.index_select(&indices, dim)?)
}

/// A transposed convolution whose kernel size equals its stride: every pixel becomes a square of `scale` × `scale`.
#[derive(Clone, Debug)]
pub(crate) struct TransposedConv {
    projection: Linear,
    out_channels: usize,
    scale: usize,
}

impl TransposedConv {
    /// Maps `in_channels` → `out_channels`. Takes `weight` `[in, out, scale, scale]` and `bias` `[out]` from `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`] when a tensor is missing or has another shape.
    pub fn new(in_channels: usize, out_channels: usize, scale: usize, weights: Weights<'_>) -> Result<Self> {
        let square = scale * scale;
        let weight = weights.get((in_channels, out_channels, scale, scale), "weight")?;
        let bias = weights.get(out_channels, "bias")?;
        let projection = Linear::derived(move || {
            let weight = weight.flatten_from(1)?.t()?.contiguous()?; // [out·scale², in]
            let bias = bias.unsqueeze(1)?.broadcast_as((out_channels, square))?.contiguous()?;
            Ok((weight, Some(bias.flatten_all()?)))
        })?;
        Ok(Self { projection, out_channels, scale })
    }

    /// `[B, H, W, in]` → `[B, H·scale, W·scale, out]`, channels last.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of channels differs.
    pub fn forward(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        let (b, h, w, _) = x.dims4()?;
        let (s, c) = (self.scale, self.out_channels);
        let y = match activation {
            Some(activation) => self.projection.forward_activated(x, activation)?,
            None => self.projection.forward(x)?,
        };
        let y = y.reshape((b * h, w, c, s, s))?.permute((0, 3, 1, 4, 2))?; // [B·H, s, W, s, C]
        Ok(y.reshape((b, h * s, w * s, c))?)
    }
}

/// A 3 × 3 convolution with zero padding: `[B, H, W, in]` → `[B, H, W, out]`, channels last. `layer` maps the
/// concatenated channels of the nine neighbours, `[9·in]` in row-major order, to `out`; see [`conv3x3_weight`].
///
/// # Errors
/// [`Error::Shape`] when the input width of the layer is not nine times the number of channels.
pub(crate) fn conv3x3(x: &Tensor, layer: &Linear, activation: Option<Activation>) -> Result<Tensor> {
    let (_, h, w, _) = x.dims4()?;
    let padded = x.pad_with_zeros(1, 1, 1)?.pad_with_zeros(2, 1, 1)?;
    let neighbours =
        (0..9).map(|i| padded.narrow(1, i / 3, h)?.narrow(2, i % 3, w)).collect::<candle_core::Result<Vec<_>>>()?;
    let columns = Tensor::cat(&neighbours, D::Minus1)?;
    match activation {
        Some(activation) => layer.forward_activated(&columns, activation),
        None => layer.forward(&columns),
    }
}

/// The layer for [`conv3x3`], from `weight` `[out, in, 3, 3]` and `bias` `[out]` in `weights`.
///
/// # Errors
/// [`Error::Candle`] when a tensor is missing or has another shape.
pub(crate) fn conv3x3_weight(in_channels: usize, out_channels: usize, weights: Weights<'_>) -> Result<Linear> {
    let weight = weights.get((out_channels, in_channels, 3, 3), "weight")?;
    let bias = weights.get(out_channels, "bias")?;
    Linear::derived(move || {
        let weight = weight.permute((0, 2, 3, 1))?.reshape((out_channels, 9 * in_channels))?;
        Ok((weight, Some(bias.clone())))
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::nn::testing::{builder, max_difference, random};

    #[test]
    fn patches_agree_with_a_strided_convolution() {
        let (w, b, x) = (random(&[7, 3, 4, 4]), random(&[7]), random(&[2, 3, 14, 9]));
        let layer = PatchEmbedding::new(3, 7, 4, true, builder(&[("weight", &w), ("bias", &b)]).into()).unwrap();
        let expected = x.conv2d(&w, 0, 4, 1, 1).unwrap().flatten_from(2).unwrap().transpose(1, 2).unwrap();
        let expected = expected.broadcast_add(&b).unwrap();
        assert!(max_difference(&layer.forward(&x).unwrap(), &expected) < 1e-4);
        let small = random(&[1, 3, 3, 9]);
        assert!(matches!(layer.forward(&small), Err(Error::Shape { .. })));
    }

    #[test]
    fn overlapping_patches_agree_with_a_convolution_in_value_and_gradient() {
        let (w, b) = (random(&[7, 2, 4, 4]), random(&[7]));
        let x = Var::from_tensor(&random(&[2, 2, 14, 11])).unwrap();
        let builder = builder(&[("weight", &w), ("bias", &b)]);
        let layer = PatchEmbedding::with_strides(2, 7, 4, (3, 3), true, builder.clone().into()).unwrap();
        let expected = x.conv2d(&w, 0, 3, 1, 1).unwrap().flatten_from(2).unwrap().transpose(1, 2).unwrap();
        let expected = expected.broadcast_add(&b).unwrap();
        let found = layer.forward(&x).unwrap();
        assert!(max_difference(&found, &expected) < 1e-4);
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        assert!(max_difference(&gradient(&found), &gradient(&expected)) < 1e-2);
        // Different strides: a subset of the patches.
        let wide = PatchEmbedding::with_strides(2, 7, 4, (3, 6), true, builder.clone().into()).unwrap();
        let columns =
            found.reshape((2, 4, 3, 7)).unwrap().index_select(&Tensor::new(&[0u32, 2], x.device()).unwrap(), 2);
        assert_eq!(max_difference(&wide.forward(&x).unwrap(), &columns.unwrap().flatten(1, 2).unwrap()), 0.0);
        let none = PatchEmbedding::with_strides(2, 7, 4, (0, 3), true, builder.into());
        assert!(matches!(none, Err(Error::Argument { .. })));
    }

    #[test]
    fn the_transposed_convolution_agrees_with_candle_in_value_and_gradient() {
        let (w, b) = (random(&[5, 3, 4, 4]), random(&[3]));
        let x = Var::from_tensor(&random(&[2, 5, 6, 7])).unwrap();
        let layer = TransposedConv::new(5, 3, 4, builder(&[("weight", &w), ("bias", &b)]).into()).unwrap();
        let ours = layer.forward(&x.permute((0, 2, 3, 1)).unwrap(), None).unwrap().permute((0, 3, 1, 2)).unwrap();
        let theirs = x.conv_transpose2d(&w, 0, 0, 4, 1).unwrap();
        let theirs = theirs.broadcast_add(&b.reshape((1, 3, 1, 1)).unwrap()).unwrap();
        assert!(max_difference(&ours, &theirs) < 1e-4);
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        assert!(max_difference(&gradient(&ours), &gradient(&theirs)) < 1e-2);
    }

    #[test]
    fn the_3x3_convolution_agrees_with_candle_in_value_and_gradient() {
        let (w, b) = (random(&[6, 5, 3, 3]), random(&[6]));
        let x = Var::from_tensor(&random(&[2, 5, 8, 7])).unwrap();
        let layer = conv3x3_weight(5, 6, builder(&[("weight", &w), ("bias", &b)]).into()).unwrap();
        let ours = conv3x3(&x.permute((0, 2, 3, 1)).unwrap(), &layer, None).unwrap().permute((0, 3, 1, 2)).unwrap();
        let theirs = x.conv2d(&w, 1, 1, 1, 1).unwrap().broadcast_add(&b.reshape((1, 6, 1, 1)).unwrap()).unwrap();
        assert!(max_difference(&ours, &theirs) < 1e-4);
        let gradient = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        assert!(max_difference(&gradient(&ours), &gradient(&theirs)) < 1e-2);
    }
}
