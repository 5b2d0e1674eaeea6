//! Digests that identify files by their contents.

#[cfg(any(feature = "hub", feature = "train"))]
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use sha2::{Digest, Sha256};

#[cfg(any(feature = "hub", feature = "train"))]
use crate::error::{Error, Result};

/// The SHA-256 of a file's contents, in hexadecimal digits.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
#[cfg(any(feature = "hub", feature = "train"))]
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash_contents(&mut hash, path)?;
    Ok(hex(&hash.finalize()))
}

/// Adds the contents of a file to `hash` in pieces, because films do not fit into memory.
#[cfg(any(feature = "hub", feature = "train"))]
pub(crate) fn hash_contents(hash: &mut Sha256, path: &Path) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(Error::io(path, "read"))?);
    loop {
        let chunk = reader.fill_buf().map_err(Error::io(path, "read"))?;
        if chunk.is_empty() {
            return Ok(());
        }
        hash.update(chunk);
        let len = chunk.len();
        reader.consume(len);
    }
}

/// The SHA-256 of bytes in memory, in hexadecimal digits.
#[cfg(any(feature = "eval", feature = "train"))]
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
