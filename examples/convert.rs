//! Writes a model directory from the published files.
//!
//! `cargo run --release --example convert -- --beats BEATs.pt --clipseg pytorch_model.bin --acl Param_best.pth --out DIR`
#![allow(clippy::print_stdout)] // a program talks

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use clap::Parser;
use serde_json::{Value, json};
use soundsight::Localizer;
use soundsight::clipseg::ClipSegConfig;
use soundsight::files::write_atomically;
use soundsight::weights::{Checkpoint, ModelFiles, save_safetensors};

/// Writes a model directory (config.json and three safetensors files) from published files, after checking that every
/// tensor is there and fits.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// BEATs checkpoint with its configuration: {cfg, model}.
    #[arg(long, value_name = "F")]
    beats: PathBuf,
    /// CLIPSeg weights: pytorch_model.bin or model.safetensors.
    #[arg(long, value_name = "F")]
    clipseg: PathBuf,
    /// CLIPSeg's config.json; that of CIDAS/clipseg-rd64-refined if left out.
    #[arg(long, value_name = "F")]
    clipseg_config: Option<PathBuf>,
    /// ACL weights: {audio_proj, masker_i}.
    #[arg(long, value_name = "F")]
    acl: PathBuf,
    /// The model directory; made if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn main() -> ExitCode {
    common::run(convert)
}

fn convert(options: Options) -> Result<()> {
    let beats = Checkpoint::open(&options.beats)?;
    let beats_config = beats.config().cloned();
    let beats_config = beats_config.with_context(|| {
        format!("{}: expected a BEATs checkpoint with its configuration (cfg), found none", options.beats.display())
    })?;
    let clipseg_config = match &options.clipseg_config {
        Some(path) => read_json(path)?,
        None => serde_json::to_value(ClipSegConfig::rd64_refined())?,
    };
    let files = ModelFiles {
        name: options.out.display().to_string(),
        beats,
        clipseg: Checkpoint::open(&options.clipseg)?,
        acl: Checkpoint::open(&options.acl)?,
        beats_config,
        clipseg_config,
        acl_config: None,
        things: None,
        tokenizer: None,
    };
    // Nothing is written unless all of it makes a model.
    Localizer::from_files(&files, Device::Cpu, DType::F32)?;

    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{}: cannot create the folder", options.out.display()))?;
    for (name, checkpoint) in [("beats", &files.beats), ("clipseg", &files.clipseg), ("acl", &files.acl)] {
        let path = options.out.join(format!("{name}.safetensors"));
        let tensor = |(name, entry): (&String, &soundsight::weights::Entry)| {
            Ok((name.clone(), checkpoint.tensor(name, &Device::Cpu, entry.dtype())?))
        };
        let tensors = checkpoint.entries().iter().map(tensor).collect::<soundsight::Result<_>>()?;
        save_safetensors(&path, &tensors, &Default::default())?;
        println!("{} ({} tensors)", path.display(), checkpoint.entries().len());
    }
    // Last, because a folder without it is no model directory.
    let path = options.out.join("config.json");
    let config = json!({"beats": files.beats_config, "clipseg": files.clipseg_config});
    let text = serde_json::to_string_pretty(&config)?;
    write_atomically(&path, |file| file.write_all(text.as_bytes()).map_err(soundsight::Error::io(&path, "write")))?;
    println!("{}", path.display());
    Ok(())
}

fn read_json(path: &PathBuf) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: expected JSON", path.display()))
}
