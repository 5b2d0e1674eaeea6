#![doc = include_str!("../README.md")]
#![warn(clippy::missing_errors_doc)]

pub mod error;
pub mod files;

pub mod audio;
pub mod image;
pub mod nn;
pub mod weights;

pub mod beats;
pub mod clip;
pub mod clipseg;

pub mod acl;
pub mod localizer;

pub mod data;
pub mod eval;
pub mod train;
pub mod viz;

pub use audio::Waveform;
pub use error::{Error, Result};
pub use image::Picture;
pub use localizer::{Embedding, EncodedImage, Heatmap, Localizer};
pub use weights::ModelSource;
