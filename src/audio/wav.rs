//! Decodes WAV using hound.

use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use hound::{SampleFormat, WavReader};

use crate::audio::bytes::read_up_to;
use crate::audio::clip::{Clip, Span};
use crate::audio::errors::{start_beyond_end, unusable};
use crate::audio::input::Input;
use crate::error::{Error, Result};

/// Describes what is missing from a WAV file whose `data` chunk is longer than the file; `None` if it is complete. A
/// length of 2³² - 1 means "unknown" (written to a pipe).
pub(super) fn missing(file: &mut Input, length: u64) -> io::Result<Option<String>> {
    let mut at = 12;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let (header, _) = read_up_to::<8>(file)?;
        let [a, b, c, d, size @ ..] = header;
        let size = u32::from_le_bytes(size);
        let (start, end) = (at + 8, at + 8 + u64::from(size));
        if [a, b, c, d] == *b"data" {
            let cut = end > length && size != u32::MAX;
            return Ok(cut.then(|| format!("{size} bytes of samples announced, {} there", length - start)));
        }
        at = end + end % 2; // chunks are aligned to two bytes
    }
    Ok(Some("it ends before its samples".into()))
}

/// Decodes WAV using hound; `None` for the kinds that hound does not read (ADPCM, A-law, 64-bit float, unknown length
/// …).
pub(super) fn decode(path: &Path, file: &mut Input, span: Span) -> Result<Option<Clip>> {
    file.rewind().map_err(Error::io(path, "read"))?;
    let Ok(mut reader) = WavReader::new(BufReader::new(file)) else {
        return Ok(None);
    };
    let (spec, num_frames) = (reader.spec(), reader.duration());
    if spec.bits_per_sample > 32 {
        return Ok(None);
    }
    let (start, end) = span.frames(spec.sample_rate);
    let end = end.min(u64::from(num_frames));
    if start > 0 && start >= end {
        let seconds = f64::from(num_frames) / f64::from(spec.sample_rate.max(1));
        return Err(start_beyond_end(path.display(), span.start, seconds));
    }
    // Below `num_frames`, hence within u32.
    reader.seek(start as u32).map_err(Error::io(path, "read"))?;
    let count = (end - start) * u64::from(spec.channels);
    let samples = match spec.sample_format {
        SampleFormat::Float => mix(reader.samples::<f32>().take(count as usize), spec.channels, |x| x),
        SampleFormat::Int => {
            let scale = 1.0 / (1u64 << (spec.bits_per_sample - 1)) as f32;
            mix(reader.samples::<i32>().take(count as usize), spec.channels, |x| x as f32 * scale)
        }
    };
    let samples = samples.map_err(|e| match e {
        hound::Error::IoError(source) => Error::io(path, "read")(source),
        other => unusable(path.display(), "readable WAV samples", other.to_string()),
    })?;
    let clip =
        Clip { samples, sample_rate: spec.sample_rate, channels: spec.channels, num_frames: u64::from(num_frames) };
    Ok(Some(clip))
}

/// Collects interleaved samples as mono: the mean of each frame.
fn mix<T>(
    samples: impl Iterator<Item = hound::Result<T>>,
    channels: u16,
    convert: impl Fn(T) -> f32,
) -> hound::Result<Vec<f32>> {
    let mut mono = Vec::new();
    let (mut sum, mut filled) = (0.0, 0);
    for sample in samples {
        sum += convert(sample?);
        filled += 1;
        if filled == channels {
            mono.push(sum / f32::from(channels));
            (sum, filled) = (0.0, 0);
        }
    }
    Ok(mono)
}
