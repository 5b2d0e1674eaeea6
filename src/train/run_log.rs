//! The logs of a run.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::metrics::{Metrics, MetricsFile};
use super::tensorboard::EventFile;
use crate::error::{Error, Result};
use crate::files::{remove_unfinished, write_atomically};
use crate::image::Picture;

/// `metrics.jsonl`, the TensorBoard event file and the sample pictures of a run.
#[derive(Debug)]
pub(super) struct RunLog {
    folder: PathBuf,
    metrics: MetricsFile,
    events: EventFile,
}

impl RunLog {
    /// Opens the logs in `folder` and truncates them to the lengths that [`RunLog::sync`] returned.
    pub(super) fn open(folder: &Path, [metrics, events]: [u64; 2]) -> Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
            metrics: MetricsFile::open(&folder.join("metrics.jsonl"), metrics)?,
            events: EventFile::open(folder, events)?,
        })
    }

    /// Flushes the logs to disk and returns their lengths in bytes.
    pub(super) fn sync(&self) -> Result<[u64; 2]> {
        Ok([self.metrics.sync()?, self.events.sync()?])
    }

    /// Logs a training step. `pace` depends on the clock and is therefore logged only for TensorBoard.
    pub(super) fn step(&mut self, step: usize, epoch: usize, metrics: &Metrics, pace: f64) -> Result<()> {
        self.metrics.append("train", step, epoch, metrics)?;
        self.events.scalars("train", step, metrics)?;
        self.events.scalars("train", step, &[("samples_per_second".to_string(), pace)])
    }

    /// Logs a validation: its metrics and pictures. The pictures are also written to `samples/<subfolder>`.
    pub(super) fn validation(
        &mut self,
        step: usize,
        epoch: usize,
        metrics: &Metrics,
        subfolder: &str,
        pictures: &[(String, Picture)],
    ) -> Result<()> {
        if !metrics.is_empty() {
            self.metrics.append("validation", step, epoch, metrics)?;
            self.events.scalars("validation", step, metrics)?;
        }
        let folder = self.folder.join("samples").join(subfolder);
        if !pictures.is_empty() {
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
            remove_unfinished(&folder)?;
        }
        for (name, picture) in pictures {
            let path = folder.join(format!("{}.png", file_name(name)));
            let png = picture.to_png()?;
            write_atomically(&path, |writer| writer.write_all(&png).map_err(Error::io(&path, "write")))?;
            self.events.picture(&format!("samples/{name}"), step, picture.size(), &png)?;
        }
        Ok(())
    }
}

/// Turns a sample's name into a file name: ids may contain slashes.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
}
