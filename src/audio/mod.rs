//! Sound in: decoding, resampling and the Kaldi-compatible mel filterbank ("fbank") that BEATs reads.
//!
//! The steps of the pipeline can also be used on their own:
//!
//! 1. [`Waveform::open`] decodes a file (WAV, FLAC, MP3, Ogg Vorbis, AAC in MP4/M4A, the sound track of a video)
//!    to mono; [`Waveform::open_window`] decodes only the requested seconds;
//!    [`Waveform::from_samples`] takes samples from memory.
//! 2. [`Waveform::resample`] brings it to another rate.
//! 3. [`Fbank`] computes log mel energies, frame by frame, as `torchaudio.compliance.kaldi.fbank` does.
//! 4. [`AudioFrontend`] does all of it for a network: resample, cut or pad to a fixed length, fbank, normalise.
//!
//! ```
//! use soundsight::audio::{AudioFrontend, AudioFrontendConfig, Waveform};
//!
//! // One second of a 440 Hz tone at 44.1 kHz; `Waveform::open("dog.ogg")?` reads one from a file.
//! let tone = (0..44_100).map(|i| 0.5 * (i as f32 * std::f32::consts::TAU * 440.0 / 44_100.0).sin()).collect();
//! let waveform = Waveform::from_samples(tone, 44_100)?;
//! assert_eq!(waveform.seconds(), 1.0);
//!
//! let frontend = AudioFrontend::new(AudioFrontendConfig::default())?;
//! let fbank = frontend.forward(&waveform, &candle_core::Device::Cpu)?;
//! assert_eq!(fbank.dims(), [1, 998, 128]); // [B, T, M]: 10 s, padded with silence
//! # Ok::<(), soundsight::Error>(())
//! ```

mod bytes;
mod clip;
mod container;
mod decode;
mod errors;
mod fbank;
mod fbank_options;
#[cfg(feature = "audio-formats")]
mod formats;
mod frontend;
mod input;
mod mel;
mod resample;
mod spectrum;
mod wav;
mod waveform;

pub(crate) use clip::mix_to_mono;
pub use fbank::Fbank;
pub use fbank_options::{FbankOptions, WindowFunction};
pub use frontend::{AudioFrontend, AudioFrontendConfig, Padding};
pub use waveform::{MAX_SAMPLE_RATE, Waveform};
