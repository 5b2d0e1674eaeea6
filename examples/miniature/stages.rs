//! The stages in their order, each a run of the library's trainer in a folder of its own.
#![allow(clippy::print_stdout)] // a program talks

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use serde_json::{Value, json};
use soundsight::acl::{Acl, ModelConfig};
use soundsight::beats::Beats;
use soundsight::clipseg::ClipSeg;
use soundsight::data::random::{Purpose, stream};
use soundsight::data::{BadPairs, BatchSource, Dataset, EpochSampler, Loader, Shard};
use soundsight::train::losses::LossWeights;
use soundsight::train::{
    Checkpoints, Decay, Length, Objective, OptimizerConfig, OptimizerKind, Outcome, Schedule, TrainConfig, Trainer,
};
use soundsight::weights::ModelFiles;

use crate::fresh::fresh;
use crate::grounding::{Curriculum, GroundingObjective, MaskerStart, Pairs, Pool, fresh_learned};
use crate::hearing::HearingObjective;
use crate::measure::Scoreboard;
use crate::model::{Vocabulary, Weights, read_tensors, write_json, write_model};
use crate::naming::NamingObjective;
use crate::report::held_out_sounds;
use crate::scenes::Scenes;
use crate::sounds::{Ear, NamedSounds, features};
use crate::world::{Split, World};
use crate::{common, masker_start, training};

/// Steps between validations and checkpoints.
const EPOCH: usize = 250;
/// Held-out scenes and sound variations that validations measure.
const VALIDATION_SCENES: usize = 128;
const VALIDATION_VARIATIONS: usize = 3;

/// In a stage's folder, how long it has trained.
const MINUTES: &str = "minutes.json";

/// Set by Ctrl-C: the step under way is finished and a checkpoint written.
static STOP: AtomicBool = AtomicBool::new(false);

/// The first Ctrl-C stops after the step under way, the second ends the program at once; the last checkpoint stays.
pub fn stop_on_ctrl_c() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(())
}

/// How long and how fast a stage learns.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub steps: usize,
    pub batch: usize,
    pub learning_rate: f64,
}

/// What all stages share.
pub struct Run {
    pub out: PathBuf,
    pub seed: u64,
    pub world: Arc<World>,
    pub vocabulary: Vocabulary,
    pub config: ModelConfig,
    /// Of the world: what must be the same when a stage is resumed.
    pub settings: Value,
    /// Sound variations of each thing in stage b.
    pub variations: usize,
}

impl Run {
    fn ear(&self) -> Result<Ear> {
        Ok(Ear::new(self.world.clone(), self.config.acl.frontend())?)
    }

    fn loader<D: Dataset>(&self, folder: &Path, dataset: D, batch: usize) -> Result<Loader<D>> {
        let count = dataset.num_samples();
        let sampler = EpochSampler::training(count, batch, self.seed, Shard::WHOLE)?;
        let bad = Arc::new(BadPairs::open(&folder.join("unreadable.csv"), count, 0.0)?);
        Ok(Loader::new(Arc::new(dataset), sampler, self.seed, batch, bad, 1)?)
    }

    /// Stage a, eyes and language.
    pub fn naming(&self, recipe: Recipe) -> Result<()> {
        let folder = self.out.join("clip");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let residual = (2.0 * self.config.clipseg.vision_config.num_hidden_layers as f64).powf(-0.5);
        let (clipseg, vars) = fresh(self.seed, 1, residual, |vb| ClipSeg::new(&self.config.clipseg, vb))?;
        let all: Vec<usize> = (0..self.world.things.len()).collect();
        let scoreboard = Scoreboard::new(&self.world, &all, VALIDATION_SCENES, self.seed)?;
        let objective = NamingObjective {
            clipseg,
            vars,
            vocabulary: &self.vocabulary,
            num_things: self.world.things.len(),
            scoreboard: &scoreboard,
        };
        let loader = self.loader(&folder, Scenes::new(self.world.clone(), EPOCH * recipe.batch), recipe.batch)?;
        let settings = json!({ "world": self.settings, "clipseg": self.config.clipseg });
        self.train(
            "eyes and language: CLIP and CLIPSeg from named masks",
            &folder,
            recipe,
            settings,
            &objective,
            &loader,
        )
    }

