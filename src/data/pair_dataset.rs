//! Pairs of sounds and pictures as training samples.

use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::augment::Augmentation;
use super::cache::CacheKey;
use super::loader::Dataset;
use super::pairs::{Pair, PairList};
use crate::error::{Error, Result};

/// The sound of a pair, as returned by a [`PairReader`].
#[derive(Debug, Clone)]
pub enum AudioInput {
    /// A normalised fbank `[T, M]` whose features are still to be computed, and the cache key to store them under, if
    /// any.
    Fbank(Tensor, Option<CacheKey>),
    /// The features of the frozen encoder, `[N, 3D]`, from the cache.
    Features(Tensor),
}

/// Reads the two files of a pair as tensors. This is the only part of the module that depends on decoders.
pub trait PairReader: Send + Sync + 'static {
    /// Reads the sound of `pair`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Audio`] or [`Error::MissingFeature`] when it cannot be read.
    fn audio(&self, pair: &Pair) -> Result<AudioInput>;

    /// Reads the picture of `pair` as a normalised tensor `[3, S, S]`: cropped and mirrored according to
    /// `augmentation`, or else just resized to S × S.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Image`] or [`Error::MissingFeature`] when it cannot be read.
    fn image(&self, pair: &Pair, augmentation: Option<Augmentation>) -> Result<Tensor>;

    /// S, the side of the pictures in pixels.
    fn image_size(&self) -> u32;
}

/// A loaded pair.
#[derive(Debug, Clone)]
pub struct PairSample {
    audio: AudioInput,
    image: Tensor,
    label: Option<String>,
}

/// A batch of B pairs; B may be 0 (see [`Dataset::collate`]).
#[derive(Debug, Clone)]
pub struct PairBatch {
    /// The B sounds. They are not stacked, because sounds from the cache are encoded already.
    pub audio: Vec<AudioInput>,
    /// The pictures, `[B, 3, S, S]`.
    pub images: Tensor,
    /// The label of each pair, if known.
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
    /// Creates the data set of the pairs in `list`. Set `augment` for training, not for validation.
    pub fn new(list: PairList, reader: R, augment: bool) -> Self {
        Self { list, reader, augment }
    }

    /// The list of pairs.
    pub fn list(&self) -> &PairList {
        &self.list
    }

    /// S, the side of the pictures in pixels.
    fn side(&self) -> usize {
        self.reader.image_size() as usize
    }

    /// The reader of the pairs.
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
        let images = match images.is_empty() {
            true => Tensor::zeros((0, 3, self.side(), self.side()), DType::F32, &Device::Cpu)?,
            false => Tensor::stack(&images, 0)?,
        }; // [B, 3, S, S]
        let (audio, labels) = samples.into_iter().map(|sample| (sample.audio, sample.label)).unzip();
        Ok(PairBatch { audio, images, labels })
    }
}
