//! The training loop. It works with batches, losses and trainable tensors and is independent of the model.

mod step;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::{Value, json};

use self::step::Step;
use super::checkpoint::{Best, Checkpoints, State};
use super::collective::{Alone, Collective, agree};
use super::config::{BestMetric, Length, TrainConfig, require_same};
use super::event::{Outcome, TrainEvent};
use super::exchange::{checksum, require_same_everywhere};
use super::metrics::Metrics;
use super::objective::Objective;
use super::optimizer::Optimizer;
use super::run_folder::RunFolder;
use crate::data::BatchSource;
use crate::data::random::{Purpose, stream};
use crate::error::{Error, Result};

/// The place of the number of threads in a run's configuration.
const THREADS: &str = "threads";

/// The place of the number of processes in a run's configuration.
const PROCESSES: &str = "processes";

/// Trains an [`Objective`] with the batches of a [`BatchSource`]. Each run has its own folder:
///
/// ```text
/// config.json          the complete configuration
/// metrics.jsonl        the metrics of every step and validation
/// events.out.tfevents… the same, with sample pictures, for TensorBoard
/// checkpoints/         the newest checkpoints, and `latest`, which names the newest one
/// last/, best/         the exported weights: the latest, and those of the best epoch (with best.json)
/// samples/epoch-N/     the sample pictures of each validation
/// ```
///
/// A run is a function of its configuration and data. It can be killed at any moment: when resumed, it continues from
/// its last checkpoint and arrives at the same metrics and weights. On a CPU they are identical bit for bit if the
/// number of threads is the same (sums are split among threads and rounded accordingly); [`TrainEvent::ThreadsChanged`]
/// reports a different number.
///
/// A step takes the next [`TrainConfig::accumulation`] batches of the epoch. Several processes (a [`Collective`]) may share
/// them: [`Sharing::Batches`](crate::data::Sharing::Batches), or [`Sharing::Parts`](crate::data::Sharing::Parts) for an
/// objective that compares the samples of all processes. The batches, the random numbers, and thus the result do not depend
/// on the number of processes, except for rounding: sums are added up in another order. The process of rank 0 alone writes
/// to the folder, and only it needs to see it. An error in one process ends the run in all of them. Only one run may write
/// to a folder.
pub struct Trainer<'a, O: Objective, S: BatchSource<Batch = O::Batch>> {
    config: TrainConfig,
    objective: &'a O,
    source: &'a S,
    group: Arc<dyn Collective>,
    /// In the process that writes.
    folder: Option<RunFolder>,
    optimizer: Optimizer,
    state: State,
    /// The number of threads before and after a resumption that changed it, until it is reported.
    other_threads: Option<(u64, u64)>,
    /// The same of the number of processes.
    other_processes: Option<(u64, u64)>,
}

impl<'a, O: Objective, S: BatchSource<Batch = O::Batch>> Trainer<'a, O, S> {
    /// Starts a run in `folder` (created if missing) and saves a checkpoint of the initial state.
    ///
    /// `settings` is the caller's part of the configuration: everything else that affects the run, such as the model
    /// and the loss weights. It is saved, and compared on resumption, like the trainer's own part.
    ///
    /// # Errors
    /// - [`Error::Config`] when a setting is out of range.
    /// - [`Error::Argument`] when `folder` already contains a run, or the objective has no trainable tensors or two of
    ///   the same name.
    /// - [`Error::Io`] when `folder` cannot be written.
    pub fn start(config: TrainConfig, settings: Value, objective: &'a O, source: &'a S, folder: &Path) -> Result<Self> {
        Self::start_among(Arc::new(Alone), config, settings, objective, source, folder)
    }

    /// As [`Trainer::start`], as one process of `group`. All processes must have the same configuration, data and weights.
    ///
    /// # Errors
    /// As [`Trainer::start`]; [`Error::Config`] when a setting differs between processes; [`Error::Process`] when another
    /// process failed.
    pub fn start_among(
        group: Arc<dyn Collective>,
        config: TrainConfig,
        settings: Value,
        objective: &'a O,
        source: &'a S,
        folder: &Path,
    ) -> Result<Self> {
        let current = whole_config(&config, settings, source, &*group);
        require_same_everywhere(&*group, &current)?;
        let start = || {
            let checkpoints = Checkpoints::new(&folder.join("checkpoints"), config.keep_checkpoints);
            if group.rank() == 0 && checkpoints.any() {
                let found = format!("the checkpoints of a run in {}", folder.display());
                return Err(Error::argument("run folder", "a new folder, or a request to resume the run", found));
            }
            let optimizer = Optimizer::new(config.optimizer.clone(), objective.trainable())?;
            let group = group.clone();
            Self::new(group, config, objective, source, (folder, checkpoints), optimizer, State::new(current))
        };
        let (mut trainer, _) = agree(&*group, start(), |_| ())?;
        trainer.save(&mut |_| ())?;
        Ok(trainer)
    }

