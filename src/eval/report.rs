//! The report: all metrics of a benchmark, computed from the records of its samples.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::viz::{FailureSignature, MaskStatistics, MaskTally};

use super::baselines::Baseline;
use super::benchmark::{Benchmark, Published};
use super::detection::Detections;
use super::overlap::NUM_THRESHOLDS;
use super::pairs::{Pairs, SceneScores, scenes};
use super::presence::PresenceReport;
use super::rates::{area_under_success_curve, mean, success_rate};
use super::record::Record;
use super::segmentation::{max_mean_f_measure, mini_batch_mean};
use super::universal::UniversalThreshold;

/// Options of an evaluation.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A fixed threshold in [0, 1] to report as well, chosen on another split.
    pub threshold: Option<f32>,
    /// The name of the split, for the report.
    pub split: Option<String>,
    /// The presence in [0, 1] from which on a sound counts as present, chosen on another split.
    pub presence_threshold: Option<f32>,
}

/// The metrics at one threshold as (name, percentage), in the order of the tables.
///
/// A metric is `None`, and null in JSON, where it is undefined: LocAcc without sounding pairs, the F-measure when all
/// masks are empty.
///
/// | benchmark | metrics |
/// |---|---|
/// | VGG-SS, SoundNet-Flickr | `cIoU` (percentage with a cIoU of at least 0.5), `AUC`, `mIoU` (mean cIoU), `cIoU@0.3` |
/// | Extended | `AP`, `maxF1`, `LocAcc`; for the sounding pairs also `AUC`, `mIoU`, `cIoU@0.3` |
/// | AVSBench | `mIoU` (over mini-batches of five), `Fmeasure` (at its own best threshold) |
/// | any, if there are scenes with several sources | additionally `scene cIoU@0.3`, `scene IoU@0.5`, `IIoU`, `IAUC` |
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row(pub Vec<(&'static str, Option<f64>)>);

impl Row {
    /// The metric `name`; `None` if it does not exist or is undefined.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(key, _)| *key == name).and_then(|(_, value)| *value)
    }

    /// The first metric, by which the best threshold is chosen.
    pub fn principal(&self) -> Option<f64> {
        self.0.first().and_then(|(_, value)| *value)
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A threshold and the metrics at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Entry {
    /// The threshold.
    pub threshold: f64,
    /// The metrics.
    #[serde(flatten)]
    pub row: Row,
}

/// All metrics of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The split, if one was given.
    pub split: Option<String>,
    /// The number of scored samples.
    pub samples: usize,
    /// The number of annotated samples without a heatmap or without files.
    pub missing: usize,
    /// The metrics at 0.05, 0.1 … 0.95.
    #[serde(serialize_with = "by_threshold")]
    pub thresholds: Vec<Entry>,
    /// The threshold with the highest principal metric; the lowest such threshold if there are several.
    pub best: Entry,
    /// The best value of each metric on its own, with the lowest threshold that reaches it.
    pub best_of_each: BTreeMap<&'static str, Best>,
    /// The metrics at the fixed threshold, if one was given.
    pub fixed: Option<Entry>,
    /// The metrics at the adaptive threshold of each sample: an oracle, as it knows the true area.
    pub adaptive_oracle: Row,
    /// The percentage of sounding samples for which the peak of the heatmap lies inside the ground truth.
    pub pointing: Option<f64>,
    /// The metrics of scenes with several sources, if there are any.
    pub pairs: Option<Pairs>,
    /// Statistics of the masks of sounding samples at the best threshold, as fractions.
    pub masks: Option<MaskStatistics>,
    /// The failure that the mask statistics reveal, if any.
    pub failure: Option<FailureSignature>,
    /// The results at the universal threshold, if there are negative sounds.
    pub universal_threshold: Option<UniversalThreshold>,
    /// How well the model says whether the source is in the picture, if it does and there are negative sounds.
    pub presence: Option<PresenceReport>,
    /// The results of the trivial heatmaps, each at its best threshold.
    #[serde(serialize_with = "by_name")]
    pub baselines: Vec<(Baseline, Entry)>,
    /// The result published for this benchmark, if there is one.
    pub published: Option<Published>,
    /// The ids of the missing samples.
    pub missing_ids: Vec<String>,
}

/// The best value of one metric.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Best {
    /// The threshold at which it was reached.
    pub threshold: f64,
    /// The value, in percent.
    pub value: f64,
}

/// The scores of a trivial heatmap on one sample.
pub(super) struct BaselineScores {
    pub confidence: f32,
    pub scores: [f64; NUM_THRESHOLDS],
    pub f_curve: Option<Vec<f64>>,
}

/// The threshold at position `place` of the tables.
pub(super) fn threshold(place: usize) -> f64 {
    (place + 1) as f64 / 20.0
}

fn by_threshold<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|entry| (format!("{:.2}", entry.threshold), &entry.row)))
}

fn by_name<S: Serializer>(baselines: &[(Baseline, Entry)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(baselines.iter().map(|(baseline, entry)| (baseline.name(), entry)))
}

/// The scores of one sample from which a row of metrics is computed.
struct Scored<'a> {
    sounding: bool,
    score: f64,
    confidence: Option<f32>,
    f_curve: Option<&'a [f64]>,
}

