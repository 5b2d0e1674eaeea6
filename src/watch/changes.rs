//! Where a sound changes from one source to another.
//!
//! A window is split where two Gaussian distributions describe its spectra better than one: the Bayesian information
//! criterion, as Chen and Gopalakrishnan use it for changes of the speaker ("Speaker, environment and channel change
//! detection and clustering via the Bayesian information criterion", 1998), here with diagonal covariances. The spectra
//! are mel cepstra without the level, of the frames that are not silent, so that pauses and loudness do not count.

use std::f64::consts::PI;
use std::ops::Range;

use super::level::level;
use crate::audio::{Fbank, FbankOptions, WindowFunction};
use crate::error::Result;

/// From frame to frame, in ms; a change is found to this precision.
const SHIFT_MS: f64 = 20.0;
const NUM_MEL_BINS: usize = 24;
/// The spectra's frequencies, in Hz.
const FREQUENCIES: Range<f64> = 50.0..7600.0;
/// Cepstral coefficients, without the first, which is the level.
const COEFFICIENTS: usize = 12;
/// This is added to all energies of a frame, as a factor of the largest one (−40 dB): what is fainter is not heard.
const FLOOR: f64 = 1e-4;
/// From samples to the scale on which the filterbank's own lower bound is inaudible.
const SCALE: f32 = 32_768.0;
/// Frames this far below the loudest one of the window are silent, and all below the second level, in dB.
const RANGE_DB: f64 = 30.0;
const SILENCE_DB: f64 = -60.0;
/// The fewest frames that are not silent on each side of a change: 0.2 s.
const LEAST: usize = 10;
/// Added to variances, in (ln power)²: what differs less is the same.
const LEAST_VARIANCE: f64 = 0.1;
/// λ, the weight of the criterion's penalty.
const PENALTY: f64 = 4.0;
/// The lowest sample rate at which changes are looked for, in Hz.
const LEAST_RATE: u32 = 1000;

/// Finds changes in windows of one sample rate.
#[derive(Debug)]
pub(super) struct SoundChanges {
    fbank: Fbank,
    /// The discrete cosine transform of log mel energies, one coefficient a row.
    cosines: Vec<[f64; NUM_MEL_BINS]>,
}

impl SoundChanges {
    /// For sounds of `rate` samples per second; `None` below 1000, where there is too little of a spectrum.
    pub(super) fn new(rate: u32) -> Result<Option<Self>> {
        if rate < LEAST_RATE {
            return Ok(None);
        }
        let options = FbankOptions {
            sample_rate: rate,
            frame_shift_ms: SHIFT_MS,
            preemphasis_coefficient: 0.0,
            window: WindowFunction::Hanning,
            num_mel_bins: NUM_MEL_BINS,
            low_freq: FREQUENCIES.start,
            high_freq: FREQUENCIES.end.min(f64::from(rate) / 2.0),
            ..Default::default()
        };
        let bins = NUM_MEL_BINS as f64;
        let cosine = |q: usize, m: usize| (2.0 / bins).sqrt() * (PI * q as f64 * (m as f64 + 0.5) / bins).cos();
        let cosines = (1..=COEFFICIENTS).map(|q| std::array::from_fn(|m| cosine(q, m))).collect();
        Ok(Some(Self { fbank: Fbank::new(options)?, cosines }))
    }

    /// The largest part of `samples` around sample `at` without a change.
    ///
    /// # Errors
    /// [`Error::Audio`](crate::Error::Audio) for a sample that is not finite.
    pub(super) fn steady(&self, samples: &[f32], at: usize) -> Result<Range<usize>> {
        let (mut first, mut end) = (0, samples.len());
        if self.fbank.num_frames(samples.len()) < 2 * LEAST {
            return Ok(first..end);
        }
        let spectra = self.spectra(samples)?;
        let mut part = &spectra[..];
        while let Some(split) = change(part) {
            let start = part[split].start;
            if at < start {
                (part, end) = (&part[..split], start);
            } else {
                (part, first) = (&part[split..], start);
            }
        }
        Ok(first..end)
    }

    /// The frames that are not silent.
    fn spectra(&self, samples: &[f32]) -> Result<Vec<Spectrum>> {
        let scaled: Vec<f32> = samples.iter().map(|x| x * SCALE).collect();
        let energies = self.fbank.compute(&scaled)?;
        let (length, shift) = (self.fbank.options().frame_length(), self.fbank.options().frame_shift());
        let levels: Vec<f64> = samples.windows(length).step_by(shift).map(level).collect();
        let loudest = levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let audible = |level: f64| level > (loudest - RANGE_DB).max(SILENCE_DB);
        let frames = energies.as_chunks().0.iter().zip(levels).enumerate();
        let frames = frames.filter(|(_, (_, level))| audible(*level));
        let spectrum = |(i, (energies, _))| Spectrum { start: i * shift, cepstrum: self.cepstrum(energies) };
        Ok(frames.map(spectrum).collect())
    }

    /// The cepstrum of a frame, given the logarithms of its energies.
    fn cepstrum(&self, energies: &[f32; NUM_MEL_BINS]) -> [f64; COEFFICIENTS] {
        let powers = energies.map(|energy| f64::from(energy).exp());
        let floor = FLOOR * powers.iter().copied().fold(0.0, f64::max);
        let product =
            |cosines: &[f64; NUM_MEL_BINS]| cosines.iter().zip(&powers).map(|(c, x)| c * (x + floor).ln()).sum();
        std::array::from_fn(|q| product(&self.cosines[q]))
    }
}

