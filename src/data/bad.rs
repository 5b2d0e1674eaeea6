//! Keeping account of the pairs that cannot be read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result, chain};
use crate::files::write_atomically;

/// The unreadable pairs of a run: counted, listed in a CSV file `id,reason`, and too many of them an error.
///
/// A pair is counted once, however often it is tried. The list on the disk survives an interrupted run and is taken up
/// again by the resumed one.
#[derive(Debug)]
pub struct BadPairs {
    path: PathBuf,
    num_pairs: usize,
    max_bad: f64,
    reasons: Mutex<BTreeMap<String, String>>,
}

impl BadPairs {
    /// An account for `num_pairs` pairs of which at most the fraction `max_bad` (0 … 1; published data sets want
    /// 0.01) may be unreadable, kept in the CSV file `path`; what is listed there already is taken over.
    ///
    /// # Errors
    /// - [`Error::Argument`] when `max_bad` is not a fraction.
    /// - [`Error::Io`] when `path` exists and cannot be read, [`Error::Format`] when it is no such list.
    pub fn open(path: &Path, num_pairs: usize, max_bad: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&max_bad) {
            return Err(Error::argument("max_bad", "a fraction from 0 to 1", max_bad));
        }
        let mut reasons = BTreeMap::new();
        if path.exists() {
            let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
            for row in csv::Reader::from_reader(text.as_slice()).into_deserialize() {
                let (id, reason): (String, String) =
                    row.map_err(|e| Error::format(path, "list of unreadable pairs", "lines of `id,reason`", e))?;
                reasons.insert(id, reason);
            }
        }
        Ok(Self { path: path.to_path_buf(), num_pairs, max_bad, reasons: Mutex::new(reasons) })
    }

    // A panic elsewhere cannot leave the map half-changed, so a poisoned lock is as good as any.
    fn reasons(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many pairs have proved unreadable.
    pub fn count(&self) -> usize {
        self.reasons().len()
    }

    /// Adds the pair `id`, whose reading failed for `reason`, unless it is listed already.
    ///
    /// # Errors
    /// [`Error::Io`] when the list cannot be written.
    pub fn record(&self, id: &str, reason: &Error) -> Result<()> {
        let mut reasons = self.reasons();
        if reasons.contains_key(id) {
            return Ok(());
        }
        reasons.insert(id.to_string(), chain(reason));
        // Unreadable pairs are few, or the run ends: writing the whole list is cheap, and never leaves half a line.
        write_atomically(&self.path, |writer| {
            let mut csv = csv::Writer::from_writer(writer);
            csv.write_record(["id", "reason"])
                .and_then(|()| reasons.iter().try_for_each(|row| csv.serialize(row)))
                .and_then(|()| Ok(csv.flush()?))
                .map_err(|e| Error::io(&self.path, "write")(std::io::Error::other(e)))
        })
    }

    /// Whether the data is still good enough.
    ///
    /// # Errors
    /// [`Error::TooManyBadPairs`] when more than the tolerated fraction is unreadable.
    pub fn verdict(&self) -> Result<()> {
        let reasons = self.reasons();
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
