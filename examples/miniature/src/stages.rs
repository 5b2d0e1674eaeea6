//! The stages in order. Each is a run of the library's trainer in its own folder.
#![allow(clippy::print_stdout)] // command-line output

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use soundsight::acl::ModelConfig;
use soundsight::clipseg::ClipSeg;
use soundsight::data::{BadPairs, BatchSource, Dataset, EpochSampler, Loader};
use soundsight::train::{
    Checkpoints, Decay, Length, Objective, OptimizerConfig, OptimizerKind, Outcome, Schedule, TrainConfig, Trainer,
};

use crate::fresh::{fresh, set_from};
use crate::hearing::{Ears, HearingObjective};
use crate::measure::Scoreboard;
use crate::model::{Vocabulary, write_json};
use crate::naming::NamingObjective;
use crate::program::progress::TrainingProgress;
use crate::report::{held_out_mixtures, held_out_sounds};
use crate::scenes::Scenes;
use crate::sounds::{Ear, NamedSounds};
use crate::world::World;

/// The largest number of held-out scenes, and of sound variations, in a validation.
const VALIDATION_SCENES: usize = 128;
const VALIDATION_VARIATIONS: usize = 3;
/// The number of held-out mixtures of two sounds in a validation.
const VALIDATION_MIXTURES: usize = 256;

/// The file in a stage's folder that records its training time.
const MINUTES: &str = "minutes.json";

/// The folder in a run's folder for what continues with larger pictures.
pub const LARGER: &str = "larger";

/// The length and the learning rate of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub steps: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// Steps between validations.
    pub epoch: usize,
}

/// The data shared by all stages.
#[derive(Clone)]
pub struct Run {
    pub out: PathBuf,
    /// The folder of the run that this one continues with larger pictures. Its ears are this run's.
    pub smaller: Option<PathBuf>,
    pub seed: u64,
    pub world: Arc<World>,
    pub vocabulary: Vocabulary,
    pub config: ModelConfig,
    /// The settings of the world, which must be the same when a stage is resumed.
    pub settings: Value,
    /// The noise of [`NamingObjective::condition_noise`].
    pub condition_noise: f64,
    /// The number of sound variations of each class in stage b.
    pub variations: usize,
    /// The number of held-out scenes for measuring a finished model.
    pub scenes: usize,
    /// The number of steps between checkpoints.
    pub save_every: usize,
    /// Set by Ctrl-C: stop after the current step.
    pub stop: &'static AtomicBool,
}

impl Run {
    /// The same run with pictures of `side` pixels, in a folder of its own.
    pub fn larger(&self, side: usize, world: &World) -> Self {
        let mut larger = Self { out: self.out.join(LARGER), smaller: Some(self.out.clone()), ..self.clone() };
        larger.world = Arc::new(world.with_side(side));
        larger.config.acl.image_size = side;
        larger
    }

    /// The folder of the whole run.
    pub fn root(&self) -> &Path {
        self.smaller.as_deref().unwrap_or(&self.out)
    }

    pub fn ear(&self) -> Result<Ear> {
        Ok(Ear::new(self.world.clone(), self.config.acl.frontend())?)
    }

    /// The scenes for the validations of a stage, in which one of `sounding` sounds.
    pub fn scoreboard(&self, sounding: &[usize]) -> Result<Scoreboard> {
        Ok(Scoreboard::new(&self.world, sounding, VALIDATION_SCENES.min(self.scenes), self.seed)?)
    }

    pub fn loader<D: Dataset>(&self, folder: &Path, dataset: D, batch: usize) -> Result<Loader<D>> {
        let count = dataset.num_samples();
        // Larger pictures show other scenes.
        let seed = self.seed ^ (u64::from(self.smaller.is_some()) << 32);
        let sampler = EpochSampler::training(count, batch, seed)?;
        let bad = Arc::new(BadPairs::open(&folder.join("unreadable.csv"), count, 0.0)?);
        Ok(Loader::new(Arc::new(dataset), sampler, seed, batch, bad, 1)?)
    }

