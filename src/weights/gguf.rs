//! The GGUF format: typed metadata, a list of tensors, then their elements, optionally in blocks of 8 bits.
//!
//! Files are written with Candle. Its reader trusts the counts and the alignment in the file, so the directory is read
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
/// Maximum length of names and strings, beyond that in any checkpoint.
const MAX_STRING: u64 = 1 << 20;
/// The limit of the format.
const MAX_DIMS: u32 = 4;
/// The default alignment of tensors, unless the metadata specify another.
const ALIGNMENT: u64 = 32;
/// Bytes per read.
const PIECE: usize = 64 << 10;

/// Reads the directory of the GGUF `file`, which is `file_len` bytes long.
pub(super) fn read(file: &Store, file_len: u64) -> Result<Contents, ReadError> {
    let mut directory = Directory { file, file_len, next: MAGIC.len() as u64, piece: Vec::new(), at: 0 };
    let version = directory.u32()?;
    if !matches!(version, 2 | 3) {
        return Err(ReadError::Found(format!("GGUF of version {version}, not 2 or 3")));
    }
    let (tensors, values) = (directory.u64()?, directory.u64()?);
    let mut contents = Contents::default();
    let mut alignment = ALIGNMENT;
    // Every iteration reads some bytes, so a count that is too large fails at the end of the file.
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

// The metadata types that are read; see `fixed_size` for those that are skipped.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The size in bytes of a value of a fixed-size type.
fn fixed_size(kind: u32) -> Result<u64, ReadError> {
    match kind {
        0 | 1 | 7 => Ok(1),
        2 | 3 => Ok(2),
        4..=6 => Ok(4),
        10..=12 => Ok(8),
        _ => Err(ReadError::Found(format!("metadata of type {kind}"))),
    }
}

/// The part of the file before the elements, read sequentially.
struct Directory<'a> {
    file: &'a Store,
    file_len: u64,
    /// The position of the next piece in the file.
    next: u64,
    piece: Vec<u8>,
    /// How much of the piece has been consumed.
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

    /// The next `len` bytes, after checking that the file has that many.
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

    /// Skips `len` bytes without reading them.
    fn skip(&mut self, len: u64) -> Result<(), ReadError> {
        let position = self.position();
        if len > self.file_len - position {
            return Err("a file that ends too early".into());
        }
        (self.next, self.at) = (position + len, 0);
        self.piece.clear();
        Ok(())
    }

    /// Skips a value, which may be nested in arrays up to `depth` deep (files need no more than one level).
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

/// Writes `tensors` to the GGUF file `path` atomically.
pub(super) fn write(path: &Path, tensors: &BTreeMap<String, QTensor>) -> Result<()> {
    let architecture = gguf_file::Value::String("acl".into());
    let quantization = gguf_file::Value::U32(2);
    // 7: mostly Q8_0, according to the specification.
    let file_type = gguf_file::Value::U32(7);
    let metadata = [
        ("general.architecture", &architecture),
        ("general.file_type", &file_type),
        ("general.quantization_version", &quantization),
    ];
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write_atomically(path, |writer| {
        gguf_file::write(writer, &metadata, &tensors).map_err(|error| {
            // This only fails if the disk is full.
            Error::io(path, "write")(std::io::Error::other(error))
        })
    })
}

/// The GGUF type for elements of `dtype`: F32 for everything but F16 and BF16.
pub(super) fn dtype(dtype: DType) -> GgmlDType {
    match dtype {
        DType::F16 => GgmlDType::F16,
        DType::BF16 => GgmlDType::BF16,
        _ => GgmlDType::F32,
    }
}
