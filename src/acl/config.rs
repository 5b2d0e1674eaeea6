//! The configuration of a whole model, as in a model directory's `config.json`.

use serde::{Deserialize, Serialize};

use crate::audio::{AudioFrontendConfig, FbankOptions};
use crate::beats::BeatsConfig;
use crate::clipseg::ClipSegConfig;
use crate::error::{Error, Result};
use crate::image::NormalizeOptions;

/// The token ids of a prompt, before and after the audio token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptIds {
    /// The start token and the words before the audio token.
    pub before: Vec<u32>,
    /// The words after the audio token, and the end token.
    pub after: Vec<u32>,
}

/// What ACL adds to its two encoders. Every field is optional in `config.json` and defaults to the published value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclConfig {
    /// Side S in pixels to which pictures are resized; a multiple of the vision tower's patch size.
    pub image_size: usize,
    /// Seconds of sound; shorter clips are padded with silence at the end, longer ones cut.
    pub audio_seconds: f64,
    /// Sample rate in Hz that sounds are resampled to.
    pub sample_rate: u32,
    /// Mel bins of the fbank.
    pub num_mel_bins: usize,
    /// Mean of the fbank's values; it is subtracted.
    pub fbank_mean: f32,
    /// Standard deviation of the fbank's values; after the subtraction they are divided by twice this value.
    pub fbank_std: f32,
    /// The prompt; `{}` marks the place of the audio token.
    pub prompt: String,
    /// The prompt's token ids. If they are missing, the model's tokenizer computes them; for the published prompt they
    /// are built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ids: Option<PromptIds>,
    /// Whether CLIP's text tower reads the audio token, within the prompt. If false, the AudioTokenizer maps sounds straight
    /// into the common space: its output has the width P and is the audio-driven embedding. Text prompts use the tower
    /// either way.
    #[serde(skip_serializing_if = "is_true")]
    pub text_tower: bool,
    /// The BEATs blocks (counted from 0) whose concatenated outputs the AudioTokenizer reads.
    pub audio_blocks: Vec<usize>,
    /// Mean of each colour channel, for values in [0, 1].
    pub image_mean: [f32; 3],
    /// Standard deviation of each colour channel.
    pub image_std: [f32; 3],
}

/// The published prompt.
const PROMPT: &str = "A photo of {}";

impl Default for AclConfig {
    fn default() -> Self {
        Self {
            image_size: 352,
            audio_seconds: 10.0,
            sample_rate: 16_000,
            num_mel_bins: 128,
            fbank_mean: 15.41663,
            fbank_std: 6.55582,
            prompt: PROMPT.to_string(),
            prompt_ids: None,
            text_tower: true,
            audio_blocks: vec![3, 7, 11],
            image_mean: NormalizeOptions::default().mean,
            image_std: NormalizeOptions::default().std,
        }
    }
}

impl AclConfig {
    /// The settings of the audio front end.
    pub fn frontend(&self) -> AudioFrontendConfig {
        let defaults = FbankOptions::beats();
        AudioFrontendConfig {
            seconds: self.audio_seconds,
            mean: self.fbank_mean,
            std: self.fbank_std,
            fbank: FbankOptions { sample_rate: self.sample_rate, num_mel_bins: self.num_mel_bins, ..defaults },
        }
    }

    /// The normalisation of pixels.
    pub fn normalize(&self) -> NormalizeOptions {
        NormalizeOptions { mean: self.image_mean, std: self.image_std }
    }

    /// The prompt's ids if no tokenizer is needed: the configured ones, or those of the published prompt. Without a
    /// [text tower](AclConfig::text_tower) there are none to know, and the result is empty.
    pub fn known_prompt_ids(&self) -> Option<PromptIds> {
        if !self.text_tower {
            return Some(PromptIds::default());
        }
        let published = || PromptIds { before: vec![49406, 320, 1125, 539], after: vec![49407] };
        self.prompt_ids.clone().or_else(|| (self.prompt == PROMPT).then(published))
    }
}

/// Settings with their default are left out of files, so that earlier versions and their checkpoints agree.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_true(value: &bool) -> bool {
    *value
}

/// The configuration of all parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The audio encoder.
    #[serde(default)]
    pub beats: BeatsConfig,
    /// The grounder with both CLIP towers.
    #[serde(default)]
    pub clipseg: ClipSegConfig,
    /// ACL's own settings.
    #[serde(default)]
    pub acl: AclConfig,
}

impl ModelConfig {
    /// The published model: BEATs iter3+, CLIPSeg rd64-refined, ACL's own values.
    pub fn acl_vit16() -> Self {
        Self { beats: BeatsConfig::iter3_plus(), clipseg: ClipSegConfig::rd64_refined(), acl: AclConfig::default() }
    }

    /// Width of an audio token: H, that of the text tower, or P, that of the common space, where
    /// [no text tower](AclConfig::text_tower) reads it.
    pub fn audio_token_dim(&self) -> usize {
        if self.acl.text_tower { self.clipseg.text_config.hidden_size } else { self.clipseg.projection_dim }
    }

    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        self.beats.validate()?;
        self.clipseg.validate()?;
        let acl = &self.acl;
        let patch = self.clipseg.vision_config.patch_size;
        if acl.image_size == 0 || !acl.image_size.is_multiple_of(patch) {
            let expected = format!("a multiple of the patch size {patch}");
            return Err(Error::config("acl.image_size", expected, acl.image_size));
        }
        let blocks = self.beats.encoder_layers;
        if acl.audio_blocks.is_empty() || acl.audio_blocks.iter().any(|block| *block >= blocks) {
            let expected = format!("block numbers below {blocks}");
            return Err(Error::config("acl.audio_blocks", expected, format!("{:?}", acl.audio_blocks)));
        }
        if acl.prompt.matches("{}").count() != 1 {
            return Err(Error::config("acl.prompt", "a text with one {}", format!("{:?}", acl.prompt)));
        }
        acl.frontend().fbank.validate()?;
        acl.normalize().validate()?;
        Ok(())
    }
}
