//! Silence and noise as sounds that belong to no picture.
//!
//! The losses compare sounds of other pictures only. A model trained with them alone finds a place for every sound, because
//! every sound that it heard belonged to some picture. Here, silence and white noise are embedded beside the sounds of a
//! batch: their masks should be empty, and the masked picture should match none of them (the idea of arXiv 2508.21761).
//!
//! The frozen encoder's features of silence never change and are computed once. Everything else is computed anew in each
//! step: the noise is drawn again, and the AudioTokenizer, which learns, reads all of them again.

use std::f64::consts::TAU;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::losses::LossWeights;
use super::step::{NOISE_MARGIN, StepNegatives};
use crate::acl::Acl;
use crate::audio::{AudioFrontend, Waveform};
use crate::data::random::uniform;
use crate::error::Result;

/// The range of the noise's level, in dB of full scale.
const LEVELS: std::ops::Range<f64> = -60.0..0.0;

/// Draws the negative sounds of training steps.
#[derive(Debug)]
pub struct NegativeSounds {
    frontend: AudioFrontend,
    num_silences: usize,
    num_noises: usize,
    device: Device,
    dtype: DType,
    /// The features of silence, `[1, N, 3D]`.
    silence: OnceLock<Tensor>,
}

impl NegativeSounds {
    /// Prepares `weights.silence_negatives` silences and `weights.noise_negatives` noises for each step of a model that
    /// computes on `device` as `dtype`. `None` when there are none of both.
    ///
    /// # Errors
    /// As [`AudioFrontend::new`].
    pub fn new(acl: &Acl, weights: &LossWeights, device: &Device, dtype: DType) -> Result<Option<Self>> {
        let (num_silences, num_noises) = (weights.silence_negatives, weights.noise_negatives);
        if num_silences + num_noises == 0 {
            return Ok(None);
        }
        let frontend = AudioFrontend::new(acl.config().acl.frontend())?;
        let (device, silence) = (device.clone(), OnceLock::new());
        Ok(Some(Self { frontend, num_silences, num_noises, device, dtype, silence }))
    }

    /// Draws the negative sounds of one step for B pictures: Gaussian noise of random level, the noise of the masks and,
    /// with `dropout`, that of the AudioTokenizer.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the device is out of memory.
    pub fn draw(&self, acl: &Acl, batch: usize, dropout: bool, rng: &mut ChaCha8Rng) -> Result<StepNegatives> {
        let mut features = vec![self.silence(acl)?; self.num_silences];
        if self.num_noises > 0 {
            let sounds = (0..self.num_noises).map(|_| self.noise(acl, rng)).collect::<Result<Vec<_>>>()?;
            features.push(self.encode(acl, &sounds)?);
        }
        let features = Tensor::cat(&features, 0)?;
        let (count, tokens, _) = features.dims3()?;
        let side = acl.config().acl.image_size;
        let masks = uniform(rng, &[batch, count, side, side], &self.device)?;
        let masks = masks.clamp(NOISE_MARGIN, 1.0 - NOISE_MARGIN)?;
        let shape = [count, tokens, acl.audio_tokenizer.token_dim()];
        let dropout = dropout.then(|| uniform(rng, &shape, &self.device)).transpose()?;
        Ok(StepNegatives { features, masks, dropout })
    }

    fn silence(&self, acl: &Acl) -> Result<Tensor> {
        if let Some(silence) = self.silence.get() {
            return Ok(silence.clone());
        }
        let config = &acl.config().acl;
        let samples = vec![0.0; (config.audio_seconds * f64::from(config.sample_rate)) as usize];
        let silence = self.encode(acl, &[Waveform::from_samples(samples, config.sample_rate)?])?;
        Ok(self.silence.get_or_init(|| silence).clone())
    }

    /// White Gaussian noise (by the method of Box and Muller) as long as what the model reads.
    fn noise(&self, acl: &Acl, rng: &mut ChaCha8Rng) -> Result<Waveform> {
        let config = &acl.config().acl;
        let deviation = 10f64.powf(rng.random_range(LEVELS) / 20.0);
        let mut sample = || {
            let (radius, angle) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
            (deviation * (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()) as f32
        };
        let length = (config.audio_seconds * f64::from(config.sample_rate)) as usize;
        Waveform::from_samples((0..length).map(|_| sample().clamp(-1.0, 1.0)).collect(), config.sample_rate)
    }

    /// Features `[K, N, 3D]` in f32.
    fn encode(&self, acl: &Acl, sounds: &[Waveform]) -> Result<Tensor> {
        let fbanks = self.frontend.forward_batch(sounds, &self.device)?.to_dtype(self.dtype)?;
        Ok(acl.audio_features(&fbanks)?.to_dtype(DType::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::localizer::Localizer;

    #[test]
    fn noise_is_drawn_anew_and_silence_is_not() {
        let localizer = Localizer::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/alt")).unwrap();
        let acl = localizer.acl();
        let sounds = |silence_negatives, noise_negatives| {
            let weights = LossWeights { silence_negatives, noise_negatives, ..LossWeights::default() };
            NegativeSounds::new(acl, &weights, &Device::Cpu, DType::F32).unwrap()
        };
        assert!(sounds(0, 0).is_none());
        let sounds = sounds(1, 2).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut draw = || sounds.draw(acl, 4, true, &mut rng).unwrap();
        let (first, second) = (draw(), draw());
        assert_eq!(first.features.dims()[0], 3);
        assert_eq!(first.masks.dims()[..2], [4, 3]);
        assert_eq!(first.dropout.as_ref().unwrap().dims()[0], 3);
        let of = |drawn: &StepNegatives, k: usize| drawn.features.get(k).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(of(&first, 0), of(&second, 0));
        assert_ne!(of(&first, 1), of(&first, 2));
        assert_ne!(of(&first, 1), of(&second, 1));
        assert_ne!(of(&first, 0), of(&first, 1));
        let again = sounds.draw(acl, 4, true, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        assert_eq!(of(&again, 1), of(&first, 1));
    }
}
