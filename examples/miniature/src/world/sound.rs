//! Recordings and their random variations.

use std::io::Cursor;
use std::ops::Range;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::Waveform;

use super::{Split, World};

/// The sample rate of every recording and every variation, in Hz.
pub const SAMPLE_RATE: u32 = 16_000;

/// Loudness is measured over 20 ms.
const FRAME: usize = SAMPLE_RATE as usize / 50;

/// How long the ends of a piece of sound swell and fade: 5 ms.
const FADE: usize = SAMPLE_RATE as usize / 200;

/// A recording whose loudest 20 ms have less than this effective value is silent.
const SILENT: f32 = 1e-3;

/// Both ends are trimmed while they are quieter than this fraction of the loudest 20 ms.
const TRIM: f32 = 0.03;

/// A variation may begin where the recording is at least this loud, relative to its loudest 20 ms.
const AUDIBLE: f32 = 0.2;

/// In [`Recording::dense`] what is quieter than this fraction of the loudest 20 ms is a pause,
const PAUSED: f32 = 0.1;
/// of which so many frames are left at each end.
const LEFT_OF_PAUSE: usize = 5;

/// The effective value of a recording's audible parts, after normalisation, and its highest peak.
const LOUDNESS: f32 = 0.12;
const PEAK: f32 = 0.95;

const SPEED: Range<f32> = 0.87..1.15;
const OFFSET: Range<f32> = 0.0..1.0;
const GAIN_DB: Range<f32> = -10.0..4.0;
const PAUSE: Range<f32> = 0.0..0.6;
const SNR_DB: Range<f32> = 10.0..40.0;
const TILT: Range<f32> = 0.0..0.7;
const DELAY: Range<f32> = 0.015..0.22;
const ECHO: Range<f32> = 0.08..0.5;

/// The length of a piece that is repeated, in seconds, and how often an audible one is looked for.
const PIECE: Range<f32> = 0.75..2.5;
const PIECE_TRIES: usize = 8;

/// A recording: mono, 16 kHz, without silence at its ends, of even loudness.
pub struct Recording {
    samples: Vec<f32>,
    /// The positions at which audible frames begin, in samples.
    audible: Vec<usize>,
}

/// The parameters of a variation that depend on the split.
#[derive(Clone, PartialEq, Debug)]
pub struct Variation {
    /// Playback speed; pitch and duration follow.
    pub speed: f32,
    /// The start, as a fraction of the audible parts.
    pub offset: f32,
    /// The gain, in decibels.
    pub gain_db: f32,
    /// Whether the sound repeats; otherwise, silence follows.
    pub looped: bool,
    /// Silence before the sound, or between its repetitions, in seconds.
    pub pause: f32,
    /// Signal over noise, in decibels.
    pub snr_db: f32,
    /// Whether the noise falls with frequency, as pink noise does; otherwise it is white.
    pub pink: bool,
    /// How much of the high frequencies is removed, in 0..1.
    pub tilt: f32,
    /// A room: delays in seconds, and the gain of each.
    pub echoes: Vec<(f32, f32)>,
}

impl Variation {
    /// Draws a variation of `split`.
    pub fn draw(split: Split, rng: &mut ChaCha8Rng) -> Self {
        let num_echoes = if rng.random_bool(0.3) { 0 } else { rng.random_range(2..=5) };
        Self {
            speed: split.draw(SPEED, rng),
            offset: split.draw(OFFSET, rng),
            gain_db: split.draw(GAIN_DB, rng),
            looped: rng.random_bool(0.7),
            pause: split.draw(PAUSE, rng),
            snr_db: split.draw(SNR_DB, rng),
            pink: rng.random(),
            tilt: split.draw(TILT, rng),
            echoes: (0..num_echoes).map(|_| (split.draw(DELAY, rng), split.draw(ECHO, rng))).collect(),
        }
    }

    /// The split to which all parameters belong, if there is one.
    #[cfg(test)]
    pub fn split(&self) -> Option<Split> {
        let mut parts = vec![
            (self.speed, SPEED),
            (self.offset, OFFSET),
            (self.gain_db, GAIN_DB),
            (self.pause, PAUSE),
            (self.snr_db, SNR_DB),
            (self.tilt, TILT),
        ];
        parts.extend(self.echoes.iter().flat_map(|&(delay, gain)| [(delay, DELAY), (gain, ECHO)]));
        let splits: Vec<_> = parts.into_iter().map(|(value, range)| Split::of(value, range)).collect();
        splits.windows(2).all(|pair| pair[0] == pair[1]).then_some(splits[0]).flatten()
    }
}

