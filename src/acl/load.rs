//! Loading the model from its files.

use candle_core::{DType, Device};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::audio_encoder::AudioEncoder;
use super::config::{AclConfig, ModelConfig, PromptIds, acl_config};
use super::model::{Acl, TrainedHead};
use crate::clipseg::ClipSeg;
use crate::error::{Error, Result};
use crate::weights::{AudioEncoderKind, Matrices, ModelFiles};

/// BEATs stores the shared relative position bias once per block; only block 0's is read.
const SHARED_BIAS: &str = "encoder.layers.*.self_attn.relative_attention_bias.weight";
/// The head of `ASTForAudioClassification`.
const CLASSIFIER: &str = "classifier.*";

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
        matrices: impl Into<Matrices>,
    ) -> Result<Self> {
        config.validate()?;
        let matrices = matrices.into();
        let ignored = match config.acl.audio_encoder {
            AudioEncoderKind::Beats => &[SHARED_BIAS],
            AudioEncoderKind::Ast => &[CLASSIFIER],
        };
        // Side by side: reading a file and packing what is read are each the work of one thread.
        let (audio, clipseg) = (&files.audio, &config.clipseg);
        let ((audio, clipseg), head) = rayon::join(
            || {
                rayon::join(
                    || audio.load_with_format(device, dtype, matrices, ignored, |vb| AudioEncoder::new(config, vb)),
                    || files.clipseg.load_with_format(device, dtype, matrices, &[], |vb| ClipSeg::new(clipseg, vb)),
                )
            },
            || files.acl.load_with_format(device, dtype, matrices, &[], |vb| TrainedHead::new(config, vb)),
        );
        let (audio, clipseg, head) = (audio?, clipseg?, head?);
        head.masker.offset().map_err(|error| match error {
            Error::NonFinite { what, details } => {
                Error::NonFinite { what, details: format!("{details} in {}", files.acl.path().display()) }
            }
            other => other,
        })?;
        Self::from_parts(config, prompt, audio, clipseg, head)
    }
}

impl ModelConfig {
    /// The configuration of a model directory or of published files.
    ///
    /// # Errors
    /// [`Error::Format`] naming the part that cannot be read, [`Error::Config`] for invalid settings.
    pub fn from_files(files: &ModelFiles) -> Result<Self> {
        let mut config = Self {
            clipseg: part(files, "clipseg", &files.clipseg_config)?,
            acl: match &files.acl_config {
                Some(config) => acl_config(config).map_err(|error| invalid(files, "acl", error))?,
                None => AclConfig::default(),
            },
            ..Self::default()
        };
        match config.acl.audio_encoder {
            AudioEncoderKind::Beats => config.beats = part(files, "beats", &files.audio_config)?,
            AudioEncoderKind::Ast => config.ast = part(files, "ast", &files.audio_config)?,
        }
        config.validate()?;
        Ok(config)
    }
}

fn part<T: DeserializeOwned>(files: &ModelFiles, name: &str, config: &Value) -> Result<T> {
    T::deserialize(config).map_err(|error| invalid(files, name, error))
}

fn invalid(files: &ModelFiles, name: &str, error: serde_json::Error) -> Error {
    Error::format(&files.name, "configuration", format!("valid settings in \"{name}\""), error)
}
