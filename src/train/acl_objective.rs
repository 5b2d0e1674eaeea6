//! The training [`Objective`] of ACL.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::collective::{Alone, Collective, agree};
use super::config::Goal;
use super::losses::LossWeights;
use super::metrics::Metrics;
use super::negatives::NegativeSounds;
use super::objective::{Objective, StepOutput, Validation};
use super::part::Part;
use super::step::{Activations, NOISE_MARGIN, StepNoise, StepTerms, step, step_of_part};
use super::trainable::Trainable;
use super::validation::Tally;
use crate::acl::{Acl, ModelConfig, TrainedHead};
use crate::data::{
    AudioInput, BatchSource, FeatureCache, Loaded, Loader, MediaReader, PairBatch, PairDataset, PairReader,
};
use crate::error::{Error, Result};
use crate::weights::{AudioEncoderKind, ModelFiles, save_safetensors};

/// The validation metrics that can select the best epoch, each with the direction in which it improves.
pub const BEST_METRICS: [(&str, Goal); 6] = [
    ("loss", Goal::Minimize),
    ("acl_i", Goal::Minimize),
    ("acl_f", Goal::Minimize),
    ("area", Goal::Minimize),
    ("retrieval_i", Goal::Maximize),
    ("retrieval_f", Goal::Maximize),
];

/// Which sounds a picture is compared with where several processes train together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// Those of its own batch, which one process has whole ([`Sharing::Batches`](crate::data::Sharing::Batches)).
    #[default]
    Local,
    /// Those of its batch, of which each process has a part ([`Sharing::Parts`](crate::data::Sharing::Parts)). The
    /// processes exchange the embeddings of masked pictures and of sounds (their audio tokens, where embeddings depend on the
    /// picture), and the gradients of both.
    Global,
}

/// ACL's losses over batches of pairs. The AudioTokenizer, the masker and, where the prompt is learned, the net that makes it
/// are trained; everything else is frozen.
///
/// Validation computes the same losses on held-out pairs, without dropout and always with the same noise. It also
/// reports:
///
/// - `retrieval_i`: the fraction of sounds for which ACL_I ranks their own picture first among the pictures of the
///   batch, each masked by its own sound.
/// - `retrieval_f`: the fraction of sounds for which the confidence of inference ranks their own picture first among
///   the pictures of the batch, each masked by the sound in question.
/// - `retrieval_chance`: the fraction expected from guessing.
/// - `mask_area`: the mean fraction of the picture that a pair's mask covers, computed as in inference (heatmap ≥ ½).
/// - `masks_full`, `masks_empty`: the fractions of pairs whose mask covers more than 99 % or less than 0.1 % of the
///   picture.
/// - `masks_alike`: the mean overlap (intersection over union) of a picture's masks under its own and under another
///   sound; 1 when the sound has no effect.
#[derive(Debug)]
pub struct AclObjective<'a, R = MediaReader> {
    files: &'a ModelFiles,
    acl: Acl,
    vars: Vec<(String, Var)>,
    weights: LossWeights,
    negative_sounds: Option<NegativeSounds>,
    activations: Activations,
    device: Device,
    dtype: DType,
    cache: Option<FeatureCache>,
    validation: Option<Loader<PairDataset<R>>>,
    group: Arc<dyn Collective>,
    negatives: Negatives,
}

impl<'a, R: PairReader> AclObjective<'a, R> {
    /// Creates the objective that trains `trainable` within `acl`, whose other parts stay frozen. `acl` was loaded from
    /// `files` onto `device` as `dtype`; the trainable parts always compute in f32.
    ///
    /// # Errors
    /// [`Error::Config`] when `weights` is invalid (see [`LossWeights::validate`]).
    pub fn new(
        files: &'a ModelFiles,
        acl: &Acl,
        trainable: Trainable,
        weights: LossWeights,
        device: Device,
        dtype: DType,
    ) -> Result<Self> {
        weights.validate()?;
        let (head, vars) = trainable.into_parts();
        let acl = acl.with_trained_head(head);
        let negative_sounds = NegativeSounds::new(&acl, &weights, &device, dtype)?;
        let (activations, negatives) = (Activations::default(), Negatives::default());
        let (cache, validation, group) = (None, None, Arc::new(Alone));
        Ok(Self {
            files,
            acl,
            vars,
            weights,
            negative_sounds,
            activations,
            device,
            dtype,
            cache,
            validation,
            group,
            negatives,
        })
    }

    /// Trains in several processes: this one of `group`. The batches must be shared as `negatives` says; those of the
    /// validation are shared as [`Sharing::Batches`](crate::data::Sharing::Batches).
    #[must_use]
    pub fn with_group(mut self, group: Arc<dyn Collective>, negatives: Negatives) -> Self {
        (self.group, self.negatives) = (group, negatives);
        self
    }

