//! The configuration of CLIP's towers, named as in the published `config.json`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Activation;

/// The text tower's sizes. Fields of the published configuration that do not concern inference are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the transformer.
    pub hidden_size: usize,
    /// Width inside the feed-forward networks.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Length of the position table, which is the length of the longest prompt.
    pub max_position_embeddings: usize,
    /// Activation of the feed-forward networks.
    pub hidden_act: Activation,
    /// `eps` of every LayerNorm.
    pub layer_norm_eps: f64,
}

impl Default for ClipTextConfig {
    /// ViT-B/16's text tower.
    fn default() -> Self {
        Self {
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipTextConfig {
    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        check_positive(
            "text_config",
            &[
                ("vocab_size", self.vocab_size),
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("max_position_embeddings", self.max_position_embeddings),
            ],
        )?;
        check_heads("text_config", self.hidden_size, self.num_attention_heads)
    }
}

/// The vision tower's sizes. Fields of the published configuration that do not concern inference are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// Width of the transformer.
    pub hidden_size: usize,
    /// Width inside the feed-forward networks.
    pub intermediate_size: usize,
    /// Number of transformer blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Channels of the picture.
    pub num_channels: usize,
    /// Side in pixels of the pictures that the position table was trained for. For other sizes it is interpolated.
    pub image_size: usize,
    /// Side of a square patch in pixels.
    pub patch_size: usize,
    /// Activation of the feed-forward networks.
    pub hidden_act: Activation,
    /// `eps` of every LayerNorm.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    /// ViT-B/16.
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 16,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipVisionConfig {
    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        check_positive(
            "vision_config",
            &[
                ("hidden_size", self.hidden_size),
                ("intermediate_size", self.intermediate_size),
                ("num_hidden_layers", self.num_hidden_layers),
                ("num_attention_heads", self.num_attention_heads),
                ("num_channels", self.num_channels),
                ("patch_size", self.patch_size),
            ],
        )?;
        if self.image_size < self.patch_size {
            let expected = format!("at least patch_size = {}", self.patch_size);
            return Err(Error::config("clipseg.vision_config.image_size", expected, self.image_size));
        }
        check_heads("vision_config", self.hidden_size, self.num_attention_heads)
    }
}

fn check_positive(section: &str, settings: &[(&str, usize)]) -> Result<()> {
    match settings.iter().find(|(_, value)| *value == 0) {
        Some((name, value)) => Err(Error::config(format!("clipseg.{section}.{name}"), "at least 1", value)),
        None => Ok(()),
    }
}

fn check_heads(section: &str, width: usize, heads: usize) -> Result<()> {
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    let expected = format!("a divisor of hidden_size = {width}");
    Err(Error::config(format!("clipseg.{section}.num_attention_heads"), expected, heads))
}