    /// Stage a, ears.
    pub fn hearing(&self, recipe: Recipe) -> Result<()> {
        let folder = self.out.join("beats");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        // DeepNorm's (8 · blocks)^-¼ (Wang et al., arXiv 2203.00555).
        let residual = (8.0 * self.config.beats.encoder_layers as f64).powf(-0.25);
        let (beats, vars) = fresh(self.seed, 2, residual, |vb| Beats::new(&self.config.beats, vb))?;
        let ear = self.ear()?;
        let held_out = held_out_sounds(&ear, self.world.things.len(), VALIDATION_VARIATIONS, self.seed)?;
        let objective = HearingObjective { beats, vars, held_out };
        let loader = self.loader(&folder, NamedSounds::new(ear, EPOCH * recipe.batch), recipe.batch)?;
        let settings = json!({ "world": self.settings, "beats": self.config.beats, "acl": self.config.acl });
        self.train("ears: BEATs from named sounds", &folder, recipe, settings, &objective, &loader)
    }

    /// Stage b: from the frozen parts of stage a, and nothing but pairs.
    pub fn grounding(&self, recipe: Recipe, weights: LossWeights) -> Result<()> {
        let folder = self.out.join("acl");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let frozen = self.out.join("frozen");
        let (acl, _) = self.freeze(&frozen, MaskerStart { w: 1.0, b: 0.0, area: 0.0 })?;
        let pool = Arc::new(self.pool(&acl)?);
        let begun = Checkpoints::new(&folder.join("checkpoints"), 1).any();
        let start_file = self.out.join("masker.json");
        let start: MaskerStart = if begun && start_file.exists() {
            serde_json::from_str(&std::fs::read_to_string(&start_file)?)
                .with_context(|| format!("{}: not what this program wrote", start_file.display()))?
        } else {
            let start = masker_start::measure(&self.world, &pool, &acl, self.seed)?;
            write_json(&start_file, &serde_json::to_value(start)?)?;
            start
        };
        let (acl, files) = self.freeze(&frozen, start)?;
        let (acl, vars) = fresh_learned(&acl, self.seed, start)?;

        let heard: Vec<usize> = pool.sounding.iter().map(|(thing, _)| *thing).collect();
        let mut scoreboard = Scoreboard::new(&self.world, &heard, VALIDATION_SCENES, self.seed)?;
        scoreboard.hear(&acl, &self.ear()?, self.seed)?;
        let weights = LossWeights { positive_area: start.area, ..weights };
        let objective = GroundingObjective { files: &files, acl, vars, weights, scoreboard: &scoreboard };
        let loader = |counts: &[usize]| {
            let ids = (0..EPOCH * recipe.batch).map(|i| format!("pair {i}")).collect();
            let pairs = Pairs { world: self.world.clone(), pool: pool.clone(), ids, counts: counts.to_vec() };
            self.loader(&folder, pairs, recipe.batch)
        };
        let first_epochs = recipe.steps / EPOCH / 4;
        let source = Curriculum { first: loader(&[1])?, first_epochs, then: loader(&[1, 2, 2, 3])? };
        let settings = json!({
            "world": self.settings, "acl": self.config.acl, "losses": weights,
            "masker": start, "variations": self.variations,
            "clipseg": soundsight::files::sha256(files.clipseg.path())?,
            "beats": soundsight::files::sha256(files.beats.path())?,
        });
        self.train("ACL: from pairs of scene and sound alone", &folder, recipe, settings, &objective, &source)
    }

    /// Puts the frozen parts of stage a together with a fresh AudioTokenizer, in half precision as they will be kept.
    fn freeze(&self, folder: &Path, start: MaskerStart) -> Result<(Acl, ModelFiles)> {
        let learned = soundsight::train::Trainable::from_scratch(&self.config, self.seed ^ 1, &Device::Cpu)?;
        let (_, vars) = learned.into_parts();
        start.set(&vars)?;
        let weights = Weights {
            beats: read_tensors(&self.out.join("beats/last/beats.safetensors"))?,
            clipseg: read_tensors(&self.out.join("clip/last/clipseg.safetensors"))?,
            acl: vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect(),
        };
        write_model(folder, &self.config, &self.vocabulary, &weights)?;
        self.load(folder)
    }

    /// Loads a model directory as inference does.
    fn load(&self, folder: &Path) -> Result<(Acl, ModelFiles)> {
        let files = ModelFiles::from_directory(folder)?;
        let localizer = soundsight::Localizer::from_files(&files, Device::Cpu, DType::F32)?;
        Ok((localizer.acl().clone(), files))
    }

