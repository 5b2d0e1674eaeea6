//! Weights: their file formats, and where to find the files.
//!
//! [`Checkpoint`] opens a `.safetensors` or `.gguf` file or a PyTorch pickle, and [`Checkpoint::load`] builds a model
//! from it strictly: every tensor must be used. [`save_safetensors`] writes tensors to a file, and [`save_as`] converts
//! a checkpoint to another [`WeightFormat`]. [`ModelFiles`] finds the files of a model ([`ModelSource`]) in a
//! directory, in the cache of the Hugging Face Hub ([`Hub`]), or, if downloads are allowed, on the Hub.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use soundsight::candle_core::{DType, Device, Tensor};
//! use soundsight::nn::Linear;
//! use soundsight::weights::{Checkpoint, save_safetensors};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("layer.safetensors");
//! let weight = Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?;
//! save_safetensors(&path, &BTreeMap::from([("weight".to_owned(), weight)]), &BTreeMap::new())?;
//!
//! let checkpoint = Checkpoint::open(&path)?;
//! let layer = checkpoint.load(&Device::Cpu, DType::F32, &[], |weights| Linear::new(2, 3, false, weights))?;
//! assert_eq!((layer.in_dim(), layer.out_dim()), (2, 3));
//! # Ok(())
//! # }
//! ```

mod archive;
mod checkpoint;
mod compress;
#[cfg(feature = "hub")]
mod download;
mod element;
mod embedded;
mod encoder_kind;
mod entry;
mod gguf;
mod hub;
pub mod keys;
mod loader;
mod model_files;
mod pickle;
mod published;
mod resolve;
mod safetensors;
mod source;
mod store;
mod torch;
mod unpickle;

pub use crate::nn::{Matrices, Precision, WeightFormat};
pub use checkpoint::Checkpoint;
pub use compress::save_as;
pub use encoder_kind::AudioEncoderKind;
pub use entry::Entry;
pub use hub::{Download, Hub, Progress};
pub(crate) use model_files::write_presence;
pub use model_files::{ModelFiles, TokenizerFiles};
pub use safetensors::save_safetensors;
#[cfg(feature = "train")]
pub(crate) use safetensors::write as write_safetensors;
pub use source::ModelSource;
