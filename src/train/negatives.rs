//! Silence and noise as sounds that belong to no picture.
//!
//! The losses compare sounds of other pictures only. A model trained with them alone finds a place for every sound, because
//! every sound that it heard belonged to some picture. Here, silence and white noise are embedded beside the sounds of a
//! batch: their masks should be empty, and the masked picture should match none of them (the idea of arXiv 2508.21761).
//!
//! The frozen encoder's features of silence never change and are computed once. Everything else is computed anew in each
//! step: the noise is drawn again, and the AudioTokenizer, which learns, reads all of them again.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::losses::LossWeights;
use super::step_input::{NOISE_MARGIN, StepNegatives};
use crate::acl::Acl;
use crate::audio::{AudioFrontend, Waveform};
use crate::data::random::uniform;
use crate::error::Result;

/// The range of the noise's level, in dB of full scale.
const LEVELS: Range<f64> = -60.0..0.0;
/// The streams of random numbers from here on belong to the sounds of batches and to the masks of pairs. Those below belong to
/// the other noise of pairs.
const SOUND_STREAMS: u64 = 1 << 62;
const MASK_STREAMS: u64 = 1 << 63;

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

    /// Draws the negative sounds of one step, the noise of their masks and, with `dropout`, that of the AudioTokenizer. The
    /// sounds depend on `rng` and on the batch's number `place`, the noise of a picture's masks on that of its pair, one of
    /// `pairs`. Neither depends on how processes share the batch.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the device is out of memory.
    pub fn draw(
        &self,
        acl: &Acl,
        place: u64,
        pairs: Range<u64>,
        dropout: bool,
        rng: &ChaCha8Rng,
    ) -> Result<StepNegatives> {
        let stream = |number: u64| {
            let mut rng = rng.clone();
            rng.set_stream(number);
            rng
        };
        let mut rng = stream(SOUND_STREAMS + place);
        let mut features = vec![self.silence(acl)?; self.num_silences];
        if self.num_noises > 0 {
            let sounds = (0..self.num_noises).map(|_| self.noise(acl, &mut rng)).collect::<Result<Vec<_>>>()?;
            features.push(self.encode(acl, &sounds)?);
        }
        let features = Tensor::cat(&features, 0)?;
        let (count, tokens, _) = features.dims3()?;
        let shape = [count, tokens, acl.audio_tokenizer.token_dim()];
        let dropout = dropout.then(|| uniform(&mut rng, &shape, &self.device)).transpose()?;
        let side = acl.config().acl.image_size;
        let batch = pairs.clone().count();
        let mut masks = Vec::with_capacity(batch * count * side * side);
        for pair in pairs {
            let mut rng = stream(MASK_STREAMS + pair);
            let number = || rng.random::<f32>().clamp(NOISE_MARGIN, 1.0 - NOISE_MARGIN);
            masks.extend(std::iter::repeat_with(number).take(count * side * side));
        }
        let masks = Tensor::from_vec(masks, (batch, count, side, side), &self.device)?;
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
        let rng = ChaCha8Rng::seed_from_u64(1);
        let draw = |place, pairs| sounds.draw(acl, place, pairs, true, &rng).unwrap();
        let (first, second) = (draw(0, 0..4), draw(4, 4..8));
        assert_eq!(first.features.dims()[0], 3);
        assert_eq!(first.masks.dims()[..2], [4, 3]);
        assert_eq!(first.dropout.as_ref().unwrap().dims()[0], 3);
        let of = |drawn: &StepNegatives, k: usize| drawn.features.get(k).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(of(&first, 0), of(&second, 0));
        assert_ne!(of(&first, 1), of(&first, 2));
        assert_ne!(of(&first, 1), of(&second, 1));
        assert_ne!(of(&first, 0), of(&first, 1));
        // A part of the batch has the same sounds, and its pairs the same noise.
        let again = draw(0, 2..4);
        assert_eq!(of(&again, 1), of(&first, 1));
        let mask =
            |drawn: &StepNegatives, b: usize| drawn.masks.get(b).unwrap().flatten_all().unwrap().to_vec1::<f32>();
        assert_eq!(mask(&again, 1).unwrap(), mask(&first, 3).unwrap());
        assert_ne!(mask(&again, 1).unwrap(), mask(&first, 2).unwrap());
    }
}
