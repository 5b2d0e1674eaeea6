//! The bytes of a checkpoint, in a file or in memory.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Bytes with random access.
#[derive(Debug)]
pub(super) enum Store {
    File(Mutex<File>),
    Memory(Cow<'static, [u8]>),
}

impl Store {
    /// Opens the file `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        if file.metadata().map_err(Error::io(path, "open"))?.is_dir() {
            return Err(Error::io(path, "open")(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self::File(Mutex::new(file)))
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> std::io::Result<u64> {
        match self {
            // A panic while the lock was held does no harm: every reader seeks first.
            Self::File(file) => Ok(file.lock().unwrap_or_else(PoisonError::into_inner).metadata()?.len()),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Passes the `len` bytes from `start` on to `take`: in pieces of `piece` bytes (the last one may be shorter), or
    /// all at once if they are in memory.
    pub(super) fn read(
        &self,
        start: u64,
        len: usize,
        piece: usize,
        mut take: impl FnMut(&[u8]),
    ) -> std::io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let range = usize::try_from(start).ok().and_then(|start| bytes.get(start..)?.get(..len));
                take(range.ok_or(std::io::ErrorKind::UnexpectedEof)?);
            }
            Self::File(file) => {
                let mut left = len;
                let mut buffer = vec![0; left.min(piece)];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                while left > 0 {
                    buffer.truncate(left);
                    file.read_exact(&mut buffer)?;
                    take(&buffer);
                    left -= buffer.len();
                }
            }
        }
        Ok(())
    }

    /// The `len` bytes from `start` on.
    pub(super) fn bytes(&self, start: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(start, len, len, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }
}
