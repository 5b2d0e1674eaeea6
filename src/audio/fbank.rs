//! Log mel filterbank energies, Kaldi-compatible.
//!
//! Follows `compute-fbank-feats` of Kaldi in the reading of `torchaudio.compliance.kaldi.fbank`: frames are cut, freed
//! of their mean, pre-emphasised and windowed in f32 with PyTorch's order of operations; spectrum and mel sums are f64,
//! so what remains between the two is the rounding of PyTorch's own f32 FFT.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use serde::{Deserialize, Serialize};

use crate::audio::mel::{self, MelFilter};
use crate::audio::waveform::{check_finite, unusable};
use crate::error::{Error, Result};

/// Mel energies are floored here before the logarithm, so digital silence gives ln(2⁻²³) = -15.942385 exactly.
const ENERGY_FLOOR: f32 = f32::EPSILON;
/// Lanes in which a frame is summed; see [`mean`].
const LANES: usize = 32;
/// The longest frame, in samples: beyond any use, and a bound on memory.
const MAX_FRAME: usize = 1 << 20;

/// The shape of a frame's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WindowFunction {
    /// Kaldi's own: a Hann window to the power 0.85.
    #[default]
    Povey,
    /// 0.5 - 0.5 cos.
    Hanning,
    /// 0.54 - 0.46 cos.
    Hamming,
    /// 0.42 - 0.5 cos + 0.08 cos of twice the angle.
    Blackman,
    /// All ones.
    Rectangular,
}

/// The settings of a Kaldi filterbank, with Kaldi's names. The defaults are those of torchaudio (which, unlike Kaldi's
/// programs, adds no dither); [`FbankOptions::beats`] is what BEATs was trained on.
///
/// Not offered: dither (random), the energy column, vocal tract length warping, mean subtraction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FbankOptions {
    /// Samples per second of the sound, Hz (16000).
    pub sample_rate: u32,
    /// Length of a frame, ms (25).
    pub frame_length_ms: f64,
    /// From the start of a frame to the start of the next, ms (10).
    pub frame_shift_ms: f64,
    /// Frames must lie wholly within the sound: T = 1 + ⌊(n - length) / shift⌋ (true). Otherwise frames are centred on
    /// multiples of the shift, T = ⌊(n + shift / 2) / shift⌋, and the sound is mirrored at its ends.
    pub snip_edges: bool,
    /// Subtract each frame's mean (true).
    pub remove_dc_offset: bool,
    /// c in `y[i] = x[i] - c · x[i - 1]`, with `x[-1] = x[0]`; 0 to 1 (0.97).
    pub preemphasis_coefficient: f32,
    /// The window (Povey).
    pub window: WindowFunction,
    /// Pad frames with zeros to a power of two before the FFT (true).
    pub round_to_power_of_two: bool,
    /// Sum up the power |X|² (true), or the magnitude |X|.
    pub use_power: bool,
    /// Take the natural logarithm (true).
    pub use_log_fbank: bool,
    /// M, the number of mel filters; at least 4 (23).
    pub num_mel_bins: usize,
    /// Where the lowest filter begins, Hz (20).
    pub low_freq: f64,
    /// Where the highest filter ends, Hz; zero or negative values count from the Nyquist rate (0).
    pub high_freq: f64,
}

impl Default for FbankOptions {
    fn default() -> Self {
        Self {
            sample_rate: 16_000,
            frame_length_ms: 25.0,
            frame_shift_ms: 10.0,
            snip_edges: true,
            remove_dc_offset: true,
            preemphasis_coefficient: 0.97,
            window: WindowFunction::Povey,
            round_to_power_of_two: true,
            use_power: true,
            use_log_fbank: true,
            num_mel_bins: 23,
            low_freq: 20.0,
            high_freq: 0.0,
        }
    }
}

