//! Reads the annotations of any benchmark.

use std::path::Path;

use crate::error::{Error, Result};

use super::avsbench::read_avsbench;
use super::benchmark::Benchmark;
use super::extended::read_silent;
use super::flickr::read_flickr;
use super::sample::Sample;
use super::split::Split;
use super::vggss::read_vggss;

/// Reads the samples of a benchmark: sounding samples first, then silent pairs, each sorted by id.
///
/// `annotations` is the VGG-SS JSON, the folder of SoundNet-Flickr XML files or the folder of AVSBench masks. `silent`
/// is the CSV of silent pairs; the Extended benchmarks require it, the others do not accept it. `split` selects the
/// annotated samples to keep.
///
/// # Errors
/// [`Error::Argument`] when `silent` is missing for an Extended benchmark, or given for another one; [`Error::Io`] when
/// a file cannot be read; [`Error::Format`] when a file is invalid, or the split names an id that is not annotated.
pub fn read_samples(
    benchmark: Benchmark,
    annotations: &Path,
    silent: Option<&Path>,
    split: Option<&Split>,
) -> Result<Vec<Sample>> {
    let mut samples = match benchmark {
        Benchmark::Vggss | Benchmark::VggssExtended => read_vggss(annotations)?,
        Benchmark::Flickr | Benchmark::FlickrExtended => read_flickr(annotations)?,
        Benchmark::AvsbenchS4 | Benchmark::AvsbenchMs3 => read_avsbench(annotations)?,
    };
    if let Some(split) = split {
        samples = split.select(samples)?;
    }
    samples.sort_by(|a, b| a.id.cmp(&b.id));
    match (benchmark.is_extended(), silent) {
        (true, Some(silent)) => samples.extend(read_silent(silent)?),
        (false, None) => {}
        (true, None) => {
            return Err(Error::argument("silent", format!("a CSV of silent pairs for {benchmark}"), "none"));
        }
        (false, Some(silent)) => {
            return Err(Error::argument(
                "silent",
                format!("none, as {benchmark} has no silent pairs"),
                silent.display(),
            ));
        }
    }
    Ok(samples)
}
