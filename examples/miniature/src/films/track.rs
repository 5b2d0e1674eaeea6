//! The sound of a film.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::world::{SAMPLE_RATE, Split, Variation, World, effective, fade, noise};

/// How long a sound swells and fades: 15 ms.
const FADE: usize = SAMPLE_RATE as usize * 15 / 1000;

/// No pause between repetitions is longer, in seconds: a quarter of what variations have, which keeps two of eight cells.
const PAUSE: f32 = 0.15;

/// Of two sounds at once, by how much one may be louder, in decibels.
const LOUDER_DB: Range<f32> = -3.0..3.0;

/// How far the noise that is always there is below the quietest sound, in decibels, and its least effective value: two
/// steps of 16 bits.
const FLOOR_DB: Range<f32> = 34.0..44.0;
const LEAST_FLOOR: f32 = 6e-5;

/// The highest peak.
const PEAK: f32 = 0.98;

/// A sound track of `length` samples, in which the `classes` of each part sound: mono, 16 kHz, in [-1, 1].
pub fn draw(
    world: &World,
    split: Split,
    parts: &[(Range<usize>, Vec<usize>)],
    length: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let mut track = vec![0.0; length];
    let mut quietest = f32::INFINITY;
    for (range, classes) in parts {
        let mut first = None;
        for &class in classes {
            let mut sound = audible(world, class, split, range.len(), rng);
            let loudness = *first.get_or_insert(effective(&sound));
            if classes.len() > 1 {
                let gain = loudness / effective(&sound) * from_decibels(rng.random_range(LOUDER_DB) / 2.0);
                sound.iter_mut().for_each(|sample| *sample *= gain);
            }
            fade(&mut sound, FADE);
            quietest = quietest.min(effective(&sound));
            for (sample, sound) in track[range.clone()].iter_mut().zip(sound) {
                *sample += sound;
            }
        }
    }
    let floor = noise(length, rng.random(), rng);
    let wanted = (quietest.min(1.0) * from_decibels(-rng.random_range(FLOOR_DB))).max(LEAST_FLOOR);
    let gain = wanted / effective(&floor);
    for (sample, noise) in track.iter_mut().zip(floor) {
        *sample += gain * noise;
    }
    let peak = track.iter().fold(PEAK, |peak, sample| sample.abs().max(peak));
    track.iter_mut().for_each(|sample| *sample *= PEAK / peak);
    track
}

/// A variation that begins at once and goes on to the end, without long pauses.
fn audible(world: &World, class: usize, split: Split, length: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let recordings = &world.classes[class].recordings;
    let recording = &recordings[rng.random_range(0..recordings.len())];
    let drawn = Variation::draw(split, rng);
    let variation = Variation { looped: true, pause: drawn.pause % PAUSE, ..drawn };
    recording.dense().as_ref().unwrap_or(recording).varied(&variation, length, rng)
}

fn from_decibels(decibels: f32) -> f32 {
    10.0_f32.powf(decibels / 20.0)
}