impl Recording {
    /// Prepares `waveform`; `None` if it is silent.
    pub fn new(waveform: &Waveform) -> Result<Option<Self>> {
        let samples = waveform.resample(SAMPLE_RATE)?.into_samples();
        let mean = samples.iter().sum::<f32>() / samples.len() as f32;
        Ok(Self::normalized(samples.into_iter().map(|sample| sample - mean).collect()))
    }

    /// Trims the silence at both ends and evens the loudness; `None` for silence.
    fn normalized(mut samples: Vec<f32>) -> Option<Self> {
        let loudness: Vec<f32> = samples.chunks(FRAME).map(effective).collect();
        let loudest = loudness.iter().copied().fold(0.0, f32::max);
        if loudest < SILENT {
            return None;
        }
        let first = loudness.iter().position(|&value| value >= TRIM * loudest).unwrap_or(0);
        let last = loudness.iter().rposition(|&value| value >= TRIM * loudest).unwrap_or(loudness.len() - 1);
        samples.truncate((last + 1) * FRAME);
        samples.drain(..first * FRAME);
        let audible: Vec<usize> = loudness[first..=last]
            .iter()
            .enumerate()
            .filter(|&(_, &value)| value >= AUDIBLE * loudest)
            .map(|(frame, _)| frame * FRAME)
            .collect();
        let power = audible.iter().map(|&at| effective(&samples[at..samples.len().min(at + FRAME)]).powi(2));
        let effective = (power.sum::<f32>() / audible.len() as f32).sqrt();
        let peak = samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        let gain = (LOUDNESS / effective).min(PEAK / peak);
        for sample in &mut samples {
            *sample *= gain;
        }
        Some(Self { samples, audible })
    }

    /// The recording with its pauses shortened to 0.2 s and less.
    pub fn dense(&self) -> Option<Self> {
        let loudness: Vec<f32> = self.samples.chunks(FRAME).map(effective).collect();
        let loudest = loudness.iter().copied().fold(0.0, f32::max);
        let loud = |frame: &usize| loudness[*frame] >= PAUSED * loudest;
        let near = |frame: usize| {
            (frame.saturating_sub(LEFT_OF_PAUSE)..loudness.len().min(frame + LEFT_OF_PAUSE + 1)).any(|near| loud(&near))
        };
        let kept: Vec<usize> = (0..loudness.len()).filter(|&frame| near(frame)).collect();
        let mut samples = Vec::with_capacity(self.samples.len());
        for run in kept.chunk_by(|a, b| a + 1 == *b) {
            let (first, last) = (run[0] * FRAME, ((run[run.len() - 1] + 1) * FRAME).min(self.samples.len()));
            let mut piece = self.samples[first..last].to_vec();
            // No click where pieces meet.
            fade(&mut piece, FADE);
            samples.append(&mut piece);
        }
        Self::normalized(samples)
    }

    /// Mono, [`SAMPLE_RATE`], in [-1, 1].
    pub fn samples(&self) -> &[f32] {
        &self.samples
    }

    /// `length` samples of a variation; the noise is drawn from `rng`.
    pub fn varied(&self, variation: &Variation, length: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut sound = self.played(variation, length);
        reverberate(&mut sound, &variation.echoes);
        tilt(&mut sound, variation.tilt);
        add_noise(&mut sound, variation, rng);
        let gain = 10.0_f32.powf(variation.gain_db / 20.0);
        let peak = sound.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs())) * gain;
        // Loud sounds are attenuated rather than clipped.
        let gain = if peak > 1.0 { gain / peak } else { gain };
        for sample in &mut sound {
            *sample = (*sample * gain).clamp(-1.0, 1.0);
        }
        sound
    }

    /// The recording from the variation's offset on, repeated or followed by silence.
    fn played(&self, variation: &Variation, length: usize) -> Vec<f32> {
        let mut sound = vec![0.0; length];
        let pause = variation.pause * SAMPLE_RATE as f32;
        let at = (variation.offset * self.audible.len() as f32) as usize;
        let offset = self.audible[at.min(self.audible.len() - 1)] as f32;
        let samples = self.samples.len() as f32;
        // A sound that does not repeat may begin late, but not so late that most of a short sound is lost.
        let (mut position, mut next) = if variation.looped { (offset, 0.0) } else { (0.0, pause) };
        if !variation.looped && samples > length as f32 {
            position = offset.min(samples - length as f32 * 0.5);
        }
        while (next as usize) < length {
            let start = next as usize;
            let left = ((samples - 1.0 - position).max(0.0) / variation.speed) as usize + 1;
            let end = length.min(start + left);
            for (step, out) in sound[start..end].iter_mut().enumerate() {
                let place = position + step as f32 * variation.speed;
                let at = place as usize;
                let (here, after) = (self.samples[at], self.samples[(at + 1).min(self.samples.len() - 1)]);
                *out = here + (after - here) * (place - at as f32);
            }
            if !variation.looped {
                break;
            }
            (position, next) = (0.0, (start + left) as f32 + pause);
        }
        sound
    }
}

