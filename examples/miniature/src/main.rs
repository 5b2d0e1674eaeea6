//! The whole method in miniature: trains a small ACL model from scratch on scenes of real photographs and sounds.
//!
//! `cargo run --release -p miniature -- --out RUN`; the same command again continues where it stopped. On a finished
//! run, `--ablate`, `--probe` and `--plot` write their parts of `docs/miniature.md`; `miniature scenes` shows what is
//! trained on.
//!
//! Sizes and settings that differ from the published ones are listed, with the reasons, in `model.rs`.
#![allow(clippy::print_stdout)] // command-line output

mod ablate;
mod apart;
mod crosses;
mod curves;
mod disturb;
mod docs;
mod encoders;
mod films;
mod follow;
mod fresh;
mod grounding;
mod hearing;
mod masker_start;
mod masks;
mod measure;
mod mixtures;
mod model;
mod naming;
mod plots;
mod probe;
#[path = "../../../src/bin/soundsight/program/mod.rs"]
mod program;
mod report;
mod scenes;
mod show;
mod small;
mod sounds;
mod stage_b;
mod stages;
mod statistics;
mod tagging;
#[allow(dead_code, unused_imports)] // the tests use the rest
mod world;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use soundsight::audio::AudioFrontendConfig;
use soundsight::beats::Beats;
use soundsight::train::losses::LossWeights;

use docs::Docs;
use model::Vocabulary;
use stages::{Recipe, Run};
use world::{World, WorldConfig};

/// Trains a small model from scratch: the encoders with labels, then the link between them without any.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<RunOptions>,
}

#[derive(Subcommand)]
enum Command {
    Scenes(show::Options),
    Films(show::films::Options),
}

/// The options of a run, or of an action on a finished run.
#[derive(Args)]
struct RunOptions {
    /// Folder of the run; finished parts are not repeated.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of Tux Paint's stamps: pictures with transparency, and sounds of the same names.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/tuxpaint/stamps")]
    stamps: PathBuf,
    /// Folder of photographs (JPEG or PNG) for backgrounds; may be given several times.
    #[arg(long, value_name = "DIR")]
    photographs: Vec<PathBuf>,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run a short version of a few minutes, which learns little.
    #[arg(long)]
    quick: bool,
    /// Run only this stage.
    #[arg(long, value_enum, group = "instead")]
    only: Option<Stage>,
    /// Only measure the trained model.
    #[arg(long, group = "instead")]
    measure: bool,
    /// Train stage b of a finished run with each loss alone, each pair and all three, and with other batch sizes.
    #[arg(long, group = "instead")]
    ablate: bool,
    /// Train stage b with the eyes and ears of a finished run's model, or else of the embedded one: with other prompts,
    /// without the text tower, with AST and with untrained ears, with three seeds each.
    #[arg(long, group = "instead", conflicts_with_all = ["prompt_vectors", "no_text_tower"])]
    encoders: bool,
    /// Continue stage ACL of a finished run's model, or else of the embedded one, in RUN/tuned; from an untrained
    /// AudioTokenizer if --no-text-tower or --prompt-vectors differ from the model's.
    #[arg(long, group = "instead")]
    tune: bool,
    /// Test the model of a finished run on disturbed sounds, two sounds at once, and sounds of absent objects.
    #[arg(long, group = "instead")]
    probe: bool,
    /// Measures how well a finished run's model, or else the embedded one, follows films.
    #[arg(long, group = "instead")]
    films: bool,
    /// Measures how well a finished run's model, or else the embedded one, tells two sources apart.
    #[arg(long, group = "instead")]
    apart: bool,
    /// Measures how well a finished run's model, or else the embedded one, finds small objects in large pictures.
    #[arg(long, group = "instead")]
    small: bool,
    /// Films to measure on.
    #[arg(long, value_name = "N", default_value_t = 96)]
    num_films: usize,
    /// Draw the learning curves and the table of results of a run, finished or not.
    #[arg(long, group = "instead")]
    plot: bool,
    /// Folder of miniature.md, to which --ablate, --encoders, --probe and --plot write their parts.
    #[arg(long, value_name = "DIR", default_value = "docs")]
    docs: PathBuf,
    /// Number of held-out scenes to measure on [default: 512, quick: 256].
    #[arg(long, value_name = "N")]
    scenes: Option<usize>,
    /// Number of steps between checkpoints.
    #[arg(long, value_name = "N", default_value_t = 125)]
    save_every: usize,
    /// Number of steps of each run of --ablate, in batches of 16, and of --encoders, in batches of 8.
    #[arg(long, value_name = "N", default_value_t = 1200)]
    ablate_steps: usize,
    /// Number of classes that never sound in stage b.
    #[arg(long, value_name = "N", default_value_t = 8)]
    unheard: usize,
    /// Number of steps of CLIP and CLIPSeg.
    #[arg(long, value_name = "N")]
    clip_steps: Option<usize>,
    /// Number of further steps of CLIP and CLIPSeg with larger pictures.
    #[arg(long, value_name = "N")]
    larger_clip_steps: Option<usize>,
    /// Number of steps of BEATs.
    #[arg(long, value_name = "N")]
    beats_steps: Option<usize>,
    /// Number of steps of ACL.
    #[arg(long, value_name = "N")]
    acl_steps: Option<usize>,
    /// Number of further steps of ACL with larger pictures.
    #[arg(long, value_name = "N")]
    larger_acl_steps: Option<usize>,
    /// Number of pairs in a batch of ACL.
    #[arg(long, value_name = "B")]
    acl_batch: Option<usize>,
    /// How many times silence is among the sounds of each step that belong to no picture, in stage ACL and in --tune.
    #[arg(long, value_name = "N", default_value_t = 0)]
    silence_negatives: usize,
    /// Number of noises among these sounds.
    #[arg(long, value_name = "N", default_value_t = 0)]
    noise_negatives: usize,
    /// Number of learned vectors in place of the prompt's words in stage ACL, made from the picture; 0 for the words.
    #[arg(long, value_name = "M", default_value_t = 0)]
    prompt_vectors: usize,
    /// The audio tokens are the embeddings, in stage ACL: no text tower reads them.
    #[arg(long, conflicts_with = "prompt_vectors")]
    no_text_tower: bool,
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
    /// The AudioTokenizer and the masker, without labels.
    Acl,
}

