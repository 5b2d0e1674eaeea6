//! Predictions that several processes make together.
//!
//! A shard predicts every N-th batch of the whole, so that each heatmap is computed among the same others as in one process,
//! and is the same to the last bit. The header of its file says which samples it is about.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::benchmark::Benchmark;
use super::grid::SIZE;
use super::predictions::{KIND, PRESENCE, PredictionsFile, SHARD, pair_name};
use super::predictor::{NegativePrediction, Prediction, Predictor};
use super::run::{batches, checked, predict_batches};
use super::sample::Sample;
use crate::error::{Error, Result};
use crate::files::{sha256_of, temporary_beside, write_atomically};
use crate::shard::Shard;

/// What the header of a predictions file says about its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    /// The share of the samples: "2/3".
    shard: String,
    benchmark: String,
    /// The digest of the ids of all samples.
    samples: String,
    /// What made the predictions.
    model: String,
}

/// Predicts the samples of a shard and writes them to the predictions file `path`; returns the number of predictions.
/// `progress` is called with the number of samples processed since its last call.
///
/// `model` identifies what predicts: files of different models cannot be read as one. Samples for which the predictor has no
/// files are left out.
///
/// # Errors
/// - [`Error::Argument`] when the shard has no sample, two samples have the same name, or the predictor returns the wrong
///   number of predictions or, for an Extended benchmark, no confidence.
/// - [`Error::Shape`] and [`Error::NonFinite`] for unusable predictions.
/// - [`Error::Io`] when the file cannot be written.
/// - Any error of the predictor.
pub fn save_predictions<P: Predictor>(
    path: &Path,
    benchmark: Benchmark,
    samples: &[Sample],
    predictor: &P,
    shard: Shard,
    model: &str,
    progress: impl Fn(usize),
) -> Result<usize> {
    let batches = batches_of(samples, shard);
    if batches.is_empty() {
        let num_batches = self::batches(samples).len();
        let expected = format!("at most {num_batches} shards, the number of batches of {} samples", samples.len());
        return Err(Error::argument("shard", expected, shard));
    }
    let mut names = HashSet::new();
    // Before hours of work.
    if let Some(sample) = samples.iter().find(|sample| !names.insert(name(sample))) {
        return Err(Error::argument("samples", "ids that are all different", format!("`{}` twice", name(sample))));
    }
    let mark = Mark {
        shard: shard.to_string(),
        benchmark: benchmark.name().into(),
        samples: digest(samples),
        model: model.into(),
    };
    let mut writer = Writer::create(path, &mark)?;
    let mut count = 0;
    predict_batches(samples, &batches, predictor, progress, |places, predictions| {
        for (&place, prediction) in places.iter().zip(predictions) {
            let sample = &samples[place];
            writer.add(sample, &checked(benchmark, sample, prediction)?)?;
            count += 1;
        }
        Ok(())
    })?;
    writer.finish()?;
    Ok(count)
}

/// The batches of a shard.
fn batches_of(samples: &[Sample], shard: Shard) -> Vec<Vec<usize>> {
    let batches = batches(samples).into_iter().enumerate();
    batches.filter(|(place, _)| shard.contains(*place)).map(|(_, batch)| batch).collect()
}

/// The name of a sample's tensors: a silent pair is named after both, as its picture may be that of a sounding one.
fn name(sample: &Sample) -> String {
    if sample.sounding { sample.id.clone() } else { pair_name(sample) }
}

/// The digest of the samples, in order.
fn digest(samples: &[Sample]) -> String {
    let lines = samples.iter().map(|s| format!("{}\t{}\t{}\t{}\n", s.id, s.picture, s.sound, s.sounding));
    sha256_of(lines.collect::<String>().as_bytes())
}

