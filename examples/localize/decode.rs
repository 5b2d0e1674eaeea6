//! The pairs of a list in the order of work, and their files decoded ahead of it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use soundsight::data::{Pair, PairList};
use soundsight::{Picture, Result, Waveform};

/// Pairs that are computed at once.
const BATCH: usize = 8;

/// A pair and its number in the list, from 1.
pub type Job<'a> = (usize, &'a Pair);

/// All pairs in batches. Those of one picture come together, in the order of the list otherwise, so that a picture is
/// decoded and encoded once and never held for long.
pub fn batches(list: &PairList) -> Vec<Vec<Job<'_>>> {
    let mut jobs: Vec<Job<'_>> = (1..).zip(list.pairs()).collect();
    let mut first = HashMap::new();
    for (number, pair) in &jobs {
        first.entry(&pair.image).or_insert(*number);
    }
    jobs.sort_by_key(|(number, pair)| (first[&pair.image], *number));
    jobs.chunks(BATCH).map(<[Job<'_>]>::to_vec).collect()
}

/// What a batch needs and the batches before it have not brought: every sound of the list comes once, and every picture.
pub struct Decoded {
    pub sounds: Vec<(PathBuf, Result<Waveform>)>,
    pub pictures: Vec<(PathBuf, Result<Picture>)>,
}

/// Decodes for one batch after the other, the seconds of each sound from `start` on; blocks while the receiver is busy
/// and ends when it is gone.
pub fn decode(batches: &[Vec<Job<'_>>], start: f64, seconds: f64, sender: &SyncSender<Decoded>) {
    let (mut heard, mut seen) = (HashSet::new(), HashSet::new());
    for batch in batches {
        let mut decoded = Decoded { sounds: Vec::new(), pictures: Vec::new() };
        for (_, pair) in batch {
            if heard.insert(&pair.audio) {
                let sound = Waveform::open_window(&pair.audio, start, seconds);
                decoded.sounds.push((pair.audio.clone(), sound));
            }
            if seen.insert(&pair.image) {
                decoded.pictures.push((pair.image.clone(), Picture::open(&pair.image)));
            }
        }
        if sender.send(decoded).is_err() {
            return;
        }
    }
}