/// The spectrum of a frame.
struct Spectrum {
    /// Its first sample.
    start: usize,
    cepstrum: [f64; COEFFICIENTS],
}

/// The index of the spectrum with which another sound begins, if there is one: the best split, if it is worth the penalty.
fn change(spectra: &[Spectrum]) -> Option<usize> {
    if spectra.len() < 2 * LEAST {
        return None;
    }
    let mut all = Moments::default();
    spectra.iter().for_each(|spectrum| all.add(spectrum, 1.0));
    let whole = all.spread();
    let (mut left, mut right) = (Moments::default(), all);
    let mut best = (f64::NEG_INFINITY, 0);
    for (i, spectrum) in spectra.iter().enumerate().take(spectra.len() - LEAST) {
        if i >= LEAST {
            let gain = whole - left.spread() - right.spread();
            if gain > best.0 {
                best = (gain, i);
            }
        }
        left.add(spectrum, 1.0);
        right.add(spectrum, -1.0);
    }
    let penalty = PENALTY * COEFFICIENTS as f64 * (spectra.len() as f64).ln();
    (best.0 > penalty).then_some(best.1)
}

/// Sums over spectra.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    sums: [f64; COEFFICIENTS],
    squares: [f64; COEFFICIENTS],
}

impl Moments {
    fn add(&mut self, spectrum: &Spectrum, weight: f64) {
        self.count += weight;
        for ((sum, square), x) in self.sums.iter_mut().zip(&mut self.squares).zip(&spectrum.cepstrum) {
            *sum += weight * x;
            *square += weight * x * x;
        }
    }

    /// The number of spectra times the logarithm of their variances' product: −2 ln of the likelihood, but for a constant.
    fn spread(&self) -> f64 {
        let variance = |sum: f64, square: f64| (square / self.count - (sum / self.count).powi(2)).max(0.0);
        let logarithms = self.sums.iter().zip(&self.squares).map(|(x, y)| (variance(*x, *y) + LEAST_VARIANCE).ln());
        self.count * logarithms.sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;

    const RATE: u32 = 16_000;

    /// A second and a half at `rate`, in which `source` (of time in seconds and the number of the sample) sounds.
    fn window(rate: u32, source: impl Fn(f32, u32) -> f32) -> Vec<f32> {
        (0..rate * 3 / 2).map(|i| source(i as f32 / rate as f32, i)).collect()
    }

    /// A hum with overtones, with tremolo.
    fn hum(time: f32) -> f32 {
        let overtones = (1..20).map(|k| (TAU * 140.0 * k as f32 * time).sin() / k as f32);
        0.2 * (1.0 + 0.5 * (TAU * 6.0 * time).sin()) * overtones.sum::<f32>()
    }

    /// White noise.
    fn hiss(i: u32) -> f32 {
        let hash = (i ^ 0x9e37).wrapping_mul(2_654_435_761);
        (hash ^ hash >> 15).wrapping_mul(2_246_822_519) as f32 / u32::MAX as f32 * 0.2 - 0.1
    }

    fn steady(rate: u32, samples: &[f32], at: f64) -> Range<f64> {
        let changes = SoundChanges::new(rate).unwrap().unwrap();
        let range = changes.steady(samples, (at * f64::from(rate)) as usize).unwrap();
        range.start as f64 / f64::from(rate)..range.end as f64 / f64::from(rate)
    }

    #[test]
    fn a_window_ends_where_the_sound_changes() {
        for rate in [8_000, RATE, 44_100, 48_000] {
            for at in [0.3, 0.62, 1.1_f32] {
                let samples = window(rate, |time, i| if time < at { hum(time) } else { hiss(i) });
                for (middle, expected) in [(0.1, 0.0..f64::from(at)), (1.4, f64::from(at)..1.5)] {
                    let found = steady(rate, &samples, middle);
                    let distance = (found.start - expected.start).abs().max((found.end - expected.end).abs());
                    assert!(distance < 0.04, "{found:?}, not {expected:?} at {rate} Hz");
                }
            }
        }
    }

    #[test]
    fn between_two_changes_both_ends_move() {
        let samples = window(RATE, |time, i| if (0.5..1.0).contains(&time) { hiss(i) } else { hum(time) });
        let found = steady(RATE, &samples, 0.75);
        assert!((found.start - 0.5).abs() < 0.04 && (found.end - 1.0).abs() < 0.04, "{found:?}");
    }

    #[test]
    fn loudness_and_pauses_are_no_changes() {
        let sources: [fn(f32, u32) -> f32; 6] = [
            |time, _| hum(time),
            |_, i| hiss(i),
            |time, _| if time < 0.7 { hum(time) } else { 0.2 * hum(time) },
            |time, i| if ((time * 4.0) as u32).is_multiple_of(2) { hiss(i) } else { 0.0 },
            |time, i| if time > 0.7 { hiss(i) } else { 1e-3 * hum(time) },
            |_, _| 0.0,
        ];
        for (n, source) in sources.iter().enumerate() {
            assert_eq!(steady(RATE, &window(RATE, source), 0.6), 0.0..1.5, "source {n}");
        }
    }

    #[test]
    fn short_windows_and_low_rates_stay_whole() {
        let changes = SoundChanges::new(RATE).unwrap().unwrap();
        for length in [0, 1, 399, 400, 6000] {
            let samples: Vec<f32> = (0..length).map(hiss).collect();
            assert_eq!(changes.steady(&samples, 0).unwrap(), 0..length as usize);
        }
        assert!(SoundChanges::new(LEAST_RATE).unwrap().is_some());
        assert!(SoundChanges::new(LEAST_RATE - 1).unwrap().is_none());
    }
}
