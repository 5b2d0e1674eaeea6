//! Random numbers that depend on their purpose, never on when or in which thread they are drawn.
//!
//! Every use has its own stream, identified by the run's seed, a [`Purpose`] and two counters. The order of the samples
//! in epoch 3, or the crop of sample 17 in epoch 3, is therefore the same with one decoding thread or sixteen, and in
//! an uninterrupted run or one that was killed and resumed.
//!
//! ```
//! use candle_core::Device;
//! use soundsight::data::random::{Purpose, stream, uniform};
//!
//! // The numbers of sample 17 in epoch 3 of the run with seed 7 are the same whenever they are drawn.
//! let draw = || uniform(&mut stream(7, Purpose::Augmentation, 3, 17), &[4], &Device::Cpu);
//! assert_eq!(draw()?.to_vec1::<f32>()?, draw()?.to_vec1::<f32>()?);
//! # Ok::<(), soundsight::Error>(())
//! ```

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// The purpose of a stream of random numbers. Streams for different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the samples in an epoch; counters: the epoch, 0.
    Order = 1,
    /// The augmentation of one sample; counters: the epoch, the sample's index.
    Augmentation = 2,
    /// The noise of the training loss (masks, dropout); counters: 0, 0; one stream for the whole run.
    Training = 3,
    /// The noise of validation; counters: 0, 0; restarted for each validation, so that epochs can be compared.
    Validation = 4,
    /// The initial values of fresh weights; counters: 0, 0.
    Initialization = 5,
    /// Which pairs are held out for validation; counters: 0, 0.
    HoldOut = 6,
}

/// The stream for `purpose` in a run with this `seed`; `a` and `b` are the counters documented in [`Purpose`].
pub fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    // The four numbers are the ChaCha key, so that streams are distinct without any hashing.
    let mut key = [0u8; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Draws an f32 tensor uniformly from [0, 1), in row-major order: the same numbers on every device.
///
/// # Errors
/// [`Error::Candle`](crate::Error::Candle) when the device is out of memory.
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
