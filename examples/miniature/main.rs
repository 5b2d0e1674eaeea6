//! The whole method in miniature: trains a small ACL model from scratch on scenes of real photographs and sounds.
//!
//! `cargo run --release --example miniature -- --out RUN`, a second time to go on where it was stopped.
#![allow(clippy::print_stdout)] // a program talks

#[path = "../common/mod.rs"]
mod common;
mod fresh;
mod grounding;
mod hearing;
mod masker_start;
mod masks;
mod measure;
mod model;
mod naming;
mod report;
mod scenes;
mod sounds;
mod stages;
#[path = "../common/training.rs"]
#[allow(dead_code)] // of `train`, only its progress bars
mod training;
#[allow(dead_code, unused_imports)] // `scenes` shows the rest
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use serde_json::json;
use soundsight::audio::AudioFrontendConfig;
use soundsight::train::losses::LossWeights;

use model::Vocabulary;
use stages::{Recipe, Run};
use world::{World, WorldConfig};

/// Trains a small model from scratch: eyes and ears with labels, then what ties them together without any.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Folder of the run; what is finished in it is not done again.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of Tux Paint's stamps: pictures with transparency, and sounds of the same names.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/tuxpaint/stamps")]
    stamps: PathBuf,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A short form of a few minutes, which learns something but not much.
    #[arg(long)]
    quick: bool,
    /// Only this stage.
    #[arg(long, value_enum)]
    only: Option<Stage>,
    /// Only measures what is there.
    #[arg(long, conflicts_with = "only")]
    measure: bool,
    /// Steps of CLIP and CLIPSeg.
    #[arg(long, value_name = "N")]
    clip_steps: Option<usize>,
    /// Steps of BEATs.
    #[arg(long, value_name = "N")]
    beats_steps: Option<usize>,
    /// Steps of ACL.
    #[arg(long, value_name = "N")]
    acl_steps: Option<usize>,
    /// Pairs in a batch of ACL.
    #[arg(long, value_name = "B")]
    acl_batch: Option<usize>,
    /// Learning rate of ACL.
    #[arg(long, value_name = "RATE")]
    acl_lr: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Stage {
    /// CLIP's towers and CLIPSeg's decoder, with labels.
    Clip,
    /// BEATs, with labels.
    Beats,
    /// The AudioTokenizer and the masker, without.
    Acl,
}

/// Things that never sound in stage b.
const NUM_UNHEARD: usize = 8;

fn main() -> ExitCode {
    common::run(miniature)
}

fn miniature(options: Options) -> Result<()> {
    let out = options.out.clone();
    std::fs::create_dir_all(&out).with_context(|| format!("{}: cannot create the folder", out.display()))?;
    let world_config =
        WorldConfig { side: model::SIDE, seconds: model::SECONDS, seed: options.seed, num_unheard: NUM_UNHEARD };
    let world = Arc::new(World::open(&options.stamps, &world_config)?);
    let vocabulary = Vocabulary::new(&world.names());
    println!("{} things that sound, from {}", world.things.len(), options.stamps.display());
    // The statistics are those of the front end that the configuration describes.
    let plain = model::config(&vocabulary, world.things.len(), (0.0, 1.0));
    let frontend: AudioFrontendConfig = plain.acl.frontend();
    let statistics = sounds::fbank_statistics(&world, frontend, options.seed)?;
    let config = model::config(&vocabulary, world.things.len(), statistics);
    config.validate()?;

    let settings =
        json!({ "names": world.names(), "seed": options.seed, "side": model::SIDE, "seconds": model::SECONDS });
    let variations = if options.quick { 6 } else { 40 };
    let run = Run { out, seed: options.seed, world, vocabulary, config, settings, variations };
    stages::stop_on_ctrl_c()?;
    let recipe = |steps: Option<usize>, [quick, full]: [usize; 2], batch, learning_rate| {
        let steps = steps.unwrap_or(if options.quick { quick } else { full });
        Recipe { steps, batch, learning_rate }
    };
    let clip = recipe(options.clip_steps, [250, 5000], 16, 1e-3);
    let beats = recipe(options.beats_steps, [250, 800], 32, 1e-3);
    let acl = recipe(options.acl_steps, [250, 5000], options.acl_batch.unwrap_or(16), options.acl_lr.unwrap_or(5e-4));
    let wanted = |stage| !options.measure && options.only.is_none_or(|only| only == stage);
    if wanted(Stage::Clip) {
        run.naming(clip)?;
    }
    if wanted(Stage::Beats) {
        run.hearing(beats)?;
    }
    if wanted(Stage::Acl) {
        run.grounding(acl, LossWeights::default())?;
    }
    if options.only.is_none() {
        run.finish()?;
    }
    Ok(())
}
