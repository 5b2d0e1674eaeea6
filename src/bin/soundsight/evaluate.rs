//! `soundsight evaluate`: scores heatmaps, from a file or from a model, as a benchmark scores them
//! (`docs/benchmarks.md`).
#![allow(clippy::print_stdout)] // command-line output

mod model;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use soundsight::ModelSource;
use soundsight::eval::{
    self, Benchmark, Media, PredictionsFile, Predictor, Sample, Split, locate_media, read_samples, write_csv,
    write_page,
};

use crate::model::{DTypeChoice, DeviceChoice, ModelOptions, WeightsChoice};
use crate::program::progress::progress_bar;

/// Score a model, or heatmaps from a file, on a benchmark of sound source localization.
#[derive(Args)]
#[command(group(ArgGroup::new("heatmaps").required(true).args(["predictions", "model"])))]
pub struct Options {
    /// Benchmark to score as.
    #[arg(long, value_parser = PossibleValuesParser::new(Benchmark::ALL.map(Benchmark::name))
        .try_map(|name| name.parse::<Benchmark>()))]
    benchmark: Benchmark,
    /// Annotations: the JSON file of VGG-SS, the folder of SoundNet-Flickr's XML files, or that of AVSBench's masks.
    #[arg(long, value_name = "FILE|DIR")]
    annotations: PathBuf,
    /// CSV file of the silent pairs, for the Extended benchmarks.
    #[arg(long, value_name = "CSV")]
    silent: Option<PathBuf>,
    /// Heatmaps to score: a safetensors file with `heatmap.<id>`, f32 [224, 224], for each sample.
    ///
    /// The Extended benchmarks also need `confidence.<id>`, f32 [1].
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Model to score: a directory, acl-vit16 (the published weights), embedded, or auto.
    #[arg(long, value_name = "DIR|NAME", requires = "data")]
    model: Option<ModelSource>,
    /// Device that the model computes on [default: auto].
    #[arg(long, value_enum, requires = "model")]
    device: Option<DeviceChoice>,
    /// Format of the model's weight matrices in memory [default: as-stored].
    #[arg(long, value_enum, requires = "model")]
    weights: Option<WeightsChoice>,
    /// Folder with the benchmark's pictures and sounds; with --predictions, for the gallery of --report.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Score only the samples in the first column of this CSV file (Heard-110, Unheard-110 …).
    #[arg(long, value_name = "CSV")]
    split: Option<PathBuf>,
    /// Also report the scores at this threshold, chosen on another split.
    #[arg(long, value_name = "T")]
    threshold: Option<f32>,
    /// Write all metrics to this file.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
    /// Write the scores of every sample to this file.
    #[arg(long, value_name = "FILE.csv")]
    csv: Option<PathBuf>,
    /// Write a page with tables, curves and a gallery to this file.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn evaluate(args: Options) -> Result<()> {
    let split = args.split.as_deref().map(Split::read).transpose()?;
    let samples = read_samples(args.benchmark, &args.annotations, args.silent.as_deref(), split.as_ref())?;
    let options = eval::Options { threshold: args.threshold, split: split.map(|split| split.name().to_owned()) };
    if let Some(file) = &args.predictions {
        return run(&args, &samples, &PredictionsFile::open(file, args.benchmark)?, &options);
    }
    let model = args.model.clone().context("neither --predictions nor --model")?;
    let data = args.data.clone().context("--model without --data")?;
    let model = ModelOptions {
        model,
        device: args.device.unwrap_or(DeviceChoice::Auto),
        dtype: DTypeChoice::F32,
        weights: args.weights.unwrap_or(WeightsChoice::AsStored),
    };
    run(&args, &samples, &model::Model::new(model.load()?, args.benchmark, data)?, &options)
}

/// Scores the heatmaps of `predictor` and writes the requested files.
fn run(args: &Options, samples: &[Sample], predictor: &impl Predictor, options: &eval::Options) -> Result<()> {
    let bar = progress_bar(samples.len(), "{wide_bar} {pos}/{len} samples, {eta} left");
    let evaluation = eval::evaluate(args.benchmark, samples, predictor, options, |done| bar.inc(done as u64))?;
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