    /// Lets the frozen encoder hear some variations of every sound that stage b may hear.
    fn pool(&self, acl: &Acl) -> Result<Pool> {
        let ear = self.ear()?;
        let heard: Vec<usize> =
            (0..self.world.things.len()).filter(|thing| !self.world.things[*thing].unheard).collect();
        let bar =
            common::progress_bar(heard.len() * self.variations, "hearing {wide_bar} {pos}/{len} sounds, {eta} left");
        let sounding = heard.into_iter().map(|thing| {
            let mut rng = stream(self.seed, Purpose::Augmentation, u64::MAX, thing as u64);
            let fbanks = (0..self.variations).map(|_| ear.fbank(thing, Split::Train, &mut rng));
            let fbanks = fbanks.collect::<soundsight::Result<Vec<_>>>()?;
            Ok((thing, features(acl, &fbanks, |count| bar.inc(count as u64))?))
        });
        let sounding = sounding.collect::<Result<Vec<_>>>()?;
        bar.finish_and_clear();
        Ok(Pool { sounding })
    }

    /// The finished model in `RUN/model`, and its figures.
    pub fn finish(&self) -> Result<()> {
        let folder = self.out.join("model");
        let weights = Weights {
            beats: read_tensors(&self.out.join("frozen/beats.safetensors"))?,
            clipseg: read_tensors(&self.out.join("frozen/clipseg.safetensors"))?,
            acl: read_tensors(&self.out.join("acl/last/acl.safetensors"))?,
        };
        write_model(&folder, &self.config, &self.vocabulary, &weights)?;
        let (trained, files) = self.load(&folder)?;
        let (untrained, _) = self.load(&self.out.join("frozen"))?;
        let sizes = [files.beats.path(), files.clipseg.path(), files.acl.path()].map(std::fs::metadata);
        let bytes = sizes.into_iter().map(|file| Ok(file?.len())).sum::<std::io::Result<u64>>()?;
        println!("{}: {:.2} MB of weights", folder.display(), bytes as f64 / 1e6);
        let figures =
            crate::report::measure(&self.world, &self.vocabulary, &self.ear()?, &trained, &untrained, self.seed)?;
        let minutes = ["clip", "beats", "acl"].map(|stage| (stage, read_minutes(&self.out.join(stage))));
        let minutes: std::collections::BTreeMap<&str, f64> = minutes.into_iter().collect();
        let report = json!({ "seed": self.seed, "minutes": minutes, "things": self.world.names(), "weight_bytes": bytes, "measured": figures });
        crate::report::write(&self.out.join("report.json"), &report)
    }

    /// Runs or resumes one stage.
    fn train<O: Objective, S: BatchSource<Batch = O::Batch>>(
        &self,
        title: &str,
        folder: &Path,
        recipe: Recipe,
        settings: Value,
        objective: &O,
        source: &S,
    ) -> Result<()> {
        let count: usize = objective.trainable().iter().map(|(_, var)| var.elem_count()).sum();
        println!("{title}: {count} weights, {} steps of {}", recipe.steps, recipe.batch);
        let config = TrainConfig {
            seed: self.seed,
            length: Length::Steps(recipe.steps),
            max_grad_norm: Some(1.0),
            learning_rate: recipe.learning_rate,
            schedule: Schedule { warmup_steps: recipe.steps.min(4000) / 20, decay: Decay::Cosine { floor: 0.02 } },
            optimizer: OptimizerConfig {
                kind: OptimizerKind::AdamW,
                beta2: 0.98,
                weight_decay: 0.01,
                ..OptimizerConfig::default()
            },
            keep_checkpoints: 1,
            ..TrainConfig::default()
        };
        let begun = Checkpoints::new(&folder.join("checkpoints"), 1).any();
        let mut trainer = match begun {
            true => Trainer::resume(config, settings, objective, source, folder)?,
            false => Trainer::start(config, settings, objective, source, folder)?,
        };
        let progress = training::Progress::new(trainer.state().step, trainer.total_steps());
        let started = Instant::now();
        let outcome = trainer.run(&STOP, &mut |event| progress.show(&event));
        progress.finish();
        let minutes = read_minutes(folder) + started.elapsed().as_secs_f64() / 60.0;
        write_json(&folder.join(MINUTES), &json!(minutes))?;
        if outcome? == Outcome::Stopped {
            bail!("stopped after {} steps; the same command goes on", trainer.state().step);
        }
        Ok(())
    }
}

/// The minutes that the stage in `folder` has trained so far; those of a killed process are lost.
fn read_minutes(folder: &Path) -> f64 {
    let text = std::fs::read_to_string(folder.join(MINUTES)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(0.0)
}

/// Whether the stage in `folder` has made all its steps.
fn is_finished(folder: &Path, recipe: Recipe) -> Result<bool> {
    let checkpoints = Checkpoints::new(&folder.join("checkpoints"), 1);
    Ok(checkpoints.any() && Checkpoints::load(&checkpoints.latest()?)?.0.step >= recipe.steps)
}
