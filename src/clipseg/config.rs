//! The configuration of CLIPSeg, named as in the published `config.json`.

use serde::{Deserialize, Serialize};

use crate::clip::{ClipTextConfig, ClipVisionConfig};
use crate::error::{Error, Result};

/// CLIPSeg's sizes. Fields of the published configuration that do not concern inference are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipSegConfig {
    /// The text tower.
    pub text_config: ClipTextConfig,
    /// The vision tower.
    pub vision_config: ClipVisionConfig,
    /// Width P of the common space.
    pub projection_dim: usize,
    /// The vision blocks (counted from 0) whose outputs the decoder reads.
    pub extract_layers: Vec<usize>,
    /// Width R of the decoder.
    pub reduce_dim: usize,
    /// Number of attention heads of the decoder.
    pub decoder_num_attention_heads: usize,
    /// Width inside the decoder's feed-forward networks.
    pub decoder_intermediate_size: usize,
    /// The decoder layer (counted from 0) before which the condition is applied.
    pub conditional_layer: usize,
    /// Whether a convolution and two transposed convolutions produce the mask, or a single transposed convolution.
    pub use_complex_transposed_convolution: bool,
}

impl Default for ClipSegConfig {
    /// The defaults of the published configuration class, which is `CIDAS/clipseg-rd64`.
    fn default() -> Self {
        Self {
            text_config: ClipTextConfig::default(),
            vision_config: ClipVisionConfig::default(),
            projection_dim: 512,
            extract_layers: vec![3, 6, 9],
            reduce_dim: 64,
            decoder_num_attention_heads: 4,
            decoder_intermediate_size: 2048,
            conditional_layer: 0,
            use_complex_transposed_convolution: false,
        }
    }
}

impl ClipSegConfig {
    /// `CIDAS/clipseg-rd64-refined`, the grounder of the published ACL model.
    pub fn rd64_refined() -> Self {
        Self { use_complex_transposed_convolution: true, ..Self::default() }
    }

    /// Checks every setting, and that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first invalid setting.
    pub fn validate(&self) -> Result<()> {
        self.text_config.validate()?;
        self.vision_config.validate()?;
        let blocks = self.vision_config.num_hidden_layers;
        let ascending = self.extract_layers.windows(2).all(|pair| pair[0] < pair[1]);
        if self.extract_layers.is_empty() || !ascending || self.extract_layers.iter().any(|layer| *layer >= blocks) {
            let expected = format!("ascending block numbers below {blocks}");
            return Err(Error::config("clipseg.extract_layers", expected, format!("{:?}", self.extract_layers)));
        }
        if self.conditional_layer >= self.extract_layers.len() {
            let expected = format!("below the {} decoder layers", self.extract_layers.len());
            return Err(Error::config("clipseg.conditional_layer", expected, self.conditional_layer));
        }
        for (name, value) in [
            ("projection_dim", self.projection_dim),
            ("decoder_intermediate_size", self.decoder_intermediate_size),
            ("decoder_num_attention_heads", self.decoder_num_attention_heads),
            ("reduce_dim", self.reduce_dim),
        ] {
            if value == 0 {
                return Err(Error::config(format!("clipseg.{name}"), "at least 1", value));
            }
        }
        if !self.reduce_dim.is_multiple_of(self.decoder_num_attention_heads) {
            let expected = format!("a multiple of decoder_num_attention_heads = {}", self.decoder_num_attention_heads);
            return Err(Error::config("clipseg.reduce_dim", expected, self.reduce_dim));
        }
        // Both kernels are patch_size / 4 wide, so the mask has the size of the picture only if patch_size is 16.
        let drawable = self.vision_config.patch_size == 16 && self.reduce_dim.is_multiple_of(2);
        if self.use_complex_transposed_convolution && !drawable {
            let expected = "false unless patch_size is 16 and reduce_dim even";
            return Err(Error::config("clipseg.use_complex_transposed_convolution", expected, true));
        }
        Ok(())
    }

    /// The number of vision blocks that a mask needs: those up to the deepest extracted one.
    pub fn num_mask_blocks(&self) -> usize {
        self.extract_layers.iter().max().map_or(0, |layer| layer + 1)
    }
}
