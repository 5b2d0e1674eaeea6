//! A small problem with all sources of randomness in training: order, augmentation, noise, unreadable samples.

#![allow(dead_code)] // each test program uses only a part

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::data::{BadPairs, Dataset, EpochSampler, Loader, Shard, Sharing, random};
use soundsight::train::{
    BestMetric, Collective, Goal, Length, Objective, OptimizerConfig, StepOutput, TrainConfig, Validation, shard_of,
};
use soundsight::weights::save_safetensors;
use soundsight::{Error, Picture, Result};

pub const NUM_SAMPLES: usize = 61;
pub const BATCH_SIZE: usize = 4;
/// An unreadable sample, which is only detected in the middle of an epoch.
pub const BROKEN: usize = 17;

/// Points x on a line with y = 2x − 1 plus noise.
pub struct Points {
    ids: Vec<String>,
}

impl Points {
    pub fn new(num_samples: usize) -> Self {
        Self { ids: (0..num_samples).map(|index| format!("point-{index}")).collect() }
    }
}

impl Dataset for Points {
    type Sample = (f32, f32);
    type Batch = (Tensor, Tensor);

    fn num_samples(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<(f32, f32)> {
        if index == BROKEN {
            return Err(Error::Audio {
                origin: self.ids[index].clone(),
                expected: "samples".to_string(),
                found: "none".to_string(),
            });
        }
        let x = index as f32 / self.ids.len() as f32 + 0.1 * rng.random::<f32>();
        Ok((x, 2.0 * x - 1.0))
    }

    fn collate(&self, samples: Vec<(f32, f32)>) -> Result<(Tensor, Tensor)> {
        let (x, y): (Vec<f32>, Vec<f32>) = samples.into_iter().unzip();
        Ok((Tensor::new(x, &Device::Cpu)?, Tensor::new(y, &Device::Cpu)?))
    }
}

/// Batches of the points; the unreadable one is recorded in `folder`.
pub fn loader(folder: &Path, num_threads: usize) -> Loader<Points> {
    shared_loader(folder, num_threads, Shard::WHOLE)
}

/// The share of this process of `group` in the batches of the points.
pub fn loader_among(folder: &Path, group: &dyn Collective) -> Loader<Points> {
    shared_loader(folder, 1, shard_of(group))
}

fn shared_loader(folder: &Path, num_threads: usize, shard: Shard) -> Loader<Points> {
    std::fs::create_dir_all(folder).unwrap();
    let sampler = EpochSampler::training(NUM_SAMPLES, BATCH_SIZE, 5).unwrap();
    let sampler = sampler.shared(shard, Sharing::Batches).unwrap();
    let bad = BadPairs::open(&folder.join("bad_pairs.csv"), NUM_SAMPLES, 0.1).unwrap();
    let bad = if shard.rank == 0 { bad } else { bad.in_memory() };
    Loader::new(Arc::new(Points::new(NUM_SAMPLES)), sampler, 5, 2, Arc::new(bad), num_threads).unwrap()
}

/// A line fitted to noisy points.
pub struct Line {
    pub slope: Var,
    pub offset: Var,
    /// From this batch on, the loss is NaN.
    fails_from: usize,
    batches: std::cell::Cell<usize>,
}

impl Line {
    pub fn new() -> Self {
        Self::failing_from(usize::MAX)
    }

    pub fn failing_from(batch: usize) -> Self {
        let var = |value| Var::new(&[value], &Device::Cpu).unwrap();
        Self { slope: var(0.3f32), offset: var(0.2f32), fails_from: batch, batches: Default::default() }
    }

    pub fn weights(&self) -> [f32; 2] {
        [&self.slope, &self.offset].map(|var| var.to_vec1::<f32>().unwrap()[0])
    }
}

impl Objective for Line {
    type Batch = (Tensor, Tensor);

    fn trainable(&self) -> Vec<(String, Var)> {
        vec![("slope".to_string(), self.slope.clone()), ("offset".to_string(), self.offset.clone())]
    }

    fn loss(&self, (x, y): &(Tensor, Tensor), rng: &mut ChaCha8Rng) -> Result<StepOutput> {
        self.batches.set(self.batches.get() + 1);
        let noise = (random::uniform(rng, x.dims(), &Device::Cpu)? * 0.01)?;
        let predicted = (x + noise)?.broadcast_mul(&self.slope)?.broadcast_add(&self.offset)?;
        let mut loss = (predicted - y)?.sqr()?.mean_all()?;
        if self.batches.get() >= self.fails_from {
            loss = (loss * f64::NAN)?;
        }
        let metrics = vec![("mean_x".to_string(), f64::from(x.mean_all()?.to_scalar::<f32>()?))];
        Ok(StepOutput { loss, metrics })
    }

    fn validate(&self, rng: &mut ChaCha8Rng) -> Result<Validation> {
        let [slope, offset] = self.weights();
        let error = (slope - 2.0).abs() + (offset + 1.0).abs() + 1e-6 * rng.random::<f32>();
        let color = |value: f32| (value.abs() * 80.0) as u8;
        let picture = Picture::from_rgb8(5, 3, [color(slope), color(offset), 0].repeat(15))?;
        Ok(Validation {
            metrics: vec![("error".to_string(), f64::from(error))],
            pictures: vec![("fit/line".to_string(), picture)],
        })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        let tensors = self.trainable().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        save_safetensors(folder.join("line.safetensors"), &tensors, &BTreeMap::new())
    }
}

pub fn config() -> TrainConfig {
    TrainConfig {
        seed: 11,
        length: Length::Epochs(4),
        accumulation: 2,
        max_grad_norm: Some(1.0),
        learning_rate: 0.05,
        optimizer: OptimizerConfig::default(),
        checkpoint_every: Some(3),
        keep_checkpoints: 2,
        best: Some(BestMetric { name: "error".to_string(), goal: Goal::Minimize }),
        ..TrainConfig::default()
    }
}

/// All files of a run by their paths relative to its folder. Event files contain times, so only their lengths are used.
pub fn files_of(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.starts_with("events.out.tfevents.") {
                files.insert("events".to_string(), path.metadata().unwrap().len().to_le_bytes().to_vec());
            } else {
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}
