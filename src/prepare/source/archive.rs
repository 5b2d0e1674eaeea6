//! Archives: zip, tar, tar.gz.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entries, EntryType};
use zip::ZipArchive;

use super::super::flaw::{Flaw, FlawKind};
use super::spool::{limit, spool, too_large};
use super::{Contents, Member, Take, is_film_name, unsafe_name};
use crate::error::{Error, Result};

/// How many times as large as a compressed archive its contents may be, beyond [`MIN_TOTAL`].
const MAX_RATIO: u64 = 100;
/// How many bytes the contents of any compressed archive may have.
const MIN_TOTAL: u64 = 1 << 30;

const LINK: &str = "a link";

fn damaged(path: &Path, found: impl ToString) -> Error {
    Error::format(path, "archive", "a complete .zip, .tar or .tar.gz archive", found)
}

fn open_zip(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| damaged(path, error))
}

pub(super) fn zip_contents(path: &Path, source: usize) -> Result<Contents> {
    let mut archive = open_zip(path)?;
    let mut contents = Contents::default();
    for place in 0..archive.len() {
        let entry = archive.by_index_raw(place).map_err(|error| damaged(path, error))?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if entry.is_dir() {
            continue;
        }
        if !is_film_name(&name) {
            contents.ignored += 1;
            continue;
        }
        let (bytes, limit) = (entry.size(), limit(entry.compressed_size()));
        let flaw = unsafe_name(&name).or_else(|| {
            if entry.is_symlink() {
                Some(not_a_file(LINK))
            } else if entry.encrypted() {
                Some(Flaw::new(FlawKind::Broken, "a film", "an encrypted member"))
            } else {
                (bytes > limit).then(|| too_large(limit, bytes))
            }
        });
        contents.members.push(Member { source, place, name: plain(&name), bytes, path: None, flaw });
    }
    Ok(contents)
}

pub(super) fn visit_zip(path: &Path, places: &BTreeSet<usize>, folder: &Path, take: &mut Take<'_>) -> Result<()> {
    let mut archive = open_zip(path)?;
    for &place in places {
        let media = match archive.by_index(place) {
            Ok(mut entry) => {
                let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
                let (bytes, compressed) = (entry.size(), entry.compressed_size());
                spool(&name, bytes, compressed, &mut entry, folder)?
            }
            Err(error) => Err(Flaw::new(FlawKind::Broken, "a member of the archive", error)),
        };
        if !take(place, media) {
            break;
        }
    }
    Ok(())
}

pub(super) fn tar_contents(path: &Path, gzip: bool, source: usize) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut add = |place: usize, name: String, bytes: u64, kind: EntryType, _: &mut dyn Read| {
        if kind.is_dir() || kind.is_pax_global_extensions() {
            return Ok(true);
        }
        if !is_film_name(&name) {
            contents.ignored += 1;
            return Ok(true);
        }
        let flaw = unsafe_name(&name).or_else(|| match kind {
            EntryType::Regular | EntryType::Continuous => {
                (bytes > limit(bytes)).then(|| too_large(limit(bytes), bytes))
            }
            EntryType::Symlink | EntryType::Link => Some(not_a_file(LINK)),
            _ => Some(not_a_file("something else")),
        });
        contents.members.push(Member { source, place, name: plain(&name), bytes, path: None, flaw });
        Ok(true)
    };
    read_tar(path, gzip, &mut add)?;
    Ok(contents)
}

pub(super) fn visit_tar(
    path: &Path,
    gzip: bool,
    places: &BTreeSet<usize>,
    folder: &Path,
    take: &mut Take<'_>,
) -> Result<()> {
    let last = places.last().copied();
    read_tar(path, gzip, &mut |place, name, bytes, _, mut reader| {
        if !places.contains(&place) {
            return Ok(true);
        }
        let media = spool(&name, bytes, bytes, &mut reader, folder)?;
        Ok(take(place, media) && Some(place) != last)
    })
}

/// Sees an entry (its place, name, bytes, kind, contents), and says whether to go on.
type See<'a> = dyn FnMut(usize, String, u64, EntryType, &mut dyn Read) -> Result<bool> + 'a;

fn read_tar(path: &Path, gzip: bool, see: &mut See<'_>) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    let failed = |error: std::io::Error| damaged(path, error);
    if gzip {
        let budget = length.saturating_mul(MAX_RATIO).max(MIN_TOTAL);
        let inflated = Limited { reader: MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)), budget };
        see_all(path, Archive::new(BufReader::with_capacity(1 << 16, inflated)).entries().map_err(failed)?, see)
    } else {
        // Skips what is not wanted.
        see_all(path, Archive::new(file).entries_with_seek().map_err(failed)?, see)
    }
}

fn see_all<R: Read>(path: &Path, entries: Entries<'_, R>, see: &mut See<'_>) -> Result<()> {
    for (place, entry) in entries.enumerate() {
        let mut entry = entry.map_err(|error| damaged(path, format!("{error}, after {place} members")))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (bytes, kind) = (entry.size(), entry.header().entry_type());
        if !see(place, name, bytes, kind, &mut entry)? {
            break;
        }
    }
    Ok(())
}

/// A reader that fails after `budget` bytes: the contents of a bomb.
struct Limited<R> {
    reader: R,
    budget: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.budget = self.budget.checked_sub(count as u64).ok_or_else(|| {
            std::io::Error::other(format!("contents of more than {MAX_RATIO} times its size: a bomb"))
        })?;
        Ok(count)
    }
}

fn not_a_file(found: &str) -> Flaw {
    Flaw::new(FlawKind::Unsafe, "a file in the archive", found)
}

/// The name as in a folder.
fn plain(name: &str) -> String {
    name.strip_prefix("./").unwrap_or(name).replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_ends_when_its_budget_is_spent() {
        let read = |budget| {
            let mut bytes = Vec::new();
            Limited { reader: std::io::repeat(0).take(100_000), budget }
                .read_to_end(&mut bytes)
                .map_err(|e| e.to_string())
        };
        assert_eq!(read(100_000), Ok(100_000));
        assert_eq!(read(99_999), Err("contents of more than 100 times its size: a bomb".to_owned()));
    }

    #[test]
    fn names_are_those_of_a_folder() {
        assert_eq!(
            ["./a/b.mp4", "a/b.mp4", "a\\b.mp4", "../b.mp4"].map(plain),
            ["a/b.mp4", "a/b.mp4", "a/b.mp4", "../b.mp4"]
        );
    }
}
