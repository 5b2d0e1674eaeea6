//! Computes the normalised filterbank that a network reads from a [`Waveform`].
//!
//! Reimplements [`preprocess`] of BEATs.
//!
//! [`preprocess`]: https://github.com/microsoft/unilm/blob/c68101b66c2d2918b14af468d710b50feba48c16/beats/BEATs.py#L118-L131

use std::borrow::Borrow;

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::audio::fbank::Fbank;
use crate::audio::fbank_options::FbankOptions;
use crate::audio::waveform::Waveform;
use crate::error::{Error, Result};

/// The factor from samples in [-1, 1] to Kaldi's scale, that of 16-bit integers.
const KALDI_SCALE: f32 = 32_768.0;
/// The longest input of a network, in seconds; it bounds the memory.
const MAX_SECONDS: f64 = 3600.0;

/// The sound input that a network expects. The defaults are those of BEATs as used by ACL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AudioFrontendConfig {
    /// Every sound is cut, or padded with silence at its end, to this many seconds (10).
    pub seconds: f64,
    /// Subtracted from the log mel energies (15.41663).
    pub mean: f32,
    /// The standard deviation s in the normalisation (x - mean) / (2 · s) (6.55582).
    pub std: f32,
    /// The filterbank; its `sample_rate` is the rate to which sounds are resampled (16 kHz, 128 filters).
    pub fbank: FbankOptions,
}

impl Default for AudioFrontendConfig {
    fn default() -> Self {
        Self { seconds: 10.0, mean: 15.41663, std: 6.55582, fbank: FbankOptions::beats() }
    }
}

/// Resamples, cuts or pads sounds, and computes their normalised filterbanks. `Send + Sync`.
#[derive(Debug)]
pub struct AudioFrontend {
    config: AudioFrontendConfig,
    fbank: Fbank,
    num_samples: usize,
}

impl AudioFrontend {
    /// A front end with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting is out of its range, or `seconds` does not fill one frame.
    pub fn new(config: AudioFrontendConfig) -> Result<Self> {
        let fbank = Fbank::new(config.fbank.clone())?;
        if !(config.seconds > 0.0 && config.seconds <= MAX_SECONDS) {
            return Err(Error::config("seconds", format!("above 0, at most {MAX_SECONDS}"), config.seconds));
        }
        if !config.mean.is_finite() {
            return Err(Error::config("mean", "a finite number", config.mean));
        }
        if !(config.std.is_finite() && config.std > 0.0) {
            return Err(Error::config("std", "a positive number", config.std));
        }
        let num_samples = (config.seconds * f64::from(config.fbank.sample_rate)).round() as usize;
        if fbank.num_frames(num_samples) == 0 {
            let expected = format!("at least one frame of {} ms", config.fbank.frame_length_ms);
            return Err(Error::config("seconds", expected, config.seconds));
        }
        Ok(Self { config, fbank, num_samples })
    }

    /// The settings.
    pub fn config(&self) -> &AudioFrontendConfig {
        &self.config
    }

    /// T, the number of frames of every output (998 for 10 s).
    pub fn num_frames(&self) -> usize {
        self.fbank.num_frames(self.num_samples)
    }

    /// M, the number of mel filters (128).
    pub fn num_mel_bins(&self) -> usize {
        self.config.fbank.num_mel_bins
    }

    /// The normalised filterbank of one sound → [1, T, M] on `device`, f32.
    ///
    /// # Errors
    /// As [`forward_batch`](Self::forward_batch).
    pub fn forward(&self, waveform: &Waveform, device: &Device) -> Result<Tensor> {
        self.forward_batch(&[waveform], device)
    }

    /// The normalised filterbanks of a batch of sounds, of any rates and lengths → [B, T, M] on `device`, f32. Each
    /// row is what [`forward`](Self::forward) gives for that sound alone.
    ///
    /// # Errors
    /// [`Error::Argument`] when the batch is empty; [`Error::Candle`] when the device has no memory left for the
    /// tensor.
    pub fn forward_batch<W: Borrow<Waveform> + Sync>(&self, waveforms: &[W], device: &Device) -> Result<Tensor> {
        if waveforms.is_empty() {
            return Err(Error::argument("batch", "at least one sound", 0));
        }
        let rows: Vec<Vec<f32>> =
            waveforms.par_iter().map(|waveform| self.features(waveform.borrow())).collect::<Result<_>>()?;
        let shape = (rows.len(), self.num_frames(), self.num_mel_bins());
        Ok(Tensor::from_vec(rows.concat(), shape, device)?)
    }

    /// The normalised filterbank of one sound → [T, M], row-major.
    fn features(&self, waveform: &Waveform) -> Result<Vec<f32>> {
        let rate = self.config.fbank.sample_rate;
        // Resampling reads at most 7 samples of the lower rate beyond an instant, so the rest of a long sound can be
        // skipped without changing a single value.
        let reach = 8.0 / f64::from(rate.min(waveform.sample_rate()));
        let head = waveform.window(0.0, self.config.seconds + reach)?;
        let mut samples = head.resample(rate)?.into_samples();
        samples.resize(self.num_samples, 0.0);
        samples.iter_mut().for_each(|x| *x *= KALDI_SCALE);
        let mut features = self.fbank.compute(&samples)?;
        let (mean, scale) = (self.config.mean, 2.0 * self.config.std);
        features.iter_mut().for_each(|x| *x = (*x - mean) / scale);
        Ok(features)
    }
}
