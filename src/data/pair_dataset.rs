//! Pairs of sound and picture as training samples.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;

use super::augment::Augmentation;
use super::cache::CacheKey;
use super::loader::Dataset;
use super::pairs::{Pair, PairList};
use crate::error::{Error, Result};

/// The sound of a pair, as read.
#[derive(Debug, Clone)]
pub enum AudioInput {
    /// A normalised fbank [T, 128] whose features are to be computed, and the place in the cache that waits for them.
    Fbank(Tensor, Option<CacheKey>),
    /// The frozen encoder's features [N, D], from the cache.
    Features(Tensor),
}

/// How the two files of a pair become tensors: the only part of this module that depends on decoders.
pub trait PairReader: Send + Sync + 'static {
    /// Reads the sound of `pair`.
    ///
    /// # Errors
    /// [`Error::Audio`](crate::Error::Audio), [`Error::Io`](crate::Error::Io) when it cannot be read.
    fn audio(&self, pair: &Pair) -> Result<AudioInput>;

    /// Reads the picture of `pair` as a normalised tensor [3, S, S]: cut and mirrored by `augmentation`, or, without
    /// one, resized to S × S.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image), [`Error::Io`](crate::Error::Io) when it cannot be read.
    fn image(&self, pair: &Pair, augmentation: Option<Augmentation>) -> Result<Tensor>;

    /// S: the side of the pictures in pixels.
    fn image_size(&self) -> u32;
}

/// A loaded pair.
#[derive(Debug, Clone)]
pub struct PairSample {
    audio: AudioInput,
    image: Tensor,
    label: Option<String>,
}

/// A batch of B pairs.
#[derive(Debug, Clone)]
pub struct PairBatch {
    /// The B sounds, one by one: those in the cache need no encoder.
    pub audio: Vec<AudioInput>,
    /// The pictures [B, 3, S, S].
    pub images: Tensor,
    /// What sounds in each pair, where known.
    pub labels: Vec<Option<String>>,
}

/// The pairs of a list, read by a [`PairReader`], with or without the published augmentation.
#[derive(Debug)]
pub struct PairDataset<R> {
    list: PairList,
    reader: R,
    augment: bool,
}

impl<R: PairReader> PairDataset<R> {
    /// The pairs of `list`; `augment` for training, not for validation.
    pub fn new(list: PairList, reader: R, augment: bool) -> Self {
        Self { list, reader, augment }
    }

    /// The pairs.
    pub fn list(&self) -> &PairList {
        &self.list
    }

    /// What decodes them.
    pub fn reader(&self) -> &R {
        &self.reader
    }
}

impl<R: PairReader> Dataset for PairDataset<R> {
    type Sample = PairSample;
    type Batch = PairBatch;

    fn num_samples(&self) -> usize {
        self.list.num_pairs()
    }

    fn id(&self, index: usize) -> &str {
        self.list.pairs().get(index).map_or("", |pair| &pair.id)
    }

    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<PairSample> {
        let beyond = || Error::argument("sample", format!("a number below {}", self.list.num_pairs()), index);
        let pair = self.list.pairs().get(index).ok_or_else(beyond)?;
        let augmentation = self.augment.then(|| Augmentation::draw(rng, self.reader.image_size()));
        Ok(PairSample {
            audio: self.reader.audio(pair)?,
            image: self.reader.image(pair, augmentation)?,
            label: pair.label.clone(),
        })
    }

    fn collate(&self, samples: Vec<PairSample>) -> Result<PairBatch> {
        let images = samples.iter().map(|sample| &sample.image).collect::<Vec<_>>();
        let images = Tensor::stack(&images, 0)?; // [B, 3, S, S]
        let (audio, labels) = samples.into_iter().map(|sample| (sample.audio, sample.label)).unzip();
        Ok(PairBatch { audio, images, labels })
    }
}
