//! Unusable sounds and invalid settings: each is an error that says where, what and why.
#![allow(clippy::unwrap_used)]

#[path = "common/audio_formats.rs"]
mod audio_formats;

use std::path::{Path, PathBuf};

use candle_core::Device;
use soundsight::Error;
use soundsight::audio::{AudioFrontend, AudioFrontendConfig, Fbank, FbankOptions, MAX_SAMPLE_RATE, Waveform};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audio").join(name)
}

/// Asserts an [`Error::Audio`] from `origin` whose `expected` and `found` contain these words.
#[track_caller]
fn assert_audio<T: std::fmt::Debug>(result: Result<T, Error>, origin: &Path, expects: &str, finds: &str) {
    match result {
        Err(Error::Audio { origin: at, expected, found }) => {
            assert_eq!(at, origin.display().to_string());
            assert!(expected.contains(expects), "{at}: expected {expected:?} lacks {expects:?}");
            assert!(found.contains(finds), "{at}: found {found:?} lacks {finds:?}");
        }
        other => panic!("{}: not an audio error: {other:?}", origin.display()),
    }
}

/// Asserts [`Error::Config`] or [`Error::Argument`] for `name`, whose message shows the value found.
#[track_caller]
fn assert_config<T: std::fmt::Debug>(result: Result<T, Error>, name: &str, finds: &str) {
    match result {
        Err(Error::Config { what, expected, found } | Error::Argument { what, expected, found }) => {
            assert_eq!(what, name);
            assert!(!expected.is_empty() && found.contains(finds), "found {found:?} lacks {finds:?}");
        }
        other => panic!("not about a setting or an argument: {other:?}"),
    }
}

#[test]
fn bytes_are_refused_like_files() {
    let text = b"this is no sound at all";
    assert_audio(Waveform::from_bytes(text), Path::new("bytes"), "a sound in WAV", "contents of no such format");
    assert_audio(Waveform::from_bytes(b""), Path::new("bytes"), "a sound file", "an empty file");
    let wav = std::fs::read(fixture("s16.wav")).unwrap();
    assert_audio(Waveform::from_bytes(&wav[..wav.len() / 2]), Path::new("bytes"), "complete", "truncated");
    assert_audio(Waveform::from_bytes_window(&wav, 1e3, 1.0), Path::new("bytes"), "a start before", "1000.000 s");
    assert_config(Waveform::from_bytes_window(&wav, 0.0, 0.0), "seconds", "0");
}

/// A file with these bytes, in a folder that exists as long as the test keeps the handle.
fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn no_file_and_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    for (path, kind) in [
        (folder.path().join("missing.wav"), std::io::ErrorKind::NotFound),
        (folder.path().to_path_buf(), std::io::ErrorKind::IsADirectory),
    ] {
        let error = Waveform::open(&path).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: cannot read", path.display())), "{error}");
        match error {
            Error::Io { path: at, source, .. } => assert_eq!((at, source.kind()), (path, kind)),
            other => panic!("not an input error: {other:?}"),
        }
    }
}

#[test]
fn no_sound_at_all() {
    let (_folder, empty) = file("empty.wav", b"");
    assert_audio(Waveform::open(&empty), &empty, "a sound file", "empty file");
    if cfg!(not(feature = "audio-formats")) {
        return;
    }
    let text = b"Once upon a time there was a dog, and it did bark. ".repeat(100);
    let (_folder, text) = file("text.wav", &text);
    assert_audio(Waveform::open(&text), &text, "a sound in WAV, FLAC, MP3", "contents of no such format");
    let mute = fixture("mute.mp4");
    assert_audio(Waveform::open(&mute), &mute, "a sound track", "none of a known kind (tracks: 1)");
    let opus = fixture("opus.ogg");
    assert_audio(Waveform::open(&opus), &opus, "a sound in WAV, FLAC, MP3", "unsupported");
}

/// Without the feature `audio-formats`, every sound except plain WAV is an error that names the feature.
#[test]
#[cfg(not(feature = "audio-formats"))]
fn formats_that_are_not_compiled_in() {
    for (name, kind) in [
        ("alaw.wav", "a WAV file that is not plain PCM"),
        ("s16.flac", "a FLAC file"),
        ("vorbis.ogg", "an Ogg file"),
        ("aac.m4a", "an MP4 file"),
        ("s16.aiff", "an AIFF, CAF or Matroska file"),
    ] {
        let path = fixture(name);
        let error = Waveform::open(&path).unwrap_err();
        let Error::MissingFeature { what, feature: "audio-formats" } = &error else { panic!("{name}: {error:?}") };
        assert!(what.starts_with(&format!("{}: {kind}", path.display())), "{error}");
    }
    let path = fixture("no_header.mp3");
    assert_audio(Waveform::open(&path), &path, "the feature `audio-formats`", "contents of no such format");
}

