//! Sounds and pictures from files, prepared for the model.

use candle_core::{Device, Tensor};

use super::augment::Augmentation;
use super::cache::FeatureCache;
use super::pair_dataset::{AudioInput, PairReader};
use super::pairs::Pair;
use crate::acl::AclConfig;
use crate::audio::{AudioFrontend, Waveform};
use crate::error::Result;
use crate::image::{NormalizeOptions, Picture};

/// Reads the files of pairs, in any format that [`Waveform::open`] and [`Picture::open`] support, and prepares them for
/// a model.
///
/// Only the beginning of a sound is used, as many seconds as the model takes. All tensors are f32 on the CPU.
#[derive(Debug)]
pub struct MediaReader {
    frontend: AudioFrontend,
    normalize: NormalizeOptions,
    image_size: u32,
    cache: Option<FeatureCache>,
}

impl MediaReader {
    /// Creates a reader for the model with this configuration. With a `cache`, cached sounds are returned as features,
    /// and other sounds with the key under which to store their features.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when the settings for sounds or pictures are invalid.
    pub fn new(config: &AclConfig, cache: Option<FeatureCache>) -> Result<Self> {
        let normalize = config.normalize();
        normalize.validate()?;
        let image_size = u32::try_from(config.image_size)
            .map_err(|_| crate::Error::config("acl.image_size", "a side in pixels", config.image_size))?;
        Ok(Self { frontend: AudioFrontend::new(config.frontend())?, normalize, image_size, cache })
    }

    /// Checks that a pair can be read, by decoding both files.
    ///
    /// # Errors
    /// As [`PairReader::audio`] and [`PairReader::image`].
    pub fn probe(&self, pair: &Pair) -> Result<()> {
        self.waveform(pair)?;
        Picture::open(&pair.image)?;
        Ok(())
    }

    fn waveform(&self, pair: &Pair) -> Result<Waveform> {
        Waveform::open_window(&pair.audio, 0.0, self.frontend.config().seconds)
    }
}

impl PairReader for MediaReader {
    fn audio(&self, pair: &Pair) -> Result<AudioInput> {
        let key = match &self.cache {
            None => None,
            Some(cache) => {
                let key = cache.key(&pair.audio)?;
                if let Some(features) = cache.load(&key, &Device::Cpu)? {
                    return Ok(AudioInput::Features(features));
                }
                Some(key)
            }
        };
        let fbank = self.frontend.forward(&self.waveform(pair)?, &Device::Cpu)?; // [1, T, M]
        Ok(AudioInput::Fbank(fbank.squeeze(0)?, key))
    }

    fn image(&self, pair: &Pair, augmentation: Option<Augmentation>) -> Result<Tensor> {
        let picture = Picture::open(&pair.image)?;
        let side = self.image_size as usize;
        let picture = match augmentation {
            None => picture.resize(side, side)?,
            Some(Augmentation { x, y, flip }) => {
                let resized = Augmentation::resized(self.image_size) as usize;
                let cut = picture.resize(resized, resized)?.crop(x as usize, y as usize, side, side)?;
                if flip { cut.flip_horizontal() } else { cut }
            }
        };
        picture.to_tensor(&self.normalize, &Device::Cpu)
    }

    fn image_size(&self) -> u32 {
        self.image_size
    }
}
