//! Which samples make up each batch of each epoch.

use rand::seq::SliceRandom;

use super::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::shard::Shard;

/// How several processes share the batches of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The processes take turns: each batch belongs to one of them.
    Batches,
    /// Each process has its own part of every batch.
    Parts,
}

/// The batches of each epoch, as a pure function of (seed, epoch). Every epoch shuffles all samples anew.
///
/// Batches and their numbers do not depend on the number of processes that share them.
#[derive(Debug, Clone)]
pub struct EpochSampler {
    num_samples: usize,
    batch_size: usize,
    shuffle_seed: Option<u64>,
    drop_last: bool,
    shard: Shard,
    sharing: Sharing,
}

impl EpochSampler {
    /// Creates a sampler for training: batches are shuffled with `seed`, and all of them are full.
    ///
    /// # Errors
    /// [`Error::Config`] when `batch_size` is 0, or the samples do not fill a batch.
    pub fn training(num_samples: usize, batch_size: usize, seed: u64) -> Result<Self> {
        Self::new(num_samples, batch_size, Some(seed), true)
    }

    /// Creates a sampler for validation: samples keep their order, and the last batch may be smaller.
    ///
    /// # Errors
    /// [`Error::Config`] when `batch_size` or `num_samples` is 0.
    pub fn validation(num_samples: usize, batch_size: usize) -> Result<Self> {
        Self::new(num_samples, batch_size, None, false)
    }

    fn new(num_samples: usize, batch_size: usize, shuffle_seed: Option<u64>, drop_last: bool) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::config("batch_size", "at least 1", 0));
        }
        let (shard, sharing) = (Shard::WHOLE, Sharing::Batches);
        let sampler = Self { num_samples, batch_size, shuffle_seed, drop_last, shard, sharing };
        if sampler.num_batches() == 0 {
            let expected = format!("at most the number of samples, {num_samples}");
            return Err(Error::config("batch_size", expected, batch_size));
        }
        Ok(sampler)
    }

    /// Gives this process its share of the batches of several processes.
    ///
    /// # Errors
    /// [`Error::Config`] when the rank of the shard is not below its world, or a batch has fewer samples than there are
    /// parts.
    pub fn shared(self, shard: Shard, sharing: Sharing) -> Result<Self> {
        if shard.rank >= shard.world {
            let found = format!("{} of {}", shard.rank, shard.world);
            return Err(Error::config("shard", "a rank below the number of processes", found));
        }
        if sharing == Sharing::Parts && self.batch_size < shard.world {
            let expected = format!("at least the number of processes, {}", shard.world);
            return Err(Error::config("batch_size", expected, self.batch_size));
        }
        Ok(Self { shard, sharing, ..self })
    }

    /// How the batches are shared.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The number of samples in a full batch, of all processes together.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The largest number of samples that this process has of a batch.
    pub(super) fn largest_share(&self) -> usize {
        match self.sharing {
            Sharing::Batches => self.batch_size,
            Sharing::Parts => self.batch_size.div_ceil(self.shard.world),
        }
    }

    /// The number of batches in an epoch, of all processes together.
    pub fn num_batches(&self) -> usize {
        match self.drop_last {
            true => self.num_samples / self.batch_size,
            false => self.num_samples.div_ceil(self.batch_size),
        }
    }

    /// The batches of `epoch`, each a list of sample indices: those of this process. A batch that belongs to another
    /// process is empty.
    pub fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.num_samples).collect();
        if let Some(seed) = self.shuffle_seed {
            order.shuffle(&mut stream(seed, Purpose::Order, epoch as u64, 0));
        }
        let Shard { rank, world } = self.shard;
        let batches = order.chunks(self.batch_size).take(self.num_batches()).enumerate();
        let share = |(index, batch): (usize, &[usize])| match self.sharing {
            Sharing::Batches if self.shard.contains(index) => batch.to_vec(),
            Sharing::Batches => Vec::new(),
            Sharing::Parts => batch[rank * batch.len() / world..(rank + 1) * batch.len() / world].to_vec(),
        };
        batches.map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_a_permutation_that_the_seed_and_the_epoch_decide() {
        let sampler = EpochSampler::training(23, 5, 1).unwrap();
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
        assert_ne!(batches, EpochSampler::training(23, 5, 2).unwrap().batches(0));
    }

    #[test]
    fn processes_share_the_batches_of_one() {
        let sampler = EpochSampler::training(23, 5, 1).unwrap();
        let whole = sampler.batches(4);
        for world in 1..=5 {
            let share = |rank, sharing| {
                let sampler = sampler.clone().shared(Shard { rank, world }, sharing).unwrap();
                assert_eq!(sampler.num_batches(), 4);
                sampler.batches(4)
            };
            for sharing in [Sharing::Batches, Sharing::Parts] {
                let shares: Vec<_> = (0..world).map(|rank| share(rank, sharing)).collect();
                let joined = |index: usize| shares.iter().flat_map(|share| share[index].clone()).collect::<Vec<_>>();
                assert_eq!((0..4).map(joined).collect::<Vec<_>>(), whole, "{sharing:?} among {world}");
            }
            let parts: Vec<usize> = (0..world).map(|rank| share(rank, Sharing::Parts)[0].len()).collect();
            assert!(parts.iter().all(|part| *part == 5 / world || *part == 5_usize.div_ceil(world)), "{parts:?}");
            assert_eq!(
                share(0, Sharing::Batches).iter().filter(|batch| !batch.is_empty()).count(),
                4_usize.div_ceil(world)
            );
        }
    }

    #[test]
    fn validation_keeps_the_order_and_the_rest() {
        let sampler = EpochSampler::validation(5, 2).unwrap();
        assert_eq!(sampler.batches(3), vec![vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(sampler.num_batches(), 3);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        let shared = |shard, sharing| EpochSampler::training(9, 5, 0).unwrap().shared(shard, sharing).unwrap_err();
        for (error, setting, found) in [
            (EpochSampler::training(10, 0, 0).unwrap_err(), "batch_size", "0"),
            (EpochSampler::training(3, 4, 0).unwrap_err(), "batch_size", "4"),
            (shared(Shard { rank: 0, world: 6 }, Sharing::Parts), "batch_size", "5"),
            (shared(Shard { rank: 2, world: 2 }, Sharing::Batches), "shard", "2 of 2"),
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
