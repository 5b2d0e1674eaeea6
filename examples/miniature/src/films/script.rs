//! When what sounds.

use std::ops::Range;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::world::SAMPLE_RATE;

/// The length of an event, in seconds.
const LENGTH: Range<f64> = 1.5..4.0;
/// The same of a silence.
const SILENCE: Range<f64> = 1.0..2.5;

/// Around so many seconds of film there is one event,
const PER_EVENT: f64 = 2.5;
/// and around so many one silence; perhaps also one sound from outside the picture, and both things at once.
const ROUND: f64 = 14.0;

/// Two changes of source in a row need three events.
const TURNS: usize = 3;

/// Events begin and end at multiples of this many samples (10 ms).
const GRID: usize = SAMPLE_RATE as usize / 100;

/// How near a cut may come to a change of the sound, in seconds.
const FROM_CHANGE: f64 = 0.4;

/// The shortest shot that is tried for, in seconds, and the shortest for which there are three.
const LONG_SHOT: f64 = 3.0;
const SHORT_SHOT: f64 = 1.5;
/// How often, before shorter shots are allowed.
const TRIES: usize = 50;

/// What sounds during an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Voice {
    Silence,
    /// The first or the second thing of the shot that the event begins in.
    Thing(usize),
    /// Both things of that shot.
    Both,
    /// Something that the film never shows.
    Outside,
}

/// A part of the sound track; begin and end in samples.
pub struct Event {
    pub range: Range<usize>,
    pub voice: Voice,
    /// Whether there must be no cut in it.
    uncut: bool,
}

/// The events of a film of `seconds`, one after the other, and where it is cut (in samples) when it is `cut`.
pub fn draw(seconds: f64, cut: bool, rng: &mut ChaCha8Rng) -> (Vec<Event>, Vec<usize>) {
    let voices = voices(seconds, rng);
    let limits: Vec<Range<f64>> =
        voices.iter().map(|(voice, _)| if *voice == Voice::Silence { SILENCE } else { LENGTH }).collect();
    let lengths = lengths(&limits, seconds, rng);
    let mut end = 0.0;
    let mut events = Vec::with_capacity(voices.len());
    for ((voice, uncut), length) in voices.into_iter().zip(lengths) {
        let on_grid = |time: f64| (time * f64::from(SAMPLE_RATE) / GRID as f64).round() as usize * GRID;
        let start = end;
        end += length;
        events.push(Event { range: on_grid(start)..on_grid(end), voice, uncut });
    }
    if let Some(last) = events.last_mut() {
        last.range.end = (seconds * f64::from(SAMPLE_RATE)).round() as usize;
    }
    let cuts = if cut { cuts(&events, rng) } else { Vec::new() };
    (events, cuts)
}

/// What sounds, in order, and whether there must be no cut meanwhile.
fn voices(seconds: f64, rng: &mut ChaCha8Rng) -> Vec<(Voice, bool)> {
    let mut others = Vec::new();
    for _ in 0..((seconds / ROUND).round() as usize).max(1) {
        others.push(Voice::Silence);
        others.extend(rng.random::<bool>().then_some(Voice::Outside));
        others.extend(rng.random::<bool>().then_some(Voice::Both));
    }
    others.shuffle(rng);
    // The things take turns in the gaps between the others; in one of the gaps often enough.
    let mut turns = vec![0; others.len() + 1];
    let most = rng.random_range(0..turns.len());
    turns[most] = TURNS;
    let wanted = (seconds / PER_EVENT).round() as usize;
    for _ in others.len() + TURNS..wanted {
        let gap = rng.random_range(0..turns.len());
        turns[gap] += 1;
    }
    let mut voices = Vec::new();
    for (gap, &turns) in turns.iter().enumerate() {
        let first = rng.random_range(0..2);
        // A cut before the second change would take one of the two things away.
        voices.extend((0..turns).map(|turn| (Voice::Thing((first + turn) % 2), gap == most && turn + 1 < TURNS)));
        voices.extend(others.get(gap).map(|&voice| (voice, voice == Voice::Both)));
    }
    voices
}

/// A length within each of `limits`, `total` together.
fn lengths(limits: &[Range<f64>], total: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let shares: Vec<f64> = limits.iter().map(|_| rng.random()).collect();
    let room = |limits: &Range<f64>| limits.end - limits.start;
    let left = total - limits.iter().map(|limits| limits.start).sum::<f64>();
    let all: f64 = limits.iter().map(room).sum();
    let drawn: f64 = limits.iter().zip(&shares).map(|(limits, share)| share * room(limits)).sum();
    // Either what is used of the room or what is left of it becomes smaller, so that neither exceeds the room.
    let fitted = |share: f64| {
        if drawn >= left { share * left / drawn } else { 1.0 - (1.0 - share) * (all - left) / (all - drawn) }
    };
    limits.iter().zip(shares).map(|(limits, share)| limits.start + fitted(share) * room(limits)).collect()
}

/// One or two cuts, in samples; they do not follow the changes of the sound.
fn cuts(events: &[Event], rng: &mut ChaCha8Rng) -> Vec<usize> {
    let samples = |seconds: f64| (seconds * f64::from(SAMPLE_RATE)) as usize;
    let margin = samples(FROM_CHANGE);
    let possible: Vec<usize> = events
        .iter()
        .filter(|event| !event.uncut)
        .flat_map(|event| (event.range.start + margin..event.range.end.saturating_sub(margin)).step_by(GRID))
        .collect();
    let length = events.last().map_or(0, |event| event.range.end);
    let mut number = rng.random_range(1..=2);
    let mut shortest = LONG_SHOT;
    // This ends: the last of three turns may be cut, is long enough for one cut, and has two turns before it.
    loop {
        for _ in 0..TRIES {
            let mut cuts: Vec<usize> = (0..number).map(|_| possible[rng.random_range(0..possible.len())]).collect();
            cuts.sort_unstable();
            let ends = cuts.iter().chain([&length]);
            if ends.zip([&0].into_iter().chain(&cuts)).all(|(end, start)| end - start >= samples(shortest)) {
                return cuts;
            }
        }
        shortest *= 0.8;
        if shortest < SHORT_SHOT {
            number = 1;
        }
    }
}
