//! VGG-SS: boxes in one JSON file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

use super::grid::SIZE;
use super::sample::{GroundTruth, Sample};

const KIND: &str = "VGG-SS annotations";

#[derive(Deserialize)]
struct Annotation {
    file: String,
    class: Option<String>,
    bbox: Vec<[f64; 4]>,
    /// The picture, if several sources share it. Not in the published file.
    image: Option<String>,
}

/// Reads VGG-SS annotations: a JSON list of `{"file", "class", "bbox": [[x0, y0, x1, y1], …]}`, with coordinates as
/// fractions of the picture.
///
/// Coordinates are clipped to [0, 1], multiplied by 224 and truncated. The ground truth is the union of the boxes. Some
/// published boxes are degenerate (corners near −2.9e16, or an end before the start); these are empty, and so is the
/// ground truth of a few samples. If a file is listed several times, the last entry counts.
///
/// As an extension of the published format, an entry may name its picture with `"image"`. Entries with the same picture
/// are the sources of one scene, and are scored together as well.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Format`] when it is not such a list or the list is empty.
pub fn read_vggss(path: &Path) -> Result<Vec<Sample>> {
    let expected = "a JSON list of {file, class, bbox: [[x0, y0, x1, y1], …]}";
    if path.is_dir() {
        return Err(Error::format(path, KIND, expected, "a folder"));
    }
    let json = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let annotations: Vec<Annotation> =
        serde_json::from_slice(&json).map_err(|e| Error::format(path, KIND, expected, e))?;
    if annotations.is_empty() {
        return Err(Error::format(path, KIND, expected, "an empty list"));
    }
    let samples: BTreeMap<_, _> = annotations.into_iter().map(|a| (a.file.clone(), sample(a))).collect();
    Ok(samples.into_values().collect())
}

fn sample(annotation: Annotation) -> Sample {
    let boxes = annotation.bbox.iter().map(|corners| corners.map(to_pixels)).collect();
    Sample {
        picture: annotation.image.unwrap_or_else(|| annotation.file.clone()),
        sound: annotation.file.clone(),
        id: annotation.file,
        class: annotation.class,
        sounding: true,
        truth: GroundTruth::Union(boxes),
    }
}

fn to_pixels(relative: f64) -> usize {
    (relative.clamp(0.0, 1.0) * SIZE as f64) as usize
}
