//! SoundNet-Flickr: one XML file per clip, with boxes from several annotators.

use std::path::Path;

use crate::error::{Error, Result};

use super::folder::files_with_extension;
use super::grid::SIZE;
use super::sample::{GroundTruth, Sample};

const KIND: &str = "SoundNet-Flickr annotations";
/// The side of the grid on which the boxes were drawn.
const ANNOTATION_SIZE: f64 = 256.0;

/// Reads a folder of SoundNet-Flickr annotations, `<id>.xml`; the id ends at the first dot.
///
/// Each `bbox` element is the box of one annotator. Its children after the first are xmin, ymin, xmax and ymax on a
/// grid of 256 × 256, converted to pixels by trunc(224 · v / 256). The ground truth is min(Σ boxes / 2, 1): 1 where at
/// least two annotators agree, ½ where only one drew a box. As in the published reader, negative coordinates count
/// from the end, like indices of Python slices; such boxes are usually empty.
///
/// # Errors
/// [`Error::Io`] when the folder or a file cannot be read; [`Error::Format`] when `folder` is not a folder or contains
/// no XML file, or when a file is not XML or has a `bbox` without four integers.
pub fn read_flickr(folder: &Path) -> Result<Vec<Sample>> {
    let files = files_with_extension(folder, KIND, "xml")?;
    files.into_iter().map(|(name, path)| read_clip(name, &path)).collect()
}

fn read_clip(name: String, path: &Path) -> Result<Sample> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let document = roxmltree::Document::parse(&text).map_err(|e| Error::format(path, KIND, "an XML document", e))?;
    let boxes = document.descendants().filter(|node| node.has_tag_name("bbox")).map(|bbox| {
        let numbers: Vec<_> = bbox.children().filter(|child| child.is_element()).skip(1).map(whole_number).collect();
        match numbers[..] {
            [Some(x0), Some(y0), Some(x1), Some(y1)] => Ok([x0, y0, x1, y1].map(to_pixels)),
            _ => {
                let line = document.text_pos_at(bbox.range().start).row;
                let found = format!("{} in the bbox on line {line}", numbers.iter().flatten().count());
                Err(Error::format(path, KIND, "four integers after the first child of every bbox", found))
            }
        }
    });
    let truth = GroundTruth::Consensus(boxes.collect::<Result<_>>()?);
    let id = name.split('.').next().unwrap_or(&name).to_owned();
    Ok(Sample { picture: id.clone(), sound: id.clone(), id, class: None, sounding: true, truth })
}

fn whole_number(node: roxmltree::Node) -> Option<i32> {
    node.text()?.trim().parse().ok()
}

fn to_pixels(coordinate: i32) -> usize {
    let pixel = (SIZE as f64 * f64::from(coordinate) / ANNOTATION_SIZE).trunc();
    let from_start = if pixel < 0.0 { pixel + SIZE as f64 } else { pixel };
    from_start.clamp(0.0, SIZE as f64) as usize
}
