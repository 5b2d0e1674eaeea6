//! Many pairs: each sound and each picture is encoded once, in batches, while the next ones are being decoded.
#![allow(clippy::print_stderr)] // command-line output

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use serde_json::{Value, json};
use soundsight::data::{Pair, PairList, Shard};
use soundsight::error::chain;
use soundsight::train::Collective;
use soundsight::{Embedding, Error, Heatmap, Localizer, Picture};

use super::decode::{Decoded, Group, Job, batches, decode};
use super::output::{Answer, OutputOptions};
use super::sound_json;
use super::view::View;
use crate::program::progress::progress_bar;

/// A sound or a picture in the form that the network needs, or the reason why it cannot be used.
type Known<T> = HashMap<PathBuf, Result<T, String>>;

/// Localizes every pair of a list or folder, or those of a shard of it. Pairs that cannot be read are skipped and listed at
/// the end.
///
/// The first process of `group` prints the answers of all, in the order of the list: what several processes print at once may
/// be torn in the middle of a line.
pub fn localize_pairs(
    localizer: &Localizer,
    list: &Path,
    shard: Shard,
    group: &dyn Collective,
    start: f64,
    tiles: Option<usize>,
    options: &OutputOptions,
) -> Result<()> {
    let list = if list.is_dir() { PairList::folder(list)? } else { PairList::csv(list)? };
    let batches = batches(&list);
    let own: Vec<_> = batches.iter().enumerate().filter(|(place, _)| shard.contains(*place)).map(|(_, b)| b).collect();
    let num_pairs: usize = own.iter().map(|batch| batch.len()).sum();
    // As many for every process, though some may have one batch less.
    let num_rounds = batches.len().div_ceil(shard.world);
    let bar = progress_bar(num_pairs, "{wide_bar} {pos}/{len} pairs, {eta} left");
    let mut state = State {
        localizer,
        tiles,
        options,
        digits: list.num_pairs().to_string().len(),
        sounds: HashMap::new(),
        pictures: HashMap::new(),
        failures: Vec::new(),
    };
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = sync_channel(1);
        let (batches, seconds) = (&batches, localizer.audio_seconds());
        scope.spawn(move || decode(batches, shard, start, seconds, &sender));
        for round in 0..num_rounds {
            let mut lines = String::new();
            if let Some(batch) = own.get(round) {
                state.encode(batch, receiver.recv().context("the pairs are no longer decoded")?)?;
                state.answer(batch)?.iter().for_each(|line| lines.extend([line, "\n"]));
                bar.inc(batch.len() as u64);
            }
            let lines = group.all_gather(lines.as_bytes())?.concat();
            if group.rank() == 0 {
                bar.suspend(|| std::io::stdout().write_all(&lines)).context("standard output: cannot write")?;
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let State { mut failures, .. } = state;
    failures.sort();
    for (number, reason) in &failures {
        eprintln!("pair {number}: {reason}");
    }
    match failures.len() {
        0 => {}
        failed if failed == num_pairs => bail!("none of {failed} pairs could be localized"),
        failed => eprintln!("{failed} of {num_pairs} pairs skipped"),
    }
    Ok(())
}

struct State<'a> {
    localizer: &'a Localizer,
    tiles: Option<usize>,
    options: &'a OutputOptions,
    /// The number of digits of the largest number: with leading zeros, files sort in the order of the list.
    digits: usize,
    /// All sounds so far: an embedding is small.
    sounds: Known<(Embedding, Value)>,
    /// The pictures of the current batch.
    pictures: Known<(Picture, View)>,
    /// The numbers of the pairs that are skipped, and why.
    failures: Vec<(usize, String)>,
}

impl State<'_> {
    /// Encodes the new sounds and pictures of a batch in parallel, and drops pictures that the batch does not use.
    fn encode(&mut self, batch: &[Job<'_>], decoded: Decoded) -> Result<()> {
        let is_used = |path: &PathBuf| batch.iter().any(|(_, pair)| pair.image == *path);
        self.pictures.retain(|path, _| is_used(path));
        let sounds: Vec<_> = decoded.sounds.into_iter().map(|group| usable(group, &mut self.sounds)).collect();
        let pictures: Vec<_> = decoded.pictures.into_iter().map(|group| usable(group, &mut self.pictures)).collect();
        let (embeddings, images) = rayon::join(
            || sounds.iter().map(|(_, sounds)| self.localizer.embed_audio_batch(sounds)).collect::<Result<Vec<_>, _>>(),
            || {
                pictures
                    .iter()
                    .map(|(_, group)| View::encode(self.localizer, group, self.tiles))
                    .collect::<Result<Vec<_>, _>>()
            },
        );
        for ((paths, waveforms), embeddings) in sounds.into_iter().zip(embeddings?) {
            for ((path, waveform), embedding) in paths.into_iter().zip(&waveforms).zip(embeddings) {
                let about = sound_json(&path, waveform);
                self.sounds.insert(path, Ok((embedding, about)));
            }
        }
        for ((paths, pictures), images) in pictures.into_iter().zip(images?) {
            let known = paths.into_iter().zip(pictures.into_iter().zip(images).map(Ok));
            self.pictures.extend(known.filter(|(path, _)| is_used(path)));
        }
        Ok(())
    }

    /// Answers a batch: writes the pictures, and returns the lines to print.
    fn answer(&mut self, batch: &[Job<'_>]) -> Result<Vec<String>> {
        let mut asked = Vec::new();
        for (number, pair) in batch {
            match (self.sounds.get(&pair.audio), self.pictures.get(&pair.image)) {
                (Some(Ok(sound)), Some(Ok(picture))) => asked.push((*number, pair, sound, picture)),
                (Some(Err(reason)), _) | (_, Some(Err(reason))) => self.failures.push((*number, reason.clone())),
                _ => bail!("pair {number} was never decoded"),
            }
        }
        let questions: Vec<_> = asked.iter().map(|(.., sound, picture)| (&sound.0, &picture.1)).collect();
        let answers: Vec<_> = asked
            .par_iter()
            .zip(self.heatmaps(&questions))
            .map(|((number, pair, sound, (picture, _)), heatmap)| match heatmap {
                Ok(heatmap) => self.write(*number, pair, &sound.1, picture, &heatmap).map(Ok),
                Err(error) => Ok(Err((*number, chain(&error)))),
            })
            .collect::<Result<_>>()?;
        let mut lines = Vec::new();
        for answer in answers {
            match answer {
                Ok(line) => lines.push(line),
                Err(failure) => self.failures.push(failure),
            }
        }
        Ok(lines)
    }

    /// Writes the pictures of one answer, and returns the line to print.
    fn write(&self, number: usize, pair: &Pair, sound: &Value, picture: &Picture, heatmap: &Heatmap) -> Result<String> {
        let stem = pair.image.file_stem().unwrap_or_default().to_string_lossy();
        // The number tells apart pictures that occur more than once, or have the same name in different folders.
        let name = format!("{number:0digits$}-{stem}", digits = self.digits);
        let answer = Answer::write(self.options, &name, picture, heatmap)?;
        if !self.options.json {
            return Ok(format!("{number} {} in {}: {}", pair.audio.display(), pair.image.display(), answer.line()));
        }
        let size = json!({"path": pair.image, "width": picture.width(), "height": picture.height()});
        let model = self.localizer.name();
        let about = json!({"pair": number, "model": model, "audio": sound, "image": size, "label": pair.label});
        Ok(answer.json(about).to_string())
    }

    /// Computes the heatmaps of a batch. A failure of one, possible in half precision, must not affect the others.
    fn heatmaps(&self, questions: &[(&Embedding, &View)]) -> Vec<Result<Heatmap, Error>> {
        match View::localize_batch(self.localizer, questions) {
            Ok(heatmaps) => heatmaps.into_iter().map(Ok).collect(),
            Err(_) => questions.iter().map(|(sound, view)| view.localize(self.localizer, sound)).collect(),
        }
    }
}

/// The paths and contents of the files that could be decoded; for the others, the reasons are added to `known`.
fn usable<M, T>(decoded: Group<M>, known: &mut Known<T>) -> (Vec<PathBuf>, Vec<M>) {
    let (mut paths, mut media) = (Vec::new(), Vec::new());
    for (path, result) in decoded {
        match result {
            Ok(medium) => {
                paths.push(path);
                media.push(medium);
            }
            Err(error) => {
                known.insert(path, Err(chain(&error)));
            }
        }
    }
    (paths, media)
}
