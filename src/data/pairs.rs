//! Lists of pairs of sounds and pictures.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::bad::BadPairs;
use super::random::{Purpose, stream};
use crate::error::{Error, Result};
use crate::image::is_picture_extension;

/// Common extensions of audio files and of videos with sound. The format itself is detected from the contents.
const SOUND_EXTENSIONS: [&str; 16] =
    ["aac", "aif", "aiff", "caf", "flac", "m4a", "m4v", "mka", "mkv", "mov", "mp3", "mp4", "oga", "ogg", "wav", "webm"];

/// A sound, the picture taken at the same time, and an optional label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The pair's name in messages and reports.
    pub id: String,
    /// The sound file.
    pub audio: PathBuf,
    /// The picture file.
    pub image: PathBuf,
    /// What makes the sound, if the list says so.
    pub label: Option<String>,
}

impl Pair {
    /// Checks that both files exist, without opening them.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file that does not exist or is a folder.
    pub fn exists(&self) -> Result<()> {
        for path in [&self.audio, &self.image] {
            let metadata = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
            if metadata.is_dir() {
                return Err(Error::io(path, "read")(std::io::ErrorKind::IsADirectory.into()));
            }
        }
        Ok(())
    }
}

/// A list of pairs, and the path that it was read from.
#[derive(Debug, Clone)]
pub struct PairList {
    origin: PathBuf,
    pairs: Vec<Pair>,
}

impl PairList {
    /// Reads the published layout: `root/audio/<id>.*`, `root/frames/<id>.*`, and a split, which is a CSV file of
    /// `id,label` (or only `id`) with or without that header. Files may have any extension; if several have the same
    /// id, the alphabetically first one is used.
    ///
    /// An id that is listed twice counts once, as in the published loader. An id without a sound or a frame stays in
    /// the list, with a path that ends in `<id>.*`, so that [`PairList::check`] counts it.
    ///
    /// # Errors
    /// - [`Error::Io`] when the split or one of the two folders cannot be read.
    /// - [`Error::Format`] when the split is not CSV, has a column other than `id` and `label`, or is empty.
    pub fn published(root: &Path, split: &Path) -> Result<Self> {
        let sounds = files_by_stem(&root.join("audio"))?;
        let frames = files_by_stem(&root.join("frames"))?;
        let find = |files: &BTreeMap<String, PathBuf>, folder: &str, id: &str| match files.get(id) {
            Some(path) => path.clone(),
            None => root.join(folder).join(format!("{id}.*")),
        };
        let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
        for (row, record) in read_records(split)?.iter().enumerate() {
            let id = record.get(0).unwrap_or_default();
            if row == 0 && id == "id" {
                Columns::find(split, record, &["id"], &["label"])?;
                continue;
            }
            if id.is_empty() || record.len() > 2 {
                let found = format!("{} in line {}", quoted(record), row + 1);
                return Err(Error::format(split, "split", "lines of `id,label`", found));
            }
            if !seen.insert(id.to_string()) {
                continue;
            }
            pairs.push(Pair {
                id: id.to_string(),
                audio: find(&sounds, "audio", id),
                image: find(&frames, "frames", id),
                label: label(record.get(1)),
            });
        }
        Self::new(split, pairs)
    }

    /// Reads a CSV file with the header `audio,image` or `audio,image,label` (in any order). Relative paths are
    /// resolved against the folder of the CSV file. The id of a pair is its `audio` entry as written.
    ///
    /// # Errors
    /// - [`Error::Io`] when the file cannot be read.
    /// - [`Error::Format`] when it is not CSV, a column is missing, unknown or repeated, an entry is empty, or there
    ///   are no pairs.
    pub fn csv(path: &Path) -> Result<Self> {
        let records = read_records(path)?;
        let Some((header, rows)) = records.split_first() else {
            return Err(Error::format(path, "list of pairs", "the header `audio,image[,label]`", "an empty file"));
        };
        let columns = Columns::find(path, header, &["audio", "image"], &["label"])?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut pairs = Vec::with_capacity(rows.len());
        for (row, record) in rows.iter().enumerate() {
            let entry = |name| columns.entry(record, name).filter(|entry| !entry.is_empty());
            let (Some(audio), Some(image)) = (entry("audio"), entry("image")) else {
                let found = format!("{} in line {}", quoted(record), row + 2);
                return Err(Error::format(path, "list of pairs", "a sound and a picture in each line", found));
            };
            pairs.push(Pair {
                id: audio.to_string(),
                audio: folder.join(audio),
                image: folder.join(image),
                label: label(entry("label")),
            });
        }
        Self::new(path, pairs)
    }

