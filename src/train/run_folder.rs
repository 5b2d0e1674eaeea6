//! The files of a run, which one process writes.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::json;

use super::checkpoint::{Best, Checkpoints, State};
use super::event::StepReport;
use super::objective::{Objective, Validation};
use super::run_log::RunLog;
use crate::error::{Error, Result};
use crate::files::{remove_unfinished, write_json};

/// The folder of a run, with its checkpoints, logs and exported weights.
#[derive(Debug)]
pub(super) struct RunFolder {
    path: PathBuf,
    checkpoints: Checkpoints,
    log: RunLog,
}

impl RunFolder {
    /// Opens the folder `path` of the run with this `state`, and creates what is missing. `selects` says whether a best
    /// epoch is selected.
    pub(super) fn open(path: &Path, checkpoints: Checkpoints, selects: bool, state: &State) -> Result<Self> {
        let best = selects.then_some("best");
        for subfolder in ["", "checkpoints", "last"].into_iter().chain(best) {
            let folder = path.join(subfolder);
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
            remove_unfinished(&folder)?;
        }
        write_json(&path.join("config.json"), &state.config)?;
        Ok(Self { path: path.to_path_buf(), checkpoints, log: RunLog::open(path, state.log_lengths)? })
    }

    /// Logs a step.
    pub(super) fn step(&mut self, report: &StepReport) -> Result<()> {
        self.log.step(report.step, report.epoch, &report.metrics, report.samples_per_second)
    }

    /// Logs a validation, with its pictures in `samples/<name>`.
    pub(super) fn validation(&mut self, state: &State, validation: &Validation, name: &str) -> Result<()> {
        self.log.validation(state.step, state.epoch, &validation.metrics, name, &validation.pictures)
    }

    /// Exports the weights of the `best` epoch so far.
    pub(super) fn best(&self, objective: &impl Objective, best: &Option<Best>) -> Result<()> {
        let folder = self.path.join("best");
        objective.export(&folder)?;
        write_json(&folder.join("best.json"), &json!(best))
    }

    /// Writes a checkpoint and exports the current weights. Returns the path of the checkpoint.
    pub(super) fn save(
        &self,
        state: &mut State,
        tensors: &[(String, Tensor)],
        objective: &impl Objective,
    ) -> Result<PathBuf> {
        // Flush the logs first: a checkpoint must never refer to log entries that are not yet on the disk.
        state.log_lengths = self.log.sync()?;
        let path = self.checkpoints.save(state, tensors)?;
        objective.export(&self.path.join("last"))?;
        Ok(path)
    }
}
