//! The Extended benchmarks: pairs whose picture shows no source of the sound.

use std::path::Path;

use crate::error::{Error, Result};

use super::sample::{GroundTruth, Sample};

const KIND: &str = "CSV of silent pairs";
const HEADER: [&str; 3] = ["video", "audio", "label"];

/// Reads the silent pairs of an Extended benchmark: a CSV whose first line is the header `video,audio,label`. Every row
/// is a sample without ground truth: the picture is the video's, the sound the audio's, the id the video.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Format`] without that header or with a row of another length.
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
