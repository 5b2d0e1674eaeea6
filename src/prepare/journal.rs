//! What was done, so that nothing is done twice.
//!
//! The folder `.prepare` of the output has the recipe, and for each shard a journal to which a line is added when a film is
//! done. A process that is killed in the middle of a line leaves half of one, which is removed by the next.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::recipe::Recipe;
use super::record::Record;
use crate::data::Shard;
use crate::error::{Error, Result};
use crate::files::write_atomically;

const FOLDER: &str = ".prepare";
const RECIPE: &str = "recipe.json";
const ENDING: &str = ".jsonl";
const KIND: &str = "journal of prepared films";

/// The journal of a shard, which no other process has open.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: Mutex<File>,
    temporary: PathBuf,
    _lock: Lock,
}

impl Journal {
    /// Opens the journal of `shard` in the folder `out`, which is created if it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written, or another process has it open; [`Error::Argument`] when `out` was
    /// prepared with another recipe; [`Error::Format`] when the recipe there cannot be read.
    pub(super) fn open(out: &Path, shard: Shard, recipe: &Recipe) -> Result<Self> {
        let folder = out.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
        check_recipe(&folder, recipe)?;
        let name = format!("{}-of-{}", shard.rank + 1, shard.world);
        let lock = lock(&folder.join(format!("{name}.lock")))?;
        let path = folder.join(format!("{name}{ENDING}"));
        cut_half_a_line(&path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path, "write"))?;
        // Of a killed process.
        let temporary = folder.join(format!("{name}.tmp"));
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(Error::io(&temporary, "remove"))?;
        }
        std::fs::create_dir(&temporary).map_err(Error::io(&temporary, "create the folder"))?;
        Ok(Self { folder, path, file: Mutex::new(file), temporary, _lock: lock })
    }

    /// The folder for unfinished files of this process.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Adds a film that is done.
    pub(super) fn add(&self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::io(&self.path, "write")(e.into()))?;
        line.push(b'\n');
        // Nothing that panics happens while it is locked.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(Error::io(&self.path, "write"))
    }

    /// The latest records of all shards, by id.
    pub(super) fn all(&self) -> Result<BTreeMap<String, Record>> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&self.folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(Error::io(&self.folder, "read the folder"))?;
        paths.sort();
        // This shard's last: what it says is the newest.
        paths.retain(|path| path.to_string_lossy().ends_with(ENDING) && *path != self.path);
        paths.push(self.path.clone());
        let mut records = BTreeMap::new();
        for path in paths {
            records.extend(read(&path)?.into_iter().map(|record| (record.id.clone(), record)));
        }
        Ok(records)
    }

    /// Sorts the journal by id, so that it does not depend on the order in which films were done, and removes what is
    /// temporary.
    pub(super) fn finish(self) -> Result<()> {
        let records: BTreeMap<String, Record> =
            read(&self.path)?.into_iter().map(|record| (record.id.clone(), record)).collect();
        write_atomically(&self.path, |writer| {
            for record in records.values() {
                let line = serde_json::to_string(record).map_err(|e| Error::io(&self.path, "write")(e.into()))?;
                writeln!(writer, "{line}").map_err(Error::io(&self.path, "write"))?;
            }
            Ok(())
        })?;
        std::fs::remove_dir_all(&self.temporary).map_err(Error::io(&self.temporary, "remove"))
    }
}

/// Writes the recipe, or compares it with the one that is there.
fn check_recipe(folder: &Path, recipe: &Recipe) -> Result<()> {
    let path = folder.join(RECIPE);
    let invalid = |e: serde_json::Error| Error::format(&path, "recipe", "the settings of a prepared folder", e);
    let ours = serde_json::to_value(recipe).map_err(invalid)?;
    match std::fs::read(&path) {
        Ok(text) => {
            let theirs: Value = serde_json::from_slice(&text).map_err(invalid)?;
            let settings = ours.as_object().into_iter().flatten();
            match settings.map(|(name, value)| (name, value, &theirs[name])).find(|(_, a, b)| a != b) {
                None => Ok(()),
                Some((name, ours, theirs)) => {
                    let expected = format!("{theirs}, with which {} was begun", folder.display());
                    Err(Error::argument(name, expected, ours))
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_atomically(&path, |writer| {
            serde_json::to_writer_pretty(writer, &ours).map_err(|e| Error::io(&path, "write")(e.into()))
        }),
        Err(error) => Err(Error::io(&path, "read")(error)),
    }
}

/// A file that no other process has locked.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// Closing the file alone does not end the lock while a process that another thread is starting has a copy of it.
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

/// Keeps other processes from preparing the same shard until the lock is dropped.
fn lock(path: &Path) -> Result<Lock> {
    let file = File::create(path).map_err(Error::io(path, "write"))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Error::io(path, "lock")(std::io::Error::other("another process is preparing this")))
        }
        // File systems without locks.
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(Lock(file)),
        Err(TryLockError::Error(error)) => Err(Error::io(path, "lock")(error)),
    }
}

/// Removes what follows the last line.
fn cut_half_a_line(path: &Path) -> Result<()> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(path, "read")(error)),
    };
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    if whole < text.len() {
        let file = OpenOptions::new().write(true).open(path).map_err(Error::io(path, "write"))?;
        file.set_len(whole as u64).map_err(Error::io(path, "write"))?;
    }
    Ok(())
}

/// The records of a journal, to which another process may just be adding a line.
fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let lines = text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let record = |(line, text): (usize, &[u8])| {
        let found = |e| format!("{e} in line {}", line + 1);
        serde_json::from_slice(text).map_err(|e| Error::format(path, KIND, "an object in each line", found(e)))
    };
    lines.enumerate().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_process_that_starts_has_a_copy_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1-of-1.lock");
        let held = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(Error::Io { action: "lock", .. })));
        let copy = held.0.try_clone().unwrap();
        drop(held);
        lock(&path).unwrap();
        drop(copy);
    }
}
