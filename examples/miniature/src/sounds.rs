//! Sounds as training samples of the audio encoder, and as features of the frozen encoder.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use soundsight::acl::Acl;
use soundsight::audio::{AudioFrontend, AudioFrontendConfig};
use soundsight::data::Dataset;
use soundsight::data::random::{Purpose, stream};
use soundsight::{Result, Waveform};

use crate::disturb::mixed;
use crate::world::{SAMPLE_RATE, Split, World};

/// The number of sounds encoded at once.
const CHUNK: usize = 16;

/// Generates sounds of the world and their fbanks.
pub struct Ear {
    world: Arc<World>,
    frontend: AudioFrontend,
}

impl Ear {
    pub fn new(world: Arc<World>, frontend: AudioFrontendConfig) -> Result<Self> {
        Ok(Self { world, frontend: AudioFrontend::new(frontend)? })
    }

    /// The normalised fbank `[T, M]` of a sound at [`SAMPLE_RATE`].
    fn listen_to(&self, sound: &[f32]) -> Result<Tensor> {
        let sound = Waveform::from_samples(sound.to_vec(), SAMPLE_RATE)?;
        Ok(self.frontend.forward(&sound, &Device::Cpu)?.squeeze(0)?)
    }

    /// The fbanks of any sounds at [`SAMPLE_RATE`].
    pub fn listen(&self, sounds: &[Vec<f32>]) -> Result<Vec<Tensor>> {
        sounds.par_iter().map(|sound| self.listen_to(sound)).collect()
    }

    /// A sound as stage a hears it, for training perhaps a piece, of one random class or mixed of two; and for each class
    /// whether it sounds, `[K]`.
    pub fn example(&self, mixture: bool, split: Split, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<f32>) {
        let mut target = vec![0.0; self.world.classes.len()];
        let mut draw = || {
            let class = rng.random_range(0..target.len());
            target[class] = 1.0;
            match split {
                Split::Train => self.world.training_sound(class, rng),
                Split::HeldOut => self.world.sound(class, split, rng),
            }
        };
        let mut sound = draw();
        if mixture {
            sound = mixed(&sound, &draw());
        }
        (sound, target)
    }

    /// Sounds whose random numbers depend on `seed` and on their position in the list.
    pub fn sounds(&self, classes: &[usize], split: Split, seed: u64) -> Vec<Vec<f32>> {
        let of = |(place, class): (usize, &usize)| {
            self.world.sound(*class, split, &mut stream(seed, Purpose::Validation, 1, place as u64))
        };
        classes.par_iter().enumerate().map(of).collect()
    }

    /// The fbanks of [`Ear::sounds`].
    pub fn fbanks(&self, classes: &[usize], split: Split, seed: u64) -> Result<Vec<Tensor>> {
        self.listen(&self.sounds(classes, split, seed))
    }
}

/// Mean and standard deviation of the log mel energies of training sounds, for the front end `config`.
pub fn fbank_statistics(world: &Arc<World>, config: AudioFrontendConfig, seed: u64) -> Result<(f32, f32)> {
    let ear = Ear::new(world.clone(), AudioFrontendConfig { mean: 0.0, std: 0.5, ..config })?;
    let classes: Vec<usize> = (0..world.classes.len()).flat_map(|class| [class; 3]).collect();
    let values = Tensor::stack(&ear.fbanks(&classes, Split::Train, seed)?, 0)?.to_dtype(DType::F64)?;
    let mean = values.mean_all()?.to_scalar::<f64>()?;
    let variance = (values - mean)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
    Ok((mean as f32, variance.sqrt() as f32))
}

/// The frozen encoder's features of sounds given as fbanks, `[N, 3D]` each, in half precision.
pub fn features(acl: &Acl, fbanks: &[Tensor], mut progress: impl FnMut(usize)) -> Result<Vec<Tensor>> {
    let mut features = Vec::with_capacity(fbanks.len());
    for chunk in fbanks.chunks(CHUNK) {
        let batch = acl.audio_features(&Tensor::stack(chunk, 0)?)?.to_dtype(DType::F16)?;
        for i in 0..chunk.len() {
            features.push(batch.get(i)?.force_contiguous()?);
        }
        progress(chunk.len());
    }
    Ok(features)
}

/// Of so many sounds that train the encoder, one is a mixture of two.
const MIXTURES: usize = 2;

/// Labelled sounds, single ones and mixtures of two, generated on the fly.
pub struct NamedSounds {
    ear: Ear,
    ids: Vec<String>,
}

impl NamedSounds {
    pub fn new(ear: Ear, num_samples: usize) -> Self {
        Self { ear, ids: (0..num_samples).map(|i| format!("sound {i}")).collect() }
    }
}

/// A batch of B sounds, each of one class or several.
pub struct SoundBatch {
    /// `[B, T, M]`.
    pub fbanks: Tensor,
    /// 1 for each class that sounds, `[B, K]`.
    pub targets: Tensor,
}

impl SoundBatch {
    /// From fbanks `[T, M]` and targets `[K]`.
    pub fn new(fbanks: &[Tensor], targets: Vec<Vec<f32>>) -> Result<Self> {
        Ok(Self { fbanks: Tensor::stack(fbanks, 0)?, targets: Tensor::new(targets, &Device::Cpu)? })
    }
}

impl Dataset for NamedSounds {
    type Sample = (Tensor, Vec<f32>);
    type Batch = SoundBatch;

    fn num_samples(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", String::as_str)
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<Self::Sample> {
        let (sound, target) = self.ear.example(index.is_multiple_of(MIXTURES), Split::Train, rng);
        Ok((self.ear.listen_to(&sound)?, target))
    }

    fn collate(&self, samples: Vec<Self::Sample>) -> Result<SoundBatch> {
        let (fbanks, targets): (Vec<Tensor>, Vec<_>) = samples.into_iter().unzip();
        SoundBatch::new(&fbanks, targets)
    }
}
