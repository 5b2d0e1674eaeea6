//! The directory of a zip archive as written by `torch.save`, whose members are not compressed.
//!
//! Only the positions of the members are needed, so that tensors can be read directly from the file. Every length is
//! checked against the file size before memory is allocated for it; general zip readers trust the member count of the
//! directory. Format: PKWARE's APPNOTE, with zip64.

use std::collections::HashMap;

use super::entry::ReadError;
use super::store::Store;

/// Size limits of the directory and the comment, beyond those of any checkpoint.
const MAX_DIRECTORY: u64 = 16 << 20;
const END_LEN: usize = 22;
const MAX_COMMENT: u64 = u16::MAX as u64;

/// The position of a member's bytes in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The members of the archive `file`, which is `file_len` bytes long, by name.
pub(super) fn members(file: &Store, file_len: u64) -> Result<HashMap<String, Member>, ReadError> {
    let directory = directory(file, file_len)?;
    let mut members = HashMap::new();
    let mut rest = &directory[..];
    while let Some((entry, tail)) = Entry::parse(rest)? {
        rest = tail;
        if entry.method != 0 || entry.encrypted || entry.stored_len != entry.len {
            return Err(ReadError::Found(format!("a compressed or encrypted member `{}`", entry.name)));
        }
        let header = Some(entry.header).filter(|&header| header < file_len).ok_or("a member outside of the file")?;
        let local = file.bytes(header, 30)?;
        if u32_at(&local, 0) != Some(0x0403_4b50) {
            return Err(ReadError::Found(format!("no member at the position of `{}`", entry.name)));
        }
        let lens = u16_at(&local, 26).zip(u16_at(&local, 28)).ok_or("a short header")?;
        let start = header.checked_add(30 + u64::from(lens.0) + u64::from(lens.1));
        let start = start.filter(|start| start.checked_add(entry.len).is_some_and(|end| end <= file_len));
        let start = start.ok_or_else(|| ReadError::Found(format!("a truncated member `{}`", entry.name)))?;
        members.insert(entry.name, Member { start, len: entry.len });
    }
    Ok(members)
}

/// The bytes of the central directory.
fn directory(file: &Store, file_len: u64) -> Result<Vec<u8>, ReadError> {
    let tail_len = file_len.min(END_LEN as u64 + MAX_COMMENT);
    let tail_start = file_len - tail_len;
    let tail = file.bytes(tail_start, tail_len as usize)?;
    let is_end = |at: &usize| {
        u32_at(&tail, *at) == Some(0x0605_4b50)
            && u16_at(&tail, at + 20).is_some_and(|comment| at + END_LEN + usize::from(comment) == tail.len())
    };
    let last = tail.len().checked_sub(END_LEN).ok_or("a file that ends too early")?;
    let end = (0..=last).rev().find(is_end).ok_or("a zip archive without its directory (truncated?)")?;
    let mut len = u32_at(&tail, end + 12).map(u64::from);
    let mut start = u32_at(&tail, end + 16).map(u64::from);
    // zip64: a locator directly before the end record points to a wider end record.
    if let Some(locator) = (tail_start + end as u64).checked_sub(20) {
        let locator = file.bytes(locator, 20)?;
        if u32_at(&locator, 0) == Some(0x0706_4b50) {
            let wide = u64_at(&locator, 8).filter(|&at| at < file_len).ok_or("a directory outside of the file")?;
            let wide = file.bytes(wide, 56)?;
            if u32_at(&wide, 0) != Some(0x0606_4b50) {
                return Err("a damaged zip64 directory".into());
            }
            (len, start) = (u64_at(&wide, 40), u64_at(&wide, 48));
        }
    }
    let (start, len) = start.zip(len).ok_or("a damaged directory")?;
    if len > MAX_DIRECTORY || start.checked_add(len).is_none_or(|end| end > file_len) {
        return Err("a directory outside of the file".into());
    }
    Ok(file.bytes(start, len as usize)?)
}

/// One entry of the central directory.
struct Entry {
    name: String,
    method: u16,
    encrypted: bool,
    stored_len: u64,
    len: u64,
    /// The position of the member's local header.
    header: u64,
}

impl Entry {
    /// Parses the first entry of `bytes`; returns it and the remaining bytes, or `None` at the end.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, ReadError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        Self::parse_first(bytes).map(Some).ok_or_else(|| "a damaged directory entry".into())
    }

    fn parse_first(bytes: &[u8]) -> Option<(Self, &[u8])> {
        if u32_at(bytes, 0)? != 0x0201_4b50 {
            return None;
        }
        let (name_len, extra_len, comment_len) = (u16_at(bytes, 28)?, u16_at(bytes, 30)?, u16_at(bytes, 32)?);
        let (name, rest) = bytes.get(46..)?.split_at_checked(name_len.into())?;
        let (extra, rest) = rest.split_at_checked(extra_len.into())?;
        let (_, rest) = rest.split_at_checked(comment_len.into())?;
        // Fields that do not fit into 32 bits are all ones; their values follow in the zip64 extra field in this order.
        let mut wide = zip64_extra(extra);
        let mut field = |at: usize| match u32_at(bytes, at)? {
            u32::MAX => {
                let value = u64_at(wide, 0)?;
                wide = wide.get(8..)?;
                Some(value)
            }
            narrow => Some(narrow.into()),
        };
        let (len, stored_len, header) = (field(24)?, field(20)?, field(42)?);
        let entry = Self {
            name: String::from_utf8_lossy(name).into_owned(),
            method: u16_at(bytes, 10)?,
            encrypted: u16_at(bytes, 8)? & 1 != 0,
            stored_len,
            len,
            header,
        };
        Some((entry, rest))
    }
}

/// The contents of the zip64 extra field, or an empty slice.
fn zip64_extra(mut extra: &[u8]) -> &[u8] {
    while let Some((id, len)) = u16_at(extra, 0).zip(u16_at(extra, 2)) {
        let Some((field, rest)) = extra.get(4..).and_then(|rest| rest.split_at_checked(len.into())) else { break };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}
