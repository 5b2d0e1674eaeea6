//! TensorBoard event files: scalars and pictures.
//!
//! An event file is a sequence of records, each framed as in TensorFlow's TFRecord format,
//!
//! ```text
//! u64 length | u32 masked CRC32C of the length | the record | u32 masked CRC32C of the record      (little-endian)
//! ```
//!
//! and each record is a protocol buffer of type `tensorflow.Event`. This module writes only the few fields that
//! TensorBoard's scalar and image dashboards read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::metrics::{open_at, synced_len};
use crate::error::{Error, Result};

/// The prefix by which TensorBoard recognizes event files.
const FILE_PREFIX: &str = "events.out.tfevents.";

/// An open event file.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
    /// The time in seconds since 1970; tests replace it with a fixed one.
    clock: fn() -> f64,
}

impl EventFile {
    /// Opens the event file of `folder` for appending after its first `keep` bytes, as
    /// [`MetricsFile::open`](super::metrics::MetricsFile::open) does. If there is none, creates one named after the
    /// current time.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or written.
    pub(super) fn open(folder: &Path, keep: u64) -> Result<Self> {
        let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
        let existing = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FILE_PREFIX)))
            .max();
        let path = existing.unwrap_or_else(|| folder.join(format!("{FILE_PREFIX}{:010}.soundsight", now() as u64)));
        Self::at(path, keep, now)
    }

    fn at(path: PathBuf, keep: u64, clock: fn() -> f64) -> Result<Self> {
        let mut events = Self { file: open_at(&path, keep)?, path, clock };
        if events.sync()? == 0 {
            let mut version = Message::default();
            version.double(1, clock());
            version.bytes(3, b"brain.Event:2");
            events.append(&version)?;
        }
        Ok(events)
    }

    /// Adds `scalars` at `step`, with the tags `<prefix>/<name>`.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub(super) fn scalars(&mut self, prefix: &str, step: usize, scalars: &[(String, f64)]) -> Result<()> {
        let mut summary = Message::default();
        for (name, value) in scalars {
            let mut entry = Message::default();
            entry.bytes(1, format!("{prefix}/{name}").as_bytes());
            entry.float(2, *value as f32);
            summary.bytes(1, &entry.0);
        }
        self.append_summary(step, &summary)
    }

    /// Adds a picture of `width` × `height` pixels, an RGB `png` file, under `tag` at `step`.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub(super) fn picture(
        &mut self,
        tag: &str,
        step: usize,
        (width, height): (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        let mut image = Message::default();
        image.integer(1, height as u64);
        image.integer(2, width as u64);
        image.integer(3, 3); // colour space: RGB
        image.bytes(4, png);
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.bytes(4, &image.0);
        let mut summary = Message::default();
        summary.bytes(1, &entry.0);
        self.append_summary(step, &summary)
    }

    /// Flushes the file to disk and returns its length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk fails.
    pub(super) fn sync(&self) -> Result<u64> {
        synced_len(&self.file).map_err(Error::io(&self.path, "write"))
    }

    fn append_summary(&mut self, step: usize, summary: &Message) -> Result<()> {
        let mut event = Message::default();
        event.double(1, (self.clock)());
        event.integer(2, step as u64);
        event.bytes(5, &summary.0);
        self.append(&event)
    }

    fn append(&mut self, event: &Message) -> Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.0.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event.0);
        record.extend(masked_crc(&event.0).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path, "write"))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// A CRC32C as TFRecord stores it: rotated and offset, because the CRC of data that contains its own CRC is degenerate.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protocol buffer under construction: each field is its number and wire type, then its value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_that_tensorboard_writes() {
        // Made by TensorBoard's own code: benches/peers/fixtures_train.py events.
        let expected = include_bytes!("../../tests/fixtures/train/events.tfevents");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let mut events = EventFile::at(path.clone(), 0, || 1.0).unwrap();
        events.scalars("train", 300, &[("loss".to_string(), 0.25), ("p_area".to_string(), -1.5)]).unwrap();
        events.picture("samples/a", 70_000, (300, 2), &(0..=255).collect::<Vec<u8>>()).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), expected);
    }

    #[test]
    fn resuming_removes_what_the_checkpoint_did_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let write = |events: &mut EventFile, step| {
            events.scalars("train", step, &[("loss".to_string(), 0.5)]).unwrap();
        };
        let mut events = EventFile::open(folder.path(), 0).unwrap();
        write(&mut events, 1);
        let keep = events.sync().unwrap();
        let before = std::fs::read(&events.path).unwrap();
        write(&mut events, 2);
        assert!(events.sync().unwrap() > keep);

        let events = EventFile::open(folder.path(), keep).unwrap();
        assert_eq!(std::fs::read(&events.path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a second file was begun");
    }
}
