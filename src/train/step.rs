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
//! let noise = StepNoise { all_pairs: noise(2)?, positive: noise(1)?, dropout: None, negatives: None };
//! let terms = step(&acl, &features, &pixels, &noise, &LossWeights::default(), Activations::Store)?;
//! let gradients = terms.loss.backward()?;
//! assert!(variables.iter().any(|(_, variable)| gradients.get(variable).is_some()));
//! # Ok::<(), soundsight::Error>(())
//! ```

use candle_core::{D, DType, Tensor, Var};

use super::losses::{self, LossWeights};
use super::part::Part;
use super::sound_embedder::{SoundEmbedder, with_own_sounds};
pub use super::step_input::{Activations, NOISE_MARGIN, StepNegatives, StepNoise};
use crate::acl::{Acl, ImageFeatures, masked_features};
use crate::clip::VisionTower;
use crate::error::{Error, Result};
use crate::nn::{recompute, substitute};

/// The loss of a step, its terms, and the tensors that they were computed from, for B pictures and N sounds: as many,
/// unless the pictures are a [`Part`] of the batch.
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
    /// The mean area of the masks under their own sounds, in [0, 1] (see [`losses::mean_areas`]).
    pub positive_area: Tensor,
    /// The mean area of the masks under other sounds, in [0, 1] (see [`losses::mean_areas`]).
    pub negative_area: Tensor,
    /// The mean area of the masks under sounds that belong to no picture, in [0, 1]; `None` without such sounds.
    pub empty_area: Option<Tensor>,
    /// The embeddings of all N masked pictures, `[N, P]`; `None` when ACL_I is disabled.
    pub masked_images: Option<Tensor>,
    /// The masked features of picture b under sound n, `[B, N, P]`; `None` when ACL_F is disabled.
    pub masked_features: Option<Tensor>,
    /// The audio-driven embeddings of all N sounds, `[N, P]`; `[B, N, P]`, of sound n for picture b, where the
    /// [prompt depends on the picture](crate::acl::AclConfig::prompt_vectors).
    pub audio: Tensor,
    /// The raw logits of picture b under sound n, `[B, N, S, S]`, detached from the graph.
    pub logits: Tensor,
}

/// Computes the training loss of `acl` for B sounds, given as audio features `[B, T, 3D]` in the precision of the
/// tokenizer's weights, and their pictures `[B, 3, S, S]` in the precision of the frozen towers.
///
/// Gradients reach the AudioTokenizer, the masker and the net of a [learned prompt](crate::acl::PromptNet) if those are
/// trainable; everything else is frozen, and no graph is kept for it. The B × B masks are decoded one sound at a time and
/// recomputed in the backward pass.
///
/// With a learned prompt, a sound has another embedding in each picture (SouPLe, arXiv 2603.22732). The losses are the same,
/// with a\[b, n\], the embedding of sound n for picture b, wherever picture b meets sound n.
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
    step_of_part(&Part::whole(pixels.dim(0)?), acl, features, pixels, noise, weights, activations)
}

