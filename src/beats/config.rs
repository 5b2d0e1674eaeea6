//! The configuration of a BEATs checkpoint.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nn::Activation;

/// The sizes and switches of a BEATs encoder, named as in the `cfg` of the published checkpoints. Fields that only
/// concern BEATs' own pre-training (dropout rates, masking) are ignored on reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BeatsConfig {
    /// Side of a square patch of the fbank, in frames and mel bins.
    pub input_patch_size: usize,
    /// Width of the patch embedding.
    pub embed_dim: usize,
    /// Whether the patch embedding has a bias.
    pub conv_bias: bool,
    /// Number of transformer blocks.
    pub encoder_layers: usize,
    /// Width of the transformer.
    pub encoder_embed_dim: usize,
    /// Width inside the feed-forward networks.
    pub encoder_ffn_embed_dim: usize,
    /// Number of attention heads.
    pub encoder_attention_heads: usize,
    /// Activation of the feed-forward networks.
    pub activation_fn: Activation,
    /// Whether LayerNorm comes before the attention and the feed-forward network (pre-norm) or after them (post-norm).
    pub layer_norm_first: bool,
    /// Whether residuals are multiplied by (2 · layers)^¼ (DeepNorm, Wang et al., arXiv 2203.00555).
    pub deep_norm: bool,
    /// Kernel width of the convolutional position embedding, in tokens.
    pub conv_pos: usize,
    /// Groups of the convolutional position embedding.
    pub conv_pos_groups: usize,
    /// Whether the attention has a relative position bias.
    pub relative_position_embedding: bool,
    /// Number of buckets of the relative position bias, for both directions together.
    pub num_buckets: usize,
    /// Distance in tokens beyond which all positions share the last bucket.
    pub max_distance: usize,
    /// Whether the relative position bias is gated by the query.
    pub gru_rel_pos: bool,
    /// Whether the checkpoint has a tagging head.
    pub finetuned_model: bool,
    /// Number of classes of the tagging head.
    pub predictor_class: usize,
}

impl Default for BeatsConfig {
    /// The defaults of the published configuration class, which a checkpoint's `cfg` overrides.
    fn default() -> Self {
        Self {
            input_patch_size: 16,
            embed_dim: 512,
            conv_bias: false,
            encoder_layers: 12,
            encoder_embed_dim: 768,
            encoder_ffn_embed_dim: 3072,
            encoder_attention_heads: 12,
            activation_fn: Activation::Gelu,
            layer_norm_first: false,
            deep_norm: false,
            conv_pos: 128,
            conv_pos_groups: 16,
            relative_position_embedding: false,
            num_buckets: 320,
            max_distance: 1280,
            gru_rel_pos: false,
            finetuned_model: false,
            predictor_class: 527,
        }
    }
}

impl BeatsConfig {
    /// BEATs iter3+ fine-tuned on AudioSet-2M, the encoder of the published ACL model.
    pub fn iter3_plus() -> Self {
        Self {
            deep_norm: true,
            relative_position_embedding: true,
            max_distance: 800,
            gru_rel_pos: true,
            finetuned_model: true,
            ..Self::default()
        }
    }

    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("input_patch_size", self.input_patch_size),
            ("embed_dim", self.embed_dim),
            ("encoder_layers", self.encoder_layers),
            ("encoder_embed_dim", self.encoder_embed_dim),
            ("encoder_ffn_embed_dim", self.encoder_ffn_embed_dim),
            ("encoder_attention_heads", self.encoder_attention_heads),
            ("conv_pos", self.conv_pos),
            ("conv_pos_groups", self.conv_pos_groups),
        ];
        for (name, value) in positive {
            if value == 0 {
                return Err(Error::config(format!("beats.{name}"), "at least 1", value));
            }
        }
        for (name, divisor) in
            [("encoder_attention_heads", self.encoder_attention_heads), ("conv_pos_groups", self.conv_pos_groups)]
        {
            if !self.encoder_embed_dim.is_multiple_of(divisor) {
                let expected = format!("a divisor of encoder_embed_dim = {}", self.encoder_embed_dim);
                return Err(Error::config(format!("beats.{name}"), expected, divisor));
            }
        }
        if self.deep_norm && self.layer_norm_first {
            return Err(Error::config("beats.deep_norm", "false where layer_norm_first is true", true));
        }
        if self.relative_position_embedding {
            if self.num_buckets < 4 {
                return Err(Error::config("beats.num_buckets", "at least 4", self.num_buckets));
            }
            if self.max_distance <= self.num_buckets / 4 {
                let expected = format!("more than num_buckets / 4 = {}", self.num_buckets / 4);
                return Err(Error::config("beats.max_distance", expected, self.max_distance));
            }
        }
        if self.finetuned_model && self.predictor_class == 0 {
            return Err(Error::config("beats.predictor_class", "at least 1", 0));
        }
        Ok(())
    }
}
