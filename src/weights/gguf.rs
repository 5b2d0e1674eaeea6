//! The GGUF format: typed metadata, a list of tensors, then their numbers, which may be in blocks of 8 bits.
//!
//! Candle writes such files; its reader, though, believes the file's own counts and alignment, so the directory is read
//! here. Specification: ggml's `docs/gguf.md`, versions 2 and 3, little-endian.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::DType;
use candle_core::quantized::{GgmlDType, QTensor, gguf_file};

use super::entry::{Contents, Entry, ReadError};
use super::store::Store;
use crate::error::{Error, Result};
use crate::files::write_atomically;

pub(super) const MAGIC: &[u8; 4] = b"GGUF";
/// Longer names and strings than this are no checkpoint's.
const MAX_STRING: u64 = 1 << 20;
/// What the format allows.
const MAX_DIMS: u32 = 4;
/// Tensors begin at multiples of this where the metadata say nothing else.
const ALIGNMENT: u64 = 32;
/// Read at a time.
const PIECE: usize = 64 << 10;

/// What the GGUF `file` of `file_len` bytes holds.
pub(super) fn read(file: &Store, file_len: u64) -> Result<Contents, ReadError> {
    let mut directory = Directory { file, file_len, next: MAGIC.len() as u64, piece: Vec::new(), at: 0 };
    let version = directory.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(ReadError::Found(format!("GGUF of version {version}, not 2 or 3")));
    }
    let (tensors, values) = (directory.u64()?, directory.u64()?);
    let mut contents = Contents::default();
    let mut alignment = ALIGNMENT;
    // Every turn reads some bytes, so that a count that is too large ends with the file.
    for _ in 0..values {
        let (name, kind) = (directory.string()?, directory.u32()?);
        match kind {
            STRING => {
                let text = directory.string()?;
                contents.metadata.insert(name, text.into());
            }
            U32 => {
                let number = directory.u32()?;
                if name == "general.alignment" {
                    alignment = number.into();
                }
                contents.metadata.insert(name, number.into());
            }
            _ => directory.skip_value(kind, 1)?,
        }
    }
    if !alignment.is_power_of_two() {
        return Err(ReadError::Found(format!("tensors aligned to {alignment} bytes")));
    }
    let mut offsets = Vec::new();
    for _ in 0..tensors {
        let name = directory.string()?;
        let damaged = |what: String| ReadError::Found(format!("`{name}` {what}"));
        let dims = directory.u32()?;
        if dims > MAX_DIMS {
            return Err(damaged(format!("of {dims} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let dim = directory.u64()?;
            shape.push(usize::try_from(dim).map_err(|_| damaged(format!("with a dimension of {dim}")))?);
        }
        shape.reverse();
        let (kind, offset) = (directory.u32()?, directory.u64()?);
        let entry = match kind {
            0 => Entry::contiguous(DType::F32, &shape, 0),
            1 => Entry::contiguous(DType::F16, &shape, 0),
            30 => Entry::contiguous(DType::BF16, &shape, 0),
            8 => Entry::blocks(&shape),
            _ => return Err(damaged(format!("of type {kind}, not F32, F16, BF16 or Q8_0"))),
        };
        let entry = entry.ok_or_else(|| damaged(format!("of shape {shape:?}")))?;
        if contents.entries.insert(name.clone(), entry).is_some() {
            return Err(damaged("twice".into()));
        }
        offsets.push((name, offset));
    }
    let numbers = directory.position().checked_next_multiple_of(alignment);
    for (name, offset) in offsets {
        let Some(entry) = contents.entries.get_mut(&name) else { continue };
        let start = numbers.and_then(|numbers| numbers.checked_add(offset));
        let end = start.zip(entry.bytes()).and_then(|(start, bytes)| start.checked_add(bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => entry.start = start,
            _ => return Err(ReadError::Found(format!("`{name}` beyond the end of the file"))),
        }
    }
    Ok(contents)
}

// The types of metadata that are kept; see `fixed_size` for those that are passed over.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Bytes of a value of a type that always takes the same.
fn fixed_size(kind: u32) -> Result<u64, ReadError> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(ReadError::Found(format!("metadata of type {kind}"))),
    }
}

/// The part of the file before the numbers, read from front to back.
struct Directory<'a> {
    file: &'a Store,
    file_len: u64,
    /// Where in the file the next piece begins.
    next: u64,
    piece: Vec<u8>,
    /// What was used of the piece.
    at: usize,
}

impl Directory<'_> {
    fn position(&self) -> u64 {
        self.next - (self.piece.len() - self.at) as u64
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| "a file that ends too early".into())
    }

    fn u32(&mut self) -> Result<u32, ReadError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ReadError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<String, ReadError> {
        let len = self.u64()?;
        if len > MAX_STRING {
            return Err(ReadError::Found(format!("a name or text of {len} bytes")));
        }
        String::from_utf8(self.take(len)?).map_err(|_| "a name or text that is not UTF-8".into())
    }

    /// The next `len` bytes, which are in the file.
    fn take(&mut self, len: u64) -> Result<Vec<u8>, ReadError> {
        if len > self.file_len - self.position() {
            return Err("a file that ends too early".into());
        }
        let mut taken = Vec::new();
        while (taken.len() as u64) < len {
            if self.at == self.piece.len() {
                let piece = (self.file_len - self.next).min(PIECE as u64);
                self.piece = self.file.bytes(self.next, piece as usize)?;
                (self.next, self.at) = (self.next + piece, 0);
            }
            let part = (self.piece.len() - self.at).min(len as usize - taken.len());
            taken.extend_from_slice(&self.piece[self.at..self.at + part]);
            self.at += part;
        }
        Ok(taken)
    }

    /// Passes over `len` bytes without reading them.
    fn skip(&mut self, len: u64) -> Result<(), ReadError> {
        let position = self.position();
        if len > self.file_len - position {
            return Err("a file that ends too early".into());
        }
        (self.next, self.at) = (position + len, 0);
        self.piece.clear();
        Ok(())
    }

    /// Passes over a value `depth` arrays deep (a file needs no more than one).
    fn skip_value(&mut self, kind: u32, depth: u32) -> Result<(), ReadError> {
        match kind {
            STRING => {
                let len = self.u64()?;
                self.skip(len)
            }
            ARRAY if depth > 0 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if kind == STRING {
                    return (0..count).try_for_each(|_| self.skip_value(kind, 0));
                }
                let len = fixed_size(kind)?.checked_mul(count).ok_or("a file that ends too early")?;
                self.skip(len)
            }
            _ => self.skip(fixed_size(kind)?),
        }
    }
}

/// Writes `tensors` to the GGUF file `path`, all of it or nothing.
pub(super) fn write(path: &Path, tensors: &BTreeMap<String, QTensor>) -> Result<()> {
    let architecture = gguf_file::Value::String("acl".into());
    let quantization = gguf_file::Value::U32(2);
    // 7: mostly Q8_0, by the format's own table.
    let file_type = gguf_file::Value::U32(7);
    let metadata = [
        ("general.architecture", &architecture),
        ("general.file_type", &file_type),
        ("general.quantization_version", &quantization),
    ];
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_atomically(path, |writer| {
        gguf_file::write(writer, &metadata, &tensors).map_err(|error| {
            // A full disk is the only way that this fails.
            Error::io(path, "write")(std::io::Error::other(error))
        })
    })
}

/// The type in which GGUF knows numbers of `dtype`, for those that it knows.
pub(super) fn dtype(dtype: DType) -> GgmlDType {
    match dtype {
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        _ => GgmlDType::F32,
    }
}
