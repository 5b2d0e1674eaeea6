//! The pairs of a list in the order in which they are computed, and their files, decoded ahead.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use soundsight::data::{Pair, PairList};
use soundsight::{Picture, Result, Waveform};

/// Number of pairs that are computed together.
const BATCH: usize = 8;

/// A pair and its number in the list, counted from 1.
pub type Job<'a> = (usize, &'a Pair);

/// All pairs in batches, in the order of the list except that pairs of the same picture are adjacent. Each picture is
/// thus decoded and encoded only once, and need not be kept for long.
pub fn batches(list: &PairList) -> Vec<Vec<Job<'_>>> {
    let mut jobs: Vec<Job<'_>> = (1..).zip(list.pairs()).collect();
    let mut first = HashMap::new();
    for (number, pair) in &jobs {
        first.entry(&pair.image).or_insert(*number);
    }
    jobs.sort_by_key(|(number, pair)| (first[&pair.image], *number));
    jobs.chunks(BATCH).map(<[Job<'_>]>::to_vec).collect()
}

/// The files that a batch needs and that no earlier batch contains, so that each file of the list is decoded only once.
pub struct Decoded {
    pub sounds: Vec<(PathBuf, Result<Waveform>)>,
    pub pictures: Vec<(PathBuf, Result<Picture>)>,
}

/// Decodes the files batch by batch, with `seconds` seconds of each sound from `start` on. Blocks while the receiver is
/// busy, and returns when it is dropped.
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
