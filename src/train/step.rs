//! One training step of ACL: from a batch of sounds and pictures to the loss.
//!
//! The published loop runs the image encoder B + 2 times per batch: once for each sound, once for the dense features
//! and once for the masked pictures. The activations do not depend on the sound, so here it runs only twice: once for
//! the batch (the decoder and the dense features share this pass) and once for the masked pictures. The result is the
//! same.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use soundsight::train::Trainable;
//! use soundsight::train::losses::LossWeights;
//! use soundsight::train::step::{Activations, StepNoise, step};
//! use soundsight::{Localizer, Picture, Waveform};
//!
//! let localizer = Localizer::load("tests/fixtures/alt")?; // a model of random weights
//! let (head, variables) = Trainable::from_scratch(localizer.acl().config(), 7, &Device::Cpu)?.into_parts();
//! let acl = localizer.acl().with_trained_head(head);
//!
//! // A batch of two pairs; the second is made from the first.
//! let sound = Waveform::open("tests/fixtures/alt/clip.wav")?;
//! let picture = Picture::open("tests/fixtures/alt/frame.png")?;
//! let sounds = [sound.window(0.5, 1.0)?, sound];
//! let pictures = [picture.flip_horizontal(), picture];
//! let features = acl.audio_features(&localizer.fbank(&sounds)?)?;
//! let pixels = localizer.pixels(&pictures)?;
//!
//! let side = acl.config().acl.image_size;
//! let noise = |masks: usize| Tensor::full(0.5f32, (2, masks, side, side), &Device::Cpu);
//! let noise = StepNoise { all_pairs: noise(2)?, positive: noise(1)?, dropout: None };
//! let terms = step(&acl, &features, &pixels, &noise, &LossWeights::default(), Activations::Store)?;
//! let gradients = terms.loss.backward()?;
//! assert!(variables.iter().any(|(_, variable)| gradients.get(variable).is_some()));
//! # Ok::<(), soundsight::Error>(())
//! ```

use candle_core::{DType, Tensor};

use super::losses::{self, LossWeights};
use crate::acl::{Acl, AudioTokenizer, ImageFeatures, masked_features};
use crate::clip::VisionTower;
use crate::error::{Error, Result};
use crate::nn::recompute;

/// The uniform noise of one step, in (0, 1). It is passed in, so that a step can be repeated exactly.
#[derive(Clone, Debug)]
pub struct StepNoise {
    /// The noise of the masks whose areas are measured: picture b under sound n, `[B, B, S, S]`.
    pub all_pairs: Tensor,
    /// The noise of the masks by which the pictures are multiplied, `[B, 1, S, S]`.
    pub positive: Tensor,
    /// The noise of the dropout in the unary potential, `[B, N, H]`: hidden units with noise below
    /// [`AudioTokenizer::DROPOUT`] are dropped. `None` disables dropout.
    pub dropout: Option<Tensor>,
}

/// The distance that the noise of masks keeps from 0 and 1, where its logarithm would be infinite.
pub const NOISE_MARGIN: f32 = 1e-4;

/// K sounds that belong to no picture, for one step, and their noise.
#[derive(Clone, Debug)]
pub struct StepNegatives {
    /// BEATs features, `[K, N, 3D]`.
    pub features: Tensor,
    /// The noise of their masks, in (0, 1): picture b under sound k, `[B, K, S, S]`.
    pub masks: Tensor,
    /// The noise of the dropout, `[K, N, H]`, as in [`StepNoise::dropout`].
    pub dropout: Option<Tensor>,
}

/// How to keep the vision tower's activations for the masked pictures, which take most of the memory of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// Store them until the backward pass.
    #[default]
    Store,
    /// Store only the input of each block and run the block again in the backward pass: the same gradients with less
    /// memory, at the cost of another pass through the vision tower.
    Recompute,
}

/// The loss of a step, its terms, and the tensors that they were computed from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTerms {
    /// The weighted sum of the terms.
    pub loss: Tensor,
    /// [`losses::acl_i`]; `None` when disabled.
    pub acl_i: Option<Tensor>,
    /// [`losses::acl_f`]; `None` when disabled.
    pub acl_f: Option<Tensor>,
    /// [`losses::area`]; `None` when disabled.
    pub area: Option<Tensor>,
    /// The mean area of the masks under their own sounds, in [0, 1] (see [`losses::areas`]).
    pub positive_area: Tensor,
    /// The mean area of the masks under other sounds, in [0, 1] (see [`losses::areas`]).
    pub negative_area: Tensor,
    /// The mean area of the masks under sounds that belong to no picture, in [0, 1]; `None` without such sounds.
    pub empty_area: Option<Tensor>,
    /// The embeddings of the masked pictures, `[B, P]`; `None` when ACL_I is disabled.
    pub masked_images: Option<Tensor>,
    /// The masked features of picture b under sound n, `[B, B, P]`; `None` when ACL_F is disabled.
    pub masked_features: Option<Tensor>,
    /// The audio-driven embeddings, `[B, P]`.
    pub audio: Tensor,
    /// The raw logits of picture b under sound n, `[B, B, S, S]`, detached from the graph.
    pub logits: Tensor,
}

