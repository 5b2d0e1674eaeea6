//! Loading the model from its files.

use candle_core::{DType, Device};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::{AclConfig, ModelConfig, PromptIds};
use super::model::{Acl, TrainedHead};
use crate::beats::Beats;
use crate::clipseg::ClipSeg;
use crate::error::{Error, Result};
use crate::weights::{ModelFiles, WeightFormat};

/// BEATs stores the shared relative position bias once per block; only block 0's is read.
const SHARED_BIAS: &str = "encoder.layers.*.self_attn.relative_attention_bias.weight";

impl Acl {
    /// Loads the three parts strictly: a missing tensor, an unexpected one or one of the wrong shape is an error.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] for files that cannot be read, [`Error::Weights`] when the weights do not
    /// match the configuration, [`Error::Config`] for invalid settings, [`Error::NonFinite`] for a masker that cannot
    /// produce a heatmap (w = 0 or NaN).
    pub fn load(
        config: &ModelConfig,
        prompt: &PromptIds,
        files: &ModelFiles,
        device: &Device,
        dtype: DType,
        weights: WeightFormat,
    ) -> Result<Self> {
        config.validate()?;
        let (beats, clipseg) = (&config.beats, &config.clipseg);
        // Side by side: reading a file and packing what is read are each the work of one thread.
        let ((beats, clipseg), head) = rayon::join(
            || {
                let ignored = &[SHARED_BIAS];
                rayon::join(
                    || files.beats.load_with_format(device, dtype, weights, ignored, |vb| Beats::new(beats, vb)),
                    || files.clipseg.load_with_format(device, dtype, weights, &[], |vb| ClipSeg::new(clipseg, vb)),
                )
            },
            || files.acl.load_with_format(device, dtype, weights, &[], |vb| TrainedHead::new(config, vb)),
        );
        let (beats, clipseg, head) = (beats?, clipseg?, head?);
        head.masker.offset().map_err(|error| match error {
            Error::NonFinite { what, details } => {
                Error::NonFinite { what, details: format!("{details} in {}", files.acl.path().display()) }
            }
            other => other,
        })?;
        Self::from_parts(config, prompt, beats, clipseg, head)
    }
}

impl ModelConfig {
    /// The configuration of a model directory or of published files.
    ///
    /// # Errors
    /// [`Error::Format`] naming the part that cannot be read, [`Error::Config`] for invalid settings.
    pub fn from_files(files: &ModelFiles) -> Result<Self> {
        let config = Self {
            beats: part(files, "beats", &files.beats_config)?,
            clipseg: part(files, "clipseg", &files.clipseg_config)?,
            acl: match &files.acl_config {
                Some(config) => part(files, "acl", config)?,
                None => AclConfig::default(),
            },
        };
        config.validate()?;
        Ok(config)
    }
}

fn part<T: DeserializeOwned>(files: &ModelFiles, name: &str, config: &Value) -> Result<T> {
    T::deserialize(config)
        .map_err(|error| Error::format(&files.name, "configuration", format!("valid settings in \"{name}\""), error))
}
