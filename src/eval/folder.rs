//! Folders with one annotation file per sample.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The files `<name>.<extension>` of a folder of `kind`, as (name, path), sorted by name.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read; [`Error::Format`] when it is not a folder or contains no such file.
pub(super) fn files_with_extension(
    folder: &Path,
    kind: &'static str,
    extension: &str,
) -> Result<Vec<(String, PathBuf)>> {
    let expected = format!("a folder of <id>.{extension} files");
    if folder.is_file() {
        return Err(Error::format(folder, kind, expected, "a file"));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read the folder"))? {
        let path = entry.map_err(Error::io(folder, "read the folder"))?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        if let (true, Some(name)) = (path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension)), name) {
            files.push((name.to_owned(), path));
        }
    }
    if files.is_empty() {
        return Err(Error::format(folder, kind, expected, "no such file"));
    }
    files.sort();
    Ok(files)
}
