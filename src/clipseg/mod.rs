//! CLIPSeg (Lüddecke and Ecker, arXiv 2112.10003): segmentation of whatever a CLIP embedding describes.
//!
//! CLIP stays as it is; a small decoder reads activations of the vision tower, deepest first, is told by FiLM
//! (Perez et al., arXiv 1709.07871) what to look for, and draws a logit for every pixel. The condition is any vector of
//! CLIP's common space: a text, a picture, or a sound that was translated into it.

mod config;
mod decoder;

use candle_core::Tensor;

pub use config::ClipSegConfig;
pub use decoder::Decoder;

use crate::clip::{Clip, VisionOutput};
use crate::error::{Error, Result};
use crate::nn::Weights;

/// CLIP with the segmentation decoder.
#[derive(Clone, Debug)]
pub struct ClipSeg {
    config: ClipSegConfig,
    /// Both CLIP towers and their projections.
    pub clip: Clip,
    /// The decoder.
    pub decoder: Decoder,
}

impl ClipSeg {
    /// The model with these weights, by the names of the published checkpoint.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when there are no such tensors.
    pub fn new<'a>(config: &ClipSegConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            clip: Clip::new(&config.text_config, &config.vision_config, config.projection_dim, weights.pp("clip"))?,
            decoder: Decoder::new(config, weights.pp("decoder"))?,
        })
    }

    /// The configuration that the model was built with.
    pub fn config(&self) -> &ClipSegConfig {
        &self.config
    }

    /// What the decoder reads of a picture, each `[B, 1 + G·G, R]`: the extracted activations, deepest first, reduced
    /// to the decoder's width. Depends on the picture alone, so it can be kept for many conditions.
    ///
    /// # Errors
    /// [`Error::Argument`] when `output` lacks an extracted hidden state.
    pub fn reduce(&self, output: &VisionOutput) -> Result<Vec<Tensor>> {
        let activations = self.config.extract_layers.iter().rev().map(|layer| {
            output.hidden_states.get(layer + 1).ok_or_else(|| {
                let found = output.hidden_states.len();
                Error::argument("hidden states of the vision tower", format!("at least {}", layer + 2), found)
            })
        });
        self.decoder.reduce(&activations.collect::<Result<Vec<_>>>()?)
    }
}