/// Writes a safetensors file whose tensors are not known in advance.
struct Writer<'a> {
    path: &'a Path,
    header: Map<String, Value>,
    /// The elements of all tensors, which follow the header in the file.
    elements: std::io::BufWriter<tempfile::NamedTempFile>,
    end: usize,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path, mark: &Mark) -> Result<Self> {
        let elements = std::io::BufWriter::new(temporary_beside(path)?);
        let header = Map::from_iter([("__metadata__".to_owned(), json!(mark))]);
        Ok(Self { path, header, elements, end: 0 })
    }

    fn add(&mut self, sample: &Sample, prediction: &Prediction) -> Result<()> {
        let name = name(sample);
        self.tensor("heatmap", &name, &[SIZE, SIZE], &prediction.heatmap)?;
        if let Some(confidence) = prediction.confidence {
            self.tensor("confidence", &name, &[1], &[confidence])?;
        }
        if let Some(presence) = prediction.presence {
            self.tensor(PRESENCE, &name, &[1], &[presence])?;
        }
        for NegativePrediction { kind, heatmap, presence } in &prediction.negatives {
            self.tensor(kind.name(), &name, &[SIZE, SIZE], heatmap)?;
            if let Some(presence) = presence {
                self.tensor(&format!("{}_{PRESENCE}", kind.name()), &name, &[1], &[*presence])?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, kind: &str, name: &str, shape: &[usize], values: &[f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (start, end) = (self.end, self.end + bytes.len());
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]});
        self.header.insert(format!("{kind}.{name}"), entry);
        self.elements.write_all(&bytes).map_err(Error::io(self.path, "write"))?;
        self.end = end;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let failed = || Error::io(self.path, "write");
        let mut elements = self.elements.into_inner().map_err(|error| failed()(error.into_error()))?;
        elements.rewind().map_err(failed())?;
        let mut header = Value::Object(self.header).to_string().into_bytes();
        // So that the elements begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        write_atomically(self.path, |writer| {
            writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
            writer.write_all(&header).map_err(failed())?;
            std::io::copy(&mut Read::take(elements, self.end as u64), writer).map_err(failed())?;
            Ok(())
        })
    }
}

/// One or several predictions files that are read as one.
///
/// The files of shards ([`save_predictions`]) must be all of them: of the same samples, by the same model. Other files
/// together must have exactly one heatmap for each sample; a single one may lack some, which count as missing.
#[derive(Debug)]
pub struct Predictions(Vec<PredictionsFile>);

impl Predictions {
    /// Opens predictions files for these samples.
    ///
    /// # Errors
    /// - As [`PredictionsFile::open`], for each file.
    /// - [`Error::Format`] when files overlap, shards or samples are missing, or the files do not belong together. It names
    ///   the samples and the shards.
    /// - [`Error::Argument`] when `paths` is empty.
    pub fn open(paths: &[impl AsRef<Path>], benchmark: Benchmark, samples: &[Sample]) -> Result<Self> {
        let open = |path: &_| PredictionsFile::open(AsRef::as_ref(path), benchmark);
        let files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        let Some(first) = files.first() else {
            return Err(Error::argument("predictions", "at least one file", "none"));
        };
        let marks = files.iter().map(mark).collect::<Result<Vec<_>>>()?;
        match (&marks[0], marks.iter().position(|mark| mark.is_some() != marks[0].is_some())) {
            (_, Some(other)) => {
                let expected =
                    format!("a shard of the same samples, as in {}, or none in both", first.path().display());
                return Err(unusable(&files[other], expected, "another kind of file"));
            }
            (Some(mark), None) => check_shards(&files, mark, &marks, benchmark, samples)?,
            (None, None) if files.len() > 1 => check_parts(&files, samples)?,
            (None, None) => {}
        }
        Ok(Self(files))
    }
}

impl Predictor for Predictions {
    type Input = Prediction;

    fn load(&self, sample: &Sample) -> Result<Option<Prediction>> {
        // A better name in another file counts before a worse one in this.
        for name in self.0.first().map(|file| file.names(sample)).unwrap_or_default() {
            if let Some(file) = self.0.iter().find(|file| file.has(&name)) {
                return file.prediction(&name);
            }
        }
        Ok(None)
    }

    fn predict(&self, batch: Vec<(&Sample, Prediction)>) -> Result<Vec<Prediction>> {
        Ok(batch.into_iter().map(|(_, prediction)| prediction).collect())
    }
}

