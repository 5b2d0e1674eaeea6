//! ACL's three losses (arXiv 2311.04066, section 3.3).
//!
//! Symbols: B batch size, P dimension of CLIP's joint embedding space, β = 1/0.07. Row b of a similarity matrix belongs
//! to picture b or sound b, and its diagonal contains the pairs that were recorded together.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use soundsight::train::losses::acl_i;
//!
//! # fn main() -> soundsight::Result<()> {
//! let audio = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
//! let (right, swapped) = (audio.clone(), audio.flip(&[0])?);
//! // The loss is low when each sound is most similar to its own masked picture.
//! assert!(acl_i(&audio, &right)?.to_scalar::<f32>()? < acl_i(&audio, &swapped)?.to_scalar::<f32>()?);
//! # Ok(())
//! # }
//! ```

use candle_core::{D, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::acl::{cosine, l2_normalize};
use crate::error::{Error, Result};

/// β, the factor by which both contrastive losses multiply cosine similarities.
pub const INVERSE_TEMPERATURE: f64 = 1.0 / 0.07;

/// The weights of the losses, the target areas of the area loss, and the sounds that belong to no picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossWeights {
    /// The weight of [`acl_i`]; 0 disables it, and the masked pictures are then not encoded.
    pub acl_i: f64,
    /// The weight of [`acl_f`]; 0 disables it.
    pub acl_f: f64,
    /// The weight of [`area`]; 0 disables it.
    pub area: f64,
    /// The fraction of the picture that the mask of its own sound should cover, in [0, 1].
    pub positive_area: f64,
    /// The fraction of the picture that the mask of another sound should cover, in [0, 1].
    pub negative_area: f64,
    /// How many times silence is among the sounds that belong to no picture, in each step; 0 as published.
    #[serde(skip_serializing_if = "is_zero")]
    pub silence_negatives: usize,
    /// The number of noises among the sounds that belong to no picture, drawn anew in each step; 0 as published.
    #[serde(skip_serializing_if = "is_zero")]
    pub noise_negatives: usize,
}

/// Runs of earlier versions, whose settings do not have these numbers, can thus be resumed.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Default for LossWeights {
    /// The published values: all weights 1, areas 0.4 and 0, no sounds that belong to no picture.
    fn default() -> Self {
        Self {
            acl_i: 1.0,
            acl_f: 1.0,
            area: 1.0,
            positive_area: 0.4,
            negative_area: 0.0,
            silence_negatives: 0,
            noise_negatives: 0,
        }
    }
}

impl LossWeights {
    /// Checks that the weights are finite and not negative, that at least one of them is not 0, and that the areas are
    /// in [0, 1].
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (name, weight) in [("acl_i", self.acl_i), ("acl_f", self.acl_f), ("area", self.area)] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::config(format!("weight of the loss {name}"), "a number ≥ 0", weight));
            }
        }
        if self.acl_i + self.acl_f + self.area == 0.0 {
            return Err(Error::config("weights of the losses", "at least one above 0", "all 0"));
        }
        for (name, area) in [("positive_area", self.positive_area), ("negative_area", self.negative_area)] {
            if !(0.0..=1.0).contains(&area) {
                return Err(Error::config(name, "a fraction of the picture in [0, 1]", area));
            }
        }
        Ok(())
    }
}

/// Cross entropy of similarities `[B, B]` (times β) with the diagonal as target, averaged over both directions:
/// `½(CE(βS) + CE(βSᵀ))`. It is ln B if all similarities are equal.
///
/// # Errors
/// [`Error::Shape`] when the matrix is not square.
pub fn symmetric_cross_entropy(similarities: &Tensor) -> Result<Tensor> {
    symmetric_cross_entropy_with(similarities, None)
}

/// [`symmetric_cross_entropy`] with further candidates: `½(CE(β[S E]) + CE(βSᵀ))`, where the similarities E `[B, K]` of each
/// picture with K sounds that belong to no picture make each row longer. The targets are the same.
///
/// # Errors
/// [`Error::Shape`] when S is not square; [`Error::Candle`] when E has another number of rows.
pub fn symmetric_cross_entropy_with(similarities: &Tensor, further: Option<&Tensor>) -> Result<Tensor> {
    let (rows, columns) = similarities.dims2()?;
    if rows != columns {
        return Err(Error::shape("similarities", "[B, B]", similarities.dims()));
    }
    let direction = |similarities: &Tensor| -> Result<Tensor> {
        let logits = (similarities * INVERSE_TEMPERATURE)?;
        let targets = diagonal(rows, logits.device())?;
        Ok(candle_nn::loss::cross_entropy(&logits, &targets)?)
    };
    let forward = match further {
        Some(further) => direction(&Tensor::cat(&[similarities, further], 1)?)?,
        None => direction(similarities)?,
    };
    Ok(((forward + direction(&similarities.t()?.contiguous()?)?)? * 0.5)?)
}

/// ACL_I: pulls each sound towards its own masked picture and away from the others:
/// `½(CE(β cos(a_i, v_j)) + CE(transpose))`, with audio-driven embeddings a `[B, P]`, and image embeddings v `[B, P]`
/// of the pictures multiplied by their own image-level masks.
///
/// # Errors
/// [`Error::Shape`] when the batch sizes differ, [`Error::Candle`] when the other dimensions do.
pub fn acl_i(audio: &Tensor, masked_images: &Tensor) -> Result<Tensor> {
    let similarities = l2_normalize(audio)?.matmul(&l2_normalize(masked_images)?.t()?)?;
    symmetric_cross_entropy(&similarities)
}

