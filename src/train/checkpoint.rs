//! The checkpoints of a training run: files of tensors, with all that the run needs to go on as if it had never
//! stopped.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::weights::{Checkpoint, save_safetensors};

/// The entry of a checkpoint's metadata that holds its [`State`].
const STATE_KEY: &str = "soundsight_training_state";
/// The layout of [`State`]; raised when an older program could not read it any more.
const STATE_VERSION: u32 = 1;
/// The file that names the newest complete checkpoint.
const LATEST: &str = "latest";

/// The best epoch so far, by the validation metric that the configuration names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, from 0.
    pub epoch: usize,
    /// Optimizer steps made by then.
    pub step: usize,
    /// The metric's name.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// Where a run stands, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// Optimizer steps made.
    pub step: usize,
    /// The current epoch, from 0.
    pub epoch: usize,
    /// The next batch in this epoch, from 0.
    pub batch: usize,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// How often the optimizer has updated each tensor.
    pub updates: Vec<u32>,
    /// The state of the training noise.
    pub rng: ChaCha8Rng,
    /// How long `metrics.jsonl` and the event file were, in bytes.
    pub log_lengths: [u64; 2],
    /// The run's whole configuration.
    pub config: serde_json::Value,
}

impl State {
    /// The state of a run at its very beginning.
    pub fn new(rng: ChaCha8Rng, config: serde_json::Value) -> Self {
        let updates = Vec::new();
        Self {
            version: STATE_VERSION,
            step: 0,
            epoch: 0,
            batch: 0,
            best: None,
            updates,
            rng,
            log_lengths: [0; 2],
            config,
        }
    }
}

/// The checkpoints of a run: safetensors files of its tensors with its [`State`] in their metadata, of which the newest
/// `keep` are kept.
///
/// A checkpoint appears under its name only when it is complete and on the disk, and only then does the file `latest`
/// name it. Whenever the process dies, `latest` names a complete one.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in `folder`, which exists when the first is saved; at least one is kept.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_path_buf(), keep: keep.max(1) }
    }

    /// Whether there is something to resume.
    pub fn any(&self) -> bool {
        self.folder.join(LATEST).exists()
    }

    /// The newest complete checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] when there is none.
    pub fn latest(&self) -> Result<PathBuf> {
        let pointer = self.folder.join(LATEST);
        let name = std::fs::read_to_string(&pointer).map_err(Error::io(&pointer, "read"))?;
        Ok(self.folder.join(name.trim()))
    }

    /// Writes a checkpoint, points `latest` to it, and removes the oldest ones beyond those to keep.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full or the folder cannot be written; earlier checkpoints are untouched then.
    pub fn save(&self, state: &State, tensors: &[(String, Tensor)]) -> Result<PathBuf> {
        let path = self.folder.join(file_name(state.step));
        let json = serde_json::to_string(state)
            .map_err(|e| Error::format(&path, "checkpoint", "a state that JSON can hold", e))?;
        let metadata = BTreeMap::from([(STATE_KEY.to_owned(), json)]);
        save_safetensors(&path, &tensors.iter().cloned().collect(), &metadata)?;
        let pointer = self.folder.join(LATEST);
        write_atomically(&pointer, |writer| {
            writeln!(writer, "{}", file_name(state.step)).map_err(Error::io(&pointer, "write"))
        })?;
        self.prune(state.step)?;
        Ok(path)
    }

    /// Removes all but the newest checkpoints up to `step`.
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

    /// Reads a checkpoint: its state, and its tensors on the CPU.
    ///
    /// # Errors
    /// - [`Error::Io`] when the file cannot be read.
    /// - [`Error::Format`] when it is truncated, no checkpoint, or from an incompatible version.
    pub fn load(path: &Path) -> Result<(State, HashMap<String, Tensor>)> {
        let broken = |found: &dyn std::fmt::Display| {
            let expected =
                format!("a complete checkpoint (to go on from an older one, write its name into `{LATEST}` beside it)");
            Error::format(path, "checkpoint", expected, found)
        };
        let file = Checkpoint::open_safetensors(path).map_err(|error| match error {
            Error::Format { found, .. } => broken(&found),
            other => other,
        })?;
        let state = file.metadata().get(STATE_KEY).and_then(|state| state.as_str());
        let state = state.ok_or_else(|| broken(&"weights without the state of a training run"))?;
        let state: State = serde_json::from_str(state).map_err(|e| broken(&e))?;
        if state.version != STATE_VERSION {
            let expected = format!("version {STATE_VERSION}");
            return Err(Error::format(path, "checkpoint", expected, format!("version {}", state.version)));
        }
        let tensors = file.entries().iter();
        let tensors = tensors.map(|(name, entry)| Ok((name.clone(), file.tensor(name, &Device::Cpu, entry.dtype())?)));
        Ok((state, tensors.collect::<Result<_>>()?))
    }
}

fn file_name(step: usize) -> String {
    format!("step-{step:08}.safetensors")
}

/// The step in a checkpoint's name; `None` for other files.
fn step_of(name: &str) -> Option<usize> {
    name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}
