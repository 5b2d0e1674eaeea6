//! Scores heatmaps, finished ones or a model's, as a sound source localization benchmark scores them.
//!
//! ```text
//! cargo run --release --example evaluate -- --benchmark vggss --annotations vggss.json --predictions mine.safetensors
//! cargo run --release --example evaluate -- --benchmark vggss --annotations vggss.json --model acl-vit16 --data VGGSound
//! ```
//! Where the annotations come from and how the folders must lie: `docs/benchmarks.md`.

#![allow(clippy::print_stdout)] // a program talks

mod common;
#[path = "evaluate/model.rs"]
mod model;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser};
use soundsight::ModelSource;
use soundsight::eval::{
    Benchmark, Media, Options, PredictionsFile, Predictor, Sample, Split, evaluate, locate_media, read_samples,
    write_csv, write_page,
};

/// Score heatmaps on a sound source localization benchmark.
#[derive(Parser)]
#[command(version, group(ArgGroup::new("heatmaps").required(true).args(["predictions", "model"])))]
struct Args {
    /// The benchmark.
    #[arg(long, value_parser = PossibleValuesParser::new(Benchmark::ALL.map(Benchmark::name))
        .try_map(|name| name.parse::<Benchmark>()))]
    benchmark: Benchmark,
    /// The VGG-SS JSON, the folder of SoundNet-Flickr XML files, or the folder of AVSBench masks.
    #[arg(long)]
    annotations: PathBuf,
    /// The CSV of silent pairs; the Extended benchmarks need it.
    #[arg(long)]
    silent: Option<PathBuf>,
    /// Finished heatmaps: `heatmap.<id>` f32 [224, 224] and, for the Extended benchmarks, `confidence.<id>` f32 [1].
    #[arg(long)]
    predictions: Option<PathBuf>,
    /// The model that makes the heatmaps: a directory, acl-vit16 for the published weights, embedded, or auto.
    #[arg(long, requires = "data")]
    model: Option<ModelSource>,
    /// Where the model computes [default: auto].
    #[arg(long, value_enum, requires = "model")]
    device: Option<common::DeviceChoice>,
    /// How matrices are kept in memory [default: as the files have them].
    #[arg(long, value_enum, requires = "model")]
    weights: Option<common::WeightsChoice>,
    /// The folder with the benchmark's pictures and sounds (beside --predictions: for the gallery of --report).
    #[arg(long)]
    data: Option<PathBuf>,
    /// Score only the samples in this CSV's first column (Heard-110, Unheard-110 …).
    #[arg(long)]
    split: Option<PathBuf>,
    /// Report this threshold too, chosen on another split.
    #[arg(long)]
    threshold: Option<f32>,
    /// Write all metrics here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the scores of every sample here.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write a page with table, curves and gallery here.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::run(evaluate_with)
}

fn evaluate_with(args: Args) -> Result<()> {
    let split = args.split.as_deref().map(Split::read).transpose()?;
    let samples = read_samples(args.benchmark, &args.annotations, args.silent.as_deref(), split.as_ref())?;
    let options = Options { threshold: args.threshold, split: split.map(|split| split.name().to_owned()) };
    if let Some(file) = &args.predictions {
        return run(&args, &samples, &PredictionsFile::open(file, args.benchmark)?, &options);
    }
    let model = args.model.clone().context("neither --predictions nor --model")?;
    let data = args.data.clone().context("--model without --data")?;
    let localizer = common::load(&common::ModelOptions {
        model,
        device: args.device.unwrap_or(common::DeviceChoice::Auto),
        dtype: common::DTypeChoice::F32,
        weights: args.weights.unwrap_or(common::WeightsChoice::AsStored),
    })?;
    run(&args, &samples, &model::Model::new(localizer, args.benchmark, data)?, &options)
}

/// Scores the samples with whatever makes the heatmaps, and writes what was asked for.
fn run(args: &Args, samples: &[Sample], predictor: &impl Predictor, options: &Options) -> Result<()> {
    let bar = common::progress_bar(samples.len(), "{wide_bar} {pos}/{len} samples, {eta} left");
    let evaluation = evaluate(args.benchmark, samples, predictor, options, |done| bar.inc(done as u64))?;
    bar.finish_and_clear();

    print!("{}", evaluation.report.table());
    if let Some(path) = &args.json {
        evaluation.report.write_json(path)?;
    }
    if let Some(path) = &args.csv {
        write_csv(path, &evaluation.report, &evaluation.records)?;
    }
    if let Some(path) = &args.report {
        let media = |sample: &Sample| match &args.data {
            Some(data) => locate_media(args.benchmark, data, sample),
            None => Media { picture: None, sound: None },
        };
        write_page(path, &evaluation, samples, predictor, media)?;
    }
    Ok(())
}
