//! Decoding, resampling and the filterbank, against known signals and against torchaudio.
//!
//! The fixtures come from `benches/peers/fixtures_audio.py`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/audio_formats.rs"]
mod audio_formats;

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use soundsight::audio::{AudioFrontend, AudioFrontendConfig, Fbank, FbankOptions, Waveform, WindowFunction};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

fn expected() -> HashMap<String, Vec<f32>> {
    let tensors = candle_core::safetensors::load(fixture("expected.safetensors"), &Device::Cpu).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, to_vec(&tensor))).collect()
}

fn to_vec(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The fixtures' signal, mixed to mono: see `signal` in fixtures_audio.py.
fn signal(seconds: f64, rate: u32, channels: u16) -> Vec<f32> {
    let sample = |i: usize| {
        let t = i as f64 / f64::from(rate);
        let tones: f64 = (1..=channels).map(|c| (TAU * 300.0 * f64::from(c) * t).sin()).sum();
        (0.4 * tones / f64::from(channels) + 0.1 * (1.0 - 2.0 * t / seconds)) as f32
    };
    // Python rounds halves to even.
    (0..(seconds * f64::from(rate)).round_ties_even() as usize).map(sample).collect()
}

fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn mean_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len() as f64
}

#[cfg(feature = "audio-formats")]
fn rms_difference(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    (squares / a.len().min(b.len()) as f64).sqrt()
}

#[test]
fn bytes_are_decoded_like_files() {
    let mut count = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // Some fixtures are no sounds.
        let (true, Ok(expected)) = (audio_formats::is_readable(name), Waveform::open(&path)) else { continue };
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(Waveform::from_bytes(&bytes).unwrap(), expected, "{name}");
        let start = expected.seconds() / 2.0;
        let window = Waveform::open_window(&path, start, 0.1).unwrap();
        assert_eq!(Waveform::from_bytes_window(&bytes, start, 0.1).unwrap(), window, "{name}");
        count += 1;
    }
    assert!(count >= 10, "{count} sounds");
}

/// Every lossless format reproduces the signal within its own quantisation error, with the exact length.
#[test]
fn lossless_formats_are_decoded_exactly() {
    let bits = |bits: i32| 0.51 * 2f32.powi(1 - bits);
    for (name, seconds, rate, channels, tolerance) in [
        ("u8.wav", 0.2, 8_000, 1, bits(8)),
        ("s16.wav", 0.1, 44_100, 2, bits(16)),
        ("s24.wav", 0.1, 48_000, 1, bits(24)),
        ("s24_six.wav", 0.05, 32_000, 6, bits(24)),
        ("s32_odd_rate.wav", 0.1, 12_345, 1, bits(24)), // f32 has 24 significant bits
        ("f32.wav", 0.1, 16_000, 2, bits(24)),
        ("f64.wav", 0.1, 11_025, 1, bits(24)),
        ("pipe.wav", 0.1, 16_000, 1, bits(16)),
        ("s16.aiff", 0.1, 16_000, 1, bits(16)),
        ("s16.caf", 0.1, 16_000, 1, bits(16)),
        ("s16.flac", 0.3, 44_100, 2, bits(16)),
        ("s24.flac", 0.1, 96_000, 1, bits(24)),
        ("alac.m4a", 0.2, 44_100, 2, bits(16)),
        // Companded: the quantisation step grows to 1/64 of the amplitude.
        ("alaw.wav", 0.2, 8_000, 1, 0.5 / 64.0 + bits(13)),
        ("mulaw.wav", 0.2, 8_000, 2, 0.5 / 64.0 + bits(14)),
    ] {
        if !audio_formats::is_readable(name) {
            continue;
        }
        let waveform = Waveform::open(fixture(name)).unwrap();
        assert_eq!((waveform.sample_rate(), waveform.channels()), (rate, channels), "{name}");
        let difference = max_difference(waveform.samples(), &signal(seconds, rate, channels));
        // Plus 1e-6 for rounding in the mean over the channels.
        assert!(difference <= tolerance + 1e-6, "{name}: {difference} > {tolerance}");
        assert_eq!(waveform.seconds(), waveform.clip_seconds(), "{name}");
    }
}