fn main() -> ExitCode {
    program::run(|options: Options| match (options.command, options.run) {
        (Some(Command::Scenes(options)), _) => show::show(options),
        (Some(Command::Films(options)), _) => show::films::show(&options),
        (None, Some(run)) => miniature(run),
        (None, None) => bail!("expected --out DIR, or one of the subcommands scenes and films (see --help)"),
    })
}

fn miniature(options: RunOptions) -> Result<()> {
    program::memory::keep_freed_memory();
    let out = options.out.clone();
    if options.plot {
        return curves::plot(&out, &Docs::open(&options.docs)?);
    }
    let of_a_model =
        options.tune || options.encoders || options.probe || options.films || options.apart || options.small;
    let side = if of_a_model { model::side_of(model::own_or_embedded(&out))? } else { model::SIDE };
    let world_config = WorldConfig {
        // Small objects in large pictures are drawn from larger material.
        side: if options.small { 2 * side } else { side },
        seconds: model::SECONDS,
        seed: options.seed,
        num_unheard: options.unheard,
        photographs: options.photographs.clone(),
    };
    let world = Arc::new(World::open(&options.stamps, &world_config)?);
    std::fs::create_dir_all(&out).with_context(|| format!("{}: cannot create the folder", out.display()))?;
    if options.films {
        return follow::follow(&world, &out, options.num_films, options.seed);
    }
    if options.apart {
        let docs = Docs::open(&options.docs)?;
        return apart::apart(&world, &out, options.scenes.unwrap_or(512), options.seed, &docs);
    }
    if options.small {
        let docs = Docs::open(&options.docs)?;
        return small::small(&world, &out, options.scenes.unwrap_or(512), options.seed, &docs);
    }
    let vocabulary = Vocabulary::new(&world.names());
    println!("{} classes that sound, from {}", world.classes.len(), options.stamps.display());
    // A model begins with smaller pictures.
    let first_side = if of_a_model { side } else { model::SMALL_SIDE };
    // Statistics for the front end of the configuration.
    let plain = model::config(&vocabulary, world.classes.len(), (0.0, 1.0), first_side);
    let frontend: AudioFrontendConfig = plain.acl.frontend();
    let statistics = sounds::fbank_statistics(&world, frontend, options.seed)?;
    let mut config = model::config(&vocabulary, world.classes.len(), statistics, first_side);
    config.acl.prompt_vectors = options.prompt_vectors;
    config.acl.text_tower = !options.no_text_tower;
    config.validate()?;

    let settings = json!({
        "names": world.names(), "seed": options.seed, "seconds": model::SECONDS,
        "photographs": world.photographs(world::Split::Train).map(world::Photographs::counts),
    });
    let either = |[quick, full]: [usize; 2]| if options.quick { quick } else { full };
    let (variations, scenes) = (either([6, 40]), options.scenes.unwrap_or(either([256, 512])));
    // The short form trains the eyes too little to bear as much.
    let condition_noise = if options.quick { 0.1 } else { 0.3 };
    let save_every = options.save_every;
    let stop = program::interrupt::stop_on_ctrl_c()?;
    let run = Run {
        out,
        smaller: None,
        seed: options.seed,
        world: Arc::new(world.with_side(first_side)),
        vocabulary,
        config,
        settings,
        condition_noise,
        variations,
        scenes,
        save_every,
        stop,
    };
    let learning_rate = options.acl_lr.unwrap_or(if options.quick { 1e-3 } else { 5e-4 });
    if options.ablate {
        return ablate::ablate(&run, options.ablate_steps, learning_rate, &Docs::open(&options.docs)?);
    }
    if options.probe {
        return probe::probe(&run, &Docs::open(&options.docs)?);
    }
    let recipe = |steps: Option<usize>, default, batch: Option<usize>, default_batch, learning_rate| Recipe {
        steps: steps.unwrap_or(either(default)),
        batch: batch.unwrap_or(either(default_batch)),
        learning_rate,
        epoch: either([50, 250]),
    };
    let clip = recipe(options.clip_steps, [250, 4500], None, [16, 16], 1e-3);
    let beats = recipe(options.beats_steps, [200, 2400], None, [16, 32], 1e-3);
    let tags = Recipe { epoch: either([50, 1250]), ..recipe(None, [50, 5000], None, [16, 64], 0.03) };
    let acl = recipe(options.acl_steps, [200, 3400], options.acl_batch, [8, 16], learning_rate);
    let losses = LossWeights {
        silence_negatives: options.silence_negatives,
        noise_negatives: options.noise_negatives,
        ..LossWeights::default()
    };
    if options.encoders {
        return encoders::compare(&run, beats, options.ablate_steps, learning_rate, &Docs::open(&options.docs)?);
    }
    if options.tune {
        return run.tune(acl, losses);
    }
    let larger = run.larger(model::SIDE, &world);
    let continued = |steps: Option<usize>, default| steps.unwrap_or(either([50, default]));
    let clip_larger = Recipe { steps: continued(options.larger_clip_steps, 1500), learning_rate: 5e-4, ..clip };
    let acl_larger = Recipe { steps: continued(options.larger_acl_steps, 2000), ..acl };
    let wanted = |stage| !options.measure && options.only.is_none_or(|only| only == stage);
    if wanted(Stage::Clip) {
        run.naming(clip)?;
        larger.naming(clip_larger)?;
    }
    if wanted(Stage::Beats) {
        run.hearing::<Beats>("ears: BEATs from named sounds", &run.out.join("beats"), beats)?;
        run.tagging(tags, either([512, 8000]))?;
    }
    if wanted(Stage::Acl) {
        run.grounding(acl, losses)?;
        larger.grounding(acl_larger, losses)?;
    }
    if options.only.is_none() {
        larger.finish()?;
    }
    Ok(())
}
