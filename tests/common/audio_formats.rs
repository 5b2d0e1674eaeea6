//! The sound fixtures that this build can read.

/// WAV files of PCM or 32-bit float samples.
const PLAIN: [&str; 10] = [
    "cello.wav",
    "crow.wav",
    "f32.wav",
    "horse.wav",
    "long.wav",
    "s16.wav",
    "s24.wav",
    "s24_six.wav",
    "s32_odd_rate.wav",
    "u8.wav",
];

/// Whether this build can read the fixture `name`: plain WAV always, others with the feature `audio-formats`.
pub fn is_readable(name: &str) -> bool {
    cfg!(feature = "audio-formats") || PLAIN.contains(&name)
}