/// Lossy formats approximate the signal without a shift: encoder delay and padding are removed if the file states them.
#[test]
#[cfg(feature = "audio-formats")]
fn lossy_formats_are_decoded_at_their_place() {
    // Name, seconds, rate, channels, frames before and after the signal, largest RMS error.
    for (name, seconds, rate, channels, delay, padding, tolerance) in [
        ("vorbis.ogg", 0.5, 44_100, 2, 0, 0, 0.005),
        ("vorbis.mka", 0.5, 22_050, 1, 0, 111, 0.01),
        ("cbr.mp3", 0.5, 44_100, 2, 0, 0, 0.02),
        ("vbr.mp3", 0.5, 22_050, 1, 0, 0, 0.01),
        ("no_header.mp3", 0.5, 44_100, 1, 1105, 1037, 0.01),
        ("aac.m4a", 0.5, 44_100, 2, 0, 0, 0.06),
        ("adts.aac", 0.5, 48_000, 1, 1024, 576, 0.03),
        ("video.mp4", 0.5, 48_000, 2, 0, 0, 0.06),
        ("fast.mp4", 0.5, 48_000, 2, 0, 0, 0.06),
        ("adpcm.wav", 0.2, 22_050, 2, 0, 650, 0.01),
        ("long.mp3", 3.0, 16_000, 1, 0, 0, 0.02),
        ("long.m4a", 3.0, 16_000, 1, 0, 0, 0.02),
    ] {
        let waveform = Waveform::open(fixture(name)).unwrap();
        assert_eq!((waveform.sample_rate(), waveform.channels()), (rate, channels), "{name}");
        let signal = signal(seconds, rate, channels);
        assert_eq!(waveform.samples().len(), delay + signal.len() + padding, "{name}");
        let error = rms_difference(&waveform.samples()[delay..], &signal);
        assert!(error <= tolerance, "{name}: {error} > {tolerance}");
        // The tolerance does not hide a shifted signal.
        let displaced = rms_difference(&waveform.samples()[delay + 8..], &signal);
        assert!(displaced > 1.5 * tolerance, "{name}: displaced {displaced}");
    }
}

/// The format is detected from the contents, not from the name.
#[test]
fn names_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    for (name, alias) in [("vorbis.ogg", "a.wav"), ("s16.wav", "b.mp3"), ("cbr.mp3", "c"), ("fast.mp4", "d.flac")] {
        if !audio_formats::is_readable(name) {
            continue;
        }
        let alias = folder.path().join(alias);
        std::fs::copy(fixture(name), &alias).unwrap();
        assert_eq!(Waveform::open(alias).unwrap(), Waveform::open(fixture(name)).unwrap(), "{name}");
    }
}

/// A window equals the same part of the whole file, and reports the duration of the whole.
#[test]
fn windows_are_parts_of_the_whole() {
    for name in [
        "long.wav",
        "long.flac",
        "long.ogg",
        "long.mp3",
        "long_no_header.mp3",
        "long.m4a",
        "long.aac",
        "long.mka",
        "long_adpcm.wav",
        "s16.flac",
        "pipe.wav",
        "s16.aiff",
        "video.mp4",
    ]
    .into_iter()
    .filter(|name| audio_formats::is_readable(name))
    {
        let whole = Waveform::open(fixture(name)).unwrap();
        for (start, seconds) in [(0.0, 0.4), (0.1, 0.25), (0.5, 0.3), (0.7, 10.0)] {
            let (start, seconds) = (start * whole.seconds(), seconds * whole.seconds());
            let window = Waveform::open_window(fixture(name), start, seconds).unwrap();
            let part = whole.window(start, seconds).unwrap();
            // AAC fills bands with noise that depends on where decoding starts; other formats are bit-identical.
            let aac = [".m4a", ".aac", ".mp4"].iter().any(|suffix| name.ends_with(suffix));
            let tolerance = if aac { 0.01 } else { 0.0 };
            let difference = max_difference(window.samples(), part.samples());
            assert!(difference <= tolerance, "{name} from {start} s: {difference}");
            // The length stated by Matroska includes the padding of the last packet.
            let slack = if name.ends_with(".mka") { 0.02 } else { 0.0 };
            assert!((window.clip_seconds() - whole.seconds()).abs() <= slack, "{name}: {}", window.clip_seconds());
        }
    }
}

