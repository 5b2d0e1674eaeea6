//! The options of `train` that name the data and the recipe.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use soundsight::data::{PairList, Sharing};
use soundsight::train::losses::LossWeights;
use soundsight::train::{
    BEST_METRICS, BestMetric, Decay, Length, Negatives, OptimizerConfig, OptimizerKind, Schedule, TrainConfig,
};

/// Which pairs to train and validate on.
#[derive(Args)]
pub struct DataOptions {
    /// Training data: a folder with audio/<id>.*, frames/<id>.* and a split, or a CSV file `audio,image[,label]`.
    #[arg(long, value_name = "DIR|CSV")]
    pub data: PathBuf,
    /// CSV file `id,label` that lists the pairs of a folder to train on [default: DIR/train.csv].
    #[arg(long, value_name = "CSV")]
    pub split: Option<PathBuf>,
    /// Pairs to validate on, in the same form as the training pairs: a split of the folder, or a CSV file of pairs.
    #[arg(long, value_name = "CSV", conflicts_with = "val_fraction")]
    pub val_split: Option<PathBuf>,
    /// Fraction of the training sounds to hold out for validation, at least two of them; 0 holds out none.
    #[arg(long, value_name = "F", default_value_t = 0.05)]
    pub val_fraction: f64,
    /// Number of pairs in a batch, of all processes together; each is compared with the others.
    #[arg(long, value_name = "B", default_value_t = 8)]
    pub batch: usize,
    /// Largest fraction of the pairs that may be unreadable.
    #[arg(long, value_name = "F", default_value_t = 0.01)]
    pub max_bad: f64,
    /// Number of decoding threads [default: one for each core].
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
}

impl DataOptions {
    /// Whether anything is held out.
    pub fn validates(&self) -> bool {
        self.val_split.is_some() || self.val_fraction != 0.0
    }

    /// The file that lists the training pairs.
    pub fn list(&self) -> PathBuf {
        match (self.data.is_dir(), &self.split) {
            (true, Some(split)) => split.clone(),
            (true, None) => self.data.join("train.csv"),
            (false, _) => self.data.clone(),
        }
    }

    /// The pairs to train on and those to validate on, at least two of each.
    pub fn pairs(&self, seed: u64) -> Result<(PairList, Option<PairList>)> {
        ensure!(self.batch > 1, "--batch: expected at least 2 (a pair is compared with others), found {}", self.batch);
        let is_folder = self.data.is_dir();
        ensure!(
            is_folder || self.split.is_none(),
            "--split: expected --data to be a folder, found {}",
            self.data.display()
        );
        let training = match is_folder {
            true => PairList::published(&self.data, &self.list())?,
            false => PairList::csv(&self.data)?,
        };
        training.require_negatives()?;
        let (training, validation) = match &self.val_split {
            Some(split) if is_folder => (training, Some(PairList::published(&self.data, split)?)),
            Some(csv) => (training, Some(PairList::csv(csv)?)),
            None if self.validates() => {
                let (training, validation) = training.hold_out(self.val_fraction, seed)?;
                (training, Some(validation))
            }
            None => (training, None),
        };
        training.require_negatives().context("after holding out pairs (--val-fraction 0 holds out none)")?;
        validation.as_ref().map(PairList::require_negatives).transpose().context("validation")?;
        Ok((training, validation))
    }

    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// How to train.
#[derive(Args)]
pub struct RecipeOptions {
    /// Number of passes over the data.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "steps")]
    pub epochs: usize,
    /// Number of optimizer steps, instead of --epochs.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Number of batches whose gradients are averaged for an optimizer step, of all processes together.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub accumulate: usize,
    /// Learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    pub lr: f64,
    /// Weight decay: an L2 term in the gradient for adam, decoupled for adamw.
    #[arg(long, value_name = "LAMBDA", default_value_t = 1e-4)]
    pub weight_decay: f64,
    /// Optimizer.
    #[arg(long, value_enum, default_value_t = OptimizerChoice::Adam)]
    pub optimizer: OptimizerChoice,
    /// Course of the learning rate after the warm-up; cosine ends at 0.
    #[arg(long, value_enum, default_value_t = ScheduleChoice::Constant)]
    pub schedule: ScheduleChoice,
    /// Number of steps over which the learning rate rises to its full value.
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub warmup: usize,
    /// Largest norm of the gradients of a step; larger ones are scaled down to it.
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f64>,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Number of checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
    /// Number of steps between checkpoints, in addition to the one after each epoch.
    #[arg(long, value_name = "STEPS")]
    pub save_every: Option<usize>,
    /// Validation metric that chooses the best epoch.
    #[arg(long, value_name = "METRIC", default_value = "loss",
          value_parser = PossibleValuesParser::new(BEST_METRICS.map(|(name, _)| name)))]
    pub best: String,
    /// Weight of the loss on masked pictures; 0 turns it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().acl_i)]
    pub acl_i: f64,
    /// Weight of the loss on masked features; 0 turns it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().acl_f)]
    pub acl_f: f64,
    /// Weight of the area loss; 0 turns it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().area)]
    pub area: f64,
    /// Fraction of the picture that the mask of the picture's own sound should cover.
    #[arg(long, value_name = "F", default_value_t = LossWeights::default().positive_area)]
    pub positive_area: f64,
    /// Fraction of the picture that the mask of another sound should cover.
    #[arg(long, value_name = "F", default_value_t = LossWeights::default().negative_area)]
    pub negative_area: f64,
    /// How many times silence is among the sounds that belong to no picture, whose masks should be empty.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub silence_negatives: usize,
    /// Number of noises among these sounds, drawn anew in each step.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub noise_negatives: usize,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum OptimizerChoice {
    Adam,
    Adamw,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum ScheduleChoice {
    Constant,
    Cosine,
}

