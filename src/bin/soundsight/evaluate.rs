//! `soundsight evaluate`: scores heatmaps, from a file or from a model, as a benchmark scores them
//! (`docs/benchmarks.md`).
#![allow(clippy::print_stdout)] // command-line output

mod model;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use indicatif::ProgressBar;
use soundsight::ModelSource;
use soundsight::eval::{
    self, Benchmark, Media, Predictions, Predictor, Sample, Shard, Split, locate_media, read_samples, save_predictions,
    write_csv, write_page,
};

use crate::model::{DTypeChoice, DeviceChoice, ModelOptions, PrecisionChoice, WeightsChoice};
use crate::parallel::{Job, UNHURRIED};
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
    /// Heatmaps to score: safetensors files with `heatmap.<id>`, f32 [224, 224], for each sample.
    ///
    /// The Extended benchmarks also need `confidence.<id>`, f32 [1]. Several files must together have each sample once: the
    /// files of all shards, or others.
    #[arg(long, value_name = "FILES", num_args = 1..)]
    predictions: Vec<PathBuf>,
    /// Model to score: a directory, acl-vit16 (the published weights), embedded, or auto.
    #[arg(long, value_name = "DIR|NAME", requires = "data")]
    model: Option<ModelSource>,
    /// Device that the model computes on [default: auto].
    #[arg(long, value_enum, requires = "model")]
    device: Option<DeviceChoice>,
    /// Format of the model's weight matrices in memory [default: as-stored].
    #[arg(long, value_enum, requires = "model")]
    weights: Option<WeightsChoice>,
    /// Precision of products on CPUs with instructions for bf16 (AMX, AVX-512 BF16) [default: highest].
    #[arg(long, value_enum, requires = "model")]
    precision: Option<PrecisionChoice>,
    /// Take each sound apart into at most K sources and score everything that they find together: each pixel's highest score.
    #[arg(long, value_name = "K", requires = "model")]
    sources: Option<usize>,
    /// Write the model's heatmaps to this file, for --predictions.
    ///
    /// Under mpirun (a build with the feature mpi), each process takes its own share and writes FILE.I-of-N; then the first
    /// process scores them all.
    #[arg(long, value_name = "FILE", conflicts_with = "predictions")]
    save_predictions: Option<PathBuf>,
    /// Predict only the Ith of N shares of the samples, counted from 1, such as 2/3, and score nothing.
    ///
    /// When all shares are done, --predictions with all files of --save-predictions gives the same scores as one process.
    #[arg(long, value_name = "I/N", requires = "save_predictions",
          conflicts_with_all = ["json", "csv", "report", "threshold", "presence_threshold"])]
    shard: Option<Shard>,
    /// Folder with the benchmark's pictures and sounds; with --predictions, for the gallery of --report.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Score only the samples in the first column of this CSV file (Heard-110, Unheard-110 …).
    #[arg(long, value_name = "CSV")]
    split: Option<PathBuf>,
    /// Also report the scores at this threshold, chosen on another split.
    #[arg(long, value_name = "T")]
    threshold: Option<f32>,
    /// Presence from which on a sound counts as present [default: the model's, or that of 5 % false alarms].
    #[arg(long, value_name = "P")]
    presence_threshold: Option<f32>,
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
    let job = Job::join(UNHURRIED)?;
    let outcome = evaluate_in(&job, &args);
    job.leave(outcome)
}

fn evaluate_in(job: &Job, args: &Options) -> Result<()> {
    let split = args.split.as_deref().map(Split::read).transpose()?;
    let samples = read_samples(args.benchmark, &args.annotations, args.silent.as_deref(), split.as_ref())?;
    let split = split.map(|split| split.name().to_owned());
    let options = eval::Options { threshold: args.threshold, split, presence_threshold: args.presence_threshold };
    let score = |files: &[PathBuf]| match job.is_first() {
        true => run(args, &samples, &Predictions::open(files, args.benchmark, &samples)?, &options),
        false => Ok(()),
    };
    if !args.predictions.is_empty() {
        return score(&args.predictions);
    }
    let world = job.shard().world;
    let file_of = |rank: usize, path: &Path| match world {
        1 => path.to_path_buf(),
        _ => PathBuf::from(format!("{}.{}-of-{world}", path.display(), rank + 1)),
    };
    let predict = || -> Result<bool> {
        let model = args.model.clone().context("neither --predictions nor --model")?;
        let data = args.data.clone().context("--model without --data")?;
        let model = ModelOptions {
            model,
            device: args.device.unwrap_or(DeviceChoice::Auto),
            dtype: DTypeChoice::F32,
            precision: args.precision.unwrap_or(PrecisionChoice::Highest),
            weights: args.weights.unwrap_or(WeightsChoice::AsStored),
        };
        let files = model.find()?;
        let localizer = model.load_files(&files, model.device_of(job.local_rank())?)?;
        let calibrated = localizer.calibration().map(|calibration| calibration.threshold);
        let presence_threshold = args.presence_threshold.or(calibrated);
        let predictor = model::Model::new(localizer, args.benchmark, data, args.sources)?;
        let Some(path) = &args.save_predictions else {
            ensure!(world == 1, "under mpirun: expected --save-predictions FILE, where all processes can write");
            let options = eval::Options { presence_threshold, ..options.clone() };
            run(args, &samples, &predictor, &options)?;
            return Ok(false);
        };
        // What is trained tells models apart.
        let sources = args.sources.map_or(String::new(), |count| format!(" {count} sources"));
        let identity = format!("{} {:?}{sources}", files.acl.sha256()?, model.matrices());
        let shard = job.share_of(args.shard.unwrap_or(Shard::WHOLE))?;
        let path = file_of(shard.rank, path);
        let bar = if job.is_first() { samples_bar(samples.len().div_ceil(shard.world)) } else { ProgressBar::hidden() };
        let advance = |done| bar.inc(done as u64);
        let count = save_predictions(&path, args.benchmark, &samples, &predictor, shard, &identity, advance)?;
        bar.finish_and_clear();
        if args.shard.is_some() {
            println!("shard {shard}: {count} predictions in {}", path.display());
        }
        Ok(args.shard.is_none())
    };
    match (job.together(predict())?, &args.save_predictions) {
        (true, Some(path)) => score(&(0..world).map(|rank| file_of(rank, path)).collect::<Vec<_>>()),
        _ => Ok(()),
    }
}

fn samples_bar(length: usize) -> ProgressBar {
    progress_bar(length, "{wide_bar} {pos}/{len} samples, {eta} left")
}

/// Scores the heatmaps of `predictor` and writes the requested files.
fn run(args: &Options, samples: &[Sample], predictor: &impl Predictor, options: &eval::Options) -> Result<()> {
    let bar = samples_bar(samples.len());
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