/// Interleaved samples from memory are averaged over the channels.
#[test]
fn channels_are_averaged() {
    let waveform = Waveform::from_interleaved(&[1.0, 0.0, 0.5, -0.5, -1.0, -0.5], 2, 8_000).unwrap();
    assert_eq!(waveform.samples(), [0.5, 0.0, -0.75]);
    assert_eq!((waveform.channels(), waveform.sample_rate()), (2, 8_000));
    let mono = Waveform::from_samples(vec![0.5, 0.0, -0.75], 8_000).unwrap();
    assert_eq!((mono.samples(), mono.channels()), (waveform.samples(), 1));
    assert_eq!(mono.window(1.0 / 8000.0, 1.0).unwrap().samples(), [0.0, -0.75]);
}

const RATES: [u32; 12] = [5_000, 8_000, 11_025, 12_345, 16_000, 22_050, 24_000, 32_000, 44_056, 44_100, 48_000, 96_000];

/// For all pairs of rates, there are ⌈n · to / from⌉ samples, a constant stays constant, and a tone keeps its
/// frequency, phase and amplitude, sample by sample.
#[test]
fn resampling_keeps_length_level_and_tones() {
    for from in RATES {
        for to in RATES {
            for n in [1, 2, 999, 4_001] {
                let samples = Waveform::from_samples(vec![0.5; n], from).unwrap().resample(to).unwrap();
                let length = (n as u64 * u64::from(to)).div_ceil(u64::from(from));
                assert_eq!(samples.samples().len() as u64, length, "{n} samples from {from} to {to} Hz");
                assert_eq!(samples.sample_rate(), to);
            }
            let frequency = 0.2 * f64::from(from.min(to));
            let tone = |rate: u32, i: usize| (TAU * frequency * i as f64 / f64::from(rate)).sin() as f32;
            let samples = (0..4_001).map(|i| 0.5 + 0.25 * tone(from, i)).collect();
            let resampled = Waveform::from_samples(samples, from).unwrap().resample(to).unwrap();
            // The filter extends over 7 samples of the lower rate; beyond the ends there is silence.
            let edge = 8 * (to as usize).div_ceil(from.min(to) as usize);
            let samples = resampled.samples();
            let inner = edge..samples.len() - edge;
            let ideal: Vec<f32> = inner.clone().map(|i| 0.5 + 0.25 * tone(to, i)).collect();
            let difference = max_difference(&samples[inner], &ideal);
            assert!(difference < 2e-3, "from {from} to {to} Hz: {difference}");
        }
    }
}

/// Frequencies above the new Nyquist frequency are removed, not aliased.
#[test]
fn resampling_does_not_alias() {
    let tone = (0..44_100).map(|i| (TAU * 11_000.0 * f64::from(i) / 44_100.0).sin() as f32).collect();
    let resampled = Waveform::from_samples(tone, 44_100).unwrap().resample(16_000).unwrap();
    let inner = &resampled.samples()[20..15_980];
    let loudest = inner.iter().fold(0f32, |loudest, x| loudest.max(x.abs()));
    assert!(loudest < 1e-2, "{loudest}"); // -40 dB; torchaudio: -49 dB
}

/// White noise, which contains every frequency, is resampled as by torchaudio.
#[test]
fn resampling_agrees_with_torchaudio() {
    let expected = expected();
    for rate in [8_000, 11_025, 12_345, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
        let noise = Waveform::from_samples(expected["noise"].clone(), rate).unwrap(); // standard deviation 0.1
        let difference =
            mean_difference(noise.resample(16_000).unwrap().samples(), &expected[&format!("noise.{rate}")]);
        assert!(difference < 6e-4, "{rate} Hz: {difference}");
    }
}

/// A real stereo recording at 44.1 kHz through decoder, resampler and filterbank.
#[test]
#[cfg(feature = "audio-formats")]
fn a_recording_agrees_with_torchaudio_after_resampling() {
    let expected = expected();
    let waveform = Waveform::open(fixture("washing_machine.ogg")).unwrap();
    assert_eq!((waveform.sample_rate(), waveform.channels()), (44_100, 2));
    let resampled = waveform.resample(16_000).unwrap();
    let difference = max_difference(resampled.samples(), &expected["resampled"]);
    assert!(difference < 2e-4, "samples: {difference}");
    let config = AudioFrontendConfig { seconds: resampled.seconds(), ..Default::default() };
    let fbank = AudioFrontend::new(config).unwrap().forward(&waveform, &Device::Cpu).unwrap();
    let difference = mean_difference(&to_vec(&fbank), &expected["resampled.fbank"]);
    assert!(difference < 1e-3, "normalised filterbank: {difference}");
}

