//! CLIPSeg (Lüddecke and Ecker, arXiv 2112.10003): segmentation of what a CLIP embedding describes.
//!
//! CLIP is unchanged. A small decoder reads activations of the vision tower, deepest first, and computes a logit for
//! every pixel. A condition, applied by FiLM (Perez et al., arXiv 1709.07871), tells it what to look for. The condition
//! is any vector in CLIP's common space: the embedding of a text, a picture or, with ACL, a sound.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use soundsight::clipseg::{ClipSegConfig, Decoder};
//! use candle_nn::VarBuilder;
//!
//! // A decoder with weights of zero, for a grid of 2 × 2 patches of 16 × 16 pixels.
//! let config = ClipSegConfig::rd64_refined();
//! let decoder = Decoder::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
//! let activation = Tensor::zeros((1, 1 + 4, config.vision_config.hidden_size), DType::F32, &Device::Cpu)?;
//! let reduced = decoder.reduce(&[&activation, &activation, &activation])?;
//! let condition = Tensor::zeros((1, config.projection_dim), DType::F32, &Device::Cpu)?;
//! assert_eq!(decoder.forward(&reduced, &condition)?.dims(), [1, 32, 32]);
//! # Ok::<(), soundsight::Error>(())
//! ```

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
    /// Creates the model from `weights`, with the tensor names of the published checkpoint.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that contradict each other, [`Error::Candle`] when `weights` lacks a tensor.
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

    /// The decoder's input for a picture: the extracted activations, deepest first, reduced to the decoder's width,
    /// each `[B, 1 + G·G, R]`. It depends only on the picture and can be reused for many conditions.
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
