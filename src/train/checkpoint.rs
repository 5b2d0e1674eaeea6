//! The checkpoints of a training run, which contain everything that is needed to resume it exactly.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::weights::{Checkpoint, save_safetensors};

/// The metadata key of a checkpoint's [`State`].
const STATE_KEY: &str = "soundsight_training_state";
/// The version of the layout of [`State`], incremented whenever older programs can no longer read it.
const STATE_VERSION: u32 = 2;
/// The file that names the newest complete checkpoint.
const LATEST: &str = "latest";

/// The best epoch so far, according to the configured validation metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The number of optimizer steps completed by then.
    pub step: usize,
    /// The metric's name.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// The state of a run, except for its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The number of optimizer steps completed.
    pub step: usize,
    /// The current epoch, from 0.
    pub epoch: usize,
    /// The next batch in this epoch, from 0.
    pub batch: usize,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// The number of updates that each tensor has received from the optimizer.
    pub updates: Vec<u32>,
    /// The lengths of `metrics.jsonl` and of the event file, in bytes.
    pub log_lengths: [u64; 2],
    /// The complete configuration of the run.
    pub config: serde_json::Value,
}

impl State {
    /// Creates the initial state of a run.
    pub fn new(config: serde_json::Value) -> Self {
        let updates = Vec::new();
        Self { version: STATE_VERSION, step: 0, epoch: 0, batch: 0, best: None, updates, log_lengths: [0; 2], config }
    }
}

/// The checkpoints of a run: safetensors files with its tensors, and its [`State`] as metadata. Only the newest ones
/// are kept.
///
/// A checkpoint is renamed into place once it is complete and on disk, and only then does the file `latest` name it.
/// `latest` therefore always names a complete checkpoint, even if the process is killed.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Manages the checkpoints in `folder`, keeping the newest `keep` (at least one). `folder` must exist before the
    /// first save.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_path_buf(), keep: keep.max(1) }
    }

    /// Whether there is a checkpoint to resume from.
    pub fn any(&self) -> bool {
        self.folder.join(LATEST).exists()
    }

    /// The path of the newest complete checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none.
    pub fn latest(&self) -> Result<PathBuf> {
        let pointer = self.folder.join(LATEST);
        let name = std::fs::read_to_string(&pointer).map_err(Error::io(&pointer, "read"))?;
        Ok(self.folder.join(name.trim()))
    }

    /// Writes a checkpoint, points `latest` to it, and removes checkpoints that are no longer to be kept.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or the folder cannot be written; earlier checkpoints are then unaffected.
    pub fn save(&self, state: &State, tensors: &[(String, Tensor)]) -> Result<PathBuf> {
        let path = self.folder.join(file_name(state.step));
        let json = serde_json::to_string(state)
            .map_err(|e| Error::format(&path, "checkpoint", "a state that can be written as JSON", e))?;
        let metadata = BTreeMap::from([(STATE_KEY.to_owned(), json)]);
        save_safetensors(&path, &tensors.iter().cloned().collect(), &metadata)?;
        let pointer = self.folder.join(LATEST);
        write_atomically(&pointer, |writer| {
            writeln!(writer, "{}", file_name(state.step)).map_err(Error::io(&pointer, "write"))
        })?;
        self.prune(state.step)?;
        Ok(path)
    }

    /// Of the checkpoints up to `step`, removes all but the newest `keep`.
    fn prune(&self, step: usize) -> Result<()> {
        let entries = std::fs::read_dir(&self.folder).map_err(Error::io(&self.folder, "read"))?;
        let mut steps: Vec<usize> = entries
            .filter_map(|entry| step_of(entry.ok()?.file_name().to_str()?))
            .filter(|other| *other <= step)
            .collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        for old in steps.into_iter().skip(self.keep) {
            let path = self.folder.join(file_name(old));
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
        Ok(())
    }

    /// Reads the state and the tensors of a checkpoint. The tensors are on the CPU.
    ///
    /// # Errors
    /// - [`Error::Io`] when the file cannot be read.
    /// - [`Error::Format`] when it is truncated, is not a checkpoint, or has an incompatible version.
    pub fn load(path: &Path) -> Result<(State, HashMap<String, Tensor>)> {
        Self::parse(path, std::fs::read(path).map_err(Error::io(path, "read"))?)
    }

    /// As [`Checkpoints::load`], from the `bytes` of the file `path`.
    ///
    /// # Errors
    /// [`Error::Format`] as for [`Checkpoints::load`].
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<(State, HashMap<String, Tensor>)> {
        let broken = |found: &dyn std::fmt::Display| {
            let expected =
                format!("a complete checkpoint (to resume from an older one, write its name into the file `{LATEST}`)");
            Error::format(path, "checkpoint", expected, found)
        };
        let file = Checkpoint::safetensors_from_bytes(path, bytes).map_err(|error| match error {
            Error::Format { found, .. } => broken(&found),
            other => other,
        })?;
        let state = file.metadata().get(STATE_KEY).and_then(|state| state.as_str());
        let state = state.ok_or_else(|| broken(&"weights without the state of a training run"))?;
        let state: serde_json::Value = serde_json::from_str(state).map_err(|e| broken(&e))?;
        if state["version"] != STATE_VERSION {
            let expected = format!("version {STATE_VERSION}");
            return Err(Error::format(path, "checkpoint", expected, format!("version {}", state["version"])));
        }
        let state: State = serde_json::from_value(state).map_err(|e| broken(&e))?;
        let tensors = file.entries().iter();
        let tensors = tensors.map(|(name, entry)| Ok((name.clone(), file.tensor(name, &Device::Cpu, entry.dtype())?)));
        Ok((state, tensors.collect::<Result<_>>()?))
    }
}

fn file_name(step: usize) -> String {
    format!("step-{step:08}.safetensors")
}

/// The step in the name of a checkpoint; `None` for other files.
fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}
