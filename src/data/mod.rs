//! Pairs of sounds and pictures: lists, sampling order, augmentation, parallel decoding and cached features.
//!
//! All randomness is a pure function of the run's seed and of its purpose ([`random`]), so neither the number of
//! decoding threads nor an interruption affects the data that a run sees.
//!
//! ```
//! use std::path::Path;
//!
//! use soundsight::data::{EpochSampler, Pair, PairList};
//!
//! // `PairList::folder` pairs the files of a folder; `PairList::csv` reads a list.
//! let pair = |number: usize| Pair {
//!     id: format!("clip {number}"),
//!     audio: format!("{number}.wav").into(),
//!     image: format!("{number}.jpg").into(),
//!     label: None,
//! };
//! let list = PairList::new(Path::new("example"), (0..10).map(pair).collect())?;
//! let (training, validation) = list.hold_out(0.2, 7)?;
//! assert_eq!((training.num_pairs(), validation.num_pairs()), (8, 2));
//!
//! let sampler = EpochSampler::training(training.num_pairs(), 4, 7)?;
//! assert_eq!(sampler.num_batches(), 2);
//! assert_eq!(sampler.batches(3), sampler.batches(3)); // a function of the seed and the epoch
//! # Ok::<(), soundsight::Error>(())
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
pub use bad::{BadPairs, Unreadable};
pub use cache::{CacheKey, FeatureCache};
pub use loader::{BatchSource, Dataset, Loaded, Loader};
pub use media::MediaReader;
pub use pair_dataset::{AudioInput, PairBatch, PairDataset, PairReader, PairSample};
pub use pairs::{Pair, PairList};
pub use sampler::{EpochSampler, Sharing};

pub use crate::shard::Shard;
