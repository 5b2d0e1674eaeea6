//! The configuration of a whole model, as in a model directory's `config.json`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ast::AstConfig;
use crate::audio::{AudioFrontend, AudioFrontendConfig, FbankOptions};
use crate::beats::BeatsConfig;
use crate::clipseg::ClipSegConfig;
use crate::error::{Error, Result};
use crate::image::NormalizeOptions;
use crate::weights::AudioEncoderKind;

/// The token ids of a prompt, before and after the audio token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptIds {
    /// The start token and the words before the audio token.
    pub before: Vec<u32>,
    /// The words after the audio token, and the end token.
    pub after: Vec<u32>,
}

impl PromptIds {
    /// The start and the end token alone.
    pub(super) fn without_words(&self) -> Self {
        let (first, last) = (self.before.first(), self.after.last());
        Self { before: first.into_iter().copied().collect(), after: last.into_iter().copied().collect() }
    }
}

/// What ACL adds to its two encoders. Every field is optional in `config.json` and defaults to the published value; with AST
/// as the audio encoder, the settings of the fbank default to [those of AST](AclConfig::ast) in a [`ModelConfig`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AclConfig {
    /// Which audio encoder the model has.
    #[serde(skip_serializing_if = "is_default")]
    pub audio_encoder: AudioEncoderKind,
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
    /// The number M of learned vectors before the audio token, in place of the prompt's words: a
    /// [small net](super::PromptNet) computes them from the picture (SouPLe, arXiv 2603.22732, has 4). 0, as published, keeps
    /// the words. Text prompts are not affected. It needs the [text tower](AclConfig::text_tower).
    #[serde(skip_serializing_if = "is_default")]
    pub prompt_vectors: usize,
    /// The audio encoder's blocks (counted from 0) whose concatenated outputs the AudioTokenizer reads.
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
            audio_encoder: AudioEncoderKind::Beats,
            image_size: 352,
            audio_seconds: 10.0,
            sample_rate: 16_000,
            num_mel_bins: 128,
            fbank_mean: 15.41663,
            fbank_std: 6.55582,
            prompt: PROMPT.to_string(),
            prompt_ids: None,
            text_tower: true,
            prompt_vectors: 0,
            audio_blocks: vec![3, 7, 11],
            image_mean: NormalizeOptions::default().mean,
            image_std: NormalizeOptions::default().std,
        }
    }
}

impl AclConfig {
    /// The published settings with AST as the audio encoder, and its fbank.
    pub fn ast() -> Self {
        let frontend = AudioFrontendConfig::ast();
        Self {
            audio_encoder: AudioEncoderKind::Ast,
            audio_seconds: frontend.seconds,
            fbank_mean: frontend.mean,
            fbank_std: frontend.std,
            ..Self::default()
        }
    }

