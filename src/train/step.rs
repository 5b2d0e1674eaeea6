//! What a training step of ACL computes: from a batch of sounds and pictures to the loss.
//!
//! The published loop runs the image encoder B + 2 times per batch: once for every sound, once for the dense features,
//! once for the masked pictures. Activations do not depend on the sound, so here it runs once for the batch (decoder
//! and dense features read the same pass) and once for the masked pictures. The result is the same.

use candle_core::{DType, Tensor};

use super::losses::{self, LossWeights};
use crate::acl::{Acl, AudioTokenizer, ImageFeatures, masked_features};
use crate::clip::VisionTower;
use crate::error::{Error, Result};
use crate::nn::recompute;

/// The uniform noise of one step, all in (0, 1). Injected, so that a step can be repeated exactly.
#[derive(Clone, Debug)]
pub struct StepNoise {
    /// Of the masks whose areas are measured: picture b under sound n, `[B, B, S, S]`.
    pub all_pairs: Tensor,
    /// Of the masks that pictures are multiplied with, `[B, 1, S, S]`.
    pub positive: Tensor,
    /// Which hidden units of the unary potential are dropped, those below
    /// [`AudioTokenizer::DROPOUT`], `[B, N, H]`; `None` for no dropout.
    pub dropout: Option<Tensor>,
}

/// What to do with the activations of the vision tower for the masked pictures, which are most of the memory of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// Store them until the backward pass.
    #[default]
    Store,
    /// Store only the input of each block and run the block again in the backward pass: the same gradients from less
    /// memory, for one more pass of the vision tower.
    Recompute,
}

/// A step's loss, its terms and the tensors that they were computed from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTerms {
    /// The weighted sum.
    pub loss: Tensor,
    /// [`losses::acl_i`]; `None` where switched off.
    pub acl_i: Option<Tensor>,
    /// [`losses::acl_f`]; `None` where switched off.
    pub acl_f: Option<Tensor>,
    /// [`losses::area`]; `None` where switched off.
    pub area: Option<Tensor>,
    /// Mean area of the masks under their own sound, in [0, 1].
    pub positive_area: Tensor,
    /// Mean area of the masks under other sounds as published, in [0, 1].
    pub negative_area: Tensor,
    /// Embeddings of the masked pictures, `[B, P]`; `None` where ACL_I is switched off.
    pub masked_images: Option<Tensor>,
    /// Features under the masks, picture b under sound n, `[B, B, P]`; `None` where ACL_F is switched off.
    pub masked_features: Option<Tensor>,
    /// Audio-driven embeddings `[B, P]`.
    pub audio: Tensor,
    /// Raw logits of picture b under sound n, `[B, B, S, S]`, without their graph.
    pub logits: Tensor,
}

