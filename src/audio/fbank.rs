//! Log mel filterbank energies, Kaldi-compatible.
//!
//! Reimplements [`fbank`] of torchaudio, which follows Kaldi's `compute-fbank-feats`, with its [framing], its
//! [windowing] and its [mel filters]. Framing, mean subtraction, pre-emphasis and windowing use f32 in PyTorch's order
//! of operations. The spectrum and the mel sums use f64, so the only remaining difference is the rounding of PyTorch's
//! f32 FFT.
//!
//! [`fbank`]: https://github.com/pytorch/audio/blob/a9d80eaefe0f6ee19358901d20afdc5115531390/src/torchaudio/compliance/kaldi.py#L514-L645
//! [framing]: https://github.com/pytorch/audio/blob/a9d80eaefe0f6ee19358901d20afdc5115531390/src/torchaudio/compliance/kaldi.py#L44-L83
//! [windowing]: https://github.com/pytorch/audio/blob/a9d80eaefe0f6ee19358901d20afdc5115531390/src/torchaudio/compliance/kaldi.py#L154-L217
//! [mel filters]: https://github.com/pytorch/audio/blob/a9d80eaefe0f6ee19358901d20afdc5115531390/src/torchaudio/compliance/kaldi.py#L436-L511

use rayon::prelude::*;

use crate::audio::errors::{check_finite, unusable};
use crate::audio::fbank_options::FbankOptions;
use crate::audio::mel::{self, MelFilter};
use crate::audio::spectrum::{Buffers, RealFft};
use crate::error::Result;

/// Lower bound of mel energies before the logarithm, so that digital silence gives exactly ln(2⁻²³) = -15.942385.
const ENERGY_FLOOR: f32 = f32::EPSILON;
/// Number of partial sums of a frame; see [`mean`].
const LANES: usize = 32;
/// Number of consecutive frames that one thread computes.
const FRAMES: usize = 64;

/// A filterbank. It computes its window, FFT plan and mel filters once, and can be shared between threads.
pub struct Fbank {
    options: FbankOptions,
    frame_length: usize,
    frame_shift: usize,
    window: Vec<f32>,
    fft: RealFft,
    filters: Vec<MelFilter>,
}

