//! What was prepared: the lists, the flaws, the contact sheet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::flaw::FlawKind;
use super::plan::{Plan, Wanted};
use super::recipe::Recipe;
use super::record::Record;
use super::sheet::{MAX_SHOWN, Shown, write_sheet};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::image::Picture;

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The number of samples that were wanted.
    pub wanted: usize,
    /// The number of samples that can be used.
    pub used: usize,
    /// The number of pictures.
    pub pictures: usize,
    /// The length of all sounds together, in seconds.
    pub seconds: f64,
    /// The lengths of the shortest sound, of the one in the middle and of the longest, in seconds.
    pub lengths: Option<[f64; 3]>,
    /// The number of flaws of each kind, those that are tolerated included.
    pub flaws: BTreeMap<FlawKind, usize>,
    /// The number of flawed samples that are used nevertheless.
    pub tolerated: usize,
    /// The number of films that the list does not name.
    pub unlisted: usize,
    /// The number of files that are no films.
    pub ignored: usize,
    /// The number of samples in each split, by the name of its CSV file.
    pub splits: BTreeMap<String, usize>,
}

/// The file names.
const FLAWS: &str = "flaws.csv";
const SHEET: &str = "contact.png";
const SUMMARY: &str = "summary.json";

impl Summary {
    /// The CSV files that list the samples, in the folder `out`.
    pub fn lists(&self, out: &Path) -> Vec<PathBuf> {
        self.splits.keys().map(|split| out.join(format!("{split}.csv"))).collect()
    }

    /// Writes everything that is about all films. `records` are those of the plan's samples, in its order.
    pub(super) fn write(out: &Path, recipe: &Recipe, plan: &Plan, records: &[Record], ignored: usize) -> Result<Self> {
        let samples: Vec<(&Wanted, &Record)> = plan.wanted.iter().zip(records).collect();
        let used: Vec<(&Wanted, &Record)> = samples.iter().filter(|(_, record)| record.used).copied().collect();
        let mut splits: BTreeMap<&str, Vec<(&Wanted, &Record)>> = BTreeMap::new();
        for sample in &samples {
            splits.entry(&sample.0.split).or_default().extend(sample.1.used.then_some(*sample));
        }
        for (split, samples) in &splits {
            write_list(&out.join(format!("{split}.csv")), recipe, samples)?;
        }
        let flawed: Vec<&Record> =
            records.iter().chain(&plan.left_out).filter(|record| record.flaw.is_some()).collect();
        write_flaws(&out.join(FLAWS), &flawed)?;
        write_contact_sheet(out, recipe, &used)?;

        let mut flaws = BTreeMap::new();
        for flaw in flawed.iter().filter_map(|record| record.flaw.as_ref()) {
            *flaws.entry(flaw.kind).or_insert(0) += 1;
        }
        let mut lengths: Vec<f64> = used.iter().map(|(_, record)| record.seconds).collect();
        lengths.sort_by(f64::total_cmp);
        let summary = Self {
            wanted: samples.len(),
            used: used.len(),
            pictures: used.iter().map(|(_, record)| record.pictures).sum(),
            seconds: lengths.iter().sum(),
            lengths: lengths.first().zip(lengths.last()).map(|(a, b)| [*a, lengths[lengths.len() / 2], *b]),
            flaws,
            tolerated: used.iter().filter(|(_, record)| record.flaw.is_some()).count(),
            unlisted: plan.unlisted,
            ignored,
            splits: splits.iter().map(|(split, samples)| ((*split).to_owned(), samples.len())).collect(),
        };
        let path = out.join(SUMMARY);
        write_atomically(&path, |writer| {
            serde_json::to_writer_pretty(writer, &summary).map_err(|e| Error::io(&path, "write")(e.into()))
        })?;
        Ok(summary)
    }
}

fn write_csv(path: &Path, rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    write_atomically(path, |writer| {
        let mut csv = csv::Writer::from_writer(writer);
        let failed = |e: csv::Error| Error::io(path, "write")(e.into());
        for row in rows {
            csv.write_record(&row).map_err(failed)?;
        }
        csv.flush().map_err(Error::io(path, "write"))
    })
}

/// Writes the list of a split: `id,label`, or a line for each picture with the paths of its sound and of itself.
fn write_list(path: &Path, recipe: &Recipe, samples: &[(&Wanted, &Record)]) -> Result<()> {
    let header = match recipe.pictures.is_single() {
        true => vec!["id", "label"],
        false => vec!["audio", "image", "label"],
    };
    let header = header.into_iter().map(String::from).collect();
    let rows = samples.iter().flat_map(|(wanted, record)| {
        let label = wanted.label.clone().unwrap_or_default();
        match recipe.pictures.is_single() {
            true => vec![vec![wanted.id.clone(), label]],
            false => {
                let sound = recipe.sound_name(&wanted.id);
                let names = recipe.picture_names(&wanted.id, record.pictures);
                names.into_iter().map(|name| vec![sound.clone(), name, label.clone()]).collect()
            }
        }
    });
    write_csv(path, std::iter::once(header).chain(rows))
}

fn write_flaws(path: &Path, flawed: &[&Record]) -> Result<()> {
    let mut rows: Vec<Vec<String>> = flawed
        .iter()
        .filter_map(|record| {
            let flaw = record.flaw.as_ref()?;
            let used = if record.used { "yes" } else { "no" };
            let row = [record.id.as_str(), flaw.kind.name(), used, record.film.as_str(), flaw.reason.as_str()];
            Some(row.map(String::from).into())
        })
        .collect();
    rows.sort();
    let header = ["id", "flaw", "used", "film", "reason"].map(String::from).into();
    write_csv(path, std::iter::once(header).chain(rows))
}

/// Shows samples from the first to the last, at equal distances.
fn write_contact_sheet(out: &Path, recipe: &Recipe, used: &[(&Wanted, &Record)]) -> Result<()> {
    let count = used.len().min(MAX_SHOWN);
    let mut shown = Vec::with_capacity(count);
    for place in 0..count {
        let (wanted, record) = used[place * used.len() / count];
        let names = recipe.picture_names(&wanted.id, record.pictures);
        let Some(name) = names.get(names.len() / 2) else { continue };
        let picture = Picture::open(out.join(name))?;
        shown.push(Shown { picture, name: &wanted.id, label: wanted.label.as_deref().unwrap_or_default() });
    }
    match shown.is_empty() {
        true => Ok(()),
        false => write_sheet(&out.join(SHEET), &shown),
    }
}