/// Computes the training loss of `acl` for B sounds, given as BEATs features `[B, N, 3D]` in the precision of the
/// tokenizer's weights, and their pictures `[B, 3, S, S]` in the precision of the frozen towers.
///
/// Gradients reach the AudioTokenizer and the masker if those are trainable; everything else is frozen, and no graph is
/// kept for it. The B × B masks are decoded one sound at a time and recomputed in the backward pass.
///
/// # Errors
/// [`Error::Shape`] when the batch sizes differ or are zero, [`Error::Config`] when `weights` is invalid.
pub fn step(
    acl: &Acl,
    features: &Tensor,
    pixels: &Tensor,
    noise: &StepNoise,
    weights: &LossWeights,
    activations: Activations,
) -> Result<StepTerms> {
    step_with(acl, features, pixels, noise, None, weights, activations)
}

/// [`step`] with sounds that belong to no picture. The area loss gains the mean area of their masks, which should be 0; ACL_I
/// and ACL_F become [`losses::acl_i_with`] and [`losses::acl_f_with`]. Gradients reach the AudioTokenizer through these sounds
/// too.
///
/// # Errors
/// As [`step`]; [`Error::Candle`] when the shapes of `negatives` do not fit.
pub fn step_with(
    acl: &Acl,
    features: &Tensor,
    pixels: &Tensor,
    noise: &StepNoise,
    negatives: Option<&StepNegatives>,
    weights: &LossWeights,
    activations: Activations,
) -> Result<StepTerms> {
    weights.validate()?;
    let batch = pixels.dim(0)?;
    if batch == 0 || features.dim(0)? != batch {
        return Err(Error::shape("audio features", format!("[{}, N, 3D]", batch.max(1)), features.dims()));
    }
    let embed = |features: &Tensor, dropout: Option<&Tensor>| -> Result<Tensor> {
        let dropout = dropout.map(keep_mask).transpose()?;
        let tokens = acl.audio_tokenizer.forward_dropout(features, dropout.as_ref())?;
        acl.audio_embedding(&tokens.to_dtype(pixels.dtype())?)
    };
    let audio = embed(features, noise.dropout.as_ref())?;

    let image = acl.image_features(pixels)?;
    let logits = all_pairs(acl, &image, &audio)?; // [B, B, S, S]
    let audio = audio.to_dtype(DType::F32)?;
    let negatives = negatives.map(|negatives| -> Result<_> {
        let audio = embed(&negatives.features, negatives.dropout.as_ref())?;
        let logits = all_pairs(acl, &image, &audio)?; // [B, K, S, S]
        let area = acl.masker.hard_mask(&logits, &negatives.masks)?.mean_all()?;
        Ok((audio.to_dtype(DType::F32)?, logits, area))
    });
    let negatives = negatives.transpose()?;

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
        let term = match &negatives {
            Some((negatives, _, _)) => losses::acl_i_with(&audio, &embeddings, negatives)?,
            None => losses::acl_i(&audio, &embeddings)?,
        };
        add(weights.acl_i, &term)?;
        (acl_i, masked_images) = (Some(term), Some(embeddings));
    }
    let (mut acl_f, mut under_masks) = (None, None);
    if weights.acl_f > 0.0 {
        let dense = acl.dense_features(&image)?.to_dtype(DType::F32)?;
        let features = masked_features(&dense, &logits)?;
        let term = match &negatives {
            Some((negatives, logits, _)) => {
                losses::acl_f_with(&audio, &features, negatives, &masked_features(&dense, logits)?)?
            }
            None => losses::acl_f(&audio, &features)?,
        };
        add(weights.acl_f, &term)?;
        (acl_f, under_masks) = (Some(term), Some(features));
    }
    let mut area = None;
    if weights.area > 0.0 {
        let mut term = losses::area(&positive_area, &negative_area, weights)?;
        if let Some((_, _, area)) = &negatives {
            term = (term + area)?;
        }
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
        empty_area: negatives.map(|(_, _, area)| area),
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
        let tower = tower.clone(); // shares the weights
        x = recompute(&x, move |x| Ok(tower.run_blocks(x, block..block + 1)?.swap_remove(0)))?;
    }
    Ok(x)
}

/// The logits of every picture under every sound, `[B, N, S, S]`, decoded one sound at a time.
fn all_pairs(acl: &Acl, image: &ImageFeatures, audio: &Tensor) -> Result<Tensor> {
    let batch = image.deepest.dim(0)?;
    let columns = (0..audio.dim(0)?).map(|n| {
        let embedding = audio.narrow(0, n, 1)?;
        // These clones share the weights.
        let (decoder, reduced) = (acl.clipseg.decoder.clone(), image.reduced.clone());
        let logits = recompute(&embedding, move |embedding| {
            let condition = embedding.broadcast_as((batch, embedding.dim(1)?))?.contiguous()?;
            Ok(decoder.forward(&reduced, &condition)?.to_dtype(DType::F32)?)
        })?;
        Ok(logits.unsqueeze(1)?)
    });
    Ok(Tensor::cat(&columns.collect::<Result<Vec<_>>>()?, 1)?)
}
