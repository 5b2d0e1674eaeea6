//! The metrics of scenes with several sources: class-aware average precision and IoU, and interactive IoU.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rates::{area_under_success_curve, mean, success_rate};
use super::record::Record;

/// How well the sources of a scene (samples that share a picture) are told apart. Percentages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pairs {
    /// The number of scenes with several sources, all of which were scored.
    pub scenes: usize,
    /// Class-aware average precision: the pixel-wise average precision of each source's heatmap against its own ground
    /// truth, averaged within each scene, then over scenes (Hu et al., CVPR 2022).
    #[serde(rename = "CAP")]
    pub cap: Option<f64>,
}

/// The scores of the sources of each scene, at one threshold.
pub(super) struct SceneScores(Vec<Vec<f64>>);

impl SceneScores {
    pub fn new(scenes: &[Vec<&Record>], score: impl Fn(&Record) -> Option<f64>) -> Option<Self> {
        scenes.iter().map(|scene| scene.iter().map(|record| score(record)).collect()).collect::<Option<_>>().map(Self)
    }

    fn means(&self) -> Vec<f64> {
        self.0.iter().filter_map(|scene| mean(scene.iter().copied())).collect()
    }

    fn worst(&self) -> Vec<f64> {
        self.0.iter().map(|scene| scene.iter().copied().fold(f64::INFINITY, f64::min)).collect()
    }

    /// The metrics of the scenes as (name, fraction): the success rates of the class-aware IoU (the mean over a scene's
    /// sources) at 0.3 and 0.5; the interactive IoU, the fraction of scenes in which every source has an IoU of at
    /// least 0.5; and the area under the curve of the latter.
    pub fn metrics(&self) -> [(&'static str, Option<f64>); 4] {
        let (means, worst) = (self.means(), self.worst());
        [
            ("scene cIoU@0.3", success_rate(&means, 0.3)),
            ("scene IoU@0.5", success_rate(&means, 0.5)),
            ("IIoU", success_rate(&worst, 0.5)),
            ("IAUC", area_under_success_curve(&worst)),
        ]
    }
}

/// The records of each scene with several sources, all of which were scored. `num_sources` is the number of sounding
/// samples of each picture.
pub(super) fn scenes<'a>(records: &'a [Record], num_sources: &BTreeMap<&str, usize>) -> Vec<Vec<&'a Record>> {
    let mut scenes: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.sounding) {
        scenes.entry(&record.picture).or_default().push(record);
    }
    scenes.retain(|picture, sources| sources.len() > 1 && num_sources.get(picture) == Some(&sources.len()));
    scenes.into_values().collect()
}

impl Pairs {
    /// `None` if there is no scene with several sources.
    pub(super) fn new(scenes: &[Vec<&Record>]) -> Option<Self> {
        let of_scene = |scene: &Vec<&Record>| mean(scene.iter().filter_map(|r| r.pixel_average_precision));
        let cap = mean(scenes.iter().filter_map(of_scene)).map(|share| share * 100.0);
        (!scenes.is_empty()).then_some(Self { scenes: scenes.len(), cap })
    }
}
