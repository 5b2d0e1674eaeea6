//! Precomputed heatmaps in a safetensors file.

use std::path::Path;

use candle_core::{DType, Device};

use super::benchmark::Benchmark;
use super::grid::{SIZE, non_finite};
use super::negatives::Negative;
use super::predictor::{Prediction, Predictor};
use super::sample::Sample;
use crate::error::{Error, Result};
use crate::weights::Checkpoint;

const KIND: &str = "predictions file";

/// A safetensors file with precomputed heatmaps.
///
/// | tensor | type and shape | |
/// |---|---|---|
/// | `heatmap.<id>` | f32 `[224, 224]` | samples without one count as missing |
/// | `confidence.<id>` | f32 `[1]` | required by the Extended benchmarks |
/// | `silence.<id>`, `noise.<id>`, `offscreen.<id>` | f32 `[224, 224]` | optional: heatmaps for negative sounds |
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
        if !file.entries().keys().any(|name| name.starts_with("heatmap.")) {
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
}

impl Predictor for PredictionsFile {
    type Input = Prediction;

    fn load(&self, sample: &Sample) -> Result<Option<Prediction>> {
        let pair = format!("{}_{}", sample.picture, sample.sound);
        let is_pair = !sample.sounding && self.file.entries().contains_key(&format!("heatmap.{pair}"));
        let id = if is_pair { &pair } else { &sample.id };
        let Some(heatmap) = self.heatmap("heatmap", id)? else { return Ok(None) };
        let name = format!("confidence.{id}");
        let confidence = self.tensor(&name, &[1])?.and_then(|values| values.first().copied());
        if self.benchmark.is_extended() && confidence.is_none() {
            let expected = format!("`{name}` as F32 [1], which {} requires for each heatmap", self.benchmark);
            return Err(Error::format(self.file.path(), KIND, expected, "no such tensor"));
        }
        let mut negatives = Vec::new();
        for kind in [Negative::Silence, Negative::Noise, Negative::Offscreen] {
            negatives.extend(self.heatmap(kind.name(), id)?.map(|heatmap| (kind, heatmap)));
        }
        Ok(Some(Prediction { heatmap, confidence, negatives }))
    }

    fn predict(&self, batch: Vec<(&Sample, Prediction)>) -> Result<Vec<Prediction>> {
        Ok(batch.into_iter().map(|(_, prediction)| prediction).collect())
    }
}