#[test]
fn no_samples() {
    for bits_per_sample in [16, 24] {
        let (_folder, path) = file("zero.wav", b"");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 8_000,
            bits_per_sample,
            sample_format: hound::SampleFormat::Int,
        };
        hound::WavWriter::create(&path, spec).unwrap().finalize().unwrap();
        assert_audio(Waveform::open(&path), &path, "at least one sample", "none");
    }
    assert_audio(Waveform::from_samples(vec![], 8_000), Path::new("samples"), "at least one sample", "none");
    assert_audio(Waveform::from_interleaved(&[], 2, 8_000), Path::new("samples"), "at least one sample", "none");
}

#[test]
fn samples_that_are_not_numbers() {
    for (value, name) in [(f32::NAN, "NaN at sample 2"), (f32::INFINITY, "inf at sample 2")] {
        let samples = [0.0, 0.5, value, 0.0];
        let (_folder, path) = file("float.wav", b"");
        let sample_format = hound::SampleFormat::Float;
        let spec = hound::WavSpec { channels: 1, sample_rate: 8_000, bits_per_sample: 32, sample_format };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        assert_audio(Waveform::open(&path), &path, "finite samples", name);
        let samples_from = Path::new("samples");
        assert_audio(Waveform::from_samples(samples.to_vec(), 8_000), samples_from, "finite samples", name);
        assert_audio(Waveform::from_interleaved(&samples, 1, 8_000), samples_from, "finite samples", name);
        let frame = [[0.0, 0.0].as_slice(), &[value], &[0.0; 397]].concat();
        assert_audio(Fbank::new(FbankOptions::beats()).unwrap().compute(&frame), samples_from, "finite", name);
    }
}

#[test]
fn impossible_rates_and_channels() {
    let samples = Path::new("samples");
    assert_audio(Waveform::from_samples(vec![0.0], 0), samples, "a sample rate of 1 to", "0 Hz");
    let beyond = MAX_SAMPLE_RATE + 1;
    assert_audio(Waveform::from_samples(vec![0.0], beyond), samples, "a sample rate of 1 to 768000", "768001 Hz");
    assert_audio(Waveform::from_interleaved(&[0.0], 0, 8_000), samples, "at least one channel", "0 channels");
    assert_audio(Waveform::from_interleaved(&[0.0; 5], 2, 8_000), samples, "a multiple of 2 samples", "5 samples");
    let waveform = Waveform::from_samples(vec![0.0], 8_000).unwrap();
    assert_config(waveform.resample(0), "sample rate", "0");
    assert_config(waveform.resample(beyond), "sample rate", "768001");
    // A header with a wrong rate.
    let mut bytes = std::fs::read(fixture("u8.wav")).unwrap();
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let (_folder, path) = file("rate.wav", &bytes);
    assert_audio(Waveform::open(&path), &path, "a sample rate of 1 to", "4294967295 Hz");
}

/// Every format, truncated anywhere, is an error, whether or not the requested window is present.
#[test]
fn truncated_files() {
    for name in [
        "s16.wav",
        "s24_six.wav",
        "f64.wav",
        "alaw.wav",
        "long_adpcm.wav",
        "s16.aiff",
        "s16.caf",
        "s16.flac",
        "long.flac",
        "vorbis.ogg",
        "long.ogg",
        "washing_machine.ogg",
        "vorbis.mka",
        "cbr.mp3",
        "long.mp3",
        "no_header.mp3",
        "aac.m4a",
        "alac.m4a",
        "adts.aac",
        "video.mp4",
        "fast.mp4",
    ]
    .into_iter()
    .filter(|name| audio_formats::is_readable(name))
    {
        let bytes = std::fs::read(fixture(name)).unwrap();
        // A stream of frames can be cut between two frames undetected: 37, 61 and 89 % are within a frame.
        for length in [bytes.len() * 37 / 100, bytes.len() * 61 / 100, bytes.len() * 89 / 100, bytes.len() - 1] {
            let (_folder, path) = file(name, &bytes[..length]);
            assert_audio(Waveform::open(&path), &path, "", if name.ends_with("mka") { "" } else { "truncated" });
            assert_audio(Waveform::open_window(&path, 0.0, 0.02), &path, "", "");
        }
        for length in [1, 4, 11, 30] {
            let (_folder, path) = file(name, &bytes[..length]);
            assert_audio(Waveform::open(&path), &path, "", "");
        }
    }
    // The message says how much is missing.
    let bytes = std::fs::read(fixture("s16.wav")).unwrap();
    let (_folder, path) = file("half.wav", &bytes[..44 + 1_000]);
    assert_audio(Waveform::open(&path), &path, "a complete file", "17640 bytes of samples announced, 1000 there");
}