fn unusable(file: &PredictionsFile, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::format(file.path(), KIND, expected, found)
}

/// What a file says about its samples.
fn mark(file: &PredictionsFile) -> Result<Option<(Shard, Mark)>> {
    if !file.metadata().contains_key(SHARD) {
        return Ok(None);
    }
    let mark: Mark = serde_json::from_value(Value::Object(file.metadata().clone()))
        .map_err(|error| unusable(file, "the header of a shard", error))?;
    let shard = mark.shard.parse().map_err(|_| unusable(file, "a shard I/N", &mark.shard))?;
    Ok(Some((shard, mark)))
}

/// Checks that these are all shards of the samples, and each of them once.
fn check_shards(
    files: &[PredictionsFile],
    (first_shard, first): &(Shard, Mark),
    marks: &[Option<(Shard, Mark)>],
    benchmark: Benchmark,
    samples: &[Sample],
) -> Result<()> {
    let example = |shard: Shard| {
        let place = batches_of(samples, shard).first().and_then(|batch| batch.first().copied());
        place.and_then(|place| samples.get(place)).map_or(String::new(), |sample| format!(" (such as `{}`)", sample.id))
    };
    let world = first_shard.world;
    let mut of_shard: BTreeMap<usize, &PredictionsFile> = BTreeMap::new();
    for (file, (shard, mark)) in files.iter().zip(marks.iter().flatten()) {
        let same = [
            ("benchmark", benchmark.name(), mark.benchmark.as_str()),
            ("model", first.model.as_str(), mark.model.as_str()),
        ];
        if let Some((what, expected, found)) = same.into_iter().find(|(_, expected, found)| expected != found) {
            return Err(unusable(file, format!("predictions of the {what} {expected}"), found));
        }
        if shard.world != world {
            return Err(unusable(file, format!("one of {world} shards, as {}", files[0].path().display()), shard));
        }
        // The only file may be about more samples than are scored, of which a split is a part.
        if world > 1 && mark.samples != digest(samples) {
            let expected = format!("a shard of these {} samples (the same annotations and --split)", samples.len());
            return Err(unusable(file, expected, "a shard of others"));
        }
        if let Some(other) = of_shard.insert(shard.rank, file) {
            let found = format!("shard {shard}{} in {} as well", example(*shard), other.path().display());
            return Err(unusable(file, "each sample in one file", found));
        }
    }
    let shards = (0..world).map(|rank| Shard { rank, world });
    let missing: Vec<Shard> = shards.filter(|shard| !of_shard.contains_key(&shard.rank)).collect();
    match missing.first() {
        None => Ok(()),
        Some(shard) => {
            let names: Vec<String> = missing.iter().map(Shard::to_string).collect();
            let found = format!("nothing of shard {}{}", names.join(", "), example(*shard));
            Err(unusable(&files[0], format!("all {world} shards"), found))
        }
    }
}

/// Checks that each sample has a heatmap in exactly one file.
fn check_parts(files: &[PredictionsFile], samples: &[Sample]) -> Result<()> {
    let mut seen: BTreeMap<&str, &PredictionsFile> = BTreeMap::new();
    for file in files {
        for name in file.heatmap_names() {
            if let Some(other) = seen.insert(name, file) {
                let found = format!("`{name}` in {} as well", other.path().display());
                return Err(unusable(file, "each sample in one file", found));
            }
        }
    }
    let has = |sample: &Sample| files.iter().any(|file| file.names(sample).iter().any(|name| file.has(name)));
    let is_missing = |sample: &&Sample| !has(sample);
    let missing: Vec<&str> = samples.iter().filter(is_missing).map(|sample| sample.id.as_str()).collect();
    match missing.len() {
        0 => Ok(()),
        count => {
            let shown: Vec<String> = missing.iter().take(5).map(|id| format!("`{id}`")).collect();
            let more = if count > shown.len() { " …" } else { "" };
            let expected = format!("a heatmap of each of {} samples in {} files", samples.len(), files.len());
            Err(unusable(&files[0], expected, format!("none of {count}: {}{more}", shown.join(", "))))
        }
    }
}