    /// Pairs the sounds and pictures in `folder` whose names differ only in their extensions, such as `dog.wav` and
    /// `dog.jpg`. Pairs are sorted by the shared name, which becomes their id. Files without a partner are ignored; if
    /// several sounds or pictures have the same name, the alphabetically first one is used.
    ///
    /// # Errors
    /// - [`Error::Io`] when the folder cannot be read.
    /// - [`Error::Format`] when it does not contain any pair.
    pub fn folder(folder: &Path) -> Result<Self> {
        let (mut sounds, mut pictures) = (BTreeMap::new(), BTreeMap::new());
        for path in sorted_files(folder)? {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_string);
            let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_lowercase);
            let (Some(stem), Some(extension)) = (stem, extension) else { continue };
            let files = if SOUND_EXTENSIONS.contains(&extension.as_str()) {
                &mut sounds
            } else if is_picture_extension(&extension) {
                &mut pictures
            } else {
                continue;
            };
            files.entry(stem).or_insert(path);
        }
        let pairs = sounds.into_iter().filter_map(|(id, audio)| {
            let image = pictures.remove(&id)?;
            Some(Pair { id, audio, image, label: None })
        });
        Self::new(folder, pairs.collect())
    }

    /// Creates a list from `pairs`; `origin` identifies it in messages.
    ///
    /// # Errors
    /// [`Error::Format`] when `pairs` is empty.
    pub fn new(origin: &Path, pairs: Vec<Pair>) -> Result<Self> {
        if pairs.is_empty() {
            return Err(Error::format(origin, "list of pairs", "at least one pair", "none"));
        }
        Ok(Self { origin: origin.to_path_buf(), pairs })
    }

    /// The pairs, in the order of the list.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The number of pairs, at least one.
    pub fn num_pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Checks that the list has at least two pairs, which a contrastive loss needs.
    ///
    /// # Errors
    /// [`Error::Format`] when there are fewer than two pairs.
    pub fn require_negatives(&self) -> Result<()> {
        match self.pairs.len() {
            0 | 1 => {
                let expected = "at least two pairs (a contrastive loss compares a pair with others)";
                Err(Error::format(&self.origin, "list of pairs", expected, self.pairs.len()))
            }
            _ => Ok(()),
        }
    }

    /// Holds out pairs for validation: all pairs of ⌈`fraction` · n⌉ of the n distinct sounds (at least two), chosen by
    /// `seed`. No sound of a held-out pair is used for training. Returns the remaining and the held-out pairs, each in
    /// the order of the list.
    ///
    /// # Errors
    /// - [`Error::Argument`] unless 0 < `fraction` < 1.
    /// - [`Error::Format`] when no pairs would remain.
    pub fn hold_out(self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        if !(fraction > 0.0 && fraction < 1.0) {
            return Err(Error::argument("validation fraction", "a number between 0 and 1", fraction));
        }
        let mut sounds: Vec<&Path> = self.pairs.iter().map(|pair| pair.audio.as_path()).collect();
        sounds.sort();
        sounds.dedup();
        sounds.shuffle(&mut stream(seed, Purpose::HoldOut, 0, 0));
        let count = ((fraction * sounds.len() as f64).ceil() as usize).max(2);
        let held_out: HashSet<PathBuf> = sounds.into_iter().take(count).map(Path::to_path_buf).collect();
        let (validation, training) = self.pairs.into_iter().partition(|pair| held_out.contains(&pair.audio));
        Ok((Self::new(&self.origin, training)?, Self::new(&self.origin, validation)?))
    }

    /// Runs `probe` on every pair in parallel, records the pairs for which it fails in `bad`, and returns the list
    /// without them. [`Pair::exists`] and [`MediaReader::probe`](super::MediaReader::probe) are suitable probes.
    ///
    /// # Errors
    /// - [`Error::TooManyBadPairs`] when more pairs failed than `bad` tolerates.
    /// - [`Error::Format`] when no pair is left.
    /// - [`Error::Io`] when `bad` cannot be written.
    pub fn check(self, probe: impl Fn(&Pair) -> Result<()> + Sync + Send, bad: &BadPairs) -> Result<Self> {
        let outcomes: Vec<Result<()>> = self.pairs.par_iter().map(probe).collect();
        let mut good = Vec::with_capacity(self.pairs.len());
        for (pair, outcome) in self.pairs.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => good.push(pair),
                Err(reason) => bad.record(&pair.id, &reason)?,
            }
        }
        bad.verdict()?;
        Self::new(&self.origin, good)
    }
}

/// The positions of the columns of a CSV file.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    /// Finds all `required` and any `optional` columns in `header`. Other columns are an error.
    fn find(path: &Path, header: &csv::StringRecord, required: &[&str], optional: &[&str]) -> Result<Self> {
        let expected = || {
            let optional: String = optional.iter().map(|name| format!("[,{name}]")).collect();
            format!("the columns `{}{optional}`", required.join(","))
        };
        let mut found = BTreeMap::new();
        for (index, name) in header.iter().enumerate() {
            if !required.contains(&name) && !optional.contains(&name) {
                return Err(Error::format(path, "list of pairs", expected(), format!("an unknown column `{name}`")));
            }
            if found.insert(name.to_string(), index).is_some() {
                return Err(Error::format(path, "list of pairs", expected(), format!("`{name}` twice")));
            }
        }
        match required.iter().find(|name| !found.contains_key(**name)) {
            Some(missing) => Err(Error::format(path, "list of pairs", expected(), format!("no column `{missing}`"))),
            None => Ok(Self(found)),
        }
    }

    fn entry<'r>(&self, record: &'r csv::StringRecord, name: &str) -> Option<&'r str> {
        self.0.get(name).and_then(|index| record.get(*index))
    }
}

/// Reads all records of a CSV file, including the header. Entries are trimmed, and blank lines skipped.
fn read_records(path: &Path) -> Result<Vec<csv::StringRecord>> {
    let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
    // A byte order mark, as written by some spreadsheets, would become part of the first column's name.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text)
        .into_records()
        .collect::<Result<_, _>>()
        .map_err(|e| Error::format(path, "list of pairs", "comma-separated values in UTF-8", e))
}

fn quoted(record: &csv::StringRecord) -> String {
    format!("`{}`", record.iter().collect::<Vec<_>>().join(","))
}

fn label(entry: Option<&str>) -> Option<String> {
    entry.filter(|text| !text.is_empty()).map(str::to_string)
}

/// The files of `folder` by their names without the last extension.
fn files_by_stem(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for path in sorted_files(folder)? {
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            files.entry(stem.to_string()).or_insert(path);
        }
    }
    Ok(files)
}

/// The paths in `folder`, in alphabetical order.
fn sorted_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .map_err(Error::io(folder, "read"))?;
    paths.sort();
    Ok(paths)
}
