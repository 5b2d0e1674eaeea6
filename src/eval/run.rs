//! Evaluates a predictor on samples.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};

use super::baselines::Baseline;
use super::benchmark::Benchmark;
use super::grid::{PIXELS, SIZE, non_finite};
use super::predictor::{Prediction, Predictor};
use super::record::{Record, Scorer};
use super::report::{BaselineScores, Options, Report};
use super::sample::{GroundTruth, Sample};
use super::segmentation::f_measure_curve;

/// The minimum number of samples in a batch; samples of the same picture stay together. A batch is loaded in parallel
/// while the previous one is predicted.
const BATCH: usize = 32;

/// A finished evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// All metrics.
    pub report: Report,
    /// The scores of each scored sample, in the order of the samples.
    pub records: Vec<Record>,
}

/// Scores all samples. `progress` is called with the number of samples processed since its last call.
///
/// Loading runs in parallel, one batch ahead of prediction; scoring runs in parallel after it. Samples for which the
/// predictor has no files are counted and listed in the report.
///
/// # Errors
/// - [`Error::Argument`] for a threshold or a presence outside [0, 1], when no sample could be scored, when a prediction for an
///   Extended benchmark has no confidence, or when the predictor returns the wrong number of predictions.
/// - [`Error::Shape`] for a heatmap of the wrong size.
/// - [`Error::NonFinite`] for a heatmap or a confidence that is NaN or infinite.
/// - [`Error::Io`] or [`Error::Image`] for a ground-truth mask that cannot be read.
/// - Any error of the predictor.
pub fn evaluate<P: Predictor>(
    benchmark: Benchmark,
    samples: &[Sample],
    predictor: &P,
    options: &Options,
    progress: impl Fn(usize),
) -> Result<Evaluation> {
    if let Some(threshold) = options.threshold.filter(|t| !(0.0..=1.0).contains(t)) {
        return Err(Error::argument("threshold", "a number in [0, 1]", threshold));
    }
    if let Some(threshold) = options.presence_threshold.filter(|t| !(0.0..=1.0).contains(t)) {
        return Err(Error::argument("presence_threshold", "a number in [0, 1]", threshold));
    }
    let mut num_sources = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.sounding) {
        *num_sources.entry(sample.picture.as_str()).or_insert(0) += 1;
    }
    let is_one_of_several = |s: &Sample| s.sounding && num_sources.get(s.picture.as_str()).is_some_and(|&n| n > 1);
    let scorer = Scorer::new(benchmark, options.threshold, GroundTruth::Nothing.map()?);

    let mut done: Vec<Scored> = Vec::with_capacity(samples.len());
    let missing = predict_batches(samples, &batches(samples), predictor, progress, |places, predictions| {
        let score = |(&i, prediction): (&usize, Prediction)| {
            let sample = &samples[i];
            let prediction = checked(benchmark, sample, prediction)?;
            let truth = sample.truth.map()?;
            let baselines = Baseline::ALL.map(|baseline| {
                baseline.with_heatmap(i, |heatmap, confidence| BaselineScores {
                    confidence,
                    scores: scorer.measure.at_tables(&scorer.tables, heatmap, &truth),
                    f_curve: benchmark.is_segmentation().then(|| f_measure_curve(heatmap, &truth)).flatten(),
                })
            });
            let record = scorer.record(i, sample, &truth, &prediction, is_one_of_several(sample));
            Ok(Scored { record, baselines })
        };
        done.extend(places.par_iter().zip(predictions).map(score).collect::<Result<Vec<_>>>()?);
        Ok(())
    })?;
    if done.is_empty() {
        let expected = "at least one sample whose heatmap or media files exist";
        return Err(Error::argument("samples", expected, format!("none of {} samples", samples.len())));
    }
    done.sort_by_key(|scored| scored.record.place);
    let missing = missing.into_iter().map(|i| samples[i].id.clone()).collect();
    let (records, baselines): (Vec<_>, Vec<_>) = done.into_iter().map(|s| (s.record, s.baselines)).unzip();
    let report = Report::new(benchmark, options, &records, &baselines, missing, &num_sources);
    Ok(Evaluation { report, records })
}

