//! Which samples make up each batch of each epoch.

use rand::seq::SliceRandom;

use super::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::shard::Shard;

/// The batches of each epoch, as a pure function of (seed, epoch).
///
/// Every epoch shuffles all samples anew. A shard takes every `world`-th sample of the shuffled order. All shards have
/// the same number of samples, so that all processes make the same number of steps; up to `world − 1` samples of an
/// epoch are left out.
#[derive(Debug, Clone)]
pub struct EpochSampler {
    num_samples: usize,
    batch_size: usize,
    shuffle_seed: Option<u64>,
    drop_last: bool,
    shard: Shard,
}

impl EpochSampler {
    /// Creates a sampler for training: batches are shuffled with `seed`, and all of them are full.
    ///
    /// # Errors
    /// [`Error::Config`] when `batch_size` is 0, the rank of the shard is not below its world, or its share of the
    /// samples does not fill a batch.
    pub fn training(num_samples: usize, batch_size: usize, seed: u64, shard: Shard) -> Result<Self> {
        let sampler = Self { num_samples, batch_size, shuffle_seed: Some(seed), drop_last: true, shard };
        sampler.validated()
    }

    /// Creates a sampler for validation: samples keep their order, and the last batch may be smaller.
    ///
    /// # Errors
    /// [`Error::Config`] when `batch_size` or `num_samples` is 0.
    pub fn validation(num_samples: usize, batch_size: usize) -> Result<Self> {
        let sampler = Self { num_samples, batch_size, shuffle_seed: None, drop_last: false, shard: Shard::WHOLE };
        sampler.validated()
    }

    fn validated(self) -> Result<Self> {
        if self.batch_size == 0 {
            return Err(Error::config("batch_size", "at least 1", 0));
        }
        if self.shard.rank >= self.shard.world {
            let found = format!("{} of {}", self.shard.rank, self.shard.world);
            return Err(Error::config("shard", "a rank below the number of processes", found));
        }
        if self.num_batches() == 0 {
            let expected = format!("at most the number of samples, {}", self.share());
            return Err(Error::config("batch_size", expected, self.batch_size));
        }
        Ok(self)
    }

    /// The number of samples of this shard in an epoch.
    fn share(&self) -> usize {
        self.num_samples / self.shard.world
    }

    /// The number of samples in a full batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The number of batches in an epoch.
    pub fn num_batches(&self) -> usize {
        match self.drop_last {
            true => self.share() / self.batch_size,
            false => self.share().div_ceil(self.batch_size),
        }
    }

    /// The batches of `epoch`, each a list of sample indices.
    pub fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.num_samples).collect();
        if let Some(seed) = self.shuffle_seed {
            order.shuffle(&mut stream(seed, Purpose::Order, epoch as u64, 0));
        }
        let mine: Vec<usize> =
            order.into_iter().skip(self.shard.rank).step_by(self.shard.world).take(self.share()).collect();
        mine.chunks(self.batch_size).take(self.num_batches()).map(<[usize]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_that_the_seed_and_the_epoch_decide() {
        let sampler = EpochSampler::training(23, 5, 1, Shard::WHOLE).unwrap();
        let batches = sampler.batches(0);
        assert_eq!(batches.len(), 4);
        assert!(batches.iter().all(|batch| batch.len() == 5));
        let mut all: Vec<usize> = batches.concat();
        assert_ne!(all, (0..20).collect::<Vec<_>>(), "not shuffled");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20, "a sample came twice");
        assert_eq!(batches, sampler.batches(0));
        assert_ne!(batches, sampler.batches(1));
        assert_ne!(batches, EpochSampler::training(23, 5, 2, Shard::WHOLE).unwrap().batches(0));
    }

    #[test]
    fn shards_share_an_epoch_without_overlap() {
        let shard = |rank| EpochSampler::training(23, 5, 1, Shard { rank, world: 2 }).unwrap().batches(4);
        let (a, b) = (shard(0), shard(1));
        assert_eq!((a.len(), b.len()), (2, 2));
        let mut all = [a.concat(), b.concat()].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 20);
    }

    #[test]
    fn validation_keeps_the_order_and_the_rest() {
        let sampler = EpochSampler::validation(5, 2).unwrap();
        assert_eq!(sampler.batches(3), vec![vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(sampler.num_batches(), 3);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        for (error, setting, found) in [
            (EpochSampler::training(10, 0, 0, Shard::WHOLE).unwrap_err(), "batch_size", "0"),
            (EpochSampler::training(3, 4, 0, Shard::WHOLE).unwrap_err(), "batch_size", "4"),
            (EpochSampler::training(9, 5, 0, Shard { rank: 1, world: 2 }).unwrap_err(), "batch_size", "5"),
            (EpochSampler::training(9, 1, 0, Shard { rank: 2, world: 2 }).unwrap_err(), "shard", "2 of 2"),
            (EpochSampler::validation(0, 4).unwrap_err(), "batch_size", "4"),
        ] {
            match &error {
                Error::Config { what, found: actual, .. } => {
                    assert_eq!((what.as_str(), actual.as_str()), (setting, found))
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
