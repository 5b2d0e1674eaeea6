//! Pairs of sound and picture: lists of them, their order, augmentation, decoding ahead of use, and cached features.
//!
//! Everything random is a pure function of the run's seed and of what it is for ([`random`]), so neither the number of
//! decoding threads nor an interruption changes what a run sees.
//!
//! # Example
//! ```
//! use std::path::Path;
//!
//! use soundsight::data::{EpochSampler, Pair, PairList, Shard};
//!
//! # fn main() -> soundsight::Result<()> {
//! let pair = |i: usize| Pair {
//!     id: format!("{i}"),
//!     audio: format!("audio/{i}.wav").into(),
//!     image: format!("frames/{i}.jpg").into(),
//!     label: None,
//! };
//! let list = PairList::new(Path::new("my pairs"), (0..20).map(pair).collect())?;
//! let (training, validation) = list.hold_out(0.1, 0)?;
//! assert_eq!((training.num_pairs(), validation.num_pairs()), (18, 2));
//!
//! // Batches of an epoch: the same for the same seed and epoch, whatever ran before.
//! let sampler = EpochSampler::training(training.num_pairs(), 4, 0, Shard::WHOLE)?;
//! assert_eq!(sampler.batches(3), sampler.batches(3));
//! assert_ne!(sampler.batches(3), sampler.batches(4));
//! # Ok(())
//! # }
//! ```

pub mod random;

mod augment;
mod bad;
mod cache;
mod loader;
mod media;
mod pair_dataset;
mod pairs;
mod sampler;

pub use augment::Augmentation;
pub use bad::BadPairs;
pub use cache::{CacheKey, FeatureCache};
pub use loader::{BatchSource, Dataset, Loaded, Loader};
pub use media::MediaReader;
pub use pair_dataset::{AudioInput, PairBatch, PairDataset, PairReader, PairSample};
pub use pairs::{Pair, PairList};
pub use sampler::{EpochSampler, Shard};
