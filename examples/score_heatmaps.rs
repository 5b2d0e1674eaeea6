//! Scores your own heatmaps on a benchmark: implement `Predictor` for your model.
//!
//! ```text
//! cargo run --release --example score_heatmaps -- vggss vggss.json HEATMAPS
//! ```
//!
//! Here the heatmaps are grey pictures, HEATMAPS/<id>.png, white where the sound comes from. docs/benchmarks.md
//! describes the annotations of each benchmark.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use anyhow::Context;
use image::imageops::FilterType;
use soundsight::Error;
use soundsight::eval::{Benchmark, Options, Prediction, Predictor, SIZE, Sample, evaluate, read_samples};

/// A folder of heatmaps.
struct Heatmaps(PathBuf);

impl Predictor for Heatmaps {
    /// The value that `load` passes to `predict`. A model would decode the picture and the sound in `load`, and compute
    /// in `predict`.
    type Input = Vec<f32>;

    fn load(&self, sample: &Sample) -> soundsight::Result<Option<Vec<f32>>> {
        let path = self.0.join(format!("{}.png", sample.id));
        if !path.exists() {
            return Ok(None); // the report counts and lists samples without a heatmap
        }
        let picture = image::load_from_memory(&std::fs::read(&path).map_err(Error::io(&path, "read"))?)
            .map_err(|error| Error::io(&path, "decode")(std::io::Error::other(error)))?;
        let picture = picture.resize_exact(SIZE as u32, SIZE as u32, FilterType::Triangle).into_luma16();
        Ok(Some(picture.pixels().map(|pixel| f32::from(pixel.0[0]) / f32::from(u16::MAX)).collect()))
    }

    fn predict(&self, batch: Vec<(&Sample, Vec<f32>)>) -> soundsight::Result<Vec<Prediction>> {
        // The Extended benchmarks also need the model's confidence that the source is visible at all.
        let predict = |(_, heatmap): (_, Vec<f32>)| {
            let confidence = heatmap.iter().copied().reduce(f32::max);
            Prediction { heatmap, confidence, presence: None, negatives: Vec::new() }
        };
        Ok(batch.into_iter().map(predict).collect())
    }
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [benchmark, annotations, heatmaps] = args.as_slice() else {
        anyhow::bail!("usage: score_heatmaps BENCHMARK ANNOTATIONS HEATMAPS");
    };
    let benchmark: Benchmark = benchmark.parse()?;
    let samples = read_samples(benchmark, Path::new(annotations), None, None)?;
    let predictor = Heatmaps(heatmaps.into());
    let evaluation = evaluate(benchmark, &samples, &predictor, &Options::default(), |_| ())?;

    print!("{}", evaluation.report.table());
    let first = evaluation.records.first().context("no sample was scored")?;
    println!("\nthe first sample: {first:?}");
    Ok(())
}
