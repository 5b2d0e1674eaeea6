//! The configuration of an AST checkpoint.

use serde::{Deserialize, Serialize};

use crate::audio::AudioFrontendConfig;
use crate::error::{Error, Result};
use crate::nn::Activation;

/// The sizes of an AST encoder, named as in the `config.json` of Hugging Face's checkpoints. Fields of it that do not concern
/// inference (dropout rates, labels) are ignored on reading. The defaults are those of `ASTConfig`, the model
/// `MIT/ast-finetuned-audioset-10-10-0.4593`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AstConfig {
    /// Width of the transformer.
    pub hidden_size: usize,
    /// Number of transformer blocks.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward networks.
    pub intermediate_size: usize,
    /// Activation of the feed-forward networks.
    pub hidden_act: Activation,
    /// `eps` of every LayerNorm.
    pub layer_norm_eps: f64,
    /// Side of a square patch of the fbank, in frames and mel bins.
    pub patch_size: usize,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// From a patch to the next one, in mel bins.
    pub frequency_stride: usize,
    /// From a patch to the next one, in frames.
    pub time_stride: usize,
    /// T, the number of frames of the fbank.
    pub max_length: usize,
    /// M, the number of mel bins of the fbank.
    pub num_mel_bins: usize,
}

impl Default for AstConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            patch_size: 16,
            qkv_bias: true,
            frequency_stride: 10,
            time_stride: 10,
            max_length: 1024,
            num_mel_bins: 128,
        }
    }
}

impl AstConfig {
    /// The sound input that the encoder expects: [`AudioFrontendConfig::ast`] with this number of frames and mel bins.
    pub fn frontend(&self) -> AudioFrontendConfig {
        let mut config = AudioFrontendConfig::ast();
        config.fbank.num_mel_bins = self.num_mel_bins;
        config.seconds = config.fbank.seconds(self.max_length);
        config
    }

    /// The numbers of patches along the mel bins and along the frames: `⌊(M − patch) / stride⌋ + 1`.
    pub fn grid(&self) -> (usize, usize) {
        let along = |length: usize, stride: usize| length.saturating_sub(self.patch_size) / stride.max(1) + 1;
        (along(self.num_mel_bins, self.frequency_stride), along(self.max_length, self.time_stride))
    }

    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("patch_size", self.patch_size),
            ("frequency_stride", self.frequency_stride),
            ("time_stride", self.time_stride),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::config(format!("ast.{name}"), "at least 1", value));
            }
        }
        for (name, length) in [("max_length", self.max_length), ("num_mel_bins", self.num_mel_bins)] {
            if length < self.patch_size {
                let expected = format!("at least patch_size = {}", self.patch_size);
                return Err(Error::config(format!("ast.{name}"), expected, length));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let expected = format!("a divisor of hidden_size = {}", self.hidden_size);
            return Err(Error::config("ast.num_attention_heads", expected, self.num_attention_heads));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps >= 0.0) {
            return Err(Error::config("ast.layer_norm_eps", "zero or a positive number", self.layer_norm_eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_transformers_writes_them_and_checked() {
        let text = r#"{"architectures": ["ASTModel"], "hidden_size": 32, "num_attention_heads": 2, "hidden_act": "gelu",
            "id2label": {"0": "Speech"}, "max_length": 64, "model_type": "audio-spectrogram-transformer"}"#;
        let config: AstConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.hidden_size, config.max_length, config.grid()), (32, 64, (12, 5)));
        assert_eq!(config.frontend().seconds, 0.655);
        config.validate().unwrap();
        assert_eq!((AstConfig::default().grid(), AstConfig::default().frontend().seconds), ((12, 101), 10.255));
        for (wrong, name) in [
            (AstConfig { hidden_size: 0, ..config.clone() }, "ast.hidden_size"),
            (AstConfig { time_stride: 0, ..config.clone() }, "ast.time_stride"),
            (AstConfig { max_length: 15, ..config.clone() }, "ast.max_length"),
            (AstConfig { num_mel_bins: 0, ..config.clone() }, "ast.num_mel_bins"),
            (AstConfig { num_attention_heads: 3, ..config.clone() }, "ast.num_attention_heads"),
            (AstConfig { layer_norm_eps: f64::NAN, ..config }, "ast.layer_norm_eps"),
        ] {
            let error = wrong.validate().unwrap_err();
            assert!(matches!(&error, Error::Config { what, .. } if what == name), "{name}: {error}");
        }
    }
}
