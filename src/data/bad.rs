//! Records of unreadable pairs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, chain};
use crate::files::write_atomically;

/// An unreadable sample of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Its name.
    pub id: String,
    /// Why it cannot be read.
    pub reason: String,
}

/// The unreadable pairs of a run. They are counted and listed in a CSV file (`id,reason`); too many of them are an
/// error.
///
/// A pair is counted once, no matter how often reading it fails. A resumed run continues the list of the interrupted
/// one.
#[derive(Debug)]
pub struct BadPairs {
    path: PathBuf,
    num_pairs: usize,
    max_bad: f64,
    is_written: bool,
    found: Mutex<Found>,
}

/// The unreadable pairs so far.
#[derive(Debug, Default)]
struct Found {
    /// The reasons by id.
    reasons: BTreeMap<String, String>,
    /// Those that this process found and has not told others about.
    news: Vec<Unreadable>,
}

impl BadPairs {
    /// Opens the list in the CSV file `path`, including the pairs that it already contains. At most the fraction
    /// `max_bad` of `num_pairs` pairs may be unreadable (0 to 1; published data sets need 0.01).
    ///
    /// # Errors
    /// - [`Error::Argument`] when `max_bad` is not between 0 and 1.
    /// - [`Error::Io`] when `path` exists but cannot be read.
    /// - [`Error::Format`] when it is not a list of unreadable pairs.
    pub fn open(path: &Path, num_pairs: usize, max_bad: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&max_bad) {
            return Err(Error::argument("max_bad", "a fraction from 0 to 1", max_bad));
        }
        let mut found = Found::default();
        if path.exists() {
            let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
            for row in csv::Reader::from_reader(text.as_slice()).into_deserialize() {
                let (id, reason): (String, String) =
                    row.map_err(|e| Error::format(path, "list of unreadable pairs", "lines of `id,reason`", e))?;
                found.reasons.insert(id, reason);
            }
        }
        Ok(Self { path: path.to_path_buf(), num_pairs, max_bad, is_written: true, found: Mutex::new(found) })
    }

    /// Keeps the list in memory only, in all processes but the one that writes the file.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self { is_written: false, ..self }
    }

    // A panic elsewhere cannot leave the map half-changed, so the data behind a poisoned lock is still valid.
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of pairs found unreadable so far.
    pub fn count(&self) -> usize {
        self.found().reasons.len()
    }

    /// Adds the pair `id`, which could not be read because of `reason`, unless it is already listed.
    ///
    /// # Errors
    /// [`Error::Io`] when the list cannot be written.
    pub fn record(&self, id: &str, reason: &Error) -> Result<()> {
        let pair = Unreadable { id: id.to_string(), reason: chain(reason) };
        let mut found = self.found();
        if found.reasons.contains_key(id) {
            return Ok(());
        }
        found.news.push(pair.clone());
        self.list(&mut found.reasons, &[pair])
    }

    /// The pairs recorded since the last call, to tell other processes.
    pub fn take_news(&self) -> Vec<Unreadable> {
        std::mem::take(&mut self.found().news)
    }

    /// Adds pairs that other processes have found unreadable.
    ///
    /// # Errors
    /// [`Error::Io`] when the list cannot be written.
    pub fn add(&self, pairs: &[Unreadable]) -> Result<()> {
        self.list(&mut self.found().reasons, pairs)
    }

    fn list(&self, reasons: &mut BTreeMap<String, String>, pairs: &[Unreadable]) -> Result<()> {
        let before = reasons.len();
        for Unreadable { id, reason } in pairs {
            reasons.entry(id.clone()).or_insert_with(|| reason.clone());
        }
        if reasons.len() == before || !self.is_written {
            return Ok(());
        }
        // Rewriting the whole list never leaves half a line, and is cheap: too many pairs would end the run.
        write_atomically(&self.path, |writer| {
            let mut csv = csv::Writer::from_writer(writer);
            csv.write_record(["id", "reason"])
                .and_then(|()| reasons.iter().try_for_each(|row| csv.serialize(row)))
                .and_then(|()| Ok(csv.flush()?))
                .map_err(|e| Error::io(&self.path, "write")(std::io::Error::other(e)))
        })
    }

    /// Checks that the number of unreadable pairs is still acceptable.
    ///
    /// # Errors
    /// [`Error::TooManyBadPairs`] when more than the fraction `max_bad` is unreadable.
    pub fn verdict(&self) -> Result<()> {
        let reasons = &self.found().reasons;
        if reasons.len() as f64 <= self.max_bad * self.num_pairs as f64 {
            return Ok(());
        }
        Err(Error::TooManyBadPairs {
            num_bad: reasons.len(),
            num_pairs: self.num_pairs,
            max_bad: self.max_bad,
            list: self.path.clone(),
            example: reasons.iter().next().map(|(id, reason)| format!("{id}: {reason}")).unwrap_or_default(),
        })
    }
}
