//! The silent pairs of the Extended benchmarks: pairs whose picture does not show the source of the sound.

use std::path::Path;

use crate::error::{Error, Result};

use super::sample::{GroundTruth, Sample};

const KIND: &str = "CSV of silent pairs";
const HEADER: [&str; 3] = ["video", "audio", "label"];

/// Reads the silent pairs of an Extended benchmark from a CSV file with the header `video,audio,label`.
///
/// Each row becomes a sample without a source: `video` is its id and its picture, `audio` its sound, `label` its class.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Format`] when the header is missing or a row does not have
/// three fields.
pub fn read_silent(path: &Path) -> Result<Vec<Sample>> {
    let expected = format!("the header {} and rows of {} fields", HEADER.join(","), HEADER.len());
    let unusable = |found: String| Error::format(path, KIND, &expected, found);
    let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
    let mut reader = csv::Reader::from_reader(text.as_slice());
    let header = reader.headers().map_err(|e| unusable(e.to_string()))?;
    if header.iter().map(str::trim).ne(HEADER) {
        return Err(unusable(format!("the first line {:?}", header.iter().collect::<Vec<_>>().join(","))));
    }
    let mut samples = Vec::new();
    for row in reader.deserialize() {
        let (picture, sound, label): (String, String, String) = row.map_err(|e| unusable(e.to_string()))?;
        samples.push(Sample {
            id: picture.clone(),
            class: Some(label),
            picture,
            sound,
            sounding: false,
            truth: GroundTruth::Nothing,
        });
    }
    samples.sort_by(|a, b| (&a.id, &a.sound).cmp(&(&b.id, &b.sound)));
    Ok(samples)
}
