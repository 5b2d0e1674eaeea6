//! Samples: what is asked (a picture and a sound) and what the answer should be.

use std::path::PathBuf;

use crate::error::Result;

use super::grid::{PIXELS, SIZE};
use super::mask::read_mask;

/// One picture with one sound, and where that sound's source is.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name in the annotations, and in a predictions file (`heatmap.<id>`).
    pub id: String,
    /// The class of the sound, where the annotations tell.
    pub class: Option<String>,
    /// The picture, by its file name without extension. Samples that share one are the sources of one scene.
    pub picture: String,
    /// The sound, by its file name without extension.
    pub sound: String,
    /// False for silent and mismatched pairs: nothing in the picture makes this sound.
    pub sounding: bool,
    /// Where the source is.
    pub truth: GroundTruth,
}

/// Where the source of a sample is, as annotated.
#[derive(Clone, Debug, PartialEq)]
pub enum GroundTruth {
    /// Nowhere.
    Nothing,
    /// Inside the union of boxes `[x0, y0, x1, y1]`, in pixels of the 224 × 224 grid, the ends excluded.
    Union(Vec<[usize; 4]>),
    /// Where annotators agree: a pixel in one box weighs ½, in two or more 1. Boxes as in [`Union`](Self::Union).
    Consensus(Vec<[usize; 4]>),
    /// Where the mask of this PNG file is white.
    Mask(PathBuf),
}

impl GroundTruth {
    /// The weights on the pixel grid.
    ///
    /// # Errors
    /// [`Error::Image`](crate::Error::Image) for a mask that cannot be read or that is not 224 × 224.
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

/// A ground truth on the pixel grid: weights 0, ½ and 1, stored in halves so that all sums are exact.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthMap {
    levels: Vec<u8>,
}

impl TruthMap {
    /// Adds `step` halves for every box that a pixel is in, up to a whole.
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

    /// The weights in halves (0, 1 or 2), row by row: `[224 * 224]`.
    pub fn levels(&self) -> &[u8] {
        &self.levels
    }

    /// Σ of the weights, in pixels.
    pub fn weight(&self) -> f64 {
        self.levels.iter().map(|&level| u64::from(level)).sum::<u64>() as f64 / 2.0
    }

    /// The number of pixels with any weight.
    pub fn num_inside(&self) -> usize {
        self.levels.iter().filter(|&&level| level > 0).count()
    }
}