/// Real recordings against torchaudio.
///
/// Its f32 FFT leaves noise in quiet bins next to loud ones: on these recordings, torchaudio differs from its own
/// result in f64 by up to 3e-4, and ours differs as much from either. In all other bins, they agree to 1e-5.
#[test]
fn fbank_agrees_with_torchaudio_on_recordings() {
    let expected = expected();
    let fbank = Fbank::new(FbankOptions::beats()).unwrap();
    for name in ["crow", "cello", "horse"] {
        let waveform = Waveform::open(fixture(&format!("{name}.wav"))).unwrap();
        let samples: Vec<f32> = waveform.samples().iter().map(|x| x * 32_768.0).collect();
        let features = fbank.compute(&samples).unwrap();
        assert_eq!(features.len(), 98 * 128);
        for reference in [&expected[name], &expected[&format!("{name}.f64")]] {
            assert!(max_difference(&features, reference) < 5e-4, "{name}");
            assert!(mean_difference(&features, reference) < 1e-5, "{name}");
            let far = features.iter().zip(reference).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
            assert!(far * 1000 < features.len(), "{name}: {far} values differ by more than 1e-4");
        }
        // The input of the network.
        let config = AudioFrontendConfig { seconds: 1.0, ..Default::default() };
        let normalised = to_vec(&AudioFrontend::new(config).unwrap().forward(&waveform, &Device::Cpu).unwrap());
        let reference: Vec<f32> = expected[name].iter().map(|x| (x - 15.41663) / (2.0 * 6.55582)).collect();
        let difference = max_difference(&normalised, &reference);
        assert!(difference < 1e-4, "{name}, normalised: {difference}");
    }
}

/// Changing any setting of the filterbank from its default has the same effect as in torchaudio.
#[test]
fn fbank_options_agree_with_torchaudio() {
    let expected = expected();
    let waveform = Waveform::open(fixture("horse.wav")).unwrap();
    let samples: Vec<f32> = waveform.samples()[4_000..8_000].iter().map(|x| x * 32_768.0).collect();
    let beats = FbankOptions::beats;
    let window = |window| FbankOptions { window, ..beats() };
    for (name, options) in [
        ("no_snip", FbankOptions { snip_edges: false, ..beats() }),
        ("no_dc", FbankOptions { remove_dc_offset: false, ..beats() }),
        ("no_emphasis", FbankOptions { preemphasis_coefficient: 0.0, ..beats() }),
        ("hanning", window(WindowFunction::Hanning)),
        ("hamming", window(WindowFunction::Hamming)),
        ("blackman", window(WindowFunction::Blackman)),
        ("rectangular", window(WindowFunction::Rectangular)),
        ("no_rounding", FbankOptions { round_to_power_of_two: false, ..beats() }),
        ("magnitude", FbankOptions { use_power: false, ..beats() }),
        ("linear", FbankOptions { use_log_fbank: false, ..beats() }),
        ("kaldi", FbankOptions::default()),
        ("band", FbankOptions { low_freq: 100.0, high_freq: -500.0, ..beats() }),
        ("long", FbankOptions { frame_length_ms: 40.0, frame_shift_ms: 15.5, ..beats() }),
    ] {
        let log = |features: &[f32]| -> Vec<f32> {
            let floored = features.iter().map(|x| if options.use_log_fbank { *x } else { x.max(f32::EPSILON).ln() });
            floored.collect()
        };
        let features = log(&Fbank::new(options.clone()).unwrap().compute(&samples).unwrap());
        let reference = log(&expected[&format!("options.{name}")]);
        assert!(mean_difference(&features, &reference) < 1e-5, "{name}");
        assert!(max_difference(&features, &reference) < 1.5e-3, "{name}");
    }
}

