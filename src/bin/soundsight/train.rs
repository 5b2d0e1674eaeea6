//! `soundsight train`: trains ACL on pairs of sounds and pictures (`docs/training.md`).
#![allow(clippy::print_stdout)] // command-line output

mod options;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use soundsight::data::{BadPairs, EpochSampler, FeatureCache, Loader, MediaReader, PairDataset, PairList, Shard};
use soundsight::train::step::Activations;
use soundsight::train::{AclObjective, Checkpoints, Outcome, Trainable, Trainer, audio_features_identity};
use soundsight::weights::WeightFormat;

use crate::model::ModelOptions;
use crate::program::interrupt::stop_on_ctrl_c;
use crate::program::memory::keep_freed_memory;
use crate::program::progress::{TrainingProgress, progress_bar};
use options::{DataOptions, RecipeOptions};

/// Train the AudioTokenizer and the masker on pairs of sounds and pictures.
///
/// The defaults are the published recipe. The first Ctrl-C finishes the current step, writes a checkpoint and stops;
/// the second ends the program at once. --resume continues either way.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    data: DataOptions,
    #[command(flatten)]
    recipe: RecipeOptions,
    /// Folder of the run; created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Continue the run in --out where it stopped.
    #[arg(long)]
    resume: bool,
    /// Folder to cache the frozen encoder's audio features in, 2.3 MB a sound.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Recompute the vision tower's activations instead of storing them: less memory, more time.
    #[arg(long)]
    recompute: bool,
    /// Start from fresh weights instead of the model's.
    #[arg(long)]
    from_scratch: bool,
}

/// Runs the subcommand.
pub fn train(options: Options) -> Result<()> {
    keep_freed_memory();
    let Options { data, recipe, out, .. } = &options;
    // Check as much as possible before writing anything or spending time.
    let (config, losses) = (recipe.trainer_config(data.validates())?, recipe.losses()?);
    let begun = Checkpoints::new(&out.join("checkpoints"), recipe.keep).any();
    ensure!(options.resume || !begun, "{}: contains a run: continue with --resume, or choose another", out.display());
    ensure!(begun || !options.resume, "{}: contains no run to resume: leave out --resume", out.display());
    let (training, validation) = data.pairs(recipe.seed)?;
    let sampler = EpochSampler::training(training.num_pairs(), data.batch, recipe.seed, Shard::WHOLE)
        .with_context(|| format!("{}, --batch", data.list().display()))?;

    let (files, device, dtype) = (options.model.find()?, options.model.device()?, options.model.dtype());
    let localizer = options.model.load_files(&files)?;
    let model = localizer.acl().config();
    let cache = match &options.cache {
        Some(folder) => {
            let (identity, weights) = (audio_features_identity(&files, model, dtype)?, options.model.weights.format());
            Some(FeatureCache::open(folder, &format!("{identity}{}", in_format(weights)))?)
        }
        None => None,
    };
    let trainable = match options.from_scratch {
        true => Trainable::from_scratch(model, recipe.seed, &device)?,
        false => Trainable::from_checkpoint(model, &files.acl, &device)?,
    };

    let bad = out.join("bad_pairs.csv");
    if !options.resume && bad.exists() {
        std::fs::remove_file(&bad).with_context(|| format!("{}: cannot remove", bad.display()))?;
    }
    let num_pairs = training.num_pairs() + validation.as_ref().map_or(0, PairList::num_pairs);
    let bad = Arc::new(BadPairs::open(&bad, num_pairs, data.max_bad)?);
    std::fs::create_dir_all(out).with_context(|| format!("{}: cannot create the folder", out.display()))?;
    let reader = || MediaReader::new(&model.acl, cache.clone());
    if !options.resume {
        // Check all pairs before the first step, because an epoch may take days to reach the last unreadable one. They
        // stay in the lists, and are left out of their batches.
        let bar = progress_bar(num_pairs, "checking {wide_bar} {pos}/{len} pairs, {eta} left");
        for list in [Some(&training), validation.as_ref()].into_iter().flatten() {
            let reader = reader()?;
            let probe = |pair: &_| reader.probe(pair).inspect(|()| bar.inc(1));
            list.clone().check(probe, &bad)?;
        }
        bar.finish_and_clear();
    }
    let loader = |list: PairList, sampler: EpochSampler, augment: bool| -> Result<_> {
        let dataset = Arc::new(PairDataset::new(list, reader()?, augment));
        Ok(Loader::new(dataset, sampler, recipe.seed, 2, bad.clone(), data.workers())?)
    };
    let mut objective = AclObjective::new(&files, localizer.acl(), trainable, losses, device, localizer.dtype())?;
    if options.recompute {
        objective = objective.with_activations(Activations::Recompute);
    }
    if let Some(cache) = &cache {
        objective = objective.with_cache(cache.clone());
    }
    if let Some(list) = validation {
        let sampler = EpochSampler::validation(list.num_pairs(), data.batch)?;
        objective = objective.with_validation(loader(list, sampler, false)?);
    }
    let source = loader(training, sampler, true)?;

    let mut settings = objective.settings()?;
    settings["from_scratch"] = options.from_scratch.into();
    let mut trainer = match options.resume {
        true => Trainer::resume(config, settings, &objective, &source, out)
            .with_context(|| format!("{}: cannot resume this run with the model {}", out.display(), files.name))?,
        false => Trainer::start(config, settings, &objective, &source, out)?,
    };
    let stop = stop_on_ctrl_c()?;
    let progress = TrainingProgress::new(trainer.state().step, trainer.total_steps());
    let outcome = trainer.run(stop, &mut |event| progress.show(&event));
    progress.finish();
    match outcome? {
        Outcome::Finished => println!("finished after {} steps", trainer.state().step),
        Outcome::Stopped => println!("stopped after {} steps: --resume continues", trainer.state().step),
    }
    if let Some(best) = &trainer.state().best {
        let folder = out.join("best");
        println!("best {} {:.4}, epoch {}: {}", best.metric, best.value, best.epoch, folder.display());
    }
    println!("newest weights: {}", out.join("last").display());
    if bad.count() > 0 {
        println!("unreadable pairs: {}, listed in {}", bad.count(), out.join("bad_pairs.csv").display());
    }
    Ok(())
}

/// What --weights adds to the identity of the features that are computed with those weights.
fn in_format(weights: WeightFormat) -> String {
    match weights {
        WeightFormat::AsStored => String::new(),
        other => format!(" with weights kept as {other:?}"),
    }
}
