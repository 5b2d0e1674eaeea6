//! Where the bytes of a sound come from.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::Arc;

/// An open file, or the contents of one in memory.
pub(super) enum Input {
    File(File),
    Memory(Cursor<Arc<[u8]>>),
}

impl Input {
    /// The contents of a file, which are copied once.
    pub(super) fn memory(bytes: &[u8]) -> Self {
        Self::Memory(Cursor::new(bytes.into()))
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(cursor) => Ok(cursor.get_ref().len() as u64),
        }
    }

    /// A second handle on the same bytes. Two handles on a file share their position.
    #[cfg(feature = "audio-formats")]
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::File(file) => file.try_clone().map(Self::File),
            Self::Memory(cursor) => Ok(Self::Memory(cursor.clone())),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Memory(cursor) => cursor.read(buffer),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(position),
            Self::Memory(cursor) => cursor.seek(position),
        }
    }
}