fn metrics(benchmark: Benchmark, samples: &[Scored]) -> Row {
    let percent = |share: Option<f64>| share.map(|share| share * 100.0);
    let scores: Vec<f64> = samples.iter().filter(|s| s.sounding).map(|s| s.score).collect();
    let mut row = if benchmark.is_segmentation() {
        vec![
            ("mIoU", percent(mini_batch_mean(&scores))),
            ("Fmeasure", percent(max_mean_f_measure(samples.iter().filter_map(|s| s.f_curve)))),
        ]
    } else if benchmark.is_extended() {
        let pairs = samples.iter().filter_map(|s| Some((s.sounding, s.score, s.confidence?)));
        let detections = Detections::new(pairs);
        vec![
            ("AP", percent(Some(detections.average_precision()))),
            ("maxF1", Some(detections.max_f1())),
            ("LocAcc", percent(detections.localization_accuracy())),
        ]
    } else {
        vec![("cIoU", percent(success_rate(&scores, 0.5)))]
    };
    if !benchmark.is_segmentation() {
        row.extend([
            ("AUC", percent(area_under_success_curve(&scores))),
            ("mIoU", percent(mean(scores.iter().copied()))),
            ("cIoU@0.3", percent(success_rate(&scores, 0.3))),
        ]);
    }
    Row(row)
}

/// The entry with the highest principal metric; the first if there are several.
fn best(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().reduce(|best, entry| if entry.row.principal() > best.row.principal() { entry } else { best })
}

impl Report {
    pub(super) fn new(
        benchmark: Benchmark,
        options: &Options,
        records: &[Record],
        baselines: &[[BaselineScores; Baseline::ALL.len()]],
        missing_ids: Vec<String>,
        num_sources: &BTreeMap<&str, usize>,
    ) -> Self {
        let scenes = scenes(records, num_sources);
        let row_of = |score: &dyn Fn(&Record) -> Option<f64>| {
            let scored = records.iter().filter_map(|r| {
                let (sounding, confidence, f_curve) = (r.sounding, r.confidence, r.f_curve.as_deref());
                score(r).map(|score| Scored { sounding, score, confidence, f_curve })
            });
            let mut row = metrics(benchmark, &scored.collect::<Vec<_>>());
            if let Some(scenes) = SceneScores::new(&scenes, score).filter(|_| !scenes.is_empty()) {
                row.0.extend(scenes.metrics().map(|(name, share)| (name, share.map(|share| share * 100.0))));
            }
            row
        };
        let thresholds: Vec<Entry> = (0..NUM_THRESHOLDS)
            .map(|place| Entry { threshold: threshold(place), row: row_of(&|r| r.scores.get(place).copied()) })
            .collect();
        let baseline_entries = Baseline::ALL.into_iter().enumerate().filter_map(|(which, baseline)| {
            let entries: Vec<Entry> = (0..NUM_THRESHOLDS)
                .map(|place| {
                    let scored = records.iter().zip(baselines).filter_map(|(record, said)| {
                        let said = said.get(which)?;
                        let (confidence, f_curve) = (Some(said.confidence), said.f_curve.as_deref());
                        Some(Scored { sounding: record.sounding, score: *said.scores.get(place)?, confidence, f_curve })
                    });
                    Entry { threshold: threshold(place), row: metrics(benchmark, &scored.collect::<Vec<_>>()) }
                })
                .collect();
            best(&entries).map(|entry| (baseline, entry.clone()))
        });
        let best = best(&thresholds).cloned().unwrap_or(Entry { threshold: 0.0, row: Row::default() });
        let masks = mask_statistics(records, place_of(&best, &thresholds));
        let points = |record: &Record| f64::from(u8::from(record.pointing)) * 100.0;
        Self {
            benchmark,
            split: options.split.clone(),
            samples: records.len(),
            missing: missing_ids.len(),
            best,
            best_of_each: best_of_each(&thresholds),
            fixed: options.threshold.map(|t| Entry { threshold: shortest(t), row: row_of(&|r| r.fixed) }),
            adaptive_oracle: row_of(&|r| Some(r.adaptive)),
            pointing: mean(records.iter().filter(|r| r.sounding).map(points)),
            pairs: Pairs::new(&scenes),
            failure: masks.as_ref().and_then(MaskStatistics::failure),
            masks,
            universal_threshold: UniversalThreshold::new(records),
            presence: PresenceReport::new(records, options.presence_threshold),
            baselines: baseline_entries.collect(),
            published: benchmark.published(options.split.as_deref()),
            thresholds,
            missing_ids,
        }
    }

    /// The position of the best threshold among [`THRESHOLDS`](super::THRESHOLDS).
    pub(super) fn best_place(&self) -> usize {
        place_of(&self.best, &self.thresholds)
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write_atomically(path, |writer| {
            serde_json::to_writer_pretty(writer, self).map_err(|e| Error::io(path, "write")(e.into()))
        })
    }
}

/// The position of `best` in `entries`.
fn place_of(best: &Entry, entries: &[Entry]) -> usize {
    entries.iter().position(|entry| entry.threshold == best.threshold).unwrap_or(0)
}

/// The statistics of the masks of sounding samples, at the threshold at position `place` of the tables.
fn mask_statistics(records: &[Record], place: usize) -> Option<MaskStatistics> {
    let mut tally = MaskTally::default();
    for record in records.iter().filter(|record| record.sounding) {
        tally.add(record.areas[place], record.overlaps.iter().map(|overlaps| overlaps[place]));
    }
    tally.finish()
}

fn best_of_each(entries: &[Entry]) -> BTreeMap<&'static str, Best> {
    let mut best: BTreeMap<&'static str, Best> = BTreeMap::new();
    for entry in entries {
        for &(name, value) in &entry.row.0 {
            let Some(value) = value else { continue };
            if best.get(name).is_none_or(|best| value > best.value) {
                best.insert(name, Best { threshold: entry.threshold, value });
            }
        }
    }
    best
}

/// The f64 with the same decimal representation as `value`: 0.35, not 0.3499999940395355.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
