//! Batches decoded in parallel and ahead of use, in an order that does not depend on the number of threads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use rand_chacha::ChaCha8Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::bad::{BadPairs, Unreadable};
use super::random::{Purpose, stream};
use super::sampler::{EpochSampler, Sharing};
use crate::error::{Error, Result};

/// Samples that can be loaded one at a time, from any thread, and collated into batches.
pub trait Dataset: Send + Sync + 'static {
    /// One loaded sample.
    type Sample: Send + 'static;
    /// A collated batch, as the training objective takes it.
    type Batch;

    /// The number of samples.
    fn num_samples(&self) -> usize;

    /// The name of sample `index` in messages and reports.
    fn id(&self, index: usize) -> &str;

    /// Reads sample `index`. All randomness must come from `rng`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Audio`], [`Error::Image`], [`Error::Format`] and [`Error::MissingFeature`] mean that the
    /// sample is unreadable: it is recorded and skipped. Any other variant ends the run.
    fn load(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<Self::Sample>;

    /// Collates samples into a batch. There may be none where processes have parts of a batch ([`Sharing::Parts`]) and
    /// the whole part of this process is unreadable.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Candle`] when their shapes do not match.
    fn collate(&self, samples: Vec<Self::Sample>) -> Result<Self::Batch>;
}

/// A batch and its position in the epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<B> {
    /// The number of the batch in its epoch, from 0.
    pub index: usize,
    /// The names of the samples in the batch.
    pub ids: Vec<String>,
    /// The batch itself; `None` when too few of its samples are readable, or it belongs to another process.
    pub batch: Option<B>,
}

/// A source of batches for a trainer.
pub trait BatchSource {
    /// One batch.
    type Batch;

    /// The number of batches in an epoch, some of which may turn out to be unreadable.
    fn num_batches(&self) -> usize;

    /// The number of readable samples below which a batch is left out, counted over all processes that share it.
    fn min_batch(&self) -> usize {
        1
    }

    /// The unreadable samples that this process has found since the last call.
    fn take_unreadable(&self) -> Vec<Unreadable> {
        Vec::new()
    }

    /// Takes note of unreadable samples that other processes have found.
    ///
    /// # Errors
    /// [`Error::TooManyBadPairs`] when there are too many of them, [`Error::Io`] when they cannot be listed.
    fn add_unreadable(&self, _samples: &[Unreadable]) -> Result<()> {
        Ok(())
    }

    /// A description of everything that determines the batches. It is saved in each checkpoint, and must be the same
    /// when a run is resumed, and in all processes that train together.
    fn describe(&self) -> serde_json::Value;

    /// The batches of `epoch`, starting with batch number `first`: each of them in turn, with or without samples.
    ///
    /// # Errors
    /// [`Error::Io`] when decoding threads cannot be started. Each item may fail separately.
    fn epoch(
        &self,
        epoch: usize,
        first: usize,
    ) -> Result<impl Iterator<Item = Result<Loaded<Self::Batch>>> + use<'_, Self>>;
}

/// Loads the batches of an [`EpochSampler`], decoding several samples in parallel.
///
/// The random numbers of a sample depend only on (seed, epoch, index) and its position only on the sampler, so the
/// batches are the same for any number of threads. An unreadable sample is recorded and left out of its batch, which
/// becomes smaller by one; a batch with fewer than `min_batch` samples left is left out. Later batches keep their
/// numbers, because resumed runs and the other processes of a parallel run rely on them.
#[derive(Debug)]
pub struct Loader<D> {
    dataset: Arc<D>,
    sampler: EpochSampler,
    seed: u64,
    min_batch: usize,
    bad: Arc<BadPairs>,
    num_threads: usize,
    prefetch: usize,
}

impl<D: Dataset> Loader<D> {
    /// Creates a loader for the samples of `dataset` in the order of `sampler`.
    ///
    /// - `seed`: the seed of the samples' random numbers.
    /// - `min_batch`: the size of the smallest usable batch: 2 for a contrastive loss, otherwise 1.
    /// - `num_threads`: the number of decoding threads; 0 decodes in the calling thread when a batch is requested.
    ///
    /// Up to two batches are decoded ahead.
    ///
    /// # Errors
    /// [`Error::Config`] (`batch_size`) when the sampler's batches are smaller than `min_batch`.
    pub fn new(
        dataset: Arc<D>,
        sampler: EpochSampler,
        seed: u64,
        min_batch: usize,
        bad: Arc<BadPairs>,
        num_threads: usize,
    ) -> Result<Self> {
        if sampler.batch_size() < min_batch {
            return Err(Error::config("batch_size", format!("at least {min_batch}"), sampler.batch_size()));
        }
        let prefetch = 2 * sampler.largest_share();
        Ok(Self { dataset, sampler, seed, min_batch, bad, num_threads, prefetch })
    }

    /// The samples.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// The record of unreadable samples.
    pub fn bad_pairs(&self) -> &BadPairs {
        &self.bad
    }
}

impl<D: Dataset> BatchSource for Loader<D> {
    type Batch = D::Batch;

    fn num_batches(&self) -> usize {
        self.sampler.num_batches()
    }

    fn min_batch(&self) -> usize {
        self.min_batch
    }

    fn take_unreadable(&self) -> Vec<Unreadable> {
        self.bad.take_news()
    }

    fn add_unreadable(&self, samples: &[Unreadable]) -> Result<()> {
        self.bad.add(samples)?;
        self.bad.verdict()
    }

