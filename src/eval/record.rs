//! The scores of one sample.

use super::average_precision::pixel_average_precision;
use super::benchmark::Benchmark;
use super::grid::PIXELS;
use super::negatives::{Activity, NUM_STEPS, Negative};
use super::overlap::{Keep, NUM_THRESHOLDS, Overlap, Thresholds, adaptive_threshold, peak_is_inside};
use super::predictor::{NegativePrediction, Prediction};
use super::sample::{Sample, TruthMap};
use super::segmentation::f_measure_curve;
use crate::viz::mask_overlap;

/// The scores of one sample, as fractions. The heatmap itself is not stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The sample's id.
    pub id: String,
    /// The sample's class, if known.
    pub class: Option<String>,
    /// The sample's picture.
    pub picture: String,
    /// The sample's sound.
    pub sound: String,
    /// False for silent and mismatched pairs.
    pub sounding: bool,
    /// The sum of the ground truth's weights, as a fraction of the picture.
    pub truth_area: f64,
    /// The model's confidence that the picture shows the source, if the model gives one.
    pub confidence: Option<f32>,
    /// The probability that the picture shows the source, if the model gives one.
    pub presence: Option<f32>,
    /// The cIoU (IoU for AVSBench) at each of [`THRESHOLDS`](super::THRESHOLDS).
    pub scores: [f64; NUM_THRESHOLDS],
    /// The same at the fixed threshold, if one was given.
    pub fixed: Option<f64>,
    /// The same at the adaptive threshold, an oracle that knows the area of the ground truth.
    pub adaptive: f64,
    /// Whether the peak of the heatmap lies inside the ground truth.
    pub pointing: bool,
    /// The F-measure at 255 thresholds, for AVSBench samples whose mask is not empty.
    pub f_curve: Option<Vec<f64>>,
    /// The pixel-wise average precision, for samples that share their picture with others.
    pub pixel_average_precision: Option<f64>,
    /// The heatmaps for negative sounds: those in the prediction, and the sample's own if it is a silent pair.
    pub negatives: Vec<NegativeRecord>,
    /// The fraction of the picture that is predicted at each of [`THRESHOLDS`](super::THRESHOLDS).
    pub areas: [f64; NUM_THRESHOLDS],
    /// For each negative sound in the prediction: the overlap (intersection over union) of the masks for that sound and
    /// for the sample's own, at each of [`THRESHOLDS`](super::THRESHOLDS).
    pub overlaps: Vec<[f64; NUM_THRESHOLDS]>,
    /// The scores of sounding samples at all i / 1000, because the universal threshold depends on all samples and is
    /// not known yet.
    pub(super) fine: Vec<f64>,
    /// The position among the samples.
    pub(super) place: usize,
}

/// The statistics of the heatmap of a negative sound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NegativeRecord {
    /// The kind of sound.
    pub kind: Negative,
    /// The probability that the picture shows its source, if the model gives one.
    pub presence: Option<f32>,
    pub(super) activity: Activity,
}

impl NegativeRecord {
    /// The heatmap's maximum.
    pub fn peak(&self) -> f32 {
        self.activity.peak
    }
}

/// How a benchmark scores a heatmap: which pixels a threshold keeps, and which overlap is computed.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    keep: Keep,
    overlap: fn(&Overlap) -> f64,
}

impl Measure {
    pub fn of(benchmark: Benchmark) -> Self {
        if benchmark.is_segmentation() {
            Self { keep: Keep::Above, overlap: Overlap::mask_iou }
        } else if benchmark.is_extended() {
            Self { keep: Keep::AtLeast, overlap: Overlap::extended_ciou }
        } else {
            Self { keep: Keep::AtLeast, overlap: Overlap::ciou }
        }
    }

    /// Whether a pixel with this value is predicted.
    pub fn predicts(self, value: f32, threshold: f32) -> bool {
        self.keep.keeps(value, threshold)
    }

    pub fn sweep(self, thresholds: &Thresholds, heatmap: &[f32], truth: &TruthMap) -> Vec<f64> {
        thresholds.sweep(self.keep, heatmap, truth).iter().map(self.overlap).collect()
    }