    /// Resumes the run in `folder` from its latest checkpoint. Log entries written after that checkpoint are removed.
    ///
    /// # Errors
    /// - [`Error::Io`] when there is no checkpoint.
    /// - [`Error::Format`] when the checkpoint is truncated or is not a checkpoint.
    /// - [`Error::Config`] when a setting differs, except the length and the checkpoint settings.
    /// - [`Error::Weights`] when the checkpoint belongs to another model.
    pub fn resume(
        config: TrainConfig,
        settings: Value,
        objective: &'a O,
        source: &'a S,
        folder: &Path,
    ) -> Result<Self> {
        Self::resume_among(Arc::new(Alone), config, settings, objective, source, folder)
    }

    /// As [`Trainer::resume`], as one process of `group`. The number of processes may differ from that of the interrupted
    /// run ([`TrainEvent::ProcessesChanged`]). The checkpoint is read by the process of rank 0.
    ///
    /// # Errors
    /// As [`Trainer::resume`]; [`Error::Config`] when a setting differs between processes; [`Error::Process`] when another
    /// process failed.
    pub fn resume_among(
        group: Arc<dyn Collective>,
        config: TrainConfig,
        settings: Value,
        objective: &'a O,
        source: &'a S,
        folder: &Path,
    ) -> Result<Self> {
        let current = whole_config(&config, settings, source, &*group);
        require_same_everywhere(&*group, &current)?;
        let checkpoints = Checkpoints::new(&folder.join("checkpoints"), config.keep_checkpoints);
        let read = || -> Result<(PathBuf, Vec<u8>)> {
            if group.rank() > 0 {
                return Ok(Default::default());
            }
            let path = checkpoints.latest()?;
            let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
            Ok((path, bytes))
        };
        let ((_, bytes), paths) = agree(&*group, read(), |(path, _)| path.clone())?;
        let bytes = group.all_gather(&bytes)?.concat(); // only the first process has any
        let resume = || {
            let path = paths.into_iter().next().unwrap_or_default();
            let (mut state, tensors) = Checkpoints::parse(&path, bytes)?;
            require_same(&state.config, &current, "the checkpoint")?;
            let changed = |name: &str| {
                let (before, now) = (state.config[name].as_u64(), current[name].as_u64());
                before.zip(now).filter(|(before, now)| before != now)
            };
            let (other_threads, other_processes) = (changed(THREADS), changed(PROCESSES));
            state.config = current;
            let mut optimizer = Optimizer::new(config.optimizer.clone(), objective.trainable())?;
            optimizer.restore(&path, tensors, &state.updates)?;
            let group = group.clone();
            let trainer = Self::new(group, config, objective, source, (folder, checkpoints), optimizer, state)?;
            Ok(Self { other_threads, other_processes, ..trainer })
        };
        Ok(agree(&*group, resume(), |_| ())?.0)
    }

    fn new(
        group: Arc<dyn Collective>,
        config: TrainConfig,
        objective: &'a O,
        source: &'a S,
        (folder, checkpoints): (&Path, Checkpoints),
        optimizer: Optimizer,
        state: State,
    ) -> Result<Self> {
        config.validate()?;
        let writes = group.rank() == 0;
        let open = || RunFolder::open(folder, checkpoints, config.best.is_some(), &state);
        let folder = writes.then(open).transpose()?;
        let (other_threads, other_processes) = (None, None);
        Ok(Self { config, objective, source, group, folder, optimizer, state, other_threads, other_processes })
    }

    /// The progress of the run.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of steps of the whole run: exact if the length is given in steps, an upper bound if in epochs.
    pub fn total_steps(&self) -> usize {
        match self.config.length {
            Length::Epochs(epochs) => epochs * self.source.num_batches().div_ceil(self.config.accumulation),
            Length::Steps(steps) => steps,
        }
    }

    fn is_finished(&self) -> bool {
        match self.config.length {
            Length::Epochs(epochs) => self.state.epoch >= epochs,
            Length::Steps(steps) => self.state.step >= steps,
        }
    }