/// Computes the training loss of `acl` for B sounds, given as BEATs features `[B, N, 3D]` in the precision of the
/// tokenizer's weights, and their pictures `[B, 3, S, S]` in the precision of the frozen towers.
///
/// Gradients reach the AudioTokenizer and the masker where those are trainable; everything else is frozen, and no graph
/// is kept for it. The B × B masks are decoded one sound at a time and recomputed in the backward pass.
///
/// # Errors
/// [`Error::Shape`] when batch sizes differ or are zero, [`Error::Config`] for invalid weights.
pub fn step(
    acl: &Acl,
    features: &Tensor,
    pixels: &Tensor,
    noise: &StepNoise,
    weights: &LossWeights,
    activations: Activations,
) -> Result<StepTerms> {
    weights.validate()?;
    let batch = pixels.dim(0)?;
    if batch == 0 || features.dim(0)? != batch {
        return Err(Error::shape("audio features", format!("[{}, N, 3D]", batch.max(1)), features.dims()));
    }
    let dropout = noise.dropout.as_ref().map(keep_mask).transpose()?;
    let tokens = acl.audio_tokenizer.forward_dropout(features, dropout.as_ref())?;
    let audio = acl.audio_embedding(&tokens.to_dtype(pixels.dtype())?)?;

    let image = acl.image_features(pixels)?;
    let logits = all_pairs(acl, &image, &audio)?; // [B, B, S, S]
    let audio = audio.to_dtype(DType::F32)?;

    let (positive_area, negative_area) = losses::areas(&acl.masker.hard_mask(&logits, &noise.all_pairs)?)?;
    let mut loss = Tensor::zeros((), DType::F32, pixels.device())?;
    let mut add = |weight: f64, term: &Tensor| -> Result<()> {
        loss = (&loss + (term * weight)?)?;
        Ok(())
    };

    let (mut acl_i, mut masked_images) = (None, None);
    if weights.acl_i > 0.0 {
        let own = (0..batch).map(|b| logits.narrow(0, b, 1)?.narrow(1, b, 1));
        let own = Tensor::cat(&own.collect::<candle_core::Result<Vec<_>>>()?, 0)?; // [B, 1, S, S]
        let mask = acl.masker.hard_mask(&own, &noise.positive)?.to_dtype(pixels.dtype())?;
        let masked = pixels.broadcast_mul(&mask)?;
        let tower = &acl.clipseg.clip.vision_model;
        let before_last = run_blocks(tower, &masked, tower.num_blocks() - 1, activations)?;
        let embeddings = acl.clipseg.clip.embed_image_before_last(&before_last)?.to_dtype(DType::F32)?;
        let term = losses::acl_i(&audio, &embeddings)?;
        add(weights.acl_i, &term)?;
        (acl_i, masked_images) = (Some(term), Some(embeddings));
    }
    let (mut acl_f, mut under_masks) = (None, None);
    if weights.acl_f > 0.0 {
        let dense = acl.dense_features(&image)?.to_dtype(DType::F32)?;
        let features = masked_features(&dense, &logits)?;
        let term = losses::acl_f(&audio, &features)?;
        add(weights.acl_f, &term)?;
        (acl_f, under_masks) = (Some(term), Some(features));
    }
    let mut area = None;
    if weights.area > 0.0 {
        let term = losses::area(&positive_area, &negative_area, weights)?;
        add(weights.area, &term)?;
        area = Some(term);
    }
    Ok(StepTerms {
        loss,
        acl_i,
        acl_f,
        area,
        positive_area,
        negative_area,
        masked_images,
        masked_features: under_masks,
        audio,
        logits: logits.detach(),
    })
}

/// Turns uniform noise into the factors of the hidden units: 0 for dropped ones, 1/(1 − p) for the others.
fn keep_mask(noise: &Tensor) -> Result<Tensor> {
    let keep = noise.ge(AudioTokenizer::DROPOUT)?.to_dtype(noise.dtype())?;
    Ok((keep * (1.0 / (1.0 - AudioTokenizer::DROPOUT)))?)
}

/// The hidden state after the first `count` blocks.
fn run_blocks(tower: &VisionTower, pixels: &Tensor, count: usize, activations: Activations) -> Result<Tensor> {
    let kept = if activations == Activations::Store { count } else { 0 };
    let mut x = tower.forward_blocks(pixels, kept)?.hidden_states.swap_remove(kept);
    for block in kept..count {
        let tower = tower.clone(); // a handle
        x = recompute(&x, move |x| Ok(tower.run_blocks(x, block..block + 1)?.swap_remove(0)))?;
    }
    Ok(x)
}

/// Logits of every picture under every sound, `[B, B, S, S]`, sound by sound.
fn all_pairs(acl: &Acl, image: &ImageFeatures, audio: &Tensor) -> Result<Tensor> {
    let batch = audio.dim(0)?;
    let columns = (0..batch).map(|n| {
        let embedding = audio.narrow(0, n, 1)?;
        // Clones are handles: the weights are shared, not copied.
        let (decoder, reduced) = (acl.clipseg.decoder.clone(), image.reduced.clone());
        let logits = recompute(&embedding, move |embedding| {
            let condition = embedding.broadcast_as((batch, embedding.dim(1)?))?.contiguous()?;
            Ok(decoder.forward(&reduced, &condition)?.to_dtype(DType::F32)?)
        })?;
        Ok(logits.unsqueeze(1)?)
    });
    Ok(Tensor::cat(&columns.collect::<Result<Vec<_>>>()?, 1)?)
}
