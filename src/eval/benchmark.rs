//! The benchmarks and the results published for them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// A sound source localization benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Benchmark {
    /// VGG-SS: 5,158 VGGSound clips with boxes (Chen et al., CVPR 2021). Also for its splits Heard-110 and Unheard-110.
    Vggss,
    /// VGG-SS with additional silent pairs (Mo and Morgado, NeurIPS 2022).
    VggssExtended,
    /// SoundNet-Flickr: 250 clips with boxes from several annotators (Senocak et al., CVPR 2018).
    Flickr,
    /// SoundNet-Flickr with additional mismatched pairs (Mo and Morgado, NeurIPS 2022).
    FlickrExtended,
    /// AVSBench, single source, with masks (Zhou et al., ECCV 2022).
    AvsbenchS4,
    /// AVSBench, multiple sources, with masks (Zhou et al., ECCV 2022).
    AvsbenchMs3,
}

/// A published result, at the best threshold for that model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Published {
    /// Where it was published.
    pub source: &'static str,
    /// The split of the benchmark that it was measured on.
    pub split: &'static str,
    /// Pairs of metric and value in percent, in the order of the report's rows.
    #[serde(serialize_with = "as_map")]
    pub scores: Vec<(&'static str, f64)>,
}

fn as_map<S: Serializer>(scores: &[(&'static str, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(scores.iter().copied())
}

impl Benchmark {
    /// All benchmarks, in the order in which the command line's help lists them.
    pub const ALL: [Self; 6] =
        [Self::Vggss, Self::VggssExtended, Self::Flickr, Self::FlickrExtended, Self::AvsbenchS4, Self::AvsbenchMs3];

    /// The name on the command line and in the report: `vggss`, `flickr-extended`, `avsbench-s4` …
    pub fn name(self) -> &'static str {
        match self {
            Self::Vggss => "vggss",
            Self::VggssExtended => "vggss-extended",
            Self::Flickr => "flickr",
            Self::FlickrExtended => "flickr-extended",
            Self::AvsbenchS4 => "avsbench-s4",
            Self::AvsbenchMs3 => "avsbench-ms3",
        }
    }

    /// The human-readable name: `VGG-SS`, `Extended SoundNet-Flickr`, `AVSBench S4` …
    pub fn title(self) -> &'static str {
        match self {
            Self::Vggss => "VGG-SS",
            Self::VggssExtended => "Extended VGG-SS",
            Self::Flickr => "SoundNet-Flickr",
            Self::FlickrExtended => "Extended SoundNet-Flickr",
            Self::AvsbenchS4 => "AVSBench S4",
            Self::AvsbenchMs3 => "AVSBench MS3",
        }
    }

    /// Whether the benchmark has silent or mismatched pairs, and thus requires a confidence for every heatmap.
    pub fn is_extended(self) -> bool {
        matches!(self, Self::VggssExtended | Self::FlickrExtended)
    }

    /// Whether the ground truth is a segmentation mask.
    pub fn is_segmentation(self) -> bool {
        matches!(self, Self::AvsbenchS4 | Self::AvsbenchMs3)
    }

    /// The name of a sample's score at one threshold: `IoU` for masks, `cIoU` for boxes.
    pub fn score_name(self) -> &'static str {
        if self.is_segmentation() { "IoU" } else { "cIoU" }
    }

    /// The results that the ACL paper (arXiv 2311.04066) reports for this benchmark.
    ///
    /// `split` is the name of the split file. For VGG-SS, a name that contains "heard" or "unheard" selects the results
    /// on that split.
    pub fn published(self, split: Option<&str>) -> Option<Published> {
        let split = split.map(str::to_lowercase).unwrap_or_default();
        let (split, scores) = match self {
            Self::Vggss if split.contains("unheard") => ("Unheard-110", [("cIoU", 41.98), ("AUC", 41.55)]),
            Self::Vggss if split.contains("heard") => ("Heard-110", [("cIoU", 48.44), ("AUC", 45.06)]),
            Self::Vggss => ("test", [("cIoU", 49.46), ("AUC", 46.32)]),
            Self::Flickr => ("test", [("cIoU", 80.80), ("AUC", 64.62)]),
            Self::AvsbenchS4 => ("test", [("mIoU", 59.76), ("Fmeasure", 69.03)]),
            Self::AvsbenchMs3 => ("test", [("mIoU", 41.08), ("Fmeasure", 46.67)]),
            Self::VggssExtended | Self::FlickrExtended => return None,
        };
        Some(Published { source: "ACL, WACV 2024", split, scores: scores.to_vec() })
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Benchmark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for Benchmark {
    type Err = Error;

    /// Parses a [`name`](Self::name).
    ///
    /// # Errors
    /// [`Error::Argument`] for any other string.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|benchmark| benchmark.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::argument("benchmark", format!("one of {names}"), name)
        })
    }
}
