//! Samples: a picture, a sound and the ground truth.

use std::path::PathBuf;

use crate::error::Result;

use super::grid::{PIXELS, SIZE};
use super::mask::read_mask;

/// A picture, a sound, and the location of the sound's source in the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name in the annotations and in predictions files (`heatmap.<id>`).
    pub id: String,
    /// The class of the sound, if annotated.
    pub class: Option<String>,
    /// The file name of the picture, without extension. Samples that share a picture are the sources of one scene.
    pub picture: String,
    /// The file name of the sound, without extension.
    pub sound: String,
    /// False for silent and mismatched pairs, whose picture does not show the source of the sound.
    pub sounding: bool,
    /// The location of the source.
    pub truth: GroundTruth,
}

/// The annotated location of a sample's source.
#[derive(Clone, Debug, PartialEq)]
pub enum GroundTruth {
    /// Nowhere.
    Nothing,
    /// Inside the union of boxes `[x0, y0, x1, y1]`, in pixels of the 224 × 224 grid; x1 and y1 are exclusive.
    Union(Vec<[usize; 4]>),
    /// Inside boxes of several annotators: a pixel in one box has the weight ½, a pixel in two or more the weight 1.
    /// The boxes are as in [`Union`](Self::Union).
    Consensus(Vec<[usize; 4]>),
    /// Where the mask in this PNG file is white.
    Mask(PathBuf),
}

impl GroundTruth {
    /// The weights on the pixel grid.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the mask file cannot be read, [`Error::Image`](crate::Error::Image) when it
    /// is not a PNG file of 224 × 224 pixels.
    pub fn map(&self) -> Result<TruthMap> {
        Ok(match self {
            Self::Nothing => TruthMap { levels: vec![0; PIXELS] },
            Self::Union(boxes) => TruthMap::from_boxes(boxes, 2),
            Self::Consensus(boxes) => TruthMap::from_boxes(boxes, 1),
            Self::Mask(path) => {
                TruthMap { levels: read_mask(path)?.into_iter().map(|white| u8::from(white) * 2).collect() }
            }
        })
    }
}

/// A ground truth on the pixel grid. The weights 0, ½ and 1 are stored in units of ½, so all sums are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthMap {
    levels: Vec<u8>,
}

impl TruthMap {
    /// Adds `step` halves to each pixel for each box that contains it, up to a weight of 1.
    fn from_boxes(boxes: &[[usize; 4]], step: u8) -> Self {
        let mut levels = vec![0_u8; PIXELS];
        for &[x0, y0, x1, y1] in boxes {
            for row in levels.chunks_exact_mut(SIZE).take(y1).skip(y0) {
                for level in row.iter_mut().take(x1).skip(x0) {
                    *level = (*level + step).min(2);
                }
            }
        }
        Self { levels }
    }

    /// The weights in units of ½ (0, 1 or 2), row-major: `[224 * 224]`.
    pub fn levels(&self) -> &[u8] {
        &self.levels
    }

    /// The sum of the weights, in pixels.
    pub fn weight(&self) -> f64 {
        self.levels.iter().map(|&level| u64::from(level)).sum::<u64>() as f64 / 2.0
    }

    /// The number of pixels with a non-zero weight.
    pub fn num_inside(&self) -> usize {
        self.levels.iter().filter(|&&level| level > 0).count()
    }
}
