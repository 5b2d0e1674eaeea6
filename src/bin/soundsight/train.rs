//! `soundsight train`: trains ACL on pairs of sounds and pictures (`docs/training.md`).
#![allow(clippy::print_stdout)] // command-line output

mod options;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use clap::Args;
use indicatif::ProgressBar;
use rayon::prelude::*;
use soundsight::Localizer;
use soundsight::acl::ModelConfig;
use soundsight::data::{
    BadPairs, EpochSampler, FeatureCache, Loader, MediaReader, Pair, PairDataset, PairList, Sharing,
};
use soundsight::train::losses::LossWeights;
use soundsight::train::step::Activations;
use soundsight::train::{
    AclObjective, Checkpoints, Outcome, TrainConfig, Trainable, Trainer, agree, audio_features_identity,
};
use soundsight::weights::{Matrices, ModelFiles, Precision, WeightFormat};

use crate::model::ModelOptions;
use crate::parallel::{Job, ParallelOptions};
use crate::program::interrupt::stop_on_ctrl_c;
use crate::program::memory::keep_freed_memory;
use crate::program::progress::{TrainingProgress, progress_bar};
use options::{DataOptions, NegativesChoice, RecipeOptions};

/// Train the AudioTokenizer and the masker on pairs of sounds and pictures.
///
/// The defaults are the published recipe. The first Ctrl-C finishes the current step, writes a checkpoint and stops;
/// the second ends the program at once. --resume continues either way.
///
/// Under mpirun (a build with the feature mpi), the processes share the batches of each step and train as one process does.
/// The first one writes. See docs/scaling.md.
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
    /// Train a model without CLIP's text tower: the AudioTokenizer maps sounds straight into the common space.
    #[arg(long, requires = "from_scratch")]
    no_text_tower: bool,
    /// Train a model with M learned vectors, which depend on the picture, in place of the prompt's words (SouPLe has 4);
    /// 0 for the words.
    #[arg(long, value_name = "M", requires = "from_scratch")]
    prompt_vectors: Option<usize>,
    /// Under mpirun: how the processes share the batches of a step.
    #[arg(long, value_enum, default_value_t = NegativesChoice::Local)]
    negatives: NegativesChoice,
    #[command(flatten)]
    parallel: ParallelOptions,
}

/// Runs the subcommand.
pub fn train(options: Options) -> Result<()> {
    keep_freed_memory();
    let job = Job::join(options.parallel.timeout())?;
    let outcome = train_in(&job, &options);
    job.leave(outcome)
}

/// What is known before training begins.
struct Prepared {
    config: TrainConfig,
    files: ModelFiles,
    localizer: Localizer,
    device: Device,
    training: PairList,
    validation: Option<PairList>,
    sampler: EpochSampler,
    cache: Option<FeatureCache>,
    losses: LossWeights,
    trainable: Trainable,
}

/// Checks as much as possible before anything is written or much time spent.
fn prepare(job: &Job, options: &Options) -> Result<Prepared> {
    let Options { data, recipe, out, .. } = options;
    let (config, losses) = (recipe.trainer_config(data.validates())?, recipe.losses()?);
    let begun = Checkpoints::new(&out.join("checkpoints"), recipe.keep).any();
    if job.is_first() {
        ensure!(
            options.resume || !begun,
            "{}: contains a run: continue with --resume, or choose another",
            out.display()
        );
        ensure!(begun || !options.resume, "{}: contains no run to resume: leave out --resume", out.display());
    }
    let size = job.group().size();
    if options.negatives == NegativesChoice::Local {
        let accumulate = recipe.accumulate;
        ensure!(
            accumulate.is_multiple_of(size),
            "--accumulate: expected a multiple of {size}, the number of processes, each of which computes whole batches, \
             found {accumulate} (--negatives global shares batches instead)"
        );
    }
    let (training, validation) = data.pairs(recipe.seed)?;
    let sampler = EpochSampler::training(training.num_pairs(), data.batch, recipe.seed)
        .and_then(|sampler| sampler.shared(job.shard(), options.negatives.sharing()))
        .with_context(|| format!("{}, --batch", data.list().display()))?;

    let (mut files, device) = (options.model.find()?, options.model.device_of(job.local_rank())?);
    if options.no_text_tower || options.prompt_vectors.is_some() {
        files = with_choices(files, options)?;
    }
    let localizer = options.model.load_files(&files, device.clone())?;
    let model = localizer.acl().config();
    let cache = match &options.cache {
        Some(folder) => {
            let identity = audio_features_identity(&files, model, options.model.dtype())?;
            Some(FeatureCache::open(folder, &format!("{identity}{}", in_form(options.model.matrices())))?)
        }
        None => None,
    };
    let trainable = match options.from_scratch {
        true => Trainable::from_scratch(model, recipe.seed, &device)?,
        false => Trainable::from_checkpoint(model, &files.acl, &device)?,
    };
    Ok(Prepared { config, files, localizer, device, training, validation, sampler, cache, losses, trainable })
}