/// Silence, digital or at a constant level, gives exactly the floor, as in torchaudio.
#[test]
fn silence_is_the_floor() {
    let expected = expected();
    let fbank = Fbank::new(FbankOptions::beats()).unwrap();
    for (name, level) in [("silence", 0.0), ("constant", 0.25 * 32_768.0)] {
        let features = fbank.compute(&[level; 1_600]).unwrap();
        assert_eq!(features, expected[name], "{name}");
        assert!(features.iter().all(|&x| x == f32::EPSILON.ln()), "{name}");
    }
}

/// Short sounds are padded with silence at the end and long ones cut before any other processing.
#[test]
fn frontend_pads_and_cuts() {
    let frontend = AudioFrontend::new(AudioFrontendConfig::default()).unwrap();
    let short = Waveform::open(fixture("crow.wav")).unwrap();
    let features = frontend.forward(&short, &Device::Cpu).unwrap();
    assert_eq!(features.dims(), [1, 998, 128]);
    let floor = (f32::EPSILON.ln() - 15.41663) / (2.0 * 6.55582);
    let padding = to_vec(&features.narrow(1, 100, 898).unwrap());
    assert!(padding.iter().all(|&x| x == floor));
    assert!(to_vec(&features.narrow(1, 0, 98).unwrap()).iter().any(|&x| x > floor));

    // 12 s at 44.1 kHz: the same as resampling the whole sound and then cutting it.
    let noise = expected()["noise"].iter().copied().cycle().take(12 * 44_100).collect();
    let long = Waveform::from_samples(noise, 44_100).unwrap();
    let cut = long.resample(16_000).unwrap().window(0.0, 10.0).unwrap();
    let (a, b) = (frontend.forward(&long, &Device::Cpu).unwrap(), frontend.forward(&cut, &Device::Cpu).unwrap());
    assert_eq!(to_vec(&a), to_vec(&b));

    // A single sample, and other sizes.
    let click = Waveform::from_samples(vec![1.0], 48_000).unwrap();
    assert_eq!(frontend.forward(&click, &Device::Cpu).unwrap().dims(), [1, 998, 128]);
    let fbank = FbankOptions { num_mel_bins: 64, sample_rate: 32_000, ..Default::default() };
    let small = AudioFrontend::new(AudioFrontendConfig { seconds: 2.5, fbank, ..Default::default() }).unwrap();
    assert_eq!(small.forward(&click, &Device::Cpu).unwrap().dims(), [1, small.num_frames(), 64]);
    assert_eq!((small.num_frames(), small.num_mel_bins()), (248, 64));
}

/// A batch gives the same values as its members separately, also in threads that share a front end.
#[test]
#[cfg(feature = "audio-formats")]
fn batches_and_threads_change_nothing() {
    let frontend = AudioFrontend::new(AudioFrontendConfig { seconds: 1.0, ..Default::default() }).unwrap();
    let names = ["crow.wav", "s16.wav", "vorbis.ogg", "long.mp3"];
    let sounds: Vec<Waveform> = names.iter().map(|name| Waveform::open(fixture(name)).unwrap()).collect();
    let batch = frontend.forward_batch(&sounds, &Device::Cpu).unwrap();
    assert_eq!(batch.dims(), [4, 98, 128]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (i, sound) in sounds.iter().enumerate() {
                    let single = frontend.forward(sound, &Device::Cpu).unwrap();
                    assert_eq!(to_vec(&single), to_vec(&batch.narrow(0, i, 1).unwrap()), "{}", names[i]);
                }
            });
        }
    });
}

/// Every sound in Debian's tuxpaint-stamps-default (except spoken descriptions) can be read.
#[test]
#[cfg(feature = "audio-formats")]
fn real_recordings_open() {
    let stamps = Path::new("/usr/share/tuxpaint/stamps");
    if !stamps.is_dir() {
        assert!(std::env::var_os("CI").is_none(), "CI must install tuxpaint-stamps-default");
        eprintln!("skipped: {} is not there (apt-get install tuxpaint-stamps-default)", stamps.display());
        return;
    }
    let (mut folders, mut count) = (vec![stamps.to_path_buf()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if (name.ends_with(".ogg") || name.ends_with(".wav")) && !name.contains("_desc") {
                let waveform = Waveform::open(&path).unwrap();
                assert!(waveform.seconds() > 0.05, "{}: {} s", path.display(), waveform.seconds());
                count += 1;
            }
        }
    }
    assert!(count > 80, "only {count} recordings");
}
