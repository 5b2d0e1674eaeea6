//! Copies of single members of archives.

use std::io::{Read, Write};
use std::path::Path;

use tempfile::TempPath;

use super::super::flaw::{Flaw, FlawKind};
use super::Media;
use crate::error::{Error, Result};

/// The largest member of an archive that is read, in bytes: 4 GiB.
pub const MAX_MEMBER_BYTES: u64 = 4 << 30;
/// From this size on, a member must not be more than [`MAX_RATIO`] times as large as in the archive.
const USUAL_BYTES: u64 = 16 << 20;
/// Films hardly become smaller by compression; bombs reach a factor of 1032.
const MAX_RATIO: u64 = 100;

/// How many bytes a member that takes `compressed` bytes in the archive may have.
pub(super) fn limit(compressed: u64) -> u64 {
    compressed.saturating_mul(MAX_RATIO).clamp(USUAL_BYTES, MAX_MEMBER_BYTES)
}

/// The flaw of a member that has, or claims to have, more bytes than `limit`.
pub(super) fn too_large(limit: u64, found: impl std::fmt::Display) -> Flaw {
    Flaw::new(FlawKind::TooLarge, format!("at most {limit} bytes"), found)
}

/// Copies a member of `bytes` bytes to a file in `folder`, whose name has the same ending as the member's.
///
/// # Errors
/// [`Error::Io`] when the copy cannot be written. What is wrong with the member is a flaw.
pub(super) fn spool(
    name: &str,
    bytes: u64,
    compressed: u64,
    reader: &mut impl Read,
    folder: &Path,
) -> Result<std::result::Result<Media, Flaw>> {
    let limit = limit(compressed);
    let broken = |found: String| Flaw::new(FlawKind::Broken, format!("a member of {bytes} bytes"), found);
    let ending = name.rsplit_once('.').map_or(String::new(), |(_, ending)| format!(".{ending}"));
    let mut file = tempfile::Builder::new()
        .prefix("member-")
        .suffix(&ending)
        .tempfile_in(folder)
        .map_err(Error::io(folder, "write to"))?;
    let mut buffer = vec![0; 1 << 16];
    let mut copied = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(broken(error.to_string()))),
        };
        copied += count as u64;
        if copied > limit {
            return Ok(Err(too_large(limit, "more")));
        }
        file.write_all(&buffer[..count]).map_err(Error::io(folder, "write to"))?;
    }
    if copied != bytes {
        return Ok(Err(broken(format!("only {copied} bytes (a truncated archive?)"))));
    }
    let path: TempPath = file.into_temp_path();
    Ok(Ok(Media::Copy(path)))
}
