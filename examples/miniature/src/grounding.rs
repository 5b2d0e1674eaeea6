//! Stage b: the AudioTokenizer and the masker's scalars learn only from pairs of scenes and sounds. No names, labels or
//! masks reach the losses in this file; only the validation uses which object sounds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::acl::{Acl, TrainedHead};
use soundsight::data::random::uniform;
use soundsight::data::{BatchSource, Dataset, Loaded, Loader};
use soundsight::train::losses::LossWeights;
use soundsight::train::step::{Activations, NOISE_MARGIN, StepNoise, step};
use soundsight::train::{Metrics, NegativeSounds, Objective, StepOutput, Validation};
use soundsight::weights::{Checkpoint, ModelFiles, save_safetensors};
use soundsight::{Result, train};

use crate::fresh::{Vars, values};
use crate::measure::Scoreboard;
use crate::scenes::pixels;
use crate::world::{Split, World};

/// Features of the frozen encoder: for every sounding class, those of several variations of its sound.
pub struct Pool {
    pub sounding: Vec<(usize, Vec<Tensor>)>,
}

/// Pairs of a scene and the sound of one of its objects.
pub struct Pairs {
    pub world: Arc<World>,
    pub pool: Arc<Pool>,
    pub ids: Vec<String>,
    /// The possible numbers of objects in a scene; a number that is listed more often is more likely.
    pub counts: Vec<usize>,
}

/// A batch of B pairs.
pub struct PairBatch {
    /// `[B, N, 3D]`.
    features: Tensor,
    /// `[B, 3, S, S]`.
    pixels: Tensor,
}

impl Dataset for Pairs {
    type Sample = (Tensor, Tensor);
    type Batch = PairBatch;

    fn num_samples(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", String::as_str)
    }

    fn load(&self, _: usize, rng: &mut ChaCha8Rng) -> Result<Self::Sample> {
        let (class, variations) = &self.pool.sounding[rng.random_range(0..self.pool.sounding.len())];
        let features = variations[rng.random_range(0..variations.len())].to_dtype(DType::F32)?;
        let count = self.counts[rng.random_range(0..self.counts.len())];
        Ok((features, pixels(&self.world.scene(Split::Train, count, Some(*class), rng))?))
    }

    fn collate(&self, samples: Vec<Self::Sample>) -> Result<PairBatch> {
        let (features, pixels): (Vec<Tensor>, Vec<Tensor>) = samples.into_iter().unzip();
        Ok(PairBatch { features: Tensor::stack(&features, 0)?, pixels: Tensor::stack(&pixels, 0)? })
    }
}

/// Easy scenes first: uses `first` for `first_epochs` epochs, then `then`.
pub struct Curriculum {
    pub first: Loader<Pairs>,
    pub first_epochs: usize,
    pub then: Loader<Pairs>,
}

impl BatchSource for Curriculum {
    type Batch = PairBatch;

    fn num_batches(&self) -> usize {
        self.then.num_batches()
    }

    fn min_batch(&self) -> usize {
        self.then.min_batch()
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "first": self.first.describe(),
            "first_counts": self.first.dataset().counts,
            "first_epochs": self.first_epochs,
            "then": self.then.describe(),
            "then_counts": self.then.dataset().counts,
        })
    }

    fn epoch(&self, epoch: usize, first: usize) -> Result<impl Iterator<Item = Result<Loaded<PairBatch>>> + use<'_>> {
        if epoch < self.first_epochs { self.first.epoch(epoch, first) } else { self.then.epoch(epoch, first) }
    }
}

pub struct GroundingObjective<'a> {
    pub files: &'a ModelFiles,
    /// The frozen parts, with the trained parts over `vars`.
    pub acl: Acl,
    pub vars: Vars,
    pub weights: LossWeights,
    pub negatives: Option<NegativeSounds>,
    pub scoreboard: &'a Scoreboard,
}

impl GroundingObjective<'_> {
    /// The noise of one step for features `[B, N, 3D]`.
    fn noise(&self, features: &Tensor, rng: &mut ChaCha8Rng) -> Result<StepNoise> {
        let (batch, tokens, _) = features.dims3()?;
        let side = self.acl.config().acl.image_size;
        let mut masks = |maps: usize| -> Result<Tensor> {
            let noise = uniform(rng, &[batch, maps, side, side], &Device::Cpu)?;
            Ok(noise.clamp(NOISE_MARGIN, 1.0 - NOISE_MARGIN)?)
        };
        let (all_pairs, positive) = (masks(batch)?, masks(1)?);
        let shape = [batch, tokens, self.acl.audio_tokenizer.token_dim()];
        let dropout = Some(uniform(rng, &shape, &Device::Cpu)?);
        let draw = |sounds: &NegativeSounds| sounds.draw(&self.acl, 0, 0..batch as u64, true, rng);
        let negatives = self.negatives.as_ref().map(draw).transpose()?;
        Ok(StepNoise { all_pairs, positive, dropout, negatives })
    }
}

impl Objective for GroundingObjective<'_> {
    type Batch = PairBatch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    fn loss(&self, batch: &PairBatch, rng: &mut ChaCha8Rng) -> Result<StepOutput> {
        let noise = self.noise(&batch.features, rng)?;
        let PairBatch { features, pixels } = batch;
        let terms = step(&self.acl, features, pixels, &noise, &self.weights, Activations::Store)?;
        let mut metrics: Metrics = terms.metrics()?;
        for (name, var) in self.vars.iter().filter(|(name, _)| name.starts_with("masker_i")) {
            metrics.push((name.clone(), f64::from(var.flatten_all()?.get(0)?.to_scalar::<f32>()?)));
        }
        Ok(StepOutput { loss: terms.loss, metrics })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        let values = VarBuilder::from_tensors(values(&self.vars), DType::F32, &Device::Cpu);
        let acl = self.acl.with_trained_head(TrainedHead::new(self.acl.config(), values)?);
        Ok(Validation { metrics: self.scoreboard.grounding(&acl)?, pictures: Vec::new() })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        self.files.link_frozen(folder)?;
        save_safetensors(folder.join("acl.safetensors"), &values(&self.vars), &BTreeMap::new())
    }
}

/// The initial values of the masker, and the target area of the area loss.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct MaskerStart {
    pub w: f32,
    pub b: f32,
    pub area: f64,
}

impl MaskerStart {
    /// Sets w and b in the variables of the trained parts.
    pub fn set(self, vars: &[(String, Var)]) -> Result<()> {
        for (name, value) in [("masker_i.w", self.w), ("masker_i.b", self.b)] {
            if let Some((_, var)) = vars.iter().find(|(known, _)| known == name) {
                var.set(&Tensor::new(value, &Device::Cpu)?)?;
            }
        }
        Ok(())
    }
}

/// The trained parts in `checkpoint` for the frozen parts of `acl`, to be trained further.
pub fn continued_learned(acl: &Acl, checkpoint: &Checkpoint) -> Result<(Acl, Vars)> {
    let (head, vars) = train::Trainable::from_checkpoint(acl.config(), checkpoint, &Device::Cpu)?.into_parts();
    Ok((acl.with_trained_head(head), vars))
}

/// Fresh trained parts for the frozen parts of `acl`, initialized as at full size except for w and b.
pub fn fresh_learned(acl: &Acl, seed: u64, start: MaskerStart) -> Result<(Acl, Vars)> {
    let (head, vars) = train::Trainable::from_scratch(acl.config(), seed, &Device::Cpu)?.into_parts();
    start.set(&vars)?;
    Ok((acl.with_trained_head(head), vars))
}
