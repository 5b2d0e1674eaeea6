//! Weights: the files they are stored in, and the places those files are found in.
//!
//! [`Checkpoint`] opens a file, `.safetensors`, `.gguf` or a pickle of PyTorch's, and [`Checkpoint::load`] builds a model from it
//! with every tensor accounted for. [`ModelFiles`] finds the three files of a model ([`ModelSource`]): in a directory, in the
//! cache of the Hugging Face Hub ([`Hub`]), or, when asked to download, on the Hub. [`save_safetensors`] writes, [`save_as`] in fewer
//! bits ([`WeightFormat`]).

mod archive;
mod checkpoint;
mod compress;
#[cfg(feature = "hub")]
mod download;
mod element;
mod embedded;
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

pub use crate::nn::WeightFormat;
pub use checkpoint::Checkpoint;
pub use compress::save_as;
pub use entry::Entry;
pub use hub::{Download, Hub, Progress};
pub use model_files::{ModelFiles, TokenizerFiles};
pub use safetensors::save_safetensors;
#[cfg(feature = "train")]
pub(crate) use safetensors::write as write_safetensors;
pub use source::ModelSource;
