//! Random numbers that depend on what they are for, never on when or in which thread they are drawn.
//!
//! Every use has its own stream, named by the run's seed, a [`Purpose`] and two counters. The order of the samples in
//! epoch 3, or the crop of sample 17 in epoch 3, is then the same with one decoding thread or sixteen, in a run that
//! went through or in one that was killed and resumed.
//!
//! ```
//! use candle_core::Device;
//! use soundsight::data::random::{Purpose, stream, uniform};
//!
//! # fn main() -> soundsight::Result<()> {
//! let draw = |epoch| uniform(&mut stream(7, Purpose::Augmentation, epoch, 0), &[3], &Device::Cpu)?.to_vec1::<f32>();
//! assert_eq!(draw(1)?, draw(1)?);
//! assert_ne!(draw(1)?, draw(2)?);
//! # Ok(())
//! # }
//! ```

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the samples in an epoch; counters: the epoch, 0.
    Order = 1,
    /// The augmentation of one sample; counters: the epoch, the sample's index.
    Augmentation = 2,
    /// What the training loss draws (mask noise, dropout); counters: 0, 0, one stream for the whole run.
    Training = 3,
    /// What validation draws; counters: 0, 0, begun anew at each validation so that epochs can be compared.
    Validation = 4,
    /// The first values of fresh weights; counters: 0, 0.
    Initialization = 5,
    /// Which pairs are held out for validation; counters: 0, 0.
    HoldOut = 6,
}

/// The stream of `purpose` in a run with this `seed`; `a` and `b` are the counters that [`Purpose`] names.
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    // The four numbers *are* the ChaCha key: distinct streams without any hashing.
    let mut key = [0u8; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A tensor of f32 drawn uniformly from [0, 1), in row-major order: the same numbers on every device.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) when the device has no room for it.
pub fn uniform(rng: &mut ChaCha8Rng, shape: &[usize], device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random()).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_in_every_part_of_their_name() {
        let draw = |seed, purpose, a, b| -> u64 { stream(seed, purpose, a, b).random() };
        let first = draw(7, Purpose::Order, 1, 2);
        assert_eq!(first, draw(7, Purpose::Order, 1, 2));
        let others = [
            draw(8, Purpose::Order, 1, 2),
            draw(7, Purpose::Augmentation, 1, 2),
            draw(7, Purpose::Order, 2, 2),
            draw(7, Purpose::Order, 1, 3),
            draw(7, Purpose::Order, 2, 1),
        ];
        assert!(others.iter().all(|other| *other != first), "{first} {others:?}");
    }

    #[test]
    fn uniform_fills_the_unit_interval() {
        let mut rng = stream(0, Purpose::Training, 0, 0);
        let values = uniform(&mut rng, &[100, 100], &Device::Cpu).unwrap().flatten_all().unwrap();
        let values = values.to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        let mean = values.iter().sum::<f32>() / 1e4;
        // The mean of 10,000 uniform numbers has a standard deviation of 0.0029; the seed is fixed.
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
