//! The annotations of any benchmark as samples.

use std::path::Path;

use crate::error::{Error, Result};

use super::avsbench::read_avsbench;
use super::benchmark::Benchmark;
use super::extended::read_silent;
use super::flickr::read_flickr;
use super::sample::Sample;
use super::split::Split;
use super::vggss::read_vggss;

/// Reads the samples of a benchmark, those of each kind in the order of their ids, sounding ones first.
///
/// `annotations` is the VGG-SS JSON, the folder of SoundNet-Flickr XML files or the folder of AVSBench masks; `silent`
/// the CSV of silent pairs, for the Extended benchmarks and only for them; `split` a CSV whose first column selects
/// the annotated samples to keep.
///
/// # Errors
/// [`Error::Argument`] when `silent` is missing or not wanted; [`Error::Io`] and [`Error::Format`] for files that
/// cannot be read as what they should be; [`Error::Format`] for a split that names an id without annotation.
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
                format!("nothing: {benchmark} has no silent pairs"),
                silent.display(),
            ));
        }
    }
    Ok(samples)
}
