//! Atomic file writes: neither a reader nor a crash ever sees a partially written file.

#[cfg(any(feature = "eval", feature = "hub", feature = "train"))]
mod digest;
#[cfg(any(feature = "hub", feature = "train"))]
pub use digest::sha256;
#[cfg(any(feature = "eval", feature = "train"))]
pub(crate) use digest::sha256_of;
#[cfg(feature = "train")]
pub(crate) use digest::{hash_contents, hex};

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// The prefix of the names of unfinished files.
const TEMPORARY_PREFIX: &str = ".soundsight-";

/// Writes a temporary file in the folder of `path`, then renames it to `path`. Afterwards `path` contains everything
/// that `fill` wrote or, after any error (a full disk, an error of `fill` itself), its previous contents.
///
/// The data is flushed to disk (`fsync`) before the rename. Missing parent folders are not created.
///
/// # Errors
/// [`Error::Io`] when the folder is missing or not writable, or the disk is full; the errors of `fill`.
pub fn write_atomically(path: &Path, fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>) -> Result<()> {
    let mut beside = temporary_beside(path)?;
    {
        let mut writer = BufWriter::new(beside.as_file_mut());
        fill(&mut writer)?;
        writer.flush().map_err(Error::io(path, "write"))?;
    }
    put_in_place(path, beside)
}

/// Writes JSON on several lines to the file `path`, as [`write_atomically`] does.
pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    write_atomically(path, |writer| writeln!(writer, "{value:#}").map_err(Error::io(path, "write")))
}

/// Flushes a file of [`temporary_beside`] to disk and renames it to `path`.
///
/// # Errors
/// [`Error::Io`] when the disk is full or `path` cannot be replaced.
pub(crate) fn put_in_place(path: &Path, beside: NamedTempFile) -> Result<()> {
    beside.as_file().sync_all().map_err(Error::io(path, "write"))?;
    beside.persist(path).map_err(|e| Error::Io { path: path.to_path_buf(), action: "write", source: e.error })?;
    Ok(())
}

/// An empty temporary file in the folder of `path`, which is removed when it is dropped. It is in the same folder
/// because a rename is atomic only within one file system.
///
/// # Errors
/// [`Error::Io`] when the folder is missing or not writable.
pub(crate) fn temporary_beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut options = tempfile::Builder::new();
    options.prefix(TEMPORARY_PREFIX);
    // Temporary files are private (0600) by default. This one becomes an ordinary file, so the umask decides.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    options.tempfile_in(folder).map_err(Error::io(path, "write"))
}

/// Removes the unfinished files of killed processes from `folder`. No other process may be writing to it.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read or a file cannot be removed.
#[cfg(feature = "train")]
pub fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let entry = entry.map_err(Error::io(folder, "read"))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
            std::fs::remove_file(entry.path()).map_err(Error::io(entry.path(), "remove"))?;
        }
    }
    Ok(())
}

/// Makes `target` a hard link to the file `source`, or a copy of it where linking fails (on another disk). An existing
/// `target` is left unchanged.
///
/// # Errors
/// [`Error::Io`] when `source` cannot be read or `target` cannot be written.
pub fn link_or_copy(source: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    // Resolves symbolic links: a link to a relative link would be broken.
    let source = source.canonicalize().map_err(Error::io(source, "read"))?;
    if std::fs::hard_link(&source, target).is_ok() {
        return Ok(());
    }
    let mut file = File::open(&source).map_err(Error::io(&source, "read"))?;
    write_atomically(target, |writer| {
        std::io::copy(&mut file, writer).map_err(Error::io(target, "write"))?;
        Ok(())
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    /// The environment variable with the path of the file that the test's child process writes.
    const CHILD: &str = "SOUNDSIGHT_TEST_UMASK_FILE";

    #[test]
    fn written_files_respect_the_umask() {
        if let Some(path) = std::env::var_os(CHILD) {
            return write_atomically(path.as_ref(), |_| Ok(())).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        for (umask, mode) in [("002", 0o664), ("022", 0o644), ("027", 0o640), ("077", 0o600)] {
            // The umask is per process, so the test runs itself again in a child process.
            let path = folder.path().join(umask);
            let output = Command::new("sh")
                .args(["-c", "umask \"$0\" && exec \"$@\"", umask])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "files::tests::written_files_respect_the_umask"])
                .env(CHILD, &path)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "umask {umask}");
        }
    }
}
