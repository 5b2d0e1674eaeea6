//! Stage a, audio: BEATs learns to name sounds.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use rand_chacha::ChaCha8Rng;
use soundsight::Result;
use soundsight::beats::Beats;
use soundsight::train::{Objective, StepOutput, Validation};
use soundsight::weights::save_safetensors;

use crate::fresh::{Vars, values};
use crate::sounds::SoundBatch;

pub struct HearingObjective {
    pub beats: Beats,
    pub vars: Vars,
    /// Held-out sounds.
    pub held_out: SoundBatch,
}

/// The fraction of sounds whose name scores highest.
pub fn accuracy(logits: &Tensor, classes: &Tensor) -> Result<f64> {
    let guesses = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = guesses.iter().zip(classes.to_vec1::<u32>()?).filter(|(guess, class)| **guess == *class).count();
    Ok(right as f64 / guesses.len().max(1) as f64)
}

/// The accuracy of `beats` on a batch of any size.
pub fn naming_accuracy(beats: &Beats, sounds: &SoundBatch) -> Result<f64> {
    const CHUNK: usize = 32;
    let (count, _, _) = sounds.fbanks.dims3()?;
    let chunks = (0..count).step_by(CHUNK).map(|first| {
        let fbanks = sounds.fbanks.narrow(0, first, CHUNK.min(count - first))?;
        beats.tag_logits(&beats.forward(&fbanks)?)
    });
    accuracy(&Tensor::cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?, &sounds.classes)
}

impl Objective for HearingObjective {
    type Batch = SoundBatch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    fn loss(&self, batch: &SoundBatch, _: &mut ChaCha8Rng) -> Result<StepOutput> {
        let logits = self.beats.tag_logits(&self.beats.forward(&batch.fbanks)?)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &batch.classes)?;
        let metrics = vec![("named".to_string(), accuracy(&logits, &batch.classes)?)];
        Ok(StepOutput { loss, metrics })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        let values = values(&self.vars);
        let values = VarBuilder::from_tensors(values, DType::F32, &Device::Cpu);
        let beats = Beats::new(self.beats.config(), values)?;
        let metrics = vec![("named".to_string(), naming_accuracy(&beats, &self.held_out)?)];
        Ok(Validation { metrics, pictures: Vec::new() })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        let tensors = values(&self.vars);
        save_safetensors(folder.join("beats.safetensors"), &tensors, &BTreeMap::new())
    }
}
