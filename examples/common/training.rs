//! What `train` asks for beside the model, and how it shows its progress.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program talks

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use indicatif::{HumanDuration, ProgressBar};
use soundsight::data::PairList;
use soundsight::train::losses::LossWeights;
use soundsight::train::{
    BEST_METRICS, BestMetric, Decay, Length, Metrics, OptimizerConfig, OptimizerKind, Schedule, TrainConfig,
    TrainEvent, mask_statistics,
};
use soundsight::viz::{FailureSignature, MaskStatistics};

/// Which pairs.
#[derive(Args)]
pub struct DataOptions {
    /// Folder with audio/<id>.*, frames/<id>.* and a split, or a CSV file `audio,image[,label]`.
    #[arg(long, value_name = "DIR|CSV")]
    pub data: PathBuf,
    /// CSV file `id,label` with the pairs of a folder to train on; DIR/train.csv if left out.
    #[arg(long, value_name = "CSV")]
    pub split: Option<PathBuf>,
    /// Pairs to validate on, in the form of the training pairs: a split of the folder, or a CSV file of pairs.
    #[arg(long, value_name = "CSV", conflicts_with = "val_fraction")]
    pub val_split: Option<PathBuf>,
    /// Share of the training sounds (at least two) to hold out for validation; 0 for none.
    #[arg(long, value_name = "F", default_value_t = 0.05)]
    pub val_fraction: f64,
    /// Pairs in a batch: each is told from the others.
    #[arg(long, value_name = "B", default_value_t = 8)]
    pub batch: usize,
    /// Share of the pairs that may be unreadable.
    #[arg(long, value_name = "F", default_value_t = 0.01)]
    pub max_bad: f64,
    /// Threads that decode; as many as the machine has cores if left out.
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
        ensure!(self.batch > 1, "--batch: expected at least 2 (a pair is told from the others), found {}", self.batch);
        let is_folder = self.data.is_dir();
        ensure!(
            is_folder || self.split.is_none(),
            "--split: expected a folder as --data beside it, found {}",
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
        training.require_negatives().context("without the pairs that are held out (--val-fraction 0 keeps all)")?;
        validation.as_ref().map(PairList::require_negatives).transpose().context("for the validation")?;
        Ok((training, validation))
    }

    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// How to train.
#[derive(Args)]
pub struct RecipeOptions {
    /// Times through the data.
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "steps")]
    pub epochs: usize,
    /// Optimizer steps, in place of epochs.
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Batches whose gradients are averaged for an optimizer step.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub accumulate: usize,
    /// Learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-4)]
    pub lr: f64,
    /// Weight decay: L2 in the gradient for adam, decoupled for adamw.
    #[arg(long, value_name = "LAMBDA", default_value_t = 1e-4)]
    pub weight_decay: f64,
    #[arg(long, value_enum, default_value_t = OptimizerChoice::Adam)]
    pub optimizer: OptimizerChoice,
    /// What the learning rate does after the warm-up; cosine ends at 0.
    #[arg(long, value_enum, default_value_t = ScheduleChoice::Constant)]
    pub schedule: ScheduleChoice,
    /// Steps in which the learning rate rises to its full height.
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    pub warmup: usize,
    /// Largest norm of a step's gradients; longer ones are scaled down to it.
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f64>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep: usize,
    /// Steps between checkpoints, which are written after every epoch besides.
    #[arg(long, value_name = "STEPS")]
    pub save_every: Option<usize>,
    /// Validation metric by which the best epoch is chosen.
    #[arg(long, value_name = "METRIC", default_value = "loss",
          value_parser = PossibleValuesParser::new(BEST_METRICS.map(|(name, _)| name)))]
    pub best: String,
    /// Weight of the loss over masked pictures; 0 switches it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().acl_i)]
    pub acl_i: f64,
    /// Weight of the loss over masked features; 0 switches it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().acl_f)]
    pub acl_f: f64,
    /// Weight of the area loss; 0 switches it off.
    #[arg(long, value_name = "W", default_value_t = LossWeights::default().area)]
    pub area: f64,
    /// Share of the picture that a mask under its own sound should cover.
    #[arg(long, value_name = "F", default_value_t = LossWeights::default().positive_area)]
    pub positive_area: f64,
    /// Share of the picture that a mask under another sound should cover.
    #[arg(long, value_name = "F", default_value_t = LossWeights::default().negative_area)]
    pub negative_area: f64,
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

impl RecipeOptions {
    pub fn losses(&self) -> Result<LossWeights> {
        let Self { acl_i, acl_f, area, positive_area, negative_area, .. } = *self;
        let losses = LossWeights { acl_i, acl_f, area, positive_area, negative_area };
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

/// A run on the screen: a bar with the last step, a line for each validation.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(step: usize, total_steps: usize) -> Self {
        let bar = crate::common::progress_bar(total_steps, "{wide_bar} {pos}/{len}\n{wide_msg}");
        bar.set_position(step as u64);
        Self(bar)
    }

    pub fn show(&self, event: &TrainEvent<'_>) {
        match event {
            TrainEvent::Step(report) => {
                // What matters most first: a narrow terminal cuts the end.
                let (left, pace) = (HumanDuration(report.remaining), report.samples_per_second);
                let metrics = in_words(&report.metrics);
                self.0.set_message(format!("epoch {}, {left} left, {pace:.1} samples/s, {metrics}", report.epoch));
                self.0.set_position(report.step as u64);
            }
            TrainEvent::Validated { step, metrics, is_best, .. } if !metrics.is_empty() => {
                let best = if *is_best { " (best)" } else { "" };
                self.0.suspend(|| println!("step {step}: {}{best}", in_words(metrics)));
                let masks = mask_statistics(metrics);
                // Before the first step no sound can matter yet.
                let is_news =
                    |masks: &MaskStatistics| *step > 0 || masks.failure() != Some(FailureSignature::IgnoresTheSound);
                if let Some(warning) = masks.filter(is_news).and_then(|masks| masks.warning()) {
                    self.0.suspend(|| eprintln!("warning: {warning}"));
                }
            }
            TrainEvent::ThreadsChanged { before, now } => self.0.suspend(|| {
                eprintln!(
                    "warning: the run had {before} threads and goes on with {now}: it will not repeat bit for bit what \
                     it would have been (RAYON_NUM_THREADS={before} keeps the number)"
                );
            }),
            _ => {}
        }
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn in_words(metrics: &Metrics) -> String {
    let words: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    words.join(", ")
}