/// Computes the training loss of a batch of N pairs, of which this process has `part`: B sounds and their pictures, as
/// [`step`] takes them. The pictures are compared with all N sounds, and the terms are those of the whole batch.
///
/// All processes compute the same loss. The mean over the processes of their gradients is its gradient.
///
/// # Errors
/// Those of [`step`], and of [`Collective`](super::Collective). A part may be empty, the batch may not.
pub fn step_of_part(
    part: &Part,
    acl: &Acl,
    features: &Tensor,
    pixels: &Tensor,
    noise: &StepNoise,
    weights: &LossWeights,
    activations: Activations,
) -> Result<StepTerms> {
    weights.validate()?;
    let batch = pixels.dim(0)?;
    if features.dim(0)? != batch || part.len() != batch || part.total() == 0 {
        return Err(Error::shape("audio features", format!("[{}, T, 3D]", part.len().max(1)), features.dims()));
    }
    if batch == 0 {
        return step_without_pairs(part, acl, noise.negatives.as_ref(), weights, pixels);
    }
    let image = acl.image_features(pixels)?;
    let embedder = SoundEmbedder { acl, vectors: acl.prompt_vectors(&image)?, dtype: pixels.dtype(), activations };
    let (own_audio, audio) = embedder.embed_batch(part, features, noise.dropout.as_ref())?;
    let logits = all_pairs(acl, &image, &audio.to_dtype(pixels.dtype())?)?; // [B, N, S, S]
    let areas = losses::mask_areas(&acl.masker.hard_mask(&logits, &noise.all_pairs)?)?; // [B, N]
    let negative_audio = noise.negatives.as_ref().map(|negatives| embedder.embed_negatives(negatives)).transpose()?;
    let (mut empty, mut negative_logits) = (None, None);
    if let (Some(negatives), Some(audio)) = (&noise.negatives, &negative_audio) {
        let logits = all_pairs(acl, &image, &audio.to_dtype(pixels.dtype())?)?; // [B, K, S, S]
        empty = Some(losses::mask_areas(&acl.masker.hard_mask(&logits, &negatives.masks)?)?); // [B, K]
        negative_logits = Some(logits);
    }

    let mut own_images = None;
    if weights.acl_i > 0.0 {
        let own = with_own_sounds(&logits, part.first())?; // [B, 1, S, S]
        let mask = acl.masker.hard_mask(&own, &noise.positive)?.to_dtype(pixels.dtype())?;
        let masked = pixels.broadcast_mul(&mask)?;
        let tower = &acl.clipseg.clip.vision_model;
        let before_last = run_blocks(tower, &masked, tower.num_blocks() - 1, activations)?;
        own_images = Some(acl.clipseg.clip.embed_image_before_last(&before_last)?.to_dtype(DType::F32)?); // [B, P]
    }
    // Without a learned prompt, ACL_I follows from all images and sounds; the rows of its matrix are not exchanged.
    let matches = |audio: &Tensor| {
        let images = own_images.as_ref().filter(|_| embedder.vectors.is_some());
        images.map(|images| losses::image_similarities(audio, images)).transpose()
    };
    let (matches, further_matches) = (matches(&audio)?, negative_audio.as_ref().map(matches).transpose()?.flatten());
    let (mut under_masks, mut similarities, mut further) = (None, None, None);
    if weights.acl_f > 0.0 {
        let dense = acl.dense_features(&image)?.to_dtype(DType::F32)?;
        let features = masked_features(&dense, &logits)?; // [B, N, P]
        similarities = Some(losses::masked_similarities(&own_audio, &features)?); // [B, N]
        under_masks = Some(features);
        if let (Some(audio), Some(logits)) = (&negative_audio, &negative_logits) {
            further = Some(losses::negative_similarities(audio, &masked_features(&dense, logits)?)?); // [B, K]
        }
    }
    let rows = Rows { images: own_images, matches, further_matches, similarities, further, areas, empty };
    terms(audio, negative_audio.as_ref(), rows.gather(part)?, under_masks, logits.detach(), weights)
}

/// What [`step_of_part`] computes in a process without pairs: it takes part in the exchanges and knows the loss.
fn step_without_pairs(
    part: &Part,
    acl: &Acl,
    negatives: Option<&StepNegatives>,
    weights: &LossWeights,
    pixels: &Tensor,
) -> Result<StepTerms> {
    let (device, sounds, width) = (pixels.device(), part.total(), acl.config().clipseg.projection_dim);
    let zeros = |width: usize| Tensor::zeros((0, width), DType::F32, device);
    let learned = acl.prompt_net.is_some();
    // A variable, so that the backward pass exchanges gradients as in the other processes: those of rows before those of
    // sounds, on which rows depend.
    let own = Var::from_tensor(&zeros(if learned { acl.config().audio_token_dim() } else { width })?)?;
    let heard = part.gather(&own)?;
    let rows = |width: usize| substitute(&heard, &zeros(width)?, |heard, _| Ok(heard.zeros_like()?));
    let rows_if = |wanted: bool, width: usize| wanted.then(|| rows(width)).transpose();
    let (acl_i, acl_f) = (weights.acl_i > 0.0, weights.acl_f > 0.0);
    let num_negatives = negatives.map(|negatives| negatives.features.dim(0)).transpose()?;
    let further_if = |wanted: bool| num_negatives.filter(|_| wanted).map(rows).transpose();
    let rows = Rows {
        images: rows_if(acl_i, width)?,
        matches: rows_if(acl_i && learned, sounds)?,
        further_matches: further_if(acl_i && learned)?,
        similarities: rows_if(acl_f, sounds)?,
        further: further_if(acl_f)?,
        areas: rows(sounds)?,
        empty: further_if(true)?,
    };
    let rows = rows.gather(part)?;
    let side = acl.config().acl.image_size;
    let logits = Tensor::zeros((0, sounds, side, side), DType::F32, device)?;
    if learned {
        let audio = Tensor::zeros((0, sounds, width), DType::F32, device)?;
        return terms(audio, None, rows, None, logits, weights);
    }
    let embedder = SoundEmbedder { acl, vectors: None, dtype: pixels.dtype(), activations: Activations::Store };
    let negative_audio = negatives.map(|negatives| embedder.embed_negatives(negatives)).transpose()?;
    terms(heard, negative_audio.as_ref(), rows, None, logits, weights)
}

