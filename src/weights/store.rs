//! The bytes of a checkpoint, in a file or in memory.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};

/// Bytes with random access, from any number of threads at once.
#[derive(Debug)]
pub(super) enum Store {
    File(Positioned),
    Memory(Cow<'static, [u8]>),
}

impl Store {
    /// Opens the file `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        if file.metadata().map_err(Error::io(path, "open"))?.is_dir() {
            return Err(Error::io(path, "open")(std::io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self::File(Positioned::new(file)))
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> std::io::Result<u64> {
        match self {
            Self::File(file) => file.len(),
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
            Self::Memory(bytes) => take(range(bytes, start, len)?),
            Self::File(file) => {
                let (mut start, mut left) = (start, len);
                let mut buffer = vec![0; left.min(piece)];
                while left > 0 {
                    buffer.truncate(left);
                    file.read_exact(start, &mut buffer)?;
                    take(&buffer);
                    left -= buffer.len();
                    start += buffer.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// Fills `to` with the bytes from `start` on.
    pub(super) fn read_exact(&self, start: u64, to: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                to.copy_from_slice(range(bytes, start, to.len())?);
                Ok(())
            }
            Self::File(file) => file.read_exact(start, to),
        }
    }

    /// The `len` bytes from `start` on.
    pub(super) fn bytes(&self, start: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read(start, len, len, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }
}

fn range(bytes: &[u8], start: u64, len: usize) -> std::io::Result<&[u8]> {
    let range = usize::try_from(start).ok().and_then(|start| bytes.get(start..)?.get(..len));
    range.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

/// A file that several threads read at once, each at its own position.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact(&self, start: u64, to: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, to, start)
    }
}

/// A file that several threads read in turn, each at its own position.
#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    /// A panic while the lock was held does no harm: every reader seeks first.
    fn lock(&self) -> std::sync::MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn len(&self) -> std::io::Result<u64> {
        Ok(self.lock().metadata()?.len())
    }

    fn read_exact(&self, start: u64, to: &mut [u8]) -> std::io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.lock();
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(to)
    }
}