impl World {
    /// A variation of a recording of `class`: mono, 16 kHz, in [-1, 1], exactly as long as the configuration says.
    pub fn sound(&self, class: usize, split: Split, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let recordings = &self.classes[class].recordings;
        let recording = &recordings[rng.random_range(0..recordings.len())];
        recording.varied(&Variation::draw(split, rng), self.num_samples(), rng)
    }

    /// A sound for training: a variation, or half of the time a short piece of one, repeated. In films, that is all that is
    /// heard of a sound that has just begun.
    pub fn training_sound(&self, class: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let whole = self.sound(class, Split::Train, rng);
        if rng.random() { repeated_piece(&whole, rng) } else { whole }
    }
}

/// A piece of `sound` of [`PIECE`] seconds, repeated until it is as long as the sound: what a short window of a film sounds
/// like. The piece is not much quieter than the whole.
pub fn repeated_piece(sound: &[f32], rng: &mut ChaCha8Rng) -> Vec<f32> {
    let length = ((rng.random_range(PIECE) * SAMPLE_RATE as f32) as usize).min(sound.len());
    let quietest = 0.5 * effective(sound);
    let mut piece = sound;
    for _ in 0..PIECE_TRIES {
        piece = &sound[rng.random_range(0..=sound.len() - length)..][..length];
        if effective(piece) >= quietest {
            break;
        }
    }
    piece.iter().copied().cycle().take(sound.len()).collect()
}

/// √(mean of the squares).
pub fn effective(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32).sqrt()
}

/// Adds delayed, weaker copies.
fn reverberate(sound: &mut [f32], echoes: &[(f32, f32)]) {
    if echoes.is_empty() {
        return;
    }
    let dry = sound.to_vec();
    for &(delay, gain) in echoes {
        let delay = ((delay * SAMPLE_RATE as f32) as usize).min(sound.len());
        for (sample, early) in sound[delay..].iter_mut().zip(&dry) {
            *sample += gain * early;
        }
    }
}

/// Mixes the sound with itself after a low-pass filter of the first order (about 800 Hz).
fn tilt(sound: &mut [f32], amount: f32) {
    let mut low = 0.0;
    for sample in sound {
        low += 0.27 * (*sample - low);
        *sample += amount * (low - *sample);
    }
}

/// Lets the first and the last `length` samples swell and fade.
pub fn fade(sound: &mut [f32], length: usize) {
    let length = length.min(sound.len() / 2);
    for step in 0..length {
        let gain = (step as f32 + 0.5) / length as f32;
        sound[step] *= gain;
        let last = sound.len() - 1 - step;
        sound[last] *= gain;
    }
}

fn add_noise(sound: &mut [f32], variation: &Variation, rng: &mut ChaCha8Rng) {
    let noise = noise(sound.len(), variation.pink, rng);
    let gain = effective(sound) / effective(&noise) * 10.0_f32.powf(-variation.snr_db / 20.0);
    for (sample, noise) in sound.iter_mut().zip(noise) {
        *sample += gain * noise;
    }
}

/// `length` samples of white or of pink noise, of any loudness.
pub fn noise(length: usize, pink: bool, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut slow = [0.0_f32; 3];
    (0..length)
        .map(|_| {
            let bits: u32 = rng.random();
            // The difference of two uniform numbers: a cheap approximation of a normal distribution.
            let white = ((bits >> 16) as f32 - (bits & 0xffff) as f32) / 65536.0;
            if !pink {
                return white;
            }
            // Three low-pass filters, each at a quarter of the frequency of the one before: about -3 dB per octave.
            for (state, rate) in slow.iter_mut().zip([0.3, 0.075, 0.018]) {
                *state += rate * (white - *state);
            }
            0.2 * white + slow[0] + 2.0 * slow[1] + 4.0 * slow[2]
        })
        .collect()
}

/// Mono samples at [`SAMPLE_RATE`] as a 16-bit WAV file.
pub fn wav(samples: &[f32]) -> Result<Vec<u8>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in samples {
        writer.write_sample((sample * 32767.0).round() as i16)?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}