/// What is computed of each picture, and enters the loss of the whole batch.
struct Rows {
    /// The embedding of the masked picture, `[B, P]`; `None` when ACL_I is disabled.
    images: Option<Tensor>,
    /// [`losses::image_similarities`], `[B, N]`; `None` when ACL_I is disabled or the prompt is fixed.
    matches: Option<Tensor>,
    /// The same for negative sounds, `[B, K]`; also `None` when there are none.
    further_matches: Option<Tensor>,
    /// [`losses::masked_similarities`], `[B, N]`; `None` when ACL_F is disabled.
    similarities: Option<Tensor>,
    /// [`losses::negative_similarities`], `[B, K]`; `None` when ACL_F is disabled or there are no negative sounds.
    further: Option<Tensor>,
    /// [`losses::mask_areas`], `[B, N]`.
    areas: Tensor,
    /// The areas of the masks under negative sounds, `[B, K]`; `None` when there are none.
    empty: Option<Tensor>,
}

impl Rows {
    /// The rows of the whole batch. They travel together: each exchange costs time.
    fn gather(self, part: &Part) -> Result<Self> {
        let Self { images, matches, further_matches, similarities, further, areas, empty } = self;
        let columns = [images, matches, further_matches, similarities, further, Some(areas), empty];
        let all = part.gather(&Tensor::cat(&columns.iter().flatten().collect::<Vec<_>>(), 1)?)?;
        let mut from = 0;
        let gathered = columns.map(|columns| {
            let Some(columns) = columns else { return Ok(None) };
            let width = columns.dim(1)?;
            from += width;
            all.narrow(1, from - width, width).map(Some)
        });
        let [images, matches, further_matches, similarities, further, areas, empty] = gathered;
        let areas = areas?.ok_or_else(|| Error::shape("areas", "[B, N]", &[]))?;
        Ok(Self {
            images: images?,
            matches: matches?,
            further_matches: further_matches?,
            similarities: similarities?,
            further: further?,
            areas,
            empty: empty?,
        })
    }
}

/// The loss and its terms from all sounds and the negative sounds, as [`SoundEmbedder`] embeds them, and the rows of all pictures.
fn terms(
    audio: Tensor,
    negatives: Option<&Tensor>,
    rows: Rows,
    masked_features: Option<Tensor>,
    logits: Tensor,
    weights: &LossWeights,
) -> Result<StepTerms> {
    let Rows { images: masked_images, matches, further_matches, similarities, further, areas, empty } = rows;
    let (positive_area, negative_area) = losses::mean_areas(&areas)?;
    let empty_area = empty.map(|areas| areas.mean_all()).transpose()?;
    let acl_i = |images: &Tensor| match (&matches, negatives) {
        (Some(matches), _) => losses::symmetric_cross_entropy_with(matches, further_matches.as_ref()),
        (None, Some(negatives)) => losses::acl_i_with(&audio, images, negatives),
        (None, None) => losses::acl_i(&audio, images),
    };
    let acl_i = masked_images.as_ref().map(acl_i).transpose()?;
    let acl_f = |similarities| losses::symmetric_cross_entropy_with(similarities, further.as_ref());
    let acl_f = similarities.as_ref().map(acl_f).transpose()?;
    let area = || -> Result<Tensor> {
        let area = losses::area(&positive_area, &negative_area, weights)?;
        Ok(match &empty_area {
            Some(empty) => (area + empty)?,
            None => area,
        })
    };
    let area = (weights.area > 0.0).then(area).transpose()?;
    let mut loss = Tensor::zeros((), DType::F32, audio.device())?;
    for (weight, term) in [(weights.acl_i, &acl_i), (weights.acl_f, &acl_f), (weights.area, &area)] {
        if let Some(term) = term {
            loss = (&loss + (term * weight)?)?;
        }
    }
    Ok(StepTerms {
        loss,
        acl_i,
        acl_f,
        area,
        positive_area,
        negative_area,
        empty_area,
        masked_images,
        masked_features,
        audio,
        logits,
    })
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

/// The logits of each of B pictures under each of N sounds `[N, P]`, or `[B, N, P]` for each picture, decoded one sound at a
/// time: `[B, N, S, S]`.
fn all_pairs(acl: &Acl, image: &ImageFeatures, audio: &Tensor) -> Result<Tensor> {
    let pictures = image.deepest.dim(0)?;
    let columns = (0..audio.dim(D::Minus2)?).map(|n| {
        let embedding = audio.narrow(D::Minus2, n, 1)?.reshape(((), audio.dim(D::Minus1)?))?; // [1, P] or [B, P]
        // These clones share the weights.
        let (decoder, reduced) = (acl.clipseg.decoder.clone(), image.reduced.clone());
        let logits = recompute(&embedding, move |embedding| {
            let condition = embedding.broadcast_as((pictures, embedding.dim(1)?))?.contiguous()?;
            Ok(decoder.forward(&reduced, &condition)?.to_dtype(DType::F32)?)
        })?;
        Ok(logits.unsqueeze(1)?)
    });
    Ok(Tensor::cat(&columns.collect::<Result<Vec<_>>>()?, 1)?)
}
