//! One optimizer step of the real objective, without the files and the loader around it.

#[path = "../../src/bin/soundsight/program/memory.rs"]
mod memory;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use soundsight::acl::Acl;
use soundsight::data::random::{Purpose, stream};
use soundsight::data::{AudioInput, FeatureCache, MediaReader, PairBatch};
use soundsight::train::losses::LossWeights;
use soundsight::train::{AclObjective, Gradients, Objective, Optimizer, OptimizerConfig, Trainable};
use soundsight::weights::ModelFiles;

use benches::Inputs;

/// A step on `inputs`: filterbank and BEATs (or precomputed features if `cached`), losses, gradients, Adam.
pub fn step<'a>(
    files: &'a ModelFiles,
    acl: &Acl,
    inputs: Inputs,
    cached: bool,
) -> Result<impl FnMut() -> Result<()> + 'a> {
    memory::keep_freed_memory(); // as `train` does
    let (frontend, tokens) = (inputs.frontend(acl)?, inputs.tokens(acl)?);
    let trainable = Trainable::from_checkpoint(acl.config(), &files.acl, &Device::Cpu)?;
    let weights = LossWeights::default();
    let mut objective: AclObjective<'a, MediaReader> =
        AclObjective::new(files, acl, trainable, weights, Device::Cpu, DType::F32)?;
    let folder = tempfile::tempdir()?;
    let width = acl.config().acl.audio_blocks.len() * acl.config().beats.encoder_embed_dim;
    let mut features = Vec::new();
    if cached {
        objective = objective.with_cache(FeatureCache::open(folder.path(), "of this step")?);
        for _ in &inputs.waveforms {
            features.push(AudioInput::Features(Tensor::randn(0f32, 1.0, (tokens.audio, width), &Device::Cpu)?));
        }
    }
    let mut optimizer = Optimizer::new(OptimizerConfig::default(), objective.trainable())?;
    let mut rng = stream(0, Purpose::Training, 0, 0);
    Ok(move || {
        let _ = &folder; // kept as long as the cache
        let audio = if cached {
            features.clone()
        } else {
            let fbanks = frontend.forward_batch(&inputs.waveforms, &Device::Cpu)?;
            let fbanks = (0..inputs.waveforms.len()).map(|b| Ok(AudioInput::Fbank(fbanks.get(b)?, None)));
            fbanks.collect::<Result<_>>()?
        };
        let batch = PairBatch { audio, images: inputs.pixels.clone(), labels: vec![None; inputs.waveforms.len()] };
        let output = objective.loss(&batch, &mut rng)?;
        let mut gradients = Gradients::new(optimizer.names());
        gradients.add(&optimizer.vars(), output.loss.backward()?)?;
        gradients.norm()?;
        optimizer.step(&gradients, 1e-4)?;
        Ok(())
    })
}
