//! Stage a, audio: BEATs, or AST in its place, learns to name sounds.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{Linear, Module, VarBuilder};
use rand_chacha::ChaCha8Rng;
use soundsight::Result;
use soundsight::acl::ModelConfig;
use soundsight::ast::Ast;
use soundsight::beats::Beats;
use soundsight::train::{Objective, StepOutput, Validation};
use soundsight::weights::save_safetensors;

use crate::fresh::{Vars, values};
use crate::sounds::SoundBatch;

/// An audio encoder with a head that names sounds.
pub trait Ears: Sized {
    /// The name of its weights, and of their file.
    const NAME: &str;
    /// The number of the stream of random numbers for fresh weights.
    const STREAM: u64;
    /// The factor on fresh weights whose outputs are added to a residual stream.
    fn residual(config: &ModelConfig) -> f64;
    fn build(config: &ModelConfig, weights: VarBuilder<'_>) -> Result<Self>;
    /// A score for each class, `[B, K]`, for fbanks `[B, T, M]`.
    fn name(&self, fbanks: &Tensor) -> Result<Tensor>;
}

impl Ears for Beats {
    const NAME: &str = "beats";
    const STREAM: u64 = 2;

    /// DeepNorm's (8 · blocks)^-¼ (Wang et al., arXiv 2203.00555).
    fn residual(config: &ModelConfig) -> f64 {
        (8.0 * config.beats.encoder_layers as f64).powf(-0.25)
    }

    fn build(config: &ModelConfig, weights: VarBuilder<'_>) -> Result<Self> {
        Self::new(&config.beats, weights)
    }

    fn name(&self, fbanks: &Tensor) -> Result<Tensor> {
        self.tag_logits(&self.forward(fbanks)?)
    }
}

/// AST with a linear head, as many classes as BEATs' has.
pub struct NamingAst {
    pub ast: Ast,
    head: Linear,
}

impl Ears for NamingAst {
    const NAME: &str = "ast";
    const STREAM: u64 = 3;

    fn residual(config: &ModelConfig) -> f64 {
        (2.0 * config.ast.num_hidden_layers as f64).powf(-0.5)
    }

    fn build(config: &ModelConfig, weights: VarBuilder<'_>) -> Result<Self> {
        let (width, classes) = (config.ast.hidden_size, config.beats.predictor_class);
        let head = candle_nn::linear(width, classes, weights.pp("classifier.dense"))?;
        Ok(Self { ast: Ast::new(&config.ast, weights)?, head })
    }

    fn name(&self, fbanks: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(&self.ast.pooled(&self.ast.forward(fbanks)?)?)?)
    }
}

pub struct HearingObjective<'a, E> {
    pub config: &'a ModelConfig,
    pub ears: E,
    pub vars: Vars,
    /// Held-out sounds, one at a time.
    pub held_out: SoundBatch,
    /// Held-out mixtures of two.
    pub mixtures: SoundBatch,
}

/// The fraction of sounds of which a class that sounds has the highest logit, for logits and targets `[B, K]`.
fn accuracy(logits: &Tensor, targets: &Tensor) -> Result<f64> {
    let right = targets.gather(&logits.argmax_keepdim(D::Minus1)?, D::Minus1)?;
    Ok(f64::from(right.mean_all()?.to_scalar::<f32>()?))
}

/// The fraction of the mixtures of two whose classes have the highest logits `[B, K]`.
pub fn both_named(logits: &Tensor, targets: &Tensor) -> Result<f64> {
    let order = logits.arg_sort_last_dim(false)?.to_vec2::<u32>()?;
    let (mut right, mut count) = (0usize, 0usize);
    for (order, target) in order.iter().zip(targets.to_vec2::<f32>()?) {
        let sounding = target.iter().filter(|sounds| **sounds > 0.0).count();
        if sounding == 2 {
            count += 1;
            right += usize::from(order[..2].iter().all(|class| target[*class as usize] > 0.0));
        }
    }
    Ok(right as f64 / count.max(1) as f64)
}

/// [`Ears::name`] of a batch of any size.
fn name_all(ears: &impl Ears, fbanks: &Tensor) -> Result<Tensor> {
    const CHUNK: usize = 32;
    let (count, _, _) = fbanks.dims3()?;
    let chunks =
        (0..count).step_by(CHUNK).map(|first| ears.name(&fbanks.narrow(0, first, CHUNK.min(count - first))?));
    Ok(Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
}

/// The accuracy of `ears` on a batch of any size.
pub fn naming_accuracy(ears: &impl Ears, sounds: &SoundBatch) -> Result<f64> {
    accuracy(&name_all(ears, &sounds.fbanks)?, &sounds.targets)
}

impl<E: Ears> Objective for HearingObjective<'_, E> {
    type Batch = SoundBatch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    /// Cross-entropy with the classes that sound, all equally probable.
    fn loss(&self, batch: &SoundBatch, _: &mut ChaCha8Rng) -> Result<StepOutput> {
        let logits = self.ears.name(&batch.fbanks)?;
        let probable = batch.targets.broadcast_div(&batch.targets.sum_keepdim(1)?)?;
        let loss = (candle_nn::ops::log_softmax(&logits, D::Minus1)? * probable)?.sum(1)?.mean(0)?.neg()?;
        let metrics = vec![("named".to_string(), accuracy(&logits, &batch.targets)?)];
        Ok(StepOutput { loss, metrics })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        let values = values(&self.vars);
        let values = VarBuilder::from_tensors(values, DType::F32, &Device::Cpu);
        let ears = E::build(self.config, values)?;
        let both = both_named(&name_all(&ears, &self.mixtures.fbanks)?, &self.mixtures.targets)?;
        let metrics =
            vec![("named".to_string(), naming_accuracy(&ears, &self.held_out)?), ("both_named".to_string(), both)];
        Ok(Validation { metrics, pictures: Vec::new() })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        let tensors = values(&self.vars);
        save_safetensors(folder.join(format!("{}.safetensors", E::NAME)), &tensors, &BTreeMap::new())
    }
}
