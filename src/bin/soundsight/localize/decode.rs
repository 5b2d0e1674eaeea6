//! The pairs of a list in the order in which they are computed, and their files, decoded ahead.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use soundsight::data::{Pair, PairList, Shard};
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

/// Files that are encoded together: those that occur in one batch for the first time.
///
/// What a file is encoded together with affects the last bits of the result. In a shard it is therefore encoded together
/// with the same files as in the whole, even if this shard needs only one of them.
pub type Group<T> = Vec<(PathBuf, Result<T>)>;

/// The files that a batch of a shard needs and that are not known from its earlier batches.
pub struct Decoded {
    pub sounds: Vec<Group<Waveform>>,
    pub pictures: Vec<Group<Picture>>,
}

/// Decodes the files of a shard batch by batch, with `seconds` seconds of each sound from `start` on. Blocks while the
/// receiver is busy, and returns when it is dropped.
pub fn decode(batches: &[Vec<Job<'_>>], shard: Shard, start: f64, seconds: f64, sender: &SyncSender<Decoded>) {
    let sounds = groups(batches, |pair| &pair.audio);
    let pictures = groups(batches, |pair| &pair.image);
    let (mut heard, mut seen) = (HashSet::new(), HashSet::new());
    for (_, batch) in batches.iter().enumerate().filter(|(place, _)| shard.contains(*place)) {
        let open_sound = |path: &PathBuf| Waveform::open_window(path, start, seconds);
        let decoded = Decoded {
            sounds: missing(batch, &sounds, |pair| &pair.audio, &mut heard, open_sound),
            pictures: missing(batch, &pictures, |pair| &pair.image, &mut seen, |path| Picture::open(path)),
        };
        // The receiver keeps no more pictures than those of the batch.
        seen.retain(|path| batch.iter().any(|(_, pair)| pair.image == **path));
        if sender.send(decoded).is_err() {
            return;
        }
    }
}

/// For each file the files of its group.
struct Groups<'a> {
    files: Vec<Vec<&'a PathBuf>>,
    /// The group of each file.
    group: HashMap<&'a PathBuf, usize>,
}

fn groups<'a>(batches: &[Vec<Job<'a>>], file: impl Fn(&'a Pair) -> &'a PathBuf) -> Groups<'a> {
    let mut groups = Groups { files: vec![Vec::new(); batches.len()], group: HashMap::new() };
    for (place, batch) in batches.iter().enumerate() {
        for (_, pair) in batch {
            groups.group.entry(file(pair)).or_insert_with(|| {
                groups.files[place].push(file(pair));
                place
            });
        }
    }
    groups
}

/// Decodes the groups of the files of `batch` that are not in `known`, and adds them to it.
fn missing<'a, T>(
    batch: &[Job<'a>],
    groups: &Groups<'a>,
    file: impl Fn(&'a Pair) -> &'a PathBuf,
    known: &mut HashSet<&'a PathBuf>,
    open: impl Fn(&PathBuf) -> Result<T>,
) -> Vec<Group<T>> {
    let mut decoded = Vec::new();
    for (_, pair) in batch {
        if known.contains(file(pair)) {
            continue;
        }
        let files = &groups.files[groups.group[file(pair)]];
        known.extend(files);
        decoded.push(files.iter().map(|path| ((*path).clone(), open(path))).collect());
    }
    decoded
}
