//! `soundsight convert`: writes a model directory.
#![allow(clippy::print_stdout)] // command-line output

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use clap::Args;
use serde_json::Value;
use soundsight::acl::ModelConfig;
use soundsight::clipseg::ClipSegConfig;
use soundsight::train::Trainable;
use soundsight::weights::{AudioEncoderKind, Checkpoint, Download, Hub, ModelFiles, WeightFormat, save_as};
use soundsight::{Localizer, ModelSource};

use crate::model::WeightsChoice;

/// Make a model directory from published files, or convert a model to another weight format.
///
/// A model directory holds config.json and three files of weights. Nothing is written unless every tensor is present
/// and has the right shape.
#[derive(Args)]
pub struct Options {
    /// BEATs checkpoint with its configuration (the published BEATs_*.pt).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["model", "ast"], requires_all = ["clipseg", "acl"])]
    beats: Option<PathBuf>,
    /// AST checkpoint, instead of BEATs: model.safetensors or pytorch_model.bin of an ASTModel or
    /// ASTForAudioClassification.
    #[arg(long, value_name = "FILE", conflicts_with = "beats", requires = "clipseg")]
    ast: Option<PathBuf>,
    /// AST's config.json [default: the one beside the checkpoint].
    #[arg(long, value_name = "FILE", requires = "ast")]
    ast_config: Option<PathBuf>,
    /// CLIPSeg weights: pytorch_model.bin or model.safetensors.
    #[arg(long, value_name = "FILE")]
    clipseg: Option<PathBuf>,
    /// CLIPSeg's config.json [default: that of CIDAS/clipseg-rd64-refined].
    #[arg(long, value_name = "FILE", requires = "clipseg")]
    clipseg_config: Option<PathBuf>,
    /// ACL weights (the published Param_*.pth). With --ast, they may be left out: the model gets fresh ones, to be trained.
    #[arg(long, value_name = "FILE", requires = "clipseg")]
    acl: Option<PathBuf>,
    /// Model to convert, instead of these files: a directory, or the name of a model on this machine.
    #[arg(long, value_name = "DIR|NAME", conflicts_with_all = ["beats", "ast", "clipseg"])]
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
    let files = match (&options.model, &options.beats, &options.ast, &options.clipseg) {
        (Some(model), ..) => ModelFiles::resolve(model, &Hub::from_env(), Download::Never)?,
        (_, Some(beats), _, Some(clipseg)) => published(&options, beats, clipseg)?,
        (_, _, Some(ast), Some(clipseg)) => with_ast(&options, ast, clipseg)?,
        _ => anyhow::bail!("neither --model nor --beats or --ast with --clipseg"),
    };
    let (out, format) = (&options.out, options.weights.format());
    let ending = if format == WeightFormat::Q8_0 { "gguf" } else { "safetensors" };
    let other = if ending == "gguf" { "safetensors" } else { "gguf" };
    let parts = [files.audio_encoder.name(), "clipseg", "acl"];
    for name in parts {
        let path = out.join(format!("{name}.{other}"));
        ensure!(!path.exists(), "{}: --out has the weights in another format already", path.display());
    }
    // Write nothing unless the whole makes a model.
    Localizer::from_files(&files, Device::Cpu, DType::F32)?;

    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create the folder", out.display()))?;
    for (name, checkpoint) in parts.into_iter().zip([&files.audio, &files.clipseg, &files.acl]) {
        let path = out.join(format!("{name}.{ending}"));
        save_as(checkpoint, &path, format)?;
        println!("{} ({} tensors)", path.display(), checkpoint.entries().len());
    }
    files.place_tokenizer(out)?;
    files.write_presence(out)?;
    // Last, because only this file makes the folder a model directory.
    files.write_config(out)?;
    println!("{}", out.join("config.json").display());
    if options.ast.is_some() && options.acl.is_none() {
        println!("its AudioTokenizer and masker are untrained: train them with soundsight train");
    }
    Ok(())
}

/// The model that the published files make up.
fn published(options: &Options, beats: &Path, clipseg: &Path) -> Result<ModelFiles> {
    let acl = options.acl.as_ref().context("--beats needs --acl")?;
    let beats = Checkpoint::open(beats)?;
    let beats_config = beats.config().cloned();
    let beats_config = beats_config.with_context(|| {
        format!("{}: expected a BEATs checkpoint with its configuration (cfg), found none", beats.path().display())
    })?;
    let files = (AudioEncoderKind::Beats, beats, beats_config);
    assemble(options, files, (clipseg, clipseg_config(options)?), Checkpoint::open(acl)?, None)
}

/// The model with AST as its audio encoder, and with fresh trainable parts unless --acl has them.
fn with_ast(options: &Options, ast: &Path, clipseg: &Path) -> Result<ModelFiles> {
    let config = options.ast_config.clone().unwrap_or_else(|| ast.with_file_name("config.json"));
    let ast_config = read_json(&config)?;
    let settings = serde_json::from_value(ast_config.clone())
        .with_context(|| format!("{}: expected the config.json of an AST checkpoint", config.display()))?;
    let clipseg_config = clipseg_config(options)?;
    let config = ModelConfig::with_ast(settings, serde_json::from_value(clipseg_config.clone())?);
    config.validate()?;
    let acl = match &options.acl {
        Some(acl) => Checkpoint::open(acl)?,
        None => Trainable::from_scratch(&config, 0, &Device::Cpu)?.to_checkpoint("acl.safetensors")?,
    };
    let files = (AudioEncoderKind::Ast, Checkpoint::open(ast)?, ast_config);
    assemble(options, files, (clipseg, clipseg_config), acl, Some(serde_json::to_value(&config.acl)?))
}

/// The model of an audio encoder with its configuration, and of the other files.
fn assemble(
    options: &Options,
    (audio_encoder, audio, audio_config): (AudioEncoderKind, Checkpoint, Value),
    (clipseg, clipseg_config): (&Path, Value),
    acl: Checkpoint,
    acl_config: Option<Value>,
) -> Result<ModelFiles> {
    Ok(ModelFiles {
        source: options.out.clone().into(),
        name: options.out.display().to_string(),
        audio_encoder,
        audio,
        clipseg: Checkpoint::open(clipseg)?,
        acl,
        audio_config,
        clipseg_config,
        acl_config,
        classes: None,
        presence: None,
        tokenizer: None,
    })
}

fn clipseg_config(options: &Options) -> Result<Value> {
    match &options.clipseg_config {
        Some(path) => read_json(path),
        None => Ok(serde_json::to_value(ClipSegConfig::rd64_refined())?),
    }
}

fn read_json(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected JSON", path.display()))
}
