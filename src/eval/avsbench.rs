//! AVSBench: one PNG mask per frame.

use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::audio::Waveform;
use crate::error::Result;

use super::folder::files_with_extension;
use super::sample::{GroundTruth, Sample};

const KIND: &str = "AVSBench masks";

/// Lists a folder of AVSBench masks, `<id>.png` with ids such as `26xaTuDMCIQ_1_5` (video, then frame).
///
/// All frames of a video share its sound, whose name is the id without the trailing `_<number>`. The masks themselves
/// are read only when they are needed.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the folder cannot be read, [`Error::Format`](crate::Error::Format) when it is
/// not a folder or contains no PNG file.
pub fn read_avsbench(folder: &Path) -> Result<Vec<Sample>> {
    let files = files_with_extension(folder, KIND, "png")?;
    let sample = |(id, path): (String, _)| {
        let sound = match id.rsplit_once('_') {
            Some((video, frame)) if !frame.is_empty() && frame.bytes().all(|b| b.is_ascii_digit()) => video.to_owned(),
            _ => id.clone(),
        };
        Sample { picture: id.clone(), sound, id, class: None, sounding: true, truth: GroundTruth::Mask(path) }
    };
    Ok(files.into_iter().map(sample).collect())
}

/// Reads the sound of an AVSBench video as the published code does.
///
/// The channels of a stereo WAV file are concatenated, left then right, so that 5 s of sound fill the model's 10 s of
/// input. The channels of other files are averaged.
///
/// # Errors
/// The same as [`Waveform::open`].
pub(super) fn read_avsbench_sound(path: &Path) -> Result<Waveform> {
    let mixed = Waveform::open(path)?;
    let Some(interleaved) = (mixed.channels() == 2).then(|| wav_samples(path)).flatten() else { return Ok(mixed) };
    let channel = |which| interleaved.iter().skip(which).step_by(2).copied();
    Waveform::from_samples(channel(0).chain(channel(1)).collect(), mixed.sample_rate())
}

/// The interleaved samples of a WAV file, in [-1, 1]; `None` for files that hound cannot read.
fn wav_samples(path: &Path) -> Option<Vec<f32>> {
    let reader = WavReader::open(path).ok()?;
    let spec = reader.spec();
    match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect::<hound::Result<_>>().ok(),
        SampleFormat::Int => {
            let scale = 1.0 / (1_u64 << (spec.bits_per_sample - 1)) as f32;
            reader
                .into_samples::<i32>()
                .map(|sample| sample.map(|s| s as f32 * scale))
                .collect::<hound::Result<_>>()
                .ok()
        }
    }
}
