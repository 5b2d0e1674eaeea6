//! Computes the normalised filterbank that a network reads from a [`Waveform`].
//!
//! Reimplements [`preprocess`] of BEATs, and `ASTFeatureExtractor` of `feature_extraction_audio_spectrogram_transformer.py`
//! (transformers 5.24.0, where torchaudio is installed).
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

/// How a sound is made as long as the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Padding {
    /// The sound is continued with silence, whose log mel energies are -15.942385, as BEATs does.
    #[default]
    Silence,
    /// The filterbank of the sound is continued with frames of zeros, which are normalised like all others, as AST does. Only
    /// frames that lie entirely within the sound are computed.
    Zeros,
}

/// The sound input that a network expects. The defaults are those of BEATs as used by ACL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AudioFrontendConfig {
    /// Every sound is cut, or padded at its end, to this many seconds (10).
    pub seconds: f64,
    /// With what it is padded (silence).
    #[serde(skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// The factor from samples in [-1, 1] to the scale of the filterbank (32768: Kaldi's, that of 16-bit integers).
    #[serde(skip_serializing_if = "is_kaldi_scale")]
    pub scale: f32,
    /// Subtracted from the log mel energies (15.41663).
    pub mean: f32,
    /// The standard deviation s in the normalisation (x - mean) / (2 · s) (6.55582).
    pub std: f32,
    /// The filterbank; its `sample_rate` is the rate to which sounds are resampled (16 kHz, 128 filters).
    pub fbank: FbankOptions,
}

impl Default for AudioFrontendConfig {
    fn default() -> Self {
        let (padding, scale) = (Padding::default(), KALDI_SCALE);
        Self { seconds: 10.0, padding, scale, mean: 15.41663, std: 6.55582, fbank: FbankOptions::beats() }
    }
}

impl AudioFrontendConfig {
    /// The input of AST: 1024 frames, [padded with zeros](Padding::Zeros), of samples in [-1, 1] that are not scaled; mean
    /// -4.2677393, standard deviation 4.5689974.
    pub fn ast() -> Self {
        let fbank = FbankOptions::ast();
        let seconds = fbank.seconds(1024);
        Self { seconds, padding: Padding::Zeros, scale: 1.0, mean: -4.267_739_3, std: 4.568_997_4, fbank }
    }
}

// Settings with their default are left out of files, so that what earlier versions wrote still compares equal.

fn is_default(padding: &Padding) -> bool {
    *padding == Padding::default()
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_kaldi_scale(scale: &f32) -> bool {
    *scale == KALDI_SCALE
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
        if !(config.scale.is_finite() && config.scale > 0.0) {
            return Err(Error::config("scale", "a positive number", config.scale));
        }
        if config.padding == Padding::Zeros && !config.fbank.snip_edges {
            return Err(Error::config("padding", "silence, where frames reach beyond the sound (snip_edges)", "zeros"));
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
        match self.config.padding {
            Padding::Silence => samples.resize(self.num_samples, 0.0),
            Padding::Zeros => samples.truncate(self.num_samples),
        }
        samples.iter_mut().for_each(|x| *x *= self.config.scale);
        let mut features = match self.fbank.num_frames(samples.len()) {
            0 => Vec::new(),
            _ => self.fbank.compute(&samples)?,
        };
        features.resize(self.num_frames() * self.num_mel_bins(), 0.0);
        let (mean, scale) = (self.config.mean, 2.0 * self.config.std);
        features.iter_mut().for_each(|x| *x = (*x - mean) / scale);
        Ok(features)
    }
}