/// The same model with what was chosen between sounds and pictures, and with fresh trainable parts, whose sizes differ.
fn with_choices(files: ModelFiles, options: &Options) -> Result<ModelFiles> {
    let mut config = ModelConfig::from_files(&files)?;
    config.acl.text_tower &= !options.no_text_tower;
    config.acl.prompt_vectors = options.prompt_vectors.unwrap_or(config.acl.prompt_vectors);
    config.validate()?;
    let acl = Trainable::from_scratch(&config, options.recipe.seed, &Device::Cpu)?.to_checkpoint(files.acl.path())?;
    Ok(ModelFiles { acl, acl_config: Some(serde_json::to_value(&config.acl)?), ..files })
}

/// Opens the list of unreadable pairs. The first process keeps the file.
fn open_bad_pairs(job: &Job, options: &Options, num_pairs: usize) -> Result<BadPairs> {
    let path = options.out.join("bad_pairs.csv");
    if job.is_first() && !options.resume && path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
    }
    let bad = BadPairs::open(&path, num_pairs, options.data.max_bad)?;
    if !job.is_first() {
        return Ok(bad.in_memory());
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{}: cannot create the folder", options.out.display()))?;
    Ok(bad)
}

/// Reads all pairs before the first step, because an epoch may take days to reach the last unreadable one. They stay in
/// the lists, and are left out of their batches. The processes share the work.
fn check_pairs(job: &Job, lists: &[&PairList], reader: &MediaReader, bad: &BadPairs) -> Result<()> {
    let mine: Vec<&Pair> = lists.iter().flat_map(|list| list.pairs()).collect();
    let mine = mine.into_iter().enumerate().filter(|(place, _)| job.shard().contains(*place));
    let mine: Vec<&Pair> = mine.map(|(_, pair)| pair).collect();
    let bar = match job.is_first() {
        true => progress_bar(mine.len(), "checking {wide_bar} {pos}/{len} pairs, {eta} left"),
        false => ProgressBar::hidden(),
    };
    let probed = mine.par_iter().try_for_each(|pair| {
        let outcome = reader.probe(pair);
        bar.inc(1);
        outcome.or_else(|reason| bad.record(&pair.id, &reason))
    });
    let (_, news) = agree(&**job.group(), probed, |()| bad.take_news())?;
    bar.finish_and_clear();
    bad.add(&news.concat())?;
    Ok(bad.verdict()?)
}

fn train_in(job: &Job, options: &Options) -> Result<()> {
    let Options { data, recipe, out, .. } = options;
    let prepared = job.together(prepare(job, options))?;
    let Prepared { config, files, localizer, device, training, validation, sampler, cache, losses, trainable } =
        prepared;
    let acl = &localizer.acl().config().acl;
    let num_pairs = training.num_pairs() + validation.as_ref().map_or(0, PairList::num_pairs);
    let bad = Arc::new(job.together(open_bad_pairs(job, options, num_pairs))?);
    if !options.resume {
        let lists: Vec<&PairList> = [Some(&training), validation.as_ref()].into_iter().flatten().collect();
        job.together(check_pairs(job, &lists, &MediaReader::new(acl, cache.clone())?, &bad))?;
    }
    let loader = |list: PairList, sampler: EpochSampler, augment: bool| -> Result<_> {
        let dataset = Arc::new(PairDataset::new(list, MediaReader::new(acl, cache.clone())?, augment));
        Ok(Loader::new(dataset, sampler, recipe.seed, 2, bad.clone(), data.workers())?)
    };
    let mut objective = AclObjective::new(&files, localizer.acl(), trainable, losses, device, localizer.dtype())?
        .with_group(job.group().clone(), options.negatives.of_library());
    if options.recompute {
        objective = objective.with_activations(Activations::Recompute);
    }
    if let Some(cache) = &cache {
        objective = objective.with_cache(cache.clone());
    }
    if let Some(list) = validation {
        let sampler = EpochSampler::validation(list.num_pairs(), data.batch)?;
        objective = objective.with_validation(loader(list, sampler.shared(job.shard(), Sharing::Batches)?, false)?);
    }
    let source = loader(training, sampler, true)?;

    let mut settings = objective.settings()?;
    settings["from_scratch"] = options.from_scratch.into();
    let group = job.group().clone();
    let mut trainer = match options.resume {
        true => Trainer::resume_among(group, config, settings, &objective, &source, out)
            .with_context(|| format!("{}: cannot resume this run with the model {}", out.display(), files.name))?,
        false => Trainer::start_among(group, config, settings, &objective, &source, out)?,
    };
    let stop = stop_on_ctrl_c()?;
    if !job.is_first() {
        trainer.run(stop, &mut |_| ())?;
        return Ok(());
    }
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

/// What --weights and --precision add to the identity of the features that are computed with them.
fn in_form(Matrices { format, precision }: Matrices) -> String {
    let format = match format {
        WeightFormat::AsStored => String::new(),
        other => format!(" with weights kept as {other:?}"),
    };
    let precision = match precision {
        Precision::Highest => String::new(),
        other => format!(" in {other:?} precision"),
    };
    format + &precision
}