    /// Trains until the run is complete or `stop` is set, for example by a Ctrl-C handler. In the latter case, the
    /// current step is finished and a checkpoint written. `observe` is called with every [`TrainEvent`].
    ///
    /// # Errors
    /// - [`Error::NonFinite`], with the step and the samples concerned, when the loss or a gradient is not finite. The
    ///   weights are those before that step, and the last checkpoint remains intact.
    /// - [`Error::TooManyBadPairs`] when too many samples are unreadable.
    /// - [`Error::Argument`] when a whole epoch has no usable batch.
    /// - [`Error::Config`] when the validation does not report the metric that selects the best epoch.
    /// - [`Error::Io`] when the disk is full.
    /// - Any error of the objective or the source.
    pub fn run(&mut self, stop: &AtomicBool, observe: &mut dyn FnMut(TrainEvent<'_>)) -> Result<Outcome> {
        let source = self.source;
        let begin = (Instant::now(), self.state.step);
        if let Some((before, now)) = self.other_threads.take() {
            observe(TrainEvent::ThreadsChanged { before, now });
        }
        if let Some((before, now)) = self.other_processes.take() {
            observe(TrainEvent::ProcessesChanged { before, now });
        }
        if self.state.step == 0 {
            // Record the starting point, and detect a failing validation now rather than after the first epoch.
            self.validate("start", false, observe)?;
        }
        while !self.is_finished() {
            let mut is_empty = self.state.batch == 0;
            let mut batches = source.epoch(self.state.epoch, self.state.batch)?;
            loop {
                let report = match self.step(&mut batches, begin, stop)? {
                    Step::Made(report) => report,
                    Step::EpochOver => break,
                    Step::Stopped => {
                        self.save(observe)?;
                        return Ok(Outcome::Stopped);
                    }
                };
                is_empty = false;
                if let Some(folder) = &mut self.folder {
                    folder.step(&report)?;
                }
                observe(TrainEvent::Step(&report));
                if self.is_finished() {
                    self.validate(&format!("step-{}", self.state.step), true, observe)?;
                    self.save(observe)?;
                    return Ok(Outcome::Finished);
                }
                if self.config.checkpoint_every.is_some_and(|every| self.state.step.is_multiple_of(every)) {
                    self.save(observe)?;
                }
            }
            if is_empty {
                let found = format!("none in epoch {}", self.state.epoch);
                return self.fail(Error::argument("data", "batches that can be read", found));
            }
            self.validate(&format!("epoch-{}", self.state.epoch), true, observe)?;
            self.state.epoch += 1;
            self.state.batch = 0;
            self.save(observe)?;
        }
        Ok(Outcome::Finished)
    }

    /// Validates, logs, and, for a `candidate`, keeps the weights if they are the best so far.
    fn validate(&mut self, name: &str, candidate: bool, observe: &mut dyn FnMut(TrainEvent<'_>)) -> Result<()> {
        let (step, epoch) = (self.state.step, self.state.epoch);
        let mut rng = stream(self.config.seed, Purpose::Validation, 0, 0);
        let (validation, _) = agree(&*self.group, self.objective.validate(&mut rng), |_| ())?;
        let metrics = &validation.metrics;
        let mut write = || -> Result<bool> {
            if let Some(folder) = &mut self.folder {
                folder.validation(&self.state, &validation, name)?;
            }
            let Some(wanted) = &self.config.best else { return Ok(false) };
            let value = named(wanted, metrics)?;
            let best = self.state.best.as_ref().map(|best| best.value);
            if !candidate || !wanted.improves(value, best) {
                return Ok(false);
            }
            self.state.best = Some(Best { epoch, step, metric: wanted.name.clone(), value });
            if let Some(folder) = &self.folder {
                folder.best(self.objective, &self.state.best)?;
            }
            Ok(true)
        };
        let (is_best, _) = agree(&*self.group, write(), |_| ())?;
        observe(TrainEvent::Validated { step, epoch, metrics, is_best });
        Ok(())
    }

    /// Writes a checkpoint and exports the current weights.
    fn save(&mut self, observe: &mut dyn FnMut(TrainEvent<'_>)) -> Result<()> {
        let (tensors, updates) = self.optimizer.state();
        self.state.updates = updates;
        let mut save = || -> Result<(Option<PathBuf>, u32)> {
            let checksum = if self.group.size() == 1 { 0 } else { checksum(&tensors)? };
            let save = |folder: &RunFolder| folder.save(&mut self.state, &tensors, self.objective);
            Ok((self.folder.as_ref().map(save).transpose()?, checksum))
        };
        let ((path, own), checksums) = agree(&*self.group, save(), |(_, checksum)| *checksum)?;
        if let Some(other) = checksums.iter().position(|checksum| *checksum != checksums[0]) {
            let found = format!("others in process {other} (checksums {:08x} and {own:08x})", checksums[other]);
            return self.fail(Error::argument("weights", "the same in all processes", found));
        }
        if let Some(path) = path {
            observe(TrainEvent::Saved { path: &path, step: self.state.step });
        }
        Ok(())
    }

    /// Ends the run with an error that all processes have found.
    fn fail<T>(&self, error: Error) -> Result<T> {
        Ok(agree(&*self.group, Err(error), |_: &T| ())?.0)
    }
}

fn whole_config<S: BatchSource>(config: &TrainConfig, settings: Value, source: &S, group: &dyn Collective) -> Value {
    json!({
        "trainer": config,
        "settings": settings,
        "data": source.describe(),
        THREADS: rayon::current_num_threads(),
        PROCESSES: group.size(),
    })
}

/// The value of the metric that selects the best epoch.
fn named(wanted: &BestMetric, metrics: &Metrics) -> Result<f64> {
    metrics.iter().find(|(name, _)| *name == wanted.name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        Error::config("best.name", format!("a metric of the validation: {}", names.join(", ")), &wanted.name)
    })
}
