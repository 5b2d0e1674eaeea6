//! Disturbances of sounds.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::world::{SAMPLE_RATE, effective};

/// A sound begins where it first reaches this fraction of its peak.
const ONSET: f32 = 0.1;

#[derive(Clone, Copy)]
pub enum Disturbance {
    Nothing,
    /// White noise, this many decibels below the sound.
    Noise(f32),
    /// Played faster or slower, by semitones; a missing end is filled with silence.
    Pitch(f32),
    /// Louder or quieter, in decibels.
    Gain(f32),
    /// Clipped at this fraction of the peak.
    Clipped(f32),
    /// This many seconds from the onset, then silence.
    Short(f32),
}

impl Disturbance {
    pub const ALL: [Self; 13] = [
        Self::Nothing,
        Self::Noise(20.0),
        Self::Noise(10.0),
        Self::Noise(0.0),
        Self::Pitch(2.0),
        Self::Pitch(-2.0),
        Self::Gain(12.0),
        Self::Gain(-12.0),
        Self::Clipped(0.25),
        Self::Clipped(0.05),
        Self::Short(2.0),
        Self::Short(1.0),
        Self::Short(0.5),
    ];

    /// The name for tables, and a short name for plots.
    pub fn names(self) -> [String; 2] {
        match self {
            Self::Nothing => ["as it is".into(), "clean".into()],
            Self::Noise(snr) => [format!("white noise, {snr} dB below"), format!("{snr} dB")],
            Self::Pitch(steps) => [format!("pitch {steps:+} semitones (speed)"), format!("{steps:+} st")],
            Self::Gain(db) => [format!("gain {db:+} dB"), format!("{db:+}dB")],
            Self::Clipped(share) => {
                [format!("clipped at {share} of the peak"), format!("clip {share}").replace("0.", ".")]
            }
            Self::Short(seconds) => [format!("only {seconds} s"), format!("{seconds} s")],
        }
    }

    /// The disturbed sound.
    pub fn apply(self, sound: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let peak = sound.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        match self {
            Self::Nothing => sound.to_vec(),
            Self::Noise(snr) => {
                let noise = white(sound.len(), rng);
                let gain = effective(sound) / effective(&noise) * 10f32.powf(-snr / 20.0);
                sound.iter().zip(noise).map(|(sample, noise)| sample + gain * noise).collect()
            }
            Self::Pitch(steps) => {
                let speed = 2f32.powf(steps / 12.0);
                let sample = |at: usize| {
                    let place = at as f32 * speed;
                    let before = place as usize;
                    let value = |at: usize| sound.get(at).copied().unwrap_or(0.0);
                    value(before) + (value(before + 1) - value(before)) * (place - before as f32)
                };
                (0..sound.len()).map(sample).collect()
            }
            Self::Gain(db) => sound.iter().map(|sample| sample * 10f32.powf(db / 20.0)).collect(),
            Self::Clipped(share) => sound.iter().map(|sample| sample.clamp(-share * peak, share * peak)).collect(),
            Self::Short(seconds) => {
                let onset = sound.iter().position(|sample| sample.abs() >= ONSET * peak).unwrap_or(0);
                let rest = &sound[onset..];
                rest[..rest.len().min((seconds * SAMPLE_RATE as f32) as usize)].to_vec()
            }
        }
    }
}

/// White noise in [-1, 1].
pub fn white(length: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..length).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Two sounds mixed at equal loudness.
pub fn mixed(first: &[f32], second: &[f32]) -> Vec<f32> {
    let gain = effective(first) / effective(second).max(f32::MIN_POSITIVE);
    first.iter().zip(second).map(|(a, b)| (a + gain * b) / 2.0).collect()
}
