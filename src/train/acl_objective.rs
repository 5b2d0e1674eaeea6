//! The training [`Objective`] of ACL.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::config::Goal;
use super::losses::LossWeights;
use super::metrics::Metrics;
use super::negatives::NegativeSounds;
use super::step::{Activations, NOISE_MARGIN, StepNoise, StepTerms, step_with};
use super::trainable::Trainable;
use super::trainer::{Objective, StepOutput, Validation};
use super::validation::Tally;
use crate::acl::{Acl, ModelConfig, TrainedHead};
use crate::data::random::uniform;
use crate::data::{AudioInput, BatchSource, FeatureCache, Loader, MediaReader, PairBatch, PairDataset, PairReader};
use crate::error::{Error, Result};
use crate::weights::{ModelFiles, save_safetensors};

/// The validation metrics that can select the best epoch, each with the direction in which it improves.
pub const BEST_METRICS: [(&str, Goal); 6] = [
    ("loss", Goal::Minimize),
    ("acl_i", Goal::Minimize),
    ("acl_f", Goal::Minimize),
    ("area", Goal::Minimize),
    ("retrieval_i", Goal::Maximize),
    ("retrieval_f", Goal::Maximize),
];

/// ACL's losses over batches of pairs. The AudioTokenizer and the masker are trained; everything else is frozen.
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
    negatives: Option<NegativeSounds>,
    activations: Activations,
    device: Device,
    dtype: DType,
    cache: Option<FeatureCache>,
    validation: Option<Loader<PairDataset<R>>>,
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
        let negatives = NegativeSounds::new(&acl, &weights, &device, dtype)?;
        let activations = Activations::default();
        Ok(Self { files, acl, vars, weights, negatives, activations, device, dtype, cache: None, validation: None })
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
    /// the model's files, the precision, the loss weights, whether features are cached, and the validation data.
    ///
    /// # Errors
    /// [`Error::Io`] when a weight file cannot be read.
    pub fn settings(&self) -> Result<Value> {
        Ok(json!({
            "model": {
                "name": self.files.name,
                "beats": self.files.beats.sha256()?,
                "clipseg": self.files.clipseg.sha256()?,
                "acl": self.files.acl.sha256()?,
            },
            "dtype": self.dtype.as_str(),
            "losses": self.weights,
            "feature_cache": self.cache.is_some(),
            "validation": self.validation.as_ref().map(BatchSource::describe),
        }))
    }

    /// Features `[B, N, 3D]` in f32, and pixels `[B, 3, S, S]` in the towers' precision.
    fn inputs(&self, batch: &PairBatch) -> Result<(Tensor, Tensor)> {
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
        Ok((features, batch.images.to_device(&self.device)?.to_dtype(self.dtype)?))
    }

    /// Fbanks, each `[T, M]` → features `[B, N, 3D]` in f32.
    fn encode(&self, fbanks: &[Tensor]) -> Result<Tensor> {
        let fbanks = Tensor::stack(fbanks, 0)?.to_device(&self.device)?.to_dtype(self.dtype)?;
        Ok(self.acl.audio_features(&fbanks)?.to_dtype(DType::F32)?)
    }

    /// Draws the noise of one step for features `[B, N, 3D]`.
    fn noise(&self, features: &Tensor, rng: &mut ChaCha8Rng, dropout: bool) -> Result<StepNoise> {
        let (batch, tokens, _) = features.dims3()?;
        let side = self.acl.config().acl.image_size;
        let mut masks = |maps: usize| -> Result<Tensor> {
            Ok(uniform(rng, &[batch, maps, side, side], &self.device)?.clamp(NOISE_MARGIN, 1.0 - NOISE_MARGIN)?)
        };
        let (all_pairs, positive) = (masks(batch)?, masks(1)?);
        let shape = [batch, tokens, self.acl.audio_tokenizer.token_dim()];
        let dropout = dropout.then(|| uniform(rng, &shape, &self.device)).transpose()?;
        Ok(StepNoise { all_pairs, positive, dropout })
    }

    /// The losses of a batch, with or without dropout.
    fn terms(&self, acl: &Acl, batch: &PairBatch, dropout: bool, rng: &mut ChaCha8Rng) -> Result<StepTerms> {
        let (features, pixels) = self.inputs(batch)?;
        let noise = self.noise(&features, rng, dropout)?;
        let negatives = self.negatives.as_ref().map(|n| n.draw(acl, pixels.dim(0)?, dropout, rng)).transpose()?;
        step_with(acl, &features, &pixels, &noise, negatives.as_ref(), &self.weights, self.activations)
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
        let terms = self.terms(&self.acl, batch, true, rng)?;
        Ok(StepOutput { metrics: terms.metrics()?, loss: terms.loss })
    }

    fn validate(&self, rng: &mut ChaCha8Rng) -> Result<Validation> {
        let Some(source) = &self.validation else { return Ok(Validation::default()) };
        let acl = self.frozen()?;
        let mut tally = Tally::default();
        for loaded in source.epoch(0, 0)? {
            let loaded = loaded?;
            let terms = self.terms(&acl, &loaded.batch, false, rng)?;
            tally.add(&loaded.ids, &loaded.batch.images, &terms, &acl)?;
        }
        tally.finish()
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
    let identity = json!({
        "beats": files.beats.sha256()?,
        "config": config.beats,
        "blocks": config.acl.audio_blocks,
        "frontend": config.acl.frontend(),
        "dtype": dtype.as_str(),
    });
    Ok(identity.to_string())
}
