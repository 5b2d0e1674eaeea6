//! Moments written to files as they come.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::moment::Moment;
use crate::error::{Error, Result};
use crate::files::{put_in_place, temporary_beside};
use crate::viz::{BoundingBox, Peak};

/// The bytes that a file of heatmaps reserves for its header.
const HEADER: usize = 256;

/// One line of a timeline.
#[derive(Serialize)]
struct Line {
    time: f64,
    peak: Peak,
    boxes: Vec<BoundingBox>,
    area: f64,
    confidence: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<f32>,
    sounding: bool,
    cut: bool,
}

impl Moment {
    /// The moment as a JSON object on one line: `time` in seconds, `peak` with its score, `boxes` and `area` of the mask
    /// (scores ≥ `threshold`) in pixels of the frame, `confidence`, `presence` if the model is calibrated, `sounding`, `cut`.
    ///
    /// # Errors
    /// As [`Moment::findings`].
    pub fn to_json(&self, threshold: f32) -> Result<String> {
        let findings = self.findings(threshold)?;
        let line = Line {
            time: self.time,
            peak: findings.peak,
            boxes: findings.boxes,
            area: findings.area,
            confidence: self.heatmap.confidence,
            presence: self.heatmap.presence(),
            sounding: self.sounding,
            cut: self.cut,
        };
        // Only maps with other keys than strings cannot be written.
        serde_json::to_string(&line).map_err(|error| Error::argument("moment", "a line of JSON", error))
    }
}

/// Writes a timeline: one line of JSON for each moment. The file appears once it is finished.
#[derive(Debug)]
pub struct TimelineWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl TimelineWriter {
    /// Starts a timeline that will be written to `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is missing or not writable.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        Ok(Self { file: BufWriter::new(temporary_beside(&path)?), path })
    }

    /// Adds a line: that of [`Moment::to_json`].
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub fn write(&mut self, line: &str) -> Result<()> {
        writeln!(self.file, "{line}").map_err(Error::io(&self.path, "write"))
    }

    /// Puts the file in place.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub fn finish(self) -> Result<()> {
        flush_in_place(&self.path, self.file)
    }

    /// Puts the file in place with a last line `{"unfinished": true, "time": …}`: the film was analysed up to `time` only.
    ///
    /// # Errors
    /// As [`TimelineWriter::finish`].
    pub fn finish_unfinished(mut self, time: f64) -> Result<()> {
        self.write(&format!(r#"{{"unfinished":true,"time":{time:?}}}"#))?;
        self.finish()
    }
}

/// Writes the heatmaps of all moments to a safetensors file: `time` f32 `[T]` in seconds and `heatmap` f16 `[T, S, S]`. The
/// heatmaps are written as they come, and the file appears once it is finished.
#[derive(Debug)]
pub struct HeatmapWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    times: Vec<f32>,
    size: usize,
}

impl HeatmapWriter {
    /// Starts a file that will be written to `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is missing or not writable.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let mut file = BufWriter::new(temporary_beside(&path)?);
        // The header states the number of moments, which is only known at the end.
        file.write_all(&[b' '; 8 + HEADER]).map_err(Error::io(&path, "write"))?;
        Ok(Self { path, file, times: Vec::new(), size: 0 })
    }

    /// Adds the scores of a moment.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full; [`Error::Shape`] for a heatmap of another size than the first one.
    pub fn write(&mut self, moment: &Moment) -> Result<()> {
        let heatmap = &moment.heatmap;
        if self.times.is_empty() {
            self.size = heatmap.size;
        } else if heatmap.size != self.size {
            let expected = format!("[{0}, {0}], that of the first moment", self.size);
            return Err(Error::shape("heatmap", expected, &[heatmap.size; 2]));
        }
        let bytes: Vec<u8> = heatmap.scores.iter().flat_map(|score| f16::from_f32(*score).to_le_bytes()).collect();
        self.file.write_all(&bytes).map_err(Error::io(&self.path, "write"))?;
        self.times.push(moment.time as f32);
        Ok(())
    }

    /// Puts the file in place.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    pub fn finish(mut self) -> Result<()> {
        let (count, size) = (self.times.len(), self.size);
        let heatmaps = count * size * size * 2;
        let header = format!(
            r#"{{"heatmap":{{"dtype":"F16","shape":[{count},{size},{size}],"data_offsets":[0,{heatmaps}]}},"time":{{"dtype":"F32","shape":[{count}],"data_offsets":[{heatmaps},{}]}}}}"#,
            heatmaps + 4 * count
        );
        let mut fill = || -> std::io::Result<()> {
            for time in &self.times {
                self.file.write_all(&time.to_le_bytes())?;
            }
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&(HEADER as u64).to_le_bytes())?;
            self.file.write_all(format!("{header:HEADER$}").as_bytes())
        };
        fill().map_err(Error::io(&self.path, "write"))?;
        flush_in_place(&self.path, self.file)
    }
}

/// Writes what is buffered, and puts the file in place.
fn flush_in_place(path: &Path, file: BufWriter<NamedTempFile>) -> Result<()> {
    put_in_place(path, file.into_inner().map_err(|e| Error::io(path, "write")(e.into_error()))?)
}
