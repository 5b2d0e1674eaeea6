//! Where films come from: folders, archives, single files.

mod archive;
mod spool;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::flaw::{Flaw, FlawKind};
use crate::error::{Error, Result};

pub use spool::MAX_MEMBER_BYTES;

/// Endings of films.
const ENDINGS: [&str; 18] = [
    "3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts", "vob",
    "webm", "wmv",
];

/// A folder, an archive or a film.
#[derive(Debug)]
pub(super) enum Source {
    Folder(PathBuf),
    Film(PathBuf),
    Zip(PathBuf),
    Tar { path: PathBuf, gzip: bool },
}

/// A film of a source.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The position of the source.
    pub(super) source: usize,
    /// The position of the member in its source.
    pub(super) place: usize,
    /// The path within the source, with `/` between the parts.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// The file, if the source is no archive.
    path: Option<PathBuf>,
    /// Why it is not even read.
    pub(super) flaw: Option<Flaw>,
}

/// What a source has.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) members: Vec<Member>,
    /// The number of other files.
    pub(super) ignored: usize,
}

/// A film that can be read.
#[derive(Debug)]
pub(super) enum Media {
    InPlace(PathBuf),
    /// The copy of a member, removed when it is dropped.
    Copy(TempPath),
}

impl Media {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::InPlace(path) => path,
            Self::Copy(path) => path,
        }
    }
}

/// Takes the film at a place, and says whether to go on.
pub(super) type Take<'a> = dyn FnMut(usize, std::result::Result<Media, Flaw>) -> bool + 'a;

impl Member {
    /// The name without folders and ending.
    pub(super) fn stem(&self) -> &str {
        let file = self.name.rsplit('/').next().unwrap_or_default();
        file.rsplit_once('.').map_or(file, |(stem, _)| stem)
    }
}

impl Source {
    /// Finds out what `path` is, by its contents.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is none of these.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let owned = path.to_path_buf();
        if std::fs::metadata(path).map_err(Error::io(path, "read"))?.is_dir() {
            return Ok(Self::Folder(owned));
        }
        let mut start = Vec::new();
        let file = std::fs::File::open(path).map_err(Error::io(path, "read"))?;
        file.take(512).read_to_end(&mut start).map_err(Error::io(path, "read"))?;
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            Ok(Self::Zip(owned))
        } else if start.starts_with(b"\x1f\x8b") {
            Ok(Self::Tar { path: owned, gzip: true })
        } else if start.get(257..262) == Some(b"ustar") {
            Ok(Self::Tar { path: owned, gzip: false })
        } else if is_film_name(&path.to_string_lossy()) {
            Ok(Self::Film(owned))
        } else {
            let expected = "a folder, a .zip, .tar or .tar.gz archive, or a film";
            Err(Error::format(path, "source of films", expected, "another file"))
        }
    }

    /// Lists the films.
    ///
    /// # Errors
    /// [`Error::Io`] when a folder or the archive cannot be read, [`Error::Format`] when the archive is damaged.
    pub(super) fn contents(&self, source: usize) -> Result<Contents> {
        match self {
            Self::Folder(folder) => {
                let mut contents = Contents::default();
                let mut files = Vec::new();
                walk(folder, "", &mut files, &mut contents.ignored)?;
                for (place, (name, path, bytes)) in files.into_iter().enumerate() {
                    contents.members.push(Member { source, place, name, bytes, path: Some(path), flaw: None });
                }
                Ok(contents)
            }
            Self::Film(path) => {
                let bytes = std::fs::metadata(path).map_err(Error::io(path, "read"))?.len();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let member = Member { source, place: 0, name, bytes, path: Some(path.clone()), flaw: None };
                Ok(Contents { members: vec![member], ignored: 0 })
            }
            Self::Zip(path) => archive::zip_contents(path, source),
            Self::Tar { path, gzip } => archive::tar_contents(path, *gzip, source),
        }
    }

    /// Hands out the films of `members`, one after the other, until `take` has enough. Those of archives are copied to
    /// `temporary`.
    ///
    /// # Errors
    /// [`Error::Io`] when the archive cannot be read, or the copy cannot be written; [`Error::Format`] when the archive is
    /// damaged outside of its members.
    pub(super) fn visit(&self, members: &[&Member], temporary: &Path, take: &mut Take<'_>) -> Result<()> {
        if members.is_empty() {
            return Ok(());
        }
        let places: BTreeSet<usize> = members.iter().map(|member| member.place).collect();
        match self {
            Self::Folder(_) | Self::Film(_) => {
                for member in members {
                    let path = member.path.clone().unwrap_or_default();
                    if !take(member.place, Ok(Media::InPlace(path))) {
                        break;
                    }
                }
                Ok(())
            }
            Self::Zip(path) => archive::visit_zip(path, &places, temporary, take),
            Self::Tar { path, gzip } => archive::visit_tar(path, *gzip, &places, temporary, take),
        }
    }
}

/// Whether a file is a film, by its name. Hidden files are none: macOS puts `._name.mp4` beside `name.mp4`.
fn is_film_name(name: &str) -> bool {
    let file = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let ending = file.rsplit_once('.').map(|(_, ending)| ending.to_lowercase());
    !file.starts_with('.') && ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Adds the films below `folder` as (name, path, bytes), sorted. Links to folders are not followed, as they could lead
/// in circles.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf, u64)>, ignored: &mut usize) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read the folder"))?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(Error::io(folder, "read the folder"))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, file) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let name = format!("{prefix}{file}");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !file.starts_with('.') {
                walk(&path, &format!("{name}/"), files, ignored)?;
            }
        } else if is_film_name(&file) {
            // A link to nothing is reported as a film that cannot be read.
            let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            files.push((name, path, bytes));
        } else {
            *ignored += 1;
        }
    }
    Ok(())
}

/// The flaw of a member with this name, if it leads out of the archive.
fn unsafe_name(name: &str) -> Option<Flaw> {
    let drive = name.as_bytes().get(1) == Some(&b':');
    let leads_out = name.split(['/', '\\']).any(|part| part == "..");
    let found = match name.starts_with(['/', '\\']) || drive {
        true => "an absolute path",
        false if leads_out => "`..`",
        false => return None,
    };
    Some(Flaw::new(FlawKind::Unsafe, "a name within the archive", found))
}
