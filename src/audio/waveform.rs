//! A mono sound and its origin.

use std::path::Path;

use crate::audio::clip::{Clip, Span, mix_to_mono};
use crate::audio::errors::{check_finite, start_beyond_end, unusable};
use crate::audio::input::Input;
use crate::audio::{decode, resample};
use crate::error::{Error, Result};

/// The highest accepted sample rate in Hz. It is four times the highest rate in use, and low enough that a false header
/// cannot make the resampler allocate gigabytes of filters.
pub const MAX_SAMPLE_RATE: u32 = 768_000;

/// The origin that errors name for sounds given as the bytes of a file.
const BYTES: &str = "bytes";

/// A mono sound: at least one sample, all of them finite, at a rate of 1 to [`MAX_SAMPLE_RATE`] Hz.
///
/// Samples are nominally in [-1, 1]; floating-point files may exceed that range, and nothing is clipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Waveform {
    samples: Vec<f32>,
    sample_rate: u32,
    channels: u16,
    clip_seconds: f64,
}

impl Waveform {
    /// Decodes a whole sound file and mixes its channels to mono by their mean.
    ///
    /// WAV with integer PCM of 8 to 32 bit or 32-bit float samples; with the feature `audio-formats` (on by default)
    /// also WAV of other kinds (64-bit float, A-law, µ-law, ADPCM), FLAC, MP3, Ogg Vorbis, AAC and ALAC in MP4/M4A, raw
    /// AAC, AIFF, CAF, MKV/WebM; and the default sound track of a video. The format is recognised by the file's
    /// contents and not by its name.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read or is a directory; [`Error::Audio`] when it is empty, of no known
    /// format, without a sound track, truncated, damaged, without samples, or contains NaN or infinite samples;
    /// [`Error::MissingFeature`] when this build does not read its format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::decode(path.as_ref(), Span::WHOLE)
    }

    /// Decodes `seconds` seconds of a sound file from `start_seconds` on; fewer when the clip ends earlier.
    ///
    /// Only the requested part is decoded and kept, so a window of a film costs no more than a window of a jingle.
    /// [`clip_seconds`](Self::clip_seconds) is still the length of the whole clip. The window begins on the exact
    /// sample, except in Matroska, whose clock counts milliseconds. A file that is truncated after the window is an
    /// error too.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Argument`] when `start_seconds` is negative or `seconds` is not positive, or
    /// either is not finite; [`Error::Audio`] when the clip ends at or before `start_seconds` (it names the clip's
    /// length).
    pub fn open_window(path: impl AsRef<Path>, start_seconds: f64, seconds: f64) -> Result<Self> {
        Self::decode(path.as_ref(), Span::new(start_seconds, seconds)?)
    }

    /// As [`open`](Self::open), from the bytes of a file.
    ///
    /// # Errors
    /// As [`open`](Self::open), except for [`Error::Io`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::decode_bytes(bytes, Span::WHOLE)
    }

    /// As [`open_window`](Self::open_window), from the bytes of a file.
    ///
    /// # Errors
    /// As [`open_window`](Self::open_window), except for [`Error::Io`].
    pub fn from_bytes_window(bytes: &[u8], start_seconds: f64, seconds: f64) -> Result<Self> {
        Self::decode_bytes(bytes, Span::new(start_seconds, seconds)?)
    }

    /// A mono sound from memory.
    ///
    /// # Errors
    /// [`Error::Audio`] when `samples` is empty or contains NaN or infinite values, or `sample_rate` (Hz) is zero or
    /// above [`MAX_SAMPLE_RATE`].
    pub fn from_samples(samples: Vec<f32>, sample_rate: u32) -> Result<Self> {
        Self::checked("samples", samples, sample_rate, 1, None)
    }

    /// A sound of `channels` interleaved channels from memory, mixed to mono by their mean.
    ///
    /// # Errors
    /// As [`from_samples`](Self::from_samples), and [`Error::Audio`] when `channels` is zero or does not divide the
    /// number of samples.
    pub fn from_interleaved(samples: &[f32], channels: u16, sample_rate: u32) -> Result<Self> {
        if channels == 0 {
            return Err(unusable("samples", "at least one channel", "0 channels"));
        }
        if !samples.len().is_multiple_of(usize::from(channels)) {
            let expected = format!("a multiple of {channels} samples ({channels} interleaved channels)");
            return Err(unusable("samples", expected, format!("{} samples", samples.len())));
        }
        let mut mono = Vec::with_capacity(samples.len() / usize::from(channels));
        mix_to_mono(samples, channels, &mut mono);
        Self::checked("samples", mono, sample_rate, channels, None)
    }

    /// The samples, mono.
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// Consumes the sound and returns its samples.
    pub fn into_samples(self) -> Vec<f32> {
        self.samples
    }

    /// Samples per second, Hz.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The number of channels of the source before they were mixed to mono.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// The length of [`samples`](Self::samples) in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// The length in seconds of the clip that this sound is a part of; equal to [`seconds`](Self::seconds) for a whole
    /// clip.
    pub fn clip_seconds(&self) -> f64 {
        self.clip_seconds
    }

    /// The part of this sound that begins at `start_seconds` and lasts `seconds`, or less when the sound ends earlier.
    ///
    /// # Errors
    /// As the window of [`open_window`](Self::open_window).
    pub fn window(&self, start_seconds: f64, seconds: f64) -> Result<Self> {
        let span = Span::new(start_seconds, seconds)?;
        let (start, end) = span.frames(self.sample_rate);
        let total = self.samples.len() as u64;
        if start >= total {
            return Err(start_beyond_end("samples", start_seconds, self.seconds()));
        }
        // Both bounds are at most `total`, which came from a `usize`.
        let samples = self.samples[start as usize..end.min(total) as usize].to_vec();
        Ok(Self { samples, ..*self })
    }

    /// This sound at `to_hz` samples per second: ⌈n · to / from⌉ samples, sample `m` at the time `m / to_hz`.
    ///
    /// Band-limited interpolation with a windowed sinc h(τ) = cos²(πτ / 2L) · sinc(f·τ), |τ| < L, whose cut-off is
    /// 0.99 of the lower of the two Nyquist rates and which reaches six of its own zero crossings to either side: the
    /// filter of `torchaudio.functional.resample` at its defaults. The sound is taken as silent outside its bounds.
    ///
    /// # Errors
    /// [`Error::Argument`] when `to_hz` is zero or above [`MAX_SAMPLE_RATE`].
    pub fn resample(&self, to_hz: u32) -> Result<Self> {
        if to_hz == 0 || to_hz > MAX_SAMPLE_RATE {
            return Err(Error::argument("sample rate", format!("1 to {MAX_SAMPLE_RATE} Hz"), to_hz));
        }
        let samples = resample::resample(&self.samples, self.sample_rate, to_hz)?;
        Ok(Self { samples, sample_rate: to_hz, ..*self })
    }

    fn decode(path: &Path, span: Span) -> Result<Self> {
        Self::from_clip(&path.display().to_string(), decode::decode(path, span)?)
    }

    fn decode_bytes(bytes: &[u8], span: Span) -> Result<Self> {
        Self::from_clip(BYTES, decode::decode_input(Path::new(BYTES), Input::memory(bytes), span)?)
    }

    fn from_clip(origin: &str, clip: Clip) -> Result<Self> {
        let clip_seconds = clip.num_frames as f64 / f64::from(clip.sample_rate.max(1));
        Self::checked(origin, clip.samples, clip.sample_rate, clip.channels, Some(clip_seconds))
    }

    /// Checks the invariants of this type; all constructors call it.
    fn checked(
        origin: &str,
        samples: Vec<f32>,
        sample_rate: u32,
        channels: u16,
        clip_seconds: Option<f64>,
    ) -> Result<Self> {
        if sample_rate == 0 || sample_rate > MAX_SAMPLE_RATE {
            let expected = format!("a sample rate of 1 to {MAX_SAMPLE_RATE} Hz");
            return Err(unusable(origin, expected, format!("{sample_rate} Hz")));
        }
        if samples.is_empty() {
            return Err(unusable(origin, "at least one sample", "none"));
        }
        check_finite(origin, &samples)?;
        let clip_seconds = clip_seconds.unwrap_or(samples.len() as f64 / f64::from(sample_rate));
        Ok(Self { samples, sample_rate, channels, clip_seconds })
    }
}
