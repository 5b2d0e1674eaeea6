//! Pairs of sound and picture: lists of them, their order, augmentation, decoding ahead of use, and cached features.
//!
//! Everything random is a pure function of the run's seed and of what it is for ([`random`]), so neither the number of
//! decoding threads nor an interruption changes what a run sees.
//!
//! ```
//! use std::path::Path;
//!
//! use soundsight::data::{EpochSampler, Pair, PairList, Shard};
//!
//! // `PairList::folder(Path::new("clips"))?` pairs the files of a folder, `PairList::csv` those of a list.
//! let pair = |number: usize| Pair {
//!     id: format!("clip {number}"),
//!     audio: format!("{number}.wav").into(),
//!     image: format!("{number}.jpg").into(),
//!     label: None,
//! };
//! let list = PairList::new(Path::new("made here"), (0..10).map(pair).collect())?;
//! let (training, validation) = list.hold_out(0.2, 7)?;
//! assert_eq!((training.num_pairs(), validation.num_pairs()), (8, 2));
//!
//! let sampler = EpochSampler::training(training.num_pairs(), 4, 7, Shard::WHOLE)?;
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
pub use bad::BadPairs;
pub use cache::{CacheKey, FeatureCache};
pub use loader::{BatchSource, Dataset, Loaded, Loader};
pub use media::MediaReader;
pub use pair_dataset::{AudioInput, PairBatch, PairDataset, PairReader, PairSample};
pub use pairs::{Pair, PairList};
pub use sampler::{EpochSampler, Shard};
