//! Masks from logits: over the pixels of a picture, and over its features.
//!
//! Reimplements the [Gumbel sigmoid], the [image-level masker] and the [feature-level masker] of ACL, and the [masked
//! features] that they select.
//!
//! [Gumbel sigmoid]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/mask_utils.py#L5-L30
//! [image-level masker]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/mask_utils.py#L63-L114
//! [feature-level masker]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/mask_utils.py#L117-L144
//! [masked features]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/models.py#L207-L222

use candle_core::{D, DType, Tensor};

use super::audio_tokenizer::l2_normalize;
use crate::error::{Error, Result};
use crate::nn::{Interpolation, Weights, resize};

/// Temperature of the feature-level mask.
const FEATURE_TEMPERATURE: f64 = 0.07;
/// Margin by which the range of a map is widened before it is normalised.
const RANGE_EPS: f64 = 1e-7;
/// Added to the area of a mask, so that the mean over an empty mask is defined.
const AREA_EPS: f64 = 1e-6;

/// The image-level masker: two learned scalars that set the logit above which a pixel belongs to the sound.
#[derive(Clone, Debug)]
pub struct ImageMasker {
    w: Tensor,
    b: Tensor,
}

impl ImageMasker {
    /// The masker with the scalars `w` and `b` of `weights`.
    ///
    /// # Errors
    /// [`Error::Candle`] when `weights` lacks one of the tensors or has it in another shape.
    pub fn new<'a>(weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        Ok(Self { w: weights.get((), "w")?, b: weights.get((), "b")? })
    }

    /// A masker from two scalar tensors.
    pub fn from_tensors(w: Tensor, b: Tensor) -> Self {
        Self { w, b }
    }

    /// The offset `b/w` that is added to the logits of a heatmap.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when `w`, `b` or their quotient is not finite, so that it cannot produce a heatmap.
    /// [`Error::Candle`] when a scalar cannot be read from its device.
    pub fn offset(&self) -> Result<f32> {
        let scalar = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_scalar::<f32>();
        let (w, b) = (scalar(&self.w)?, scalar(&self.b)?);
        let offset = b / w;
        let named = [("masker_i.w", w), ("masker_i.b", b), ("masker_i.b / masker_i.w", offset)];
        match named.into_iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(offset),
            Some((name, _)) => {
                Err(Error::NonFinite { what: format!("`{name}`"), details: format!("w = {w}, b = {b}") })
            }
        }
    }

    /// The heatmap `σ(m + b/w)` in [0, 1] for logits m of any shape, in `f32`. It is used for inference.
    ///
    /// # Errors
    /// As [`ImageMasker::offset`]; [`Error::Candle`] for logits that are not floats.
    pub fn heatmap(&self, logits: &Tensor) -> Result<Tensor> {
        let offset = f64::from(self.offset()?);
        Ok(candle_nn::ops::sigmoid(&(logits.to_dtype(DType::F32)? + offset)?)?)
    }

    /// The mask of training, 0 or 1 per pixel, differentiable by the straight-through estimator: with
    /// `y = σ(w·m + b + ln(u/(1 − u)))` it is 1 where y > 0.5, and its gradient is that of y (Gumbel-sigmoid with
    /// temperature 1; Jang et al., arXiv 1611.01144). `noise` u is uniform in (0, 1), of the logits' shape.
    ///
    /// # Errors
    /// [`Error::Candle`] when the shapes differ.
    pub fn hard_mask(&self, logits: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let logistic = (noise.log()? - noise.affine(-1.0, 1.0)?.log()?)?;
        let y = logits.broadcast_mul(&self.w)?.broadcast_add(&self.b)?;
        let y = candle_nn::ops::sigmoid(&(y + logistic)?)?;
        let value = y.detach();
        let hard = value.gt(0.5)?.to_dtype(value.dtype())?;
        Ok(((hard - value)? + y)?)
    }
}

/// The soft mask over features: each map `[…, H, W]` is normalised by its own minimum and maximum and resized (nearest)
/// to `grid` × `grid`; then `σ((m̂ − 0.5)/0.07)` is applied. The published code resizes last. The result is the same,
/// because nearest-neighbour resizing only selects pixels, but here the sigmoid is computed for the selected ones only.
///
/// # Errors
/// [`Error::Shape`] for fewer than two dimensions.
pub fn feature_mask(logits: &Tensor, grid: usize) -> Result<Tensor> {
    let rank = logits.rank();
    let flat = logits.flatten_from(D::Minus2)?;
    let extreme = |t: Tensor| t.unsqueeze(rank - 1); // […, 1, 1]
    let low = (extreme(flat.min_keepdim(D::Minus1)?)? - RANGE_EPS)?;
    let high = (extreme(flat.max_keepdim(D::Minus1)?)? + RANGE_EPS)?;
    let picked = resize(logits, grid, grid, Interpolation::Nearest)?;
    let unit = picked.broadcast_sub(&low)?.broadcast_div(&(high - &low)?)?;
    Ok(candle_nn::ops::sigmoid(&((unit - 0.5)? * (1.0 / FEATURE_TEMPERATURE))?)?)
}

/// The mean feature of the region that each mask covers: `v[b, n] = Σ dense[b]·F[b, n] / (ΣF + 1e-6)`, with F the
/// [`feature_mask`] of the logits on the grid of the features. As in the published code, ΣF runs over the *whole*
/// tensor; this scale cancels where only the direction of a feature matters.
///
/// `dense` `[B, G·G, P]`, `logits` `[B, N, S, S]` → `[B, N, P]`.
///
/// # Errors
/// [`Error::Candle`] when the shapes do not fit.
pub fn masked_features(dense: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let (batch, patches, _) = dense.dims3()?;
    let (_, sounds, _, _) = logits.dims4()?;
    let mask = feature_mask(logits, patches.isqrt())?;
    let total = (mask.sum_all()? + AREA_EPS)?;
    let sums = mask.reshape((batch, sounds, patches))?.matmul(dense)?;
    Ok(sums.broadcast_div(&total)?)
}

/// Cosine similarity over the last dimension.
pub(crate) fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(l2_normalize(a)?.broadcast_mul(&l2_normalize(b)?)?.sum(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_masker_that_makes_no_heatmap_is_refused_by_name() {
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        let masker = |w, b| ImageMasker::from_tensors(scalar(w), scalar(b));
        assert_eq!(masker(10.0, 14.0).offset().unwrap(), 1.4);
        let logits = Tensor::zeros((1, 2, 2), DType::F32, &Device::Cpu).unwrap();
        for (w, b, name) in [
            (0.0, 14.0, "`masker_i.b / masker_i.w`"),
            (0.0, 0.0, "`masker_i.b / masker_i.w`"),
            (f32::NAN, 14.0, "`masker_i.w`"),
            (f32::INFINITY, 14.0, "`masker_i.w`"),
            (10.0, f32::NAN, "`masker_i.b`"),
            (1e-30, 1e30, "`masker_i.b / masker_i.w`"),
        ] {
            for error in [masker(w, b).offset().unwrap_err(), masker(w, b).heatmap(&logits).unwrap_err()] {
                assert!(matches!(&error, Error::NonFinite { what, .. } if what == name), "{w} {b}: {error}");
            }
        }
    }
}