    pub fn at_tables(self, thresholds: &Thresholds, heatmap: &[f32], truth: &TruthMap) -> [f64; NUM_THRESHOLDS] {
        let overlaps = thresholds.sweep(self.keep, heatmap, truth);
        std::array::from_fn(|i| overlaps.get(i).map_or(0.0, self.overlap))
    }

    /// The fraction of the picture that is predicted at each threshold of the tables.
    fn areas(self, thresholds: &Thresholds, heatmap: &[f32], nothing: &TruthMap) -> [f64; NUM_THRESHOLDS] {
        let overlaps = thresholds.sweep(self.keep, heatmap, nothing);
        std::array::from_fn(|i| overlaps.get(i).map_or(0.0, |overlap| overlap.predicted / PIXELS as f64))
    }

    pub fn at(self, threshold: f32, heatmap: &[f32], truth: &TruthMap) -> f64 {
        (self.overlap)(&Overlap::at(threshold, self.keep, heatmap, truth))
    }

    /// The score at the adaptive threshold. All benchmarks keep the values *above* it.
    pub fn adaptive(self, heatmap: &[f32], truth: &TruthMap) -> f64 {
        let threshold = adaptive_threshold(heatmap, truth);
        (self.overlap)(&Overlap::at(threshold, Keep::Above, heatmap, truth))
    }
}

/// Turns predictions into records.
pub(super) struct Scorer {
    pub benchmark: Benchmark,
    pub measure: Measure,
    pub tables: Thresholds,
    fine: Thresholds,
    fixed: Option<f32>,
    nothing: TruthMap,
}

impl Scorer {
    pub fn new(benchmark: Benchmark, fixed: Option<f32>, nothing: TruthMap) -> Self {
        Self {
            benchmark,
            measure: Measure::of(benchmark),
            tables: Thresholds::of_tables(),
            fine: Thresholds::fine(NUM_STEPS),
            fixed,
            nothing,
        }
    }

    /// Scores the sample at position `place`. `is_one_of_several` says whether other samples share its picture.
    pub fn record(
        &self,
        place: usize,
        sample: &Sample,
        truth: &TruthMap,
        said: &Prediction,
        is_one_of_several: bool,
    ) -> Record {
        let heatmap = &said.heatmap[..];
        let negative = |kind, heatmap: &[f32], presence| NegativeRecord {
            kind,
            presence,
            activity: Activity::new(heatmap, &self.fine, &self.nothing),
        };
        let areas = |heatmap: &[f32]| self.measure.areas(&self.tables, heatmap, &self.nothing);
        let own = areas(heatmap);
        let overlaps = |NegativePrediction { heatmap: other, .. }: &NegativePrediction| {
            // A pixel is predicted for both sounds where the smaller of its two values reaches the threshold.
            let common: Vec<f32> = heatmap.iter().zip(other).map(|(a, b)| a.min(*b)).collect();
            let (other, common) = (areas(other), areas(&common));
            std::array::from_fn(|i| mask_overlap(own[i], other[i], common[i]))
        };
        let pair = (!sample.sounding).then(|| negative(Negative::Pair, heatmap, said.presence));
        Record {
            place,
            id: sample.id.clone(),
            class: sample.class.clone(),
            picture: sample.picture.clone(),
            sound: sample.sound.clone(),
            sounding: sample.sounding,
            truth_area: truth.weight() / PIXELS as f64,
            confidence: said.confidence,
            presence: said.presence,
            scores: self.measure.at_tables(&self.tables, heatmap, truth),
            fixed: self.fixed.map(|threshold| self.measure.at(threshold, heatmap, truth)),
            adaptive: self.measure.adaptive(heatmap, truth),
            pointing: peak_is_inside(heatmap, truth),
            f_curve: self.benchmark.is_segmentation().then(|| f_measure_curve(heatmap, truth)).flatten(),
            pixel_average_precision: is_one_of_several.then(|| pixel_average_precision(heatmap, truth)),
            areas: own,
            overlaps: said.negatives.iter().map(overlaps).collect(),
            fine: if sample.sounding { self.measure.sweep(&self.fine, heatmap, truth) } else { Vec::new() },
            negatives: said.negatives.iter().map(|n| negative(n.kind, &n.heatmap, n.presence)).chain(pair).collect(),
        }
    }
}
