//! The settings of a filterbank.

use serde::{Deserialize, Serialize};

use crate::audio::waveform::MAX_SAMPLE_RATE;
use crate::error::{Error, Result};

/// The longest frame, in samples. It bounds the memory, and no real configuration reaches it.
const MAX_FRAME: usize = 1 << 20;

/// The shape of a frame's window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WindowFunction {
    /// Kaldi's default: a Hann window to the power 0.85.
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
/// programs, adds no dither); [`FbankOptions::beats`] is what BEATs was trained on, [`FbankOptions::ast`] what AST was.
///
/// Dither (which is random), the energy column, vocal tract length warping and mean subtraction are not supported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FbankOptions {
    /// Samples per second of the sound, Hz (16000).
    pub sample_rate: u32,
    /// Length of a frame, ms (25).
    pub frame_length_ms: f64,
    /// From the start of a frame to the start of the next, ms (10).
    pub frame_shift_ms: f64,
    /// Keep only frames that lie entirely within the sound: T = 1 + ⌊(n - length) / shift⌋ (true). Otherwise frame t is
    /// centred on (t + 1/2) · shift, T = ⌊(n + shift / 2) / shift⌋, and the sound is mirrored at its ends.
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

    /// The settings of AST: those of BEATs with a Hann window.
    pub fn ast() -> Self {
        Self { window: WindowFunction::Hanning, ..Self::beats() }
    }

    /// The length in seconds of a sound that exactly fills `num_frames` frames which lie within it: 10.255 for 1024
    /// frames of 25 ms every 10 ms.
    pub fn seconds(&self, num_frames: usize) -> f64 {
        let samples = num_frames.saturating_sub(1) * self.frame_shift() + self.frame_length();
        samples as f64 / f64::from(self.sample_rate)
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is out of its range.
    pub fn validate(&self) -> Result<()> {
        if self.sample_rate == 0 || self.sample_rate > MAX_SAMPLE_RATE {
            return Err(Error::config("sample_rate", format!("1 to {MAX_SAMPLE_RATE} Hz"), self.sample_rate));
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
    pub(crate) fn frame_length(&self) -> usize {
        (f64::from(self.sample_rate) * self.frame_length_ms * 0.001) as usize
    }

    /// Samples from frame to frame.
    pub(crate) fn frame_shift(&self) -> usize {
        (f64::from(self.sample_rate) * self.frame_shift_ms * 0.001) as usize
    }

    /// Samples that are transformed: a frame and its zero padding.
    pub(super) fn fft_length(&self) -> usize {
        if self.round_to_power_of_two { self.frame_length().next_power_of_two() } else { self.frame_length() }
    }
}