/// [`acl_i`] with K sounds that belong to no picture, whose embeddings are `negatives` `[K, P]`: a masked picture should match
/// its own sound better than each of them, `½(CE(β[cos(v_j, a_i) cos(v_j, a_k)]) + CE(β cos(a_i, v_j)))`.
///
/// # Errors
/// As [`acl_i`].
pub fn acl_i_with(audio: &Tensor, masked_images: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    let images = l2_normalize(masked_images)?;
    let similarities = |sounds: &Tensor| -> Result<Tensor> { Ok(images.matmul(&l2_normalize(sounds)?.t()?)?) };
    symmetric_cross_entropy_with(&similarities(audio)?, Some(&similarities(negatives)?))
}

/// ACL_F: the features of picture b under the mask of sound n should match sound **b** only if n = b:
/// `L[b, n] = cos(v[b, n], a_b)`, `½(CE(βL) + CE(βLᵀ))`, with masked features v `[B, B, P]` and audio-driven embeddings
/// a `[B, P]`.
///
/// # Errors
/// [`Error::Candle`] when the shapes do not match.
pub fn acl_f(audio: &Tensor, masked_features: &Tensor) -> Result<Tensor> {
    symmetric_cross_entropy(&masked_similarities(audio, masked_features)?)
}

/// [`acl_f`] with K sounds that belong to no picture, whose embeddings are `negatives` `[K, P]`: the features of picture b
/// under the mask of sound k, `under_negatives` `[B, K, P]`, should match sound k worse than those under the mask of its own
/// sound match that one. Row b of the similarities gets those of [`negative_similarities`].
///
/// # Errors
/// As [`acl_f`].
pub fn acl_f_with(
    audio: &Tensor,
    masked_features: &Tensor,
    negatives: &Tensor,
    under_negatives: &Tensor,
) -> Result<Tensor> {
    let further = negative_similarities(negatives, under_negatives)?;
    symmetric_cross_entropy_with(&masked_similarities(audio, masked_features)?, Some(&further))
}

/// E of [`acl_f_with`] `[B, K]`: `E[b, k] = cos(v[b, k], a_k)`, the confidence of inference, with the features v `[B, K, P]` of
/// picture b under the mask of sound k, and embeddings a `[K, P]`, or `[B, K, P]` where they depend on the picture.
///
/// # Errors
/// [`Error::Candle`] when the shapes do not match.
pub fn negative_similarities(negatives: &Tensor, under_negatives: &Tensor) -> Result<Tensor> {
    cosine(under_negatives, negatives)
}

/// L of [`acl_f`] `[B, N]`: `L[b, n] = cos(v[b, n], a_b)` with masked features v `[B, N, P]` and audio-driven embeddings
/// a `[B, P]`.
///
/// # Errors
/// [`Error::Candle`] when the shapes do not match.
pub fn masked_similarities(audio: &Tensor, masked_features: &Tensor) -> Result<Tensor> {
    cosine(masked_features, &audio.unsqueeze(1)?)
}

/// The similarities of [`acl_i`] where the embedding of a sound depends on the picture (SouPLe, arXiv 2603.22732), a row for
/// each picture: `cos(v_b, a[b, n])` `[B, N]`, with image embeddings v `[B, P]` and audio-driven embeddings a `[B, N, P]` of
/// sound n for picture b, or `[N, P]` where they are the same for all. They enter [`symmetric_cross_entropy_with`].
///
/// # Errors
/// [`Error::Candle`] when the shapes do not match.
pub fn image_similarities(audio: &Tensor, masked_images: &Tensor) -> Result<Tensor> {
    cosine(audio, &masked_images.unsqueeze(1)?)
}

/// The areas of masks `[B, N, S, S]` (picture b under sound n), as fractions of the picture: `[B, N]`.
///
/// # Errors
/// [`Error::Candle`] when `masks` does not have four dimensions.
pub fn mask_areas(masks: &Tensor) -> Result<Tensor> {
    let (_, _, _, _) = masks.dims4()?;
    Ok(masks.flatten_from(2)?.mean(D::Minus1)?)
}

/// Means of areas A `[B, B]` (picture b under sound n): `p = mean_b A[b, b]` for the pairs and, as published,
/// `n = mean_{b,n} A[b, n] − p/B` for all other combinations.
///
/// # Errors
/// [`Error::Candle`] when `areas` is not square.
pub fn mean_areas(areas: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, _) = areas.dims2()?;
    let index = diagonal(batch, areas.device())?.unsqueeze(1)?;
    let positive = areas.contiguous()?.gather(&index, 1)?.mean_all()?;
    let negative = (areas.mean_all()? - (&positive / batch as f64)?)?;
    Ok((positive, negative))
}

/// The area loss `|p − p̂| + |n − n̂|` of the [`mean_areas`] p and n, with the target areas p̂ and n̂ of `weights`.
///
/// # Errors
/// [`Error::Candle`] when the shapes of p and n differ.
pub fn area(positive: &Tensor, negative: &Tensor, weights: &LossWeights) -> Result<Tensor> {
    let positive = (positive - weights.positive_area)?.abs()?;
    Ok((positive + (negative - weights.negative_area)?.abs()?)?)
}

fn diagonal(batch: usize, device: &Device) -> Result<Tensor> {
    Ok(Tensor::arange(0, batch as u32, device)?)
}