/// With which sounds a picture is compared where several processes train together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NegativesChoice {
    /// Each process computes whole batches of --batch pairs, --accumulate divided by the number of processes in a step.
    Local,
    /// Each process computes its part of every batch of --batch pairs. Pictures are compared with the sounds of the whole
    /// batch: more memory and more negatives.
    Global,
}

impl NegativesChoice {
    /// The library's name for it.
    pub fn of_library(self) -> Negatives {
        match self {
            Self::Local => Negatives::Local,
            Self::Global => Negatives::Global,
        }
    }

    /// How batches are then shared.
    pub fn sharing(self) -> Sharing {
        match self {
            Self::Local => Sharing::Batches,
            Self::Global => Sharing::Parts,
        }
    }
}

impl RecipeOptions {
    pub fn losses(&self) -> Result<LossWeights> {
        let Self { acl_i, acl_f, area, positive_area, negative_area, silence_negatives, noise_negatives, .. } = *self;
        let losses =
            LossWeights { acl_i, acl_f, area, positive_area, negative_area, silence_negatives, noise_negatives };
        losses.validate()?;
        Ok(losses)
    }

    pub fn trainer_config(&self, validates: bool) -> Result<TrainConfig> {
        let best = BEST_METRICS.into_iter().find(|(name, _)| validates && *name == self.best);
        let config = TrainConfig {
            seed: self.seed,
            length: self.steps.map_or(Length::Epochs(self.epochs), Length::Steps),
            accumulation: self.accumulate,
            max_grad_norm: self.clip,
            learning_rate: self.lr,
            schedule: Schedule {
                warmup_steps: self.warmup,
                decay: match self.schedule {
                    ScheduleChoice::Constant => Decay::Constant,
                    ScheduleChoice::Cosine => Decay::Cosine { floor: 0.0 },
                },
            },
            optimizer: OptimizerConfig {
                kind: match self.optimizer {
                    OptimizerChoice::Adam => OptimizerKind::Adam,
                    OptimizerChoice::Adamw => OptimizerKind::AdamW,
                },
                weight_decay: self.weight_decay,
                ..OptimizerConfig::default()
            },
            checkpoint_every: self.save_every,
            keep_checkpoints: self.keep,
            best: best.map(|(name, goal)| BestMetric { name: name.to_string(), goal }),
        };
        config.validate()?;
        Ok(config)
    }
}