    /// Sets whether activations are stored for the backward pass (the default) or recomputed. A resumed run may change
    /// this.
    #[must_use]
    pub fn with_activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// Stores audio features in `cache`, which must be the cache that the readers of the data use.
    #[must_use]
    pub fn with_cache(mut self, cache: FeatureCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Validates on the batches of `source`, which must contain at least two pairs each.
    #[must_use]
    pub fn with_validation(mut self, source: Loader<PairDataset<R>>) -> Self {
        self.validation = Some(source);
        self
    }

    /// This objective's part of the run's configuration, for [`Trainer::start`](super::Trainer::start): the digests of
    /// the model's files, the precision, the loss weights, the negatives, whether features are cached, and the validation data.
    ///
    /// # Errors
    /// [`Error::Io`] when a weight file cannot be read.
    pub fn settings(&self) -> Result<Value> {
        Ok(json!({
            "model": {
                "name": self.files.name,
                (self.files.audio_encoder.name()): self.files.audio.sha256()?,
                "clipseg": self.files.clipseg.sha256()?,
                "acl": self.files.acl.sha256()?,
            },
            "dtype": self.dtype.as_str(),
            "losses": self.weights,
            "negatives": self.negatives,
            "feature_cache": self.cache.is_some(),
            "validation": self.validation.as_ref().map(BatchSource::describe),
        }))
    }

    /// Features `[B, T, 3D]` in f32, and pixels `[B, 3, S, S]` in the towers' precision.
    fn inputs(&self, batch: &PairBatch) -> Result<(Tensor, Tensor)> {
        let pixels = batch.images.to_device(&self.device)?.to_dtype(self.dtype)?;
        if batch.audio.is_empty() {
            // A part without pairs (see `Part`); nothing is computed from its features.
            return Ok((Tensor::zeros((0, 1, 1), DType::F32, &self.device)?, pixels));
        }
        let features = match &self.cache {
            // Encode missing sounds one at a time: stored features must not depend on the rest of the batch.
            Some(cache) => {
                let features = batch.audio.iter().map(|audio| match audio {
                    AudioInput::Features(features) => Ok(features.to_device(&self.device)?),
                    AudioInput::Fbank(fbank, key) => {
                        let features = self.encode(std::slice::from_ref(fbank))?.squeeze(0)?;
                        match key {
                            Some(key) => cache.store(key, &features),
                            None => Ok(features),
                        }
                    }
                });
                Tensor::stack(&features.collect::<Result<Vec<_>>>()?, 0)?
            }
            None => {
                let fbanks = batch.audio.iter().map(|audio| match audio {
                    AudioInput::Fbank(fbank, _) => Ok(fbank.clone()),
                    AudioInput::Features(_) => {
                        Err(Error::config("feature cache", "the cache that the data reader uses", "none"))
                    }
                });
                self.encode(&fbanks.collect::<Result<Vec<_>>>()?)?
            }
        };
        Ok((features, pixels))
    }

    /// Fbanks, each `[F, M]` → features `[B, T, 3D]` in f32.
    fn encode(&self, fbanks: &[Tensor]) -> Result<Tensor> {
        let fbanks = Tensor::stack(fbanks, 0)?.to_device(&self.device)?.to_dtype(self.dtype)?;
        Ok(self.acl.audio_features(&fbanks)?.to_dtype(DType::F32)?)
    }

    /// Draws the noise of one step for `part` of a batch, with features `[B, T, 3D]`.
    ///
    /// Every pair has its own stream of `rng`, the one with the number of its place in the batch, counted from `place`. Its
    /// noise thus does not depend on how processes share the batch.
    fn noise(&self, part: &Part, features: &Tensor, rng: &ChaCha8Rng, place: u64, dropout: bool) -> Result<StepNoise> {
        let (batch, tokens, _) = features.dims3()?;
        let (side, width) = (self.acl.config().acl.image_size, self.acl.audio_tokenizer.token_dim());
        let (sounds, pixels, units) = (part.total(), side * side, tokens * width);
        let mut all_pairs = vec![0f32; batch * sounds * pixels];
        let (mut positive, mut kept) = (vec![0f32; batch * pixels], vec![0f32; batch * units]);
        let pairs = all_pairs.par_chunks_mut(sounds * pixels).zip(positive.par_chunks_mut(pixels));
        pairs.zip(kept.par_chunks_mut(units)).enumerate().for_each(|(b, ((all_pairs, positive), kept))| {
            let mut rng = rng.clone();
            rng.set_stream(place + (part.first() + b) as u64);
            for value in all_pairs.iter_mut().chain(positive) {
                *value = rng.random::<f32>().clamp(NOISE_MARGIN, 1.0 - NOISE_MARGIN);
            }
            if dropout {
                kept.fill_with(|| rng.random());
            }
        });
        let pairs = place + part.first() as u64..place + (part.first() + batch) as u64;
        let negatives = self.negative_sounds.as_ref().map(|sounds| sounds.draw(&self.acl, place, pairs, dropout, rng));
        let tensor = |values, shape: &[usize]| Tensor::from_vec(values, shape, &self.device);
        Ok(StepNoise {
            all_pairs: tensor(all_pairs, &[batch, sounds, side, side])?,
            positive: tensor(positive, &[batch, 1, side, side])?,
            dropout: dropout.then(|| tensor(kept, &[batch, tokens, width])).transpose()?,
            negatives: negatives.transpose()?,
        })
    }

    /// The model with the current values of its trained head as constants, so that no gradient graph is built.
    fn frozen(&self) -> Result<Acl> {
        let values = self.vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let values = VarBuilder::from_tensors(values, DType::F32, &self.device);
        Ok(self.acl.with_trained_head(TrainedHead::new(self.acl.config(), values)?))
    }
}

impl<R: PairReader> Objective for AclObjective<'_, R> {
    type Batch = PairBatch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    fn loss(&self, batch: &PairBatch, rng: &mut ChaCha8Rng) -> Result<StepOutput> {
        let len = batch.audio.len();
        let part = match self.negatives {
            Negatives::Local => Part::whole(len),
            Negatives::Global => Part::of(&self.group, len)?,
        };
        let (features, pixels) = self.inputs(batch)?;
        let noise = self.noise(&part, &features, rng, 0, true)?;
        let terms = step_of_part(&part, &self.acl, &features, &pixels, &noise, &self.weights, self.activations)?;
        Ok(StepOutput { metrics: terms.metrics()?, loss: terms.loss })
    }