impl FbankOptions {
    /// The settings of BEATs: the defaults with 128 mel filters.
    pub fn beats() -> Self {
        Self { num_mel_bins: 128, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is out of its range.
    pub fn validate(&self) -> Result<()> {
        if self.sample_rate == 0 {
            return Err(Error::config("sample_rate", "at least 1 Hz", self.sample_rate));
        }
        for (name, ms, samples, least) in [
            ("frame_length_ms", self.frame_length_ms, self.frame_length(), 2),
            ("frame_shift_ms", self.frame_shift_ms, self.frame_shift(), 1),
        ] {
            if !(least..=MAX_FRAME).contains(&samples) {
                let expected = format!("{least} to {MAX_FRAME} samples at {} Hz", self.sample_rate);
                return Err(Error::config(name, expected, format!("{ms} ms, {samples} samples")));
            }
        }
        if !self.fft_length().is_multiple_of(2) {
            let expected = "an even number of samples, or round_to_power_of_two";
            return Err(Error::config("frame_length_ms", expected, format!("{} samples", self.frame_length())));
        }
        if !(0.0..=1.0).contains(&self.preemphasis_coefficient) {
            return Err(Error::config("preemphasis_coefficient", "0 to 1", self.preemphasis_coefficient));
        }
        if self.num_mel_bins < 4 {
            return Err(Error::config("num_mel_bins", "at least 4", self.num_mel_bins));
        }
        let nyquist = self.nyquist();
        if !(0.0..nyquist).contains(&self.low_freq) {
            return Err(Error::config("low_freq", format!("0 to below {nyquist} Hz"), self.low_freq));
        }
        let high = self.highest_freq();
        if !(high > self.low_freq && high <= nyquist) {
            let expected = format!("above low_freq ({} Hz) and at most {nyquist} Hz", self.low_freq);
            return Err(Error::config("high_freq", expected, self.high_freq));
        }
        Ok(())
    }

    /// Half the sample rate, Hz.
    fn nyquist(&self) -> f64 {
        0.5 * f64::from(self.sample_rate)
    }

    /// [`high_freq`](Self::high_freq) as a frequency, Hz.
    pub(super) fn highest_freq(&self) -> f64 {
        if self.high_freq <= 0.0 { self.high_freq + self.nyquist() } else { self.high_freq }
    }

    /// Samples in a frame.
    fn frame_length(&self) -> usize {
        (f64::from(self.sample_rate) * self.frame_length_ms * 0.001) as usize
    }

    /// Samples from frame to frame.
    fn frame_shift(&self) -> usize {
        (f64::from(self.sample_rate) * self.frame_shift_ms * 0.001) as usize
    }

    /// Samples that are transformed: a frame and its zero padding.
    fn fft_length(&self) -> usize {
        if self.round_to_power_of_two { self.frame_length().next_power_of_two() } else { self.frame_length() }
    }
}

/// A filterbank ready to run: window, FFT plan and mel filters are made once. `Send + Sync`; share it freely.
pub struct Fbank {
    options: FbankOptions,
    frame_length: usize,
    frame_shift: usize,
    window: Vec<f32>,
    fft: Arc<dyn RealToComplex<f64>>,
    filters: Vec<MelFilter>,
}

impl std::fmt::Debug for Fbank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fbank").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Fbank {
    /// A filterbank with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] from [`FbankOptions::validate`].
    pub fn new(options: FbankOptions) -> Result<Self> {
        options.validate()?;
        let fft_length = options.fft_length();
        Ok(Self {
            frame_length: options.frame_length(),
            frame_shift: options.frame_shift(),
            window: mel::window(options.window, options.frame_length()),
            fft: RealFftPlanner::new().plan_fft_forward(fft_length),
            filters: mel::filters(&options, fft_length / 2),
            options,
        })
    }

    /// The settings.
    pub fn options(&self) -> &FbankOptions {
        &self.options
    }

    /// T, the number of frames that `num_samples` samples give; 0 when they do not fill one.
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
    /// [`Error::Audio`] when the samples do not fill one frame, or one of them is not finite.
    pub fn compute(&self, samples: &[f32]) -> Result<Vec<f32>> {
        check_finite("samples", samples)?;
        if samples.len() < self.frame_length {
            let expected = format!("at least {} samples (one frame)", self.frame_length);
            return Err(unusable("samples", expected, samples.len().to_string()));
        }
        let num_bins = self.options.num_mel_bins;
        let mut features = vec![0.0; self.num_frames(samples.len()) * num_bins]; // [T, M]
        let mut scratch = Scratch::new(self);
        for (t, row) in features.chunks_exact_mut(num_bins).enumerate() {
            self.compute_frame(samples, t, &mut scratch, row)?;
        }
        Ok(features)
    }

    fn compute_frame(&self, samples: &[f32], t: usize, scratch: &mut Scratch, features: &mut [f32]) -> Result<()> {
        self.cut_frame(samples, t, &mut scratch.frame);
        if self.options.remove_dc_offset {
            let mean = mean(&scratch.frame);
            scratch.frame.iter_mut().for_each(|x| *x -= mean);
        }
        let coefficient = self.options.preemphasis_coefficient;
        let previous = scratch.frame.first().into_iter().chain(&scratch.frame);
        let emphasised = scratch.frame.iter().zip(previous).map(|(x, before)| x - coefficient * before);
        // The FFT leaves its input undefined, so the padding is written anew too.
        scratch.padded.fill(0.0);
        for ((padded, x), w) in scratch.padded.iter_mut().zip(emphasised).zip(&self.window) {
            *padded = f64::from(x * w);
        }
        self.fft
            .process_with_scratch(&mut scratch.padded, &mut scratch.spectrum, &mut scratch.fft)
            .map_err(|e| Error::config("FFT", "buffers of the planned length", e))?;
        for (power, x) in scratch.power.iter_mut().zip(&scratch.spectrum) {
            *power = if self.options.use_power { x.norm_sqr() } else { x.norm() };
        }
        for (feature, filter) in features.iter_mut().zip(&self.filters) {
            let bins = filter.weights.iter().zip(&scratch.power[filter.first..]);
            let energy = bins.map(|(weight, power)| weight * power).sum::<f64>() as f32;
            *feature = if self.options.use_log_fbank { energy.max(ENERGY_FLOOR).ln() } else { energy };
        }
        Ok(())
    }

    /// Copies frame `t`, mirrored at the ends of the sound (…, 1, 0 | 0, 1, …) where it reaches beyond them.
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
    padded: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    power: Vec<f64>,
    fft: Vec<Complex<f64>>,
}

impl Scratch {
    fn new(fbank: &Fbank) -> Self {
        let spectrum = fbank.fft.make_output_vec();
        Self {
            frame: vec![0.0; fbank.frame_length],
            padded: fbank.fft.make_input_vec(),
            power: vec![0.0; spectrum.len()],
            spectrum,
            fft: fbank.fft.make_scratch_vec(),
        }
    }
}

/// The mean of a frame, summed in 32 lanes that are then added up eight wide: PyTorch's order on eight-lane (AVX2) CPUs,
/// and one that vectorises. In near-silent frames the rounding of the mean is what remains of the signal.
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
