//! The paths of a file in the cache, in the layout that all Hub clients share.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{sha256, write_atomically};
use crate::weights::hub::{Hub, HubFile, REVISION};

/// The paths of one file of one commit.
pub(super) struct Place<'a> {
    hub: &'a Hub,
    /// The repository's folder.
    folder: PathBuf,
    /// The file's name in the repository.
    name: &'a str,
    etag: &'a str,
    commit: &'a str,
}

impl<'a> Place<'a> {
    pub(super) fn new(hub: &'a Hub, source: &HubFile, etag: &'a str, commit: &'a str) -> Self {
        Self { hub, folder: hub.repo_folder(source.repo), name: source.file, etag, commit }
    }

    /// The file with the contents, named by their ETag.
    pub(super) fn blob(&self) -> PathBuf {
        self.folder.join("blobs").join(self.etag)
    }

    /// The partial download that will become the blob. Creates its folder.
    pub(super) fn incomplete(&self) -> Result<PathBuf> {
        let path = self.folder.join("blobs").join(format!("{}.incomplete", self.etag));
        create_parent(&path)?;
        Ok(path)
    }

    /// The lock that Hub clients take while they write the blob.
    pub(super) fn lock(&self) -> Result<File> {
        let repo = self.folder.file_name().unwrap_or_default();
        let path = self.hub.cache.join(".locks").join(repo).join(format!("{}.lock", self.etag));
        create_parent(&path)?;
        let file = File::create(&path).map_err(Error::io(&path, "write"))?;
        file.lock().map_err(Error::io(&path, "lock"))?;
        Ok(file)
    }

    /// Whether the contents of `file` match the ETag. Only the ETags of large files (their SHA-256) can be checked.
    pub(super) fn is_intact(&self, file: &Path) -> Result<bool> {
        if self.etag.len() != 64 || !self.etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(true);
        }
        Ok(sha256(file)?.eq_ignore_ascii_case(self.etag))
    }

    /// Links the blob into the snapshot of the commit and points the revision at the commit. Returns the path in the
    /// snapshot.
    pub(super) fn publish(&self) -> Result<PathBuf> {
        let snapshot = self.link()?;
        let reference = self.folder.join("refs").join(REVISION);
        create_parent(&reference)?;
        write_atomically(&reference, |file| {
            file.write_all(self.commit.as_bytes()).map_err(Error::io(&reference, "write"))
        })?;
        Ok(snapshot)
    }

    fn link(&self) -> Result<PathBuf> {
        let snapshot = self.folder.join("snapshots").join(self.commit).join(self.name);
        // The commit and the name determine the contents, and another process may be reading the file.
        if snapshot.exists() {
            return Ok(snapshot);
        }
        create_parent(&snapshot)?;
        remove(&snapshot)?;
        // Relative, so that the cache can be moved.
        #[cfg(unix)]
        let linked = {
            let up = "../".repeat(self.name.split('/').count() + 1);
            std::os::unix::fs::symlink(format!("{up}blobs/{}", self.etag), &snapshot)
        };
        // Symbolic links require special permissions on other systems.
        #[cfg(not(unix))]
        let linked = {
            let blob = self.blob();
            std::fs::hard_link(&blob, &snapshot).or_else(|_| std::fs::copy(&blob, &snapshot).map(drop))
        };
        linked.map_err(Error::io(&snapshot, "write"))?;
        Ok(snapshot)
    }
}

fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create the folder"))
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(error)),
        _ => Ok(()),
    }
}