    fn validate(&self, rng: &mut ChaCha8Rng) -> Result<Validation> {
        let Some(source) = &self.validation else { return Ok(Validation::default()) };
        let measure = || -> Result<Tally> {
            let acl = self.frozen()?;
            let mut tally = Tally::default();
            for loaded in source.epoch(0, 0)? {
                let Loaded { index, ids, batch } = loaded?;
                let Some(batch) = batch else { continue };
                let (features, pixels) = self.inputs(&batch)?;
                // Batches are numbered in the upper half of the places.
                let noise = self.noise(&Part::whole(ids.len()), &features, rng, (index as u64) << 32, false)?;
                let terms = step(&acl, &features, &pixels, &noise, &self.weights, self.activations)?;
                tally.add(index, &ids, &batch.images, &terms, &acl)?;
            }
            Ok(tally)
        };
        let measured = |tally: &Tally| (tally.clone(), source.take_unreadable());
        let (_, measured) = agree(&*self.group, measure(), measured)?;
        let (tallies, unreadable): (Vec<_>, Vec<_>) = measured.into_iter().unzip();
        source.add_unreadable(&unreadable.concat())?;
        Tally::finish(tallies)
    }

    /// Makes `folder` a complete model directory: the trained weights in `acl.safetensors`, and links to the frozen
    /// weights ([`ModelFiles::link_frozen`]). The model's calibration does not fit the new weights and is left out.
    fn export(&self, folder: &Path) -> Result<()> {
        self.files.link_frozen(folder)?;
        let tensors = self.vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        save_safetensors(folder.join("acl.safetensors"), &tensors, &BTreeMap::new())
    }
}

impl StepTerms {
    /// The enabled losses and the areas, as numbers.
    ///
    /// # Errors
    /// [`Error::Candle`] when a scalar cannot be read from its device.
    pub fn metrics(&self) -> Result<Metrics> {
        let terms = [
            ("acl_i", self.acl_i.as_ref()),
            ("acl_f", self.acl_f.as_ref()),
            ("area", self.area.as_ref()),
            ("positive_area", Some(&self.positive_area)),
            ("negative_area", Some(&self.negative_area)),
            ("empty_area", self.empty_area.as_ref()),
        ];
        let number = |(name, term): (&str, Option<&Tensor>)| {
            term.map(|term| Ok((name.to_string(), f64::from(term.to_scalar::<f32>()?))))
        };
        terms.into_iter().filter_map(number).collect()
    }
}

/// The identity of a [`FeatureCache`], which covers everything that audio features depend on: the encoder's weights and
/// configuration, the blocks whose outputs are used, the front end and the precision.
///
/// # Errors
/// [`Error::Io`] when the weights cannot be read.
pub fn audio_features_identity(files: &ModelFiles, config: &ModelConfig, dtype: DType) -> Result<String> {
    let encoder = match config.acl.audio_encoder {
        AudioEncoderKind::Beats => json!(config.beats),
        AudioEncoderKind::Ast => json!(config.ast),
    };
    let identity = json!({
        (files.audio_encoder.name()): files.audio.sha256()?,
        "config": encoder,
        "blocks": config.acl.audio_blocks,
        "frontend": config.acl.frontend(),
        "dtype": dtype.as_str(),
    });
    Ok(identity.to_string())
}