/// Predicts the samples of `batches` batch by batch, while the next one is loaded. `take` gets the positions of those that
/// the predictor has files for, and their predictions. Returns the positions of the others, in ascending order.
pub(super) fn predict_batches<P: Predictor>(
    samples: &[Sample],
    batches: &[Vec<usize>],
    predictor: &P,
    progress: impl Fn(usize),
    mut take: impl FnMut(&[usize], Vec<Prediction>) -> Result<()>,
) -> Result<Vec<usize>> {
    let mut batches = batches.iter();
    let load = |batch: &Vec<usize>| -> Vec<_> { batch.par_iter().map(|&i| (i, predictor.load(&samples[i]))).collect() };
    let mut missing = Vec::new();
    let mut loaded = batches.next().map(load).unwrap_or_default();
    while !loaded.is_empty() {
        let num_here = loaded.len();
        let (mut places, mut inputs) = (Vec::with_capacity(num_here), Vec::with_capacity(num_here));
        for (i, input) in std::mem::take(&mut loaded) {
            match input? {
                Some(input) => {
                    places.push(i);
                    inputs.push((&samples[i], input));
                }
                None => missing.push(i),
            }
        }
        let next = batches.next();
        let (ahead, predictions) = rayon::join(|| next.map(load).unwrap_or_default(), || predictor.predict(inputs));
        loaded = ahead;
        let predictions = predictions?;
        if predictions.len() != places.len() {
            let expected = format!("one for each of the {} samples of the batch", places.len());
            return Err(Error::argument("predictions", expected, predictions.len()));
        }
        take(&places, predictions)?;
        progress(num_here);
    }
    missing.sort_unstable();
    Ok(missing)
}

/// The positions of the samples, in batches. All samples of a picture are in the same batch.
pub(super) fn batches(samples: &[Sample]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by_key(|&i| (&samples[i].picture, i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for same_picture in order.chunk_by(|&a, &b| samples[a].picture == samples[b].picture) {
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH => batch.extend(same_picture),
            _ => batches.push(same_picture.to_vec()),
        }
    }
    batches
}

struct Scored {
    record: Record,
    baselines: [BaselineScores; Baseline::ALL.len()],
}

/// Returns `prediction` if it is valid.
pub(super) fn checked(benchmark: Benchmark, sample: &Sample, prediction: Prediction) -> Result<Prediction> {
    let heatmaps = prediction.negatives.iter().map(|negative| (negative.kind.name(), &negative.heatmap));
    for (name, heatmap) in heatmaps.chain([("heatmap", &prediction.heatmap)]) {
        if heatmap.len() != PIXELS {
            return Err(Error::shape("heatmap", format!("[{SIZE} * {SIZE}]"), &[heatmap.len()]));
        }
        if let Some(details) = non_finite(heatmap) {
            return Err(Error::NonFinite { what: format!("`{name}.{}`", sample.id), details });
        }
    }
    let presences = prediction.negatives.iter().map(|negative| negative.presence).chain([prediction.presence]);
    if let Some(presence) = presences.flatten().find(|presence| !(0.0..=1.0).contains(presence)) {
        return Err(Error::argument(format!("presence of `{}`", sample.id), "a number in [0, 1]", presence));
    }
    match prediction.confidence {
        None if benchmark.is_extended() => {
            Err(Error::argument(format!("confidence of `{}`", sample.id), format!("a number for {benchmark}"), "none"))
        }
        Some(confidence) if !confidence.is_finite() => {
            Err(Error::NonFinite { what: format!("`confidence.{}`", sample.id), details: confidence.to_string() })
        }
        _ => Ok(prediction),
    }
}
