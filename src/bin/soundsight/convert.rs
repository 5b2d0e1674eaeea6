//! `soundsight convert`: writes a model directory.
#![allow(clippy::print_stdout)] // command-line output

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use clap::Args;
use serde_json::Value;
use soundsight::clipseg::ClipSegConfig;
use soundsight::weights::{Checkpoint, Download, Hub, ModelFiles, WeightFormat, save_as};
use soundsight::{Localizer, ModelSource};

use crate::model::WeightsChoice;

/// Make a model directory from published files, or convert a model to another weight format.
///
/// A model directory holds config.json and three files of weights. Nothing is written unless every tensor is present
/// and has the right shape.
#[derive(Args)]
pub struct Options {
    /// BEATs checkpoint with its configuration (the published BEATs_*.pt).
    #[arg(long, value_name = "FILE", required_unless_present = "model", requires_all = ["clipseg", "acl"])]
    beats: Option<PathBuf>,
    /// CLIPSeg weights: pytorch_model.bin or model.safetensors.
    #[arg(long, value_name = "FILE", requires = "beats")]
    clipseg: Option<PathBuf>,
    /// CLIPSeg's config.json [default: that of CIDAS/clipseg-rd64-refined].
    #[arg(long, value_name = "FILE", requires = "clipseg")]
    clipseg_config: Option<PathBuf>,
    /// ACL weights (the published Param_*.pth).
    #[arg(long, value_name = "FILE", requires = "beats")]
    acl: Option<PathBuf>,
    /// Model to convert, instead of these files: a directory, or the name of a model on this machine.
    #[arg(long, value_name = "DIR|NAME", conflicts_with = "beats")]
    model: Option<ModelSource>,
    /// Format of the weight matrices; q8 writes GGUF files, the others safetensors.
    #[arg(long, value_enum, default_value_t = WeightsChoice::AsStored)]
    weights: WeightsChoice,
    /// Model directory to write; created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn convert(options: Options) -> Result<()> {
    let files = match (&options.model, &options.beats, &options.clipseg, &options.acl) {
        (Some(model), ..) => ModelFiles::resolve(model, &Hub::from_env(), Download::Never)?,
        (_, Some(beats), Some(clipseg), Some(acl)) => published(&options, beats, clipseg, acl)?,
        _ => anyhow::bail!("neither --model nor --beats, --clipseg and --acl"),
    };
    let (out, format) = (&options.out, options.weights.format());
    let ending = if format == WeightFormat::Q8_0 { "gguf" } else { "safetensors" };
    let other = if ending == "gguf" { "safetensors" } else { "gguf" };
    for name in PARTS {
        let path = out.join(format!("{name}.{other}"));
        ensure!(!path.exists(), "{}: --out has the weights in another format already", path.display());
    }
    // Write nothing unless the whole makes a model.
    Localizer::from_files(&files, Device::Cpu, DType::F32)?;

    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create the folder", out.display()))?;
    for (name, checkpoint) in PARTS.into_iter().zip([&files.beats, &files.clipseg, &files.acl]) {
        let path = out.join(format!("{name}.{ending}"));
        save_as(checkpoint, &path, format)?;
        println!("{} ({} tensors)", path.display(), checkpoint.entries().len());
    }
    files.place_tokenizer(out)?;
    files.write_presence(out)?;
    // Last, because only this file makes the folder a model directory.
    files.write_config(out)?;
    println!("{}", out.join("config.json").display());
    Ok(())
}

const PARTS: [&str; 3] = ["beats", "clipseg", "acl"];

/// The model that the published files make up.
fn published(options: &Options, beats: &Path, clipseg: &Path, acl: &Path) -> Result<ModelFiles> {
    let beats = Checkpoint::open(beats)?;
    let beats_config = beats.config().cloned();
    let beats_config = beats_config.with_context(|| {
        format!("{}: expected a BEATs checkpoint with its configuration (cfg), found none", beats.path().display())
    })?;
    let clipseg_config = match &options.clipseg_config {
        Some(path) => read_json(path)?,
        None => serde_json::to_value(ClipSegConfig::rd64_refined())?,
    };
    Ok(ModelFiles {
        source: options.out.clone().into(),
        name: options.out.display().to_string(),
        beats,
        clipseg: Checkpoint::open(clipseg)?,
        acl: Checkpoint::open(acl)?,
        beats_config,
        clipseg_config,
        acl_config: None,
        classes: None,
        presence: None,
        tokenizer: None,
    })
}

fn read_json(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected JSON", path.display()))
}