    /// Stage a, vision and language.
    pub fn naming(&self, recipe: Recipe) -> Result<()> {
        let folder = self.out.join("clip");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let residual = (2.0 * self.config.clipseg.vision_config.num_hidden_layers as f64).powf(-0.5);
        let (clipseg, vars) = fresh(self.seed, 1, residual, |vb| ClipSeg::new(&self.config.clipseg, vb))?;
        if let Some(smaller) = &self.smaller {
            set_from(&vars, &smaller.join("clip/last/clipseg.safetensors"))?;
        }
        let all: Vec<usize> = (0..self.world.classes.len()).collect();
        let scoreboard = self.scoreboard(&all)?;
        let objective = NamingObjective {
            clipseg,
            vars,
            vocabulary: &self.vocabulary,
            num_classes: self.world.classes.len(),
            condition_noise: self.condition_noise,
            scoreboard: &scoreboard,
        };
        let loader =
            self.loader(&folder, Scenes::new(self.world.clone(), recipe.epoch * recipe.batch), recipe.batch)?;
        let settings = json!({ "world": self.settings, "side": self.world.side(), "clipseg": self.config.clipseg });
        self.train(
            &format!("eyes and language: CLIP and CLIPSeg from named masks, {0} × {0} pixels", self.world.side()),
            &folder,
            recipe,
            settings,
            &objective,
            &loader,
        )
    }

    /// Stage a, audio, in `folder`.
    pub fn hearing<E: Ears>(&self, title: &str, folder: &Path, recipe: Recipe) -> Result<()> {
        if is_finished(folder, recipe)? {
            return Ok(());
        }
        let config = &self.config;
        let (ears, vars) = fresh(self.seed, E::STREAM, E::residual(config), |weights| E::build(config, weights))?;
        let ear = self.ear()?;
        let held_out = held_out_sounds(&ear, self.world.classes.len(), VALIDATION_VARIATIONS, self.seed, false)?;
        let mixtures = held_out_mixtures(&ear, VALIDATION_MIXTURES, self.seed)?;
        let objective = HearingObjective { config, ears, vars, held_out, mixtures };
        let loader = self.loader(folder, NamedSounds::new(ear, recipe.epoch * recipe.batch), recipe.batch)?;
        let settings = json!({ "world": self.settings, "beats": config.beats, "ast": config.ast, "acl": config.acl });
        self.train(title, folder, recipe, settings, &objective, &loader)
    }

    /// Runs or resumes one stage.
    pub fn train<O: Objective, S: BatchSource<Batch = O::Batch>>(
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
            checkpoint_every: Some(self.save_every),
            keep_checkpoints: 1,
            ..TrainConfig::default()
        };
        let begun = Checkpoints::new(&folder.join("checkpoints"), 1).any();
        let mut trainer = match begun {
            true => Trainer::resume(config, settings, objective, source, folder)?,
            false => Trainer::start(config, settings, objective, source, folder)?,
        };
        let progress = TrainingProgress::new(trainer.state().step, trainer.total_steps());
        let started = Instant::now();
        let outcome = trainer.run(self.stop, &mut |event| progress.show(&event));
        progress.finish();
        let minutes = read_minutes(folder) + started.elapsed().as_secs_f64() / 60.0;
        write_json(&folder.join(MINUTES), &json!(minutes))?;
        if outcome? == Outcome::Stopped {
            bail!("stopped after {} steps; run the same command to continue", trainer.state().step);
        }
        Ok(())
    }
}

/// The minutes for which the stage in `folder` has trained so far, without those of killed processes.
pub fn read_minutes(folder: &Path) -> f64 {
    let text = std::fs::read_to_string(folder.join(MINUTES)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(0.0)
}

/// Whether the stage in `folder` has completed all its steps.
pub fn is_finished(folder: &Path, recipe: Recipe) -> Result<bool> {
    let checkpoints = Checkpoints::new(&folder.join("checkpoints"), 1);
    Ok(checkpoints.any() && Checkpoints::load(&checkpoints.latest()?)?.0.step >= recipe.steps)
}