    fn describe(&self) -> serde_json::Value {
        // The ordered ids identify the data set: adding, removing or moving a pair changes every epoch.
        let ids = (0..self.dataset.num_samples()).map(|index| self.dataset.id(index));
        let checksum = ids.fold(0, |sum, id| crc32c::crc32c_append(crc32c::crc32c_append(sum, id.as_bytes()), b"\n"));
        serde_json::json!({
            "num_samples": self.dataset.num_samples(),
            "ids_crc32c": format!("{checksum:08x}"),
            "batch_size": self.sampler.batch_size(),
            "num_batches": self.sampler.num_batches(),
            "seed": self.seed,
        })
    }

    fn epoch(&self, epoch: usize, first: usize) -> Result<impl Iterator<Item = Result<Loaded<D::Batch>>> + use<'_, D>> {
        let pool = match self.num_threads {
            0 => None,
            // Use a separate pool: decoding must not compete with the matrix products in rayon's global pool.
            threads => Some(
                ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|number| format!("decode-{number}"))
                    // Without a handler a panicking decoder would abort the process; `next_sample` reports the failure.
                    .panic_handler(|_| {})
                    .build()
                    .map_err(|e| Error::io("decoding threads", "start")(std::io::Error::other(e)))?,
            ),
        };
        let batches: VecDeque<_> = self.sampler.batches(epoch).into_iter().enumerate().skip(first).collect();
        let upcoming = batches.iter().flat_map(|(_, samples)| samples.clone()).collect();
        let stopped = Arc::new(AtomicBool::new(false));
        Ok(Epoch { loader: self, epoch, batches, upcoming, started: VecDeque::new(), pool, stopped })
    }
}

/// The rest of one epoch.
struct Epoch<'a, D: Dataset> {
    loader: &'a Loader<D>,
    epoch: usize,
    batches: VecDeque<(usize, Vec<usize>)>,
    /// Samples whose decoding has not begun.
    upcoming: VecDeque<usize>,
    /// Samples being decoded, in order; each channel delivers one.
    started: VecDeque<Receiver<Result<D::Sample>>>,
    pool: Option<ThreadPool>,
    stopped: Arc<AtomicBool>,
}

impl<D: Dataset> Epoch<'_, D> {
    /// Keeps the decoding threads busy with the next samples.
    fn start_decoding(&mut self, pool: &ThreadPool) {
        while self.started.len() < self.loader.prefetch {
            let Some(index) = self.upcoming.pop_front() else { break };
            let (sender, receiver) = sync_channel(1);
            let (dataset, seed, epoch) = (self.loader.dataset.clone(), self.loader.seed, self.epoch);
            let stopped = self.stopped.clone();
            pool.spawn_fifo(move || {
                if !stopped.load(Ordering::Relaxed) {
                    // A failed send means that the sample is no longer needed.
                    let _ = sender.send(load(&*dataset, seed, epoch, index));
                }
            });
            self.started.push_back(receiver);
        }
    }

    /// The next sample in order, which must be sample `index`.
    fn next_sample(&mut self, index: usize) -> Result<D::Sample> {
        let Some(pool) = self.pool.take() else {
            return load(&*self.loader.dataset, self.loader.seed, self.epoch, index);
        };
        self.start_decoding(&pool);
        let sample = self.started.pop_front().and_then(|receiver| receiver.recv().ok());
        // Start decoding another sample while the caller computes.
        self.start_decoding(&pool);
        self.pool = Some(pool);
        // A closed channel means that the decoder panicked. Treat the sample like any other unreadable one.
        sample.unwrap_or_else(|| {
            let path = self.loader.dataset.id(index);
            Err(Error::format(path, "sample", "data that can be decoded", "data that makes the decoder panic"))
        })
    }

    /// Loads one batch, or this process's part of it.
    fn batch(&mut self, index: usize, members: Vec<usize>) -> Result<Loaded<D::Batch>> {
        let loader = self.loader;
        let (mut ids, mut samples) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
        for member in members {
            let id = loader.dataset.id(member);
            match self.next_sample(member) {
                Ok(sample) => {
                    ids.push(id.to_string());
                    samples.push(sample);
                }
                Err(reason) if is_unreadable(&reason) => loader.bad.record(id, &reason)?,
                Err(error) => return Err(error),
            }
        }
        loader.bad.verdict()?;
        // Only all processes together know whether a batch in parts is large enough.
        let is_used = loader.sampler.sharing() == Sharing::Parts || samples.len() >= loader.min_batch;
        let batch = is_used.then(|| loader.dataset.collate(samples)).transpose()?;
        Ok(Loaded { index, ids, batch })
    }
}

impl<D: Dataset> Iterator for Epoch<'_, D> {
    type Item = Result<Loaded<D::Batch>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (index, members) = self.batches.pop_front()?;
        Some(self.batch(index, members))
    }
}

impl<D: Dataset> Drop for Epoch<'_, D> {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

fn load<D: Dataset>(dataset: &D, seed: u64, epoch: usize, index: usize) -> Result<D::Sample> {
    dataset.load(index, &mut stream(seed, Purpose::Augmentation, epoch as u64, index as u64))
}

/// Whether the error was caused by the sample's own files.
fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. }
            | Error::Audio { .. }
            | Error::Image { .. }
            | Error::Format { .. }
            | Error::MissingFeature { .. }
    )
}
