//! `metrics.jsonl`: one line of JSON for each step and each validation.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Named numbers, in display order.
pub type Metrics = Vec<(String, f64)>;

/// [`Metrics`] in a form that passes through JSON unchanged, NaN included: with the bits of the numbers.
pub(super) type MetricBits = Vec<(String, u64)>;

pub(super) fn to_bits(metrics: &Metrics) -> MetricBits {
    metrics.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect()
}

pub(super) fn from_bits(metrics: &MetricBits) -> Metrics {
    metrics.iter().map(|(name, bits)| (name.clone(), f64::from_bits(*bits))).collect()
}

/// Adds `metrics` to the `sums` by name.
pub(super) fn accumulate(sums: &mut Metrics, metrics: impl IntoIterator<Item = (String, f64)>) {
    for (name, value) in metrics {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}

/// An open `metrics.jsonl`.
///
/// A line contains the step, the epoch and the metrics, and nothing that depends on the clock: a run that was killed
/// and resumed produces the same file, byte for byte, as an uninterrupted one.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens `path` for appending after its first `keep` bytes: entries written after the checkpoint that recorded this
    /// length are removed. Creates an empty file if there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or written.
    pub(super) fn open(path: &Path, keep: u64) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), file: open_at(path, keep)? })
    }

    /// Flushes the file to disk and returns its length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk fails.
    pub(super) fn sync(&self) -> Result<u64> {
        synced_len(&self.file).map_err(Error::io(&self.path, "write"))
    }

    /// Appends a line; `split` is "train" or "validation".
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub(super) fn append(&mut self, split: &str, step: usize, epoch: usize, metrics: &[(String, f64)]) -> Result<()> {
        let mut line = Map::new();
        line.insert("split".to_string(), split.into());
        line.insert("step".to_string(), step.into());
        line.insert("epoch".to_string(), epoch.into());
        for (name, value) in metrics {
            // JSON has no NaN; a metric that is not finite becomes null.
            line.insert(name.clone(), serde_json::Number::from_f64(*value).map_or(Value::Null, Value::Number));
        }
        // One write call per line, so that a killed process leaves only complete lines.
        let line = format!("{}\n", Value::Object(line));
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path, "write"))
    }
}

/// Opens a log for appending after its first `keep` bytes and removes the rest.
pub(super) fn open_at(path: &Path, keep: u64) -> Result<File> {
    let open = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() > keep {
            file.set_len(keep)?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    };
    open().map_err(Error::io(path, "write"))
}

/// Flushes a log to the disk and returns its length.
pub(super) fn synced_len(file: &File) -> std::io::Result<u64> {
    file.sync_data()?;
    Ok(file.metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resuming_removes_what_the_checkpoint_did_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::open(&path, 0).unwrap();
        let write = |file: &mut MetricsFile, step| {
            file.append("train", step, 0, &[("loss".to_string(), 0.5 / step as f64)]).unwrap();
        };
        (1..=2).for_each(|step| write(&mut file, step));
        let keep = file.sync().unwrap();
        write(&mut file, 3);
        let whole = std::fs::read(&path).unwrap();
        file.file.write_all(b"{\"step\":4,\"los").unwrap();

        let mut file = MetricsFile::open(&path, keep).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
        write(&mut file, 3);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let error = MetricsFile::open(&path, 0).unwrap().append("train", 1, 0, &[]).unwrap_err();
        match error {
            Error::Io { path: named, action: "write", source } => {
                assert_eq!((named, source.kind()), (path, std::io::ErrorKind::StorageFull));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_number_is_null() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        MetricsFile::open(&path, 0).unwrap().append("validation", 1, 0, &[("auc".to_string(), f64::NAN)]).unwrap();
        let line: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((&line["auc"], &line["split"]), (&Value::Null, &Value::from("validation")));
    }
}
