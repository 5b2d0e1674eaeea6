//! Stage a, audio, at its end: BEATs' tagging head learns to name two sounds at once.
//!
//! The encoder stays as it is, and with it everything that reads its hidden states. The head is linear, so the mean of its
//! outputs over the tokens is its output for their mean: one vector for each sound, computed once.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::json;
use soundsight::Result;
use soundsight::beats::Beats;
use soundsight::data::Dataset;
use soundsight::data::random::{Purpose, stream};
use soundsight::train::{Objective, StepOutput, Validation};
use soundsight::weights::{Checkpoint, save_safetensors};

use crate::fresh::{Vars, values};
use crate::hearing::both_named;
use crate::sounds::Ear;
use crate::stages::{Recipe, Run, is_finished};
use crate::world::Split;

/// The head's tensors in BEATs' checkpoint.
const HEAD: [&str; 2] = ["predictor.weight", "predictor.bias"];
/// Of so many sounds, one is a single one.
const SINGLE: usize = 4;
/// Sounds encoded at once.
const CHUNK: usize = 16;
/// The number of the stream of random numbers for sounds.
const STREAM: u64 = 11;
const HELD_OUT: usize = 512;

impl Run {
    /// Trains the tagging head with `count` sounds.
    pub fn tagging(&self, recipe: Recipe, count: usize) -> anyhow::Result<()> {
        let folder = self.out.join("tags");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let checkpoint = Checkpoint::open(self.out.join("beats/last/beats.safetensors"))?;
        let beats =
            checkpoint.load(&Device::Cpu, DType::F32, &[], |weights| Beats::new(&self.config.beats, weights))?;
        let ear = self.ear()?;
        let heard = |split, count| Mixtures::new(&ear, &beats, split, count, self.seed);
        let (mixtures, held_out) = (heard(Split::Train, count)?, heard(Split::HeldOut, HELD_OUT)?);
        let var = |name: &str| -> Result<(String, Var)> {
            Ok((name.to_string(), Var::from_tensor(&checkpoint.tensor(name, &Device::Cpu, DType::F32)?)?))
        };
        let vars = HEAD.into_iter().map(var).collect::<Result<Vars>>()?;
        let objective = TaggingObjective { vars, held_out };
        let loader = self.loader(&folder, mixtures, recipe.batch)?;
        let settings = json!({ "world": self.settings, "beats": checkpoint.sha256()?, "sounds": count });
        self.train("ears: BEATs' tagging head from mixtures", &folder, recipe, settings, &objective, &loader)
    }
}

/// Sounds, single ones and mixtures of two, as the mean of the encoder's last hidden state.
struct Mixtures {
    ids: Vec<String>,
    /// `[D]` each.
    features: Vec<Tensor>,
    /// 1 for each class that sounds, `[K]` each.
    targets: Vec<Tensor>,
}

impl Mixtures {
    fn new(ear: &Ear, beats: &Beats, split: Split, count: usize, seed: u64) -> Result<Self> {
        let draw = |index: usize| {
            let mut rng = stream(seed, Purpose::Validation, STREAM + split as u64, index as u64);
            ear.example(!index.is_multiple_of(SINGLE), split, &mut rng)
        };
        let encode = |first: usize| -> Result<(Vec<Tensor>, Vec<Tensor>)> {
            let (sounds, targets): (Vec<_>, Vec<_>) = (first..count.min(first + CHUNK)).map(draw).unzip();
            let hidden = beats.forward(&Tensor::stack(&ear.listen(&sounds)?, 0)?)?.hidden_states;
            let last = hidden.last().expect("every encoder has hidden states").mean(1)?; // [B, D]
            let features = (0..sounds.len()).map(|i| last.get(i)).collect::<candle_core::Result<_>>()?;
            let targets = targets.into_iter().map(|target| Tensor::new(target, &Device::Cpu));
            Ok((features, targets.collect::<candle_core::Result<_>>()?))
        };
        let chunks = (0..count).into_par_iter().step_by(CHUNK).map(encode).collect::<Result<Vec<_>>>()?;
        let (features, targets): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        let ids = (0..count).map(|i| format!("mixture {i}")).collect();
        Ok(Self { ids, features: features.concat(), targets: targets.concat() })
    }

    fn samples(&self) -> Vec<(Tensor, Tensor)> {
        self.features.iter().cloned().zip(self.targets.iter().cloned()).collect()
    }
}

/// Features `[B, D]` and targets `[B, K]`.
type Batch = (Tensor, Tensor);

impl Dataset for Mixtures {
    type Sample = (Tensor, Tensor);
    type Batch = Batch;

    fn num_samples(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", String::as_str)
    }

    fn load(&self, index: usize, _: &mut ChaCha8Rng) -> Result<Self::Sample> {
        Ok((self.features[index].clone(), self.targets[index].clone()))
    }

    fn collate(&self, samples: Vec<Self::Sample>) -> Result<Batch> {
        let (features, targets): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        Ok((Tensor::stack(&features, 0)?, Tensor::stack(&targets, 0)?))
    }
}

/// Each class on its own: does it sound?
struct TaggingObjective {
    /// The tensors of [`HEAD`].
    vars: Vars,
    held_out: Mixtures,
}

impl TaggingObjective {
    /// `[B, D]` → logits `[B, K]`.
    fn logits(&self, features: &Tensor) -> Result<Tensor> {
        let [weight, bias] = [0, 1].map(|i| self.vars[i].1.as_tensor());
        Ok(features.matmul(&weight.t()?)?.broadcast_add(bias)?)
    }
}

impl Objective for TaggingObjective {
    type Batch = Batch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    /// Binary cross-entropy, summed over the classes.
    fn loss(&self, (features, targets): &Batch, _: &mut ChaCha8Rng) -> Result<StepOutput> {
        let logits = self.logits(features)?;
        // max(x, 0) − x·y + ln(1 + exp(−|x|))
        let softplus = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let losses = ((logits.relu()? - (&logits * targets)?)? + softplus)?;
        Ok(StepOutput { loss: losses.sum(1)?.mean(0)?, metrics: Vec::new() })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        let (features, targets) = self.held_out.collate(self.held_out.samples())?;
        let both = both_named(&self.logits(&features)?.detach(), &targets)?;
        Ok(Validation { metrics: vec![("both_named".to_string(), both)], pictures: Vec::new() })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        let tensors: BTreeMap<String, Tensor> = values(&self.vars);
        save_safetensors(folder.join("tags.safetensors"), &tensors, &BTreeMap::new())
    }
}