#[test]
fn windows_outside_the_clip() {
    for name in ["long.wav", "long.flac", "long.ogg", "long.mp3", "long_no_header.mp3", "long.m4a", "long.aac"] {
        if !audio_formats::is_readable(name) {
            continue;
        }
        let path = fixture(name);
        let length = format!("({:.3} s long)", Waveform::open(&path).unwrap().seconds());
        for start in [3.2, 100.0] {
            let found = format!("a start at {start:.3} s");
            assert_audio(Waveform::open_window(&path, start, 1.0), &path, &length, &found);
        }
    }
    if cfg!(feature = "audio-formats") {
        let path = fixture("pipe.wav");
        assert_audio(Waveform::open_window(&path, 0.5, 1.0), &path, "(0.100 s long)", "a start at 0.500 s");
    }
    let waveform = Waveform::from_samples(vec![0.0; 8_000], 8_000).unwrap();
    assert_audio(waveform.window(1.0, 1.0), Path::new("samples"), "(1.000 s long)", "a start at 1.000 s");
}

#[test]
fn windows_that_are_none() {
    let path = fixture("s16.wav");
    for start in [-1.0, f64::NAN, f64::INFINITY] {
        assert_config(Waveform::open_window(&path, start, 1.0), "start", &start.to_string());
    }
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_config(Waveform::open_window(&path, 0.0, seconds), "seconds", &seconds.to_string());
    }
}

#[test]
fn filterbank_settings() {
    let beats = FbankOptions::beats;
    for (options, name, found) in [
        (FbankOptions { sample_rate: 0, ..beats() }, "sample_rate", "0"),
        (FbankOptions { sample_rate: 768_001, ..beats() }, "sample_rate", "768001"),
        (FbankOptions { frame_length_ms: 0.1, ..beats() }, "frame_length_ms", "0.1 ms, 1 samples"),
        (FbankOptions { frame_length_ms: f64::NAN, ..beats() }, "frame_length_ms", "NaN ms"),
        (FbankOptions { frame_length_ms: 1e9, ..beats() }, "frame_length_ms", "1000000000 ms"),
        (FbankOptions { frame_shift_ms: -10.0, ..beats() }, "frame_shift_ms", "-10 ms, 0 samples"),
        (
            FbankOptions { frame_length_ms: 25.1, round_to_power_of_two: false, ..beats() },
            "frame_length_ms",
            "401 samples",
        ),
        (FbankOptions { preemphasis_coefficient: 1.5, ..beats() }, "preemphasis_coefficient", "1.5"),
        (FbankOptions { preemphasis_coefficient: f32::NAN, ..beats() }, "preemphasis_coefficient", "NaN"),
        (FbankOptions { num_mel_bins: 3, ..beats() }, "num_mel_bins", "3"),
        (FbankOptions { low_freq: 8_000.0, ..beats() }, "low_freq", "8000"),
        (FbankOptions { low_freq: f64::NAN, ..beats() }, "low_freq", "NaN"),
        (FbankOptions { high_freq: 9_000.0, ..beats() }, "high_freq", "9000"),
        (FbankOptions { high_freq: -7_990.0, ..beats() }, "high_freq", "-7990"),
    ] {
        assert_config(options.validate(), name, found);
        assert_config(Fbank::new(options), name, found);
    }
    let fbank = Fbank::new(beats()).unwrap();
    assert_audio(fbank.compute(&[0.0; 399]), Path::new("samples"), "at least 400 samples", "399");
}

#[test]
fn frontend_settings() {
    let config = AudioFrontendConfig::default;
    for (config, name, found) in [
        (AudioFrontendConfig { seconds: 0.0, ..config() }, "seconds", "0"),
        (AudioFrontendConfig { seconds: 0.02, ..config() }, "seconds", "0.02"),
        (AudioFrontendConfig { seconds: 1e6, ..config() }, "seconds", "1000000"),
        (AudioFrontendConfig { mean: f32::NAN, ..config() }, "mean", "NaN"),
        (AudioFrontendConfig { std: 0.0, ..config() }, "std", "0"),
        (
            AudioFrontendConfig { fbank: FbankOptions { num_mel_bins: 0, ..FbankOptions::beats() }, ..config() },
            "num_mel_bins",
            "0",
        ),
    ] {
        assert_config(AudioFrontend::new(config), name, found);
    }
    let frontend = AudioFrontend::new(config()).unwrap();
    assert_config(frontend.forward_batch::<Waveform>(&[], &Device::Cpu), "batch", "0");
    // A misspelled setting in a configuration is not ignored.
    assert!(serde_json::from_str::<AudioFrontendConfig>(r#"{"second": 5}"#).is_err());
    let five: AudioFrontendConfig = serde_json::from_str(r#"{"seconds": 5}"#).unwrap();
    assert_eq!(five, AudioFrontendConfig { seconds: 5.0, ..config() });
}
