//! Precomputed heatmaps in a safetensors file.

use std::path::Path;

use candle_core::{DType, Device};

use super::benchmark::Benchmark;
use super::grid::{SIZE, non_finite};
use super::negatives::Negative;
use super::predictor::{NegativePrediction, Prediction, Predictor};
use super::sample::Sample;
use crate::error::{Error, Result};
use crate::weights::Checkpoint;

pub(super) const KIND: &str = "predictions file";
/// The entry of the header that says which share of the samples a file is about.
pub(super) const SHARD: &str = "shard";
/// The beginning of the names of heatmaps.
const HEATMAP: &str = "heatmap.";
/// The kind of the tensors with probabilities.
pub(super) const PRESENCE: &str = "presence";

/// A safetensors file with precomputed heatmaps.
///
/// | tensor | type and shape | |
/// |---|---|---|
/// | `heatmap.<id>` | f32 `[224, 224]` | samples without one count as missing |
/// | `confidence.<id>` | f32 `[1]` | required by the Extended benchmarks |
/// | `presence.<id>` | f32 `[1]` | optional: the probability that the source is in the picture |
/// | `silence.<id>`, `noise.<id>`, `offscreen.<id>` | f32 `[224, 224]` | optional: heatmaps for negative sounds |
/// | `silence_presence.<id>` … | f32 `[1]` | optional: the presence of negative sounds |
///
/// [`save_predictions`](super::save_predictions) writes such files, and [`Predictions`](super::Predictions) reads several of
/// them as one.
///
/// The tensors of a silent pair may be named after its picture and its sound, `heatmap.<video>_<audio>`; these names
/// take precedence over the id. This allows a picture to be in both halves of an Extended benchmark. Tensors are read
/// on demand, so the file may be larger than memory.
#[derive(Debug)]
pub struct PredictionsFile {
    file: Checkpoint,
    benchmark: Benchmark,
}

impl PredictionsFile {
    /// Opens a predictions file and reads its header.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Format`] when it is not a complete safetensors file or
    /// contains no heatmap.
    pub fn open(path: &Path, benchmark: Benchmark) -> Result<Self> {
        let unusable =
            |found: String| Error::format(path, KIND, "a complete safetensors file with `heatmap.<id>`", found);
        let file = Checkpoint::open_safetensors(path).map_err(|error| match error {
            Error::Format { found, .. } => unusable(found),
            other => other,
        })?;
        // A shard may have nothing but samples without files.
        let is_shard = file.metadata().contains_key(SHARD);
        if !is_shard && !file.entries().keys().any(|name| name.starts_with(HEATMAP)) {
            return Err(unusable(format!("{} tensors, none of them a heatmap", file.entries().len())));
        }
        Ok(Self { file, benchmark })
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some(entry) = self.file.entries().get(name) else { return Ok(None) };
        if entry.dtype() != DType::F32 || entry.shape() != shape {
            let found = format!("{:?} {:?}", entry.dtype(), entry.shape());
            return Err(Error::format(self.file.path(), KIND, format!("`{name}` as F32 {shape:?}"), found));
        }
        Ok(Some(self.file.tensor(name, &Device::Cpu, DType::F32)?.flatten_all()?.to_vec1()?))
    }

    fn heatmap(&self, prefix: &str, id: &str) -> Result<Option<Vec<f32>>> {
        let name = format!("{prefix}.{id}");
        let heatmap = self.tensor(&name, &[SIZE, SIZE])?;
        match heatmap.as_deref().and_then(non_finite) {
            Some(found) => {
                let details = format!("{found} in {}", self.file.path().display());
                Err(Error::NonFinite { what: format!("`{name}`"), details })
            }
            None => Ok(heatmap),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The strings of its header.
    pub(super) fn metadata(&self) -> &serde_json::Map<String, serde_json::Value> {
        self.file.metadata()
    }

    /// The names of its heatmaps, without `heatmap.`.
    pub(super) fn heatmap_names(&self) -> impl Iterator<Item = &str> {
        self.file.entries().keys().filter_map(|name| name.strip_prefix(HEATMAP))
    }

    /// Whether it has a heatmap of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.entries().contains_key(&format!("{HEATMAP}{name}"))
    }

    /// The names that the tensors of a sample may have, the best first.
    pub(super) fn names(&self, sample: &Sample) -> Vec<String> {
        match sample.sounding {
            true => vec![sample.id.clone()],
            // This crate always writes the first one: without it, the pair was left out.
            false if self.metadata().contains_key(SHARD) => vec![pair_name(sample)],
            false => vec![pair_name(sample), sample.id.clone()],
        }
    }

    /// The prediction of this name, if it has one.
    pub(super) fn prediction(&self, id: &str) -> Result<Option<Prediction>> {
        let Some(heatmap) = self.heatmap("heatmap", id)? else { return Ok(None) };
        let name = format!("confidence.{id}");
        let number = |name: &str| -> Result<Option<f32>> {
            Ok(self.tensor(name, &[1])?.and_then(|values| values.first().copied()))
        };
        let confidence = number(&name)?;
        if self.benchmark.is_extended() && confidence.is_none() {
            let expected = format!("`{name}` as F32 [1], which {} requires for each heatmap", self.benchmark);
            return Err(Error::format(self.file.path(), KIND, expected, "no such tensor"));
        }
        let mut negatives = Vec::new();
        for kind in [Negative::Silence, Negative::Noise, Negative::Offscreen] {
            if let Some(heatmap) = self.heatmap(kind.name(), id)? {
                let presence = number(&format!("{}_{PRESENCE}.{id}", kind.name()))?;
                negatives.push(NegativePrediction { kind, heatmap, presence });
            }
        }
        let presence = number(&format!("{PRESENCE}.{id}"))?;
        Ok(Some(Prediction { heatmap, confidence, presence, negatives }))
    }
}

/// The name of the tensors of a silent pair, which is different from that of the sounding pair of the same picture.
pub(super) fn pair_name(sample: &Sample) -> String {
    format!("{}_{}", sample.picture, sample.sound)
}

impl Predictor for PredictionsFile {
    type Input = Prediction;

    fn load(&self, sample: &Sample) -> Result<Option<Prediction>> {
        match self.names(sample).into_iter().find(|name| self.has(name)) {
            Some(name) => self.prediction(&name),
            None => Ok(None),
        }
    }

    fn predict(&self, batch: Vec<(&Sample, Prediction)>) -> Result<Vec<Prediction>> {
        Ok(batch.into_iter().map(|(_, prediction)| prediction).collect())
    }
}