impl std::fmt::Debug for Fbank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fbank").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Fbank {
    /// Creates a filterbank with these settings.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) from [`FbankOptions::validate`].
    pub fn new(options: FbankOptions) -> Result<Self> {
        options.validate()?;
        let fft_length = options.fft_length();
        Ok(Self {
            frame_length: options.frame_length(),
            frame_shift: options.frame_shift(),
            window: mel::window(options.window, options.frame_length()),
            fft: RealFft::new(fft_length),
            filters: mel::filters(&options, fft_length / 2),
            options,
        })
    }

    /// The settings.
    pub fn options(&self) -> &FbankOptions {
        &self.options
    }

    /// T, the number of frames in `num_samples` samples; 0 if they do not fill a frame.
    pub fn num_frames(&self, num_samples: usize) -> usize {
        if num_samples < self.frame_length {
            0
        } else if self.options.snip_edges {
            1 + (num_samples - self.frame_length) / self.frame_shift
        } else {
            (num_samples + self.frame_shift / 2) / self.frame_shift
        }
    }

    /// The filterbank of mono `samples` at the configured rate → [T, M], row-major: ln max(Σ_k w_mk |X_tk|², 2⁻²³).
    ///
    /// Kaldi's scale is that of 16-bit integers: multiply samples in [-1, 1] by 2¹⁵ first.
    ///
    /// # Errors
    /// [`Error::Audio`](crate::Error::Audio) when the samples do not fill one frame, or one of them is not finite.
    pub fn compute(&self, samples: &[f32]) -> Result<Vec<f32>> {
        check_finite("samples", samples)?;
        if samples.len() < self.frame_length {
            let expected = format!("at least {} samples (one frame)", self.frame_length);
            return Err(unusable("samples", expected, samples.len().to_string()));
        }
        let num_bins = self.options.num_mel_bins;
        let mut features = vec![0.0; self.num_frames(samples.len()) * num_bins]; // [T, M]
        features.par_chunks_mut(FRAMES * num_bins).enumerate().for_each(|(i, rows)| {
            let mut scratch = Scratch::new(self);
            for (t, row) in rows.chunks_exact_mut(num_bins).enumerate() {
                self.compute_frame(samples, i * FRAMES + t, &mut scratch, row);
            }
        });
        Ok(features)
    }

    fn compute_frame(&self, samples: &[f32], t: usize, scratch: &mut Scratch, features: &mut [f32]) {
        self.cut_frame(samples, t, &mut scratch.frame);
        if self.options.remove_dc_offset {
            let mean = mean(&scratch.frame);
            scratch.frame.iter_mut().for_each(|x| *x -= mean);
        }
        let coefficient = self.options.preemphasis_coefficient;
        let previous = scratch.frame.first().into_iter().chain(&scratch.frame);
        let emphasised = scratch.frame.iter().zip(previous).map(|(x, before)| x - coefficient * before);
        // What follows the frame is padding, and remains zero.
        for ((padded, x), w) in scratch.fft.samples.iter_mut().zip(emphasised).zip(&self.window) {
            *padded = f64::from(x * w);
        }
        self.fft.transform(&mut scratch.fft);
        for (power, x) in scratch.power.iter_mut().zip(&scratch.fft.spectrum) {
            *power = if self.options.use_power { x.norm_sqr() } else { x.norm() };
        }
        for (feature, filter) in features.iter_mut().zip(&self.filters) {
            let bins = filter.weights.iter().zip(&scratch.power[filter.first..]);
            let energy = bins.map(|(weight, power)| weight * power).sum::<f64>() as f32;
            *feature = if self.options.use_log_fbank { energy.max(ENERGY_FLOOR).ln() } else { energy };
        }
    }

    /// Copies frame `t`. Where it reaches beyond the sound, the sound is mirrored at its ends (…, 1, 0 | 0, 1, …).
    fn cut_frame(&self, samples: &[f32], t: usize, frame: &mut [f32]) {
        let start = t * self.frame_shift;
        if self.options.snip_edges {
            frame.copy_from_slice(&samples[start..start + self.frame_length]);
            return;
        }
        let start = start as isize + (self.frame_shift / 2) as isize - (self.frame_length / 2) as isize;
        for (i, x) in (start..).zip(frame) {
            let i = if i < 0 { -i - 1 } else { i } as usize;
            *x = samples[if i < samples.len() { i } else { 2 * samples.len() - 1 - i }];
        }
    }
}

/// The buffers of one thread.
struct Scratch {
    frame: Vec<f32>,
    fft: Buffers,
    power: Vec<f64>,
}

impl Scratch {
    fn new(fbank: &Fbank) -> Self {
        let fft = fbank.fft.buffers();
        Self { frame: vec![0.0; fbank.frame_length], power: vec![0.0; fft.spectrum.len()], fft }
    }
}

/// The mean of a frame, from 32 partial sums that are then added eight at a time. This is PyTorch's order on CPUs with
/// eight lanes (AVX2), and it vectorises. The order matters in near-silent frames, where subtracting the mean leaves
/// little more than its rounding error.
fn mean(frame: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks, rest) = frame.as_chunks::<LANES>();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += x;
        }
    }
    let (octets, rest) = rest.as_chunks::<8>();
    for octet in octets {
        for (lane, x) in lanes.iter_mut().zip(octet) {
            *lane += x;
        }
    }
    let mut sum: f32 = rest.iter().sum();
    for i in 0..8 {
        sum += lanes[i] + lanes[i + 8] + lanes[i + 16] + lanes[i + 24];
    }
    sum / frame.len() as f32
}