    /// The settings of the audio front end.
    pub fn frontend(&self) -> AudioFrontendConfig {
        let defaults = match self.audio_encoder {
            AudioEncoderKind::Beats => AudioFrontendConfig::default(),
            AudioEncoderKind::Ast => AudioFrontendConfig::ast(),
        };
        let (sample_rate, num_mel_bins) = (self.sample_rate, self.num_mel_bins);
        AudioFrontendConfig {
            seconds: self.audio_seconds,
            mean: self.fbank_mean,
            std: self.fbank_std,
            fbank: FbankOptions { sample_rate, num_mel_bins, ..defaults.fbank },
            ..defaults
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
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The same for a switch that is on by default.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references
fn is_true(value: &bool) -> bool {
    *value
}

/// Reads ACL's settings, some of whose defaults depend on another one, the audio encoder.
pub(super) fn acl_config<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<AclConfig, D::Error> {
    let found = Map::<String, Value>::deserialize(deserializer)?;
    let encoder = found.get("audio_encoder").map(AudioEncoderKind::deserialize).transpose();
    let mut settings = match encoder.map_err(D::Error::custom)? {
        Some(AudioEncoderKind::Ast) => serde_json::to_value(AclConfig::ast()).map_err(D::Error::custom)?,
        _ => Value::Object(Map::new()),
    };
    if let Value::Object(settings) = &mut settings {
        settings.extend(found);
    }
    AclConfig::deserialize(settings).map_err(D::Error::custom)
}

/// The configuration of all parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The audio encoder, unless `acl.audio_encoder` names another one.
    #[serde(default)]
    pub beats: BeatsConfig,
    /// The audio encoder where `acl.audio_encoder` is AST.
    #[serde(default)]
    pub ast: AstConfig,
    /// The grounder with both CLIP towers.
    #[serde(default)]
    pub clipseg: ClipSegConfig,
    /// ACL's own settings.
    #[serde(default, deserialize_with = "acl_config")]
    pub acl: AclConfig,
}

impl ModelConfig {
    /// The published model: BEATs iter3+, CLIPSeg rd64-refined, ACL's own values.
    pub fn acl_vit16() -> Self {
        let (beats, clipseg) = (BeatsConfig::iter3_plus(), ClipSegConfig::rd64_refined());
        Self { beats, clipseg, ..Self::default() }
    }

    /// The published settings around another audio encoder and grounder: sounds are as long as the encoder's frames, and the
    /// AudioTokenizer reads the blocks at a third, at two thirds and at the end of its depth, as it does in the published model.
    pub fn with_ast(ast: AstConfig, clipseg: ClipSegConfig) -> Self {
        let mut audio_blocks: Vec<usize> =
            (1..=3).map(|third| (third * ast.num_hidden_layers).div_ceil(3).saturating_sub(1)).collect();
        audio_blocks.dedup();
        let (audio_seconds, num_mel_bins) = (ast.frontend().seconds, ast.num_mel_bins);
        let acl = AclConfig { audio_seconds, num_mel_bins, audio_blocks, ..AclConfig::ast() };
        Self { ast, clipseg, acl, ..Self::default() }
    }

    /// The number of blocks of the audio encoder, and their width D.
    pub fn audio_encoder_size(&self) -> (usize, usize) {
        match self.acl.audio_encoder {
            AudioEncoderKind::Beats => (self.beats.encoder_layers, self.beats.encoder_embed_dim),
            AudioEncoderKind::Ast => (self.ast.num_hidden_layers, self.ast.hidden_size),
        }
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
        match self.acl.audio_encoder {
            AudioEncoderKind::Beats => self.beats.validate()?,
            AudioEncoderKind::Ast => self.validate_ast()?,
        }
        self.clipseg.validate()?;
        let acl = &self.acl;
        let patch = self.clipseg.vision_config.patch_size;
        if acl.image_size == 0 || !acl.image_size.is_multiple_of(patch) {
            let expected = format!("a multiple of the patch size {patch}");
            return Err(Error::config("acl.image_size", expected, acl.image_size));
        }
        let (blocks, _) = self.audio_encoder_size();
        if acl.audio_blocks.is_empty() || acl.audio_blocks.iter().any(|block| *block >= blocks) {
            let expected = format!("block numbers below {blocks}");
            return Err(Error::config("acl.audio_blocks", expected, format!("{:?}", acl.audio_blocks)));
        }
        if acl.prompt.matches("{}").count() != 1 {
            return Err(Error::config("acl.prompt", "a text with one {}", format!("{:?}", acl.prompt)));
        }
        self.validate_prompt_vectors()?;
        acl.frontend().fbank.validate()?;
        acl.normalize().validate()?;
        Ok(())
    }

    /// Checks that there is a text tower to read learned vectors, and that it has positions for them.
    fn validate_prompt_vectors(&self) -> Result<()> {
        let (found, positions) = (self.acl.prompt_vectors, self.clipseg.text_config.max_position_embeddings);
        // The start token, the audio token and the end token take three.
        let room = positions.saturating_sub(3);
        let expected = match self.acl.text_tower {
            false if found > 0 => "0 without a text tower, which would read them".to_string(),
            true if found > room => format!("at most {room}, because the text tower has {positions} positions"),
            _ => return Ok(()),
        };
        Err(Error::config("acl.prompt_vectors", expected, found))
    }

    /// Checks AST's settings, and that the front end makes an fbank of the size that it has positions for.
    fn validate_ast(&self) -> Result<()> {
        let (ast, acl) = (&self.ast, &self.acl);
        ast.validate()?;
        if acl.num_mel_bins != ast.num_mel_bins {
            let expected = format!("ast.num_mel_bins = {}", ast.num_mel_bins);
            return Err(Error::config("acl.num_mel_bins", expected, acl.num_mel_bins));
        }
        let frames = AudioFrontend::new(acl.frontend())?.num_frames();
        if frames != ast.max_length {
            let (wanted, seconds) = (ast.max_length, acl.frontend().fbank.seconds(ast.max_length));
            let expected = format!("{seconds}, which makes ast.max_length = {wanted} frames");
            let found = format!("{}, which makes {frames}", acl.audio_seconds);
            return Err(Error::config("acl.audio_seconds", expected, found));
        }
        Ok(())
    }
}
