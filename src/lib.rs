#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::missing_errors_doc)]

pub mod error;
mod files;
#[cfg(any(feature = "eval", feature = "train"))]
mod shard;

pub mod audio;
pub mod image;
pub mod nn;
pub mod video;
pub mod weights;

pub mod ast;
pub mod beats;
pub mod clip;
pub mod clipseg;

pub mod acl;
pub mod localizer;

#[cfg(feature = "train")]
pub mod data;
#[cfg(feature = "eval")]
pub mod eval;
#[cfg(feature = "prepare")]
pub mod prepare;
#[cfg(feature = "train")]
pub mod train;
pub mod viz;
pub mod watch;

/// The tensor library, re-exported so that programs use the same version as this crate.
pub use candle_core;
/// Candle's neural network crate, which provides the `VarBuilder` that models are built from.
pub use candle_nn;

pub use audio::Waveform;
pub use error::{Error, Result};
pub use image::Picture;
pub use localizer::{Embedding, EncodedImage, Heatmap, Localizer};
pub use weights::ModelSource;
