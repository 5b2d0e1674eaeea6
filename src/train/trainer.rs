//! The training loop. It works with batches, losses and trainable tensors and is independent of the model.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::checkpoint::{Best, Checkpoints, State};
use super::config::{BestMetric, Length, TrainConfig, require_same};
use super::event::{Outcome, StepReport, TrainEvent};
use super::gradients::Gradients;
use super::metrics::Metrics;
use super::optimizer::Optimizer;
use super::run_log::RunLog;
use crate::data::random::{Purpose, stream};
use crate::data::{BatchSource, Loaded};
use crate::error::{Error, Result};
use crate::files::{remove_unfinished, write_atomically};
use crate::image::Picture;

/// The place of the number of threads in a run's configuration.
const THREADS: &str = "threads";

/// A training objective: a loss over batches, as a function of trainable tensors.
pub trait Objective {
    /// The batch that the loss is computed from.
    type Batch;

    /// The trainable tensors by name, always in the same order.
    fn trainable(&self) -> Vec<(String, Var)>;

    /// Computes the loss of one batch. All randomness must come from `rng`.
    ///
    /// # Errors
    /// Any error ends the run; its last checkpoint remains intact.
    fn loss(&self, batch: &Self::Batch, rng: &mut ChaCha8Rng) -> Result<StepOutput>;

    /// Evaluates the current weights on held-out data. `rng` is the same for every call, so that epochs can be
    /// compared.
    ///
    /// # Errors
    /// Any error ends the run; its last checkpoint remains intact.
    fn validate(&self, rng: &mut ChaCha8Rng) -> Result<Validation>;

    /// Writes the current weights to the existing `folder`, in the format that inference reads. Use
    /// [`save_safetensors`](crate::weights::save_safetensors) to write atomically.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk is full.
    fn export(&self, folder: &Path) -> Result<()>;
}

/// The loss of one batch.
#[derive(Debug)]
pub struct StepOutput {
    /// The scalar to minimise, with its graph.
    pub loss: Tensor,
    /// Additional metrics to report, such as loss terms and areas. Their names must be the same in each step.
    pub metrics: Metrics,
}

/// The result of a validation; empty by default, for objectives without validation.
#[derive(Debug, Default)]
pub struct Validation {
    /// The metrics by name.
    pub metrics: Metrics,
    /// Pictures of fixed samples by name, for visual inspection.
    pub pictures: Vec<(String, Picture)>,
}

/// Replaces the mean gradients of this process (in the order of the trainable tensors) with the mean over all
/// processes.
pub type AllReduce<'a> = Box<dyn FnMut(&mut [Option<Tensor>]) -> Result<()> + 'a>;

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
/// reports a different number. Only one process may write to a folder.
pub struct Trainer<'a, O: Objective, S: BatchSource<Batch = O::Batch>> {
    config: TrainConfig,
    objective: &'a O,
    source: &'a S,
    folder: PathBuf,
    checkpoints: Checkpoints,
    optimizer: Optimizer,
    all_reduce: Option<AllReduce<'a>>,
    log: RunLog,
    state: State,
    /// The number of threads before and after a resumption that changed it, until it is reported.
    other_threads: Option<(u64, u64)>,
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
        let checkpoints = Checkpoints::new(&folder.join("checkpoints"), config.keep_checkpoints);
        if checkpoints.any() {
            let found = format!("the checkpoints of a run in {}", folder.display());
            return Err(Error::argument("run folder", "a new folder, or a request to resume the run", found));
        }
        let rng = stream(config.seed, Purpose::Training, 0, 0);
        let state = State::new(rng, whole_config(&config, settings, source));
        let optimizer = Optimizer::new(config.optimizer.clone(), objective.trainable())?;
        let mut trainer = Self::new(config, objective, source, folder, checkpoints, optimizer, state)?;
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
        let checkpoints = Checkpoints::new(&folder.join("checkpoints"), config.keep_checkpoints);
        let path = checkpoints.latest()?;
        let (mut state, tensors) = Checkpoints::load(&path)?;
        let current = whole_config(&config, settings, source);
        require_same(&state.config, &current)?;
        let threads = |config: &Value| config[THREADS].as_u64();
        let (before, now) = (threads(&state.config), threads(&current));
        let other_threads = before.zip(now).filter(|(before, now)| before != now);
        state.config = current;
        let mut optimizer = Optimizer::new(config.optimizer.clone(), objective.trainable())?;
        optimizer.restore(&path, tensors, &state.updates)?;
        let trainer = Self::new(config, objective, source, folder, checkpoints, optimizer, state)?;
        Ok(Self { other_threads, ..trainer })
    }

    fn new(
        config: TrainConfig,
        objective: &'a O,
        source: &'a S,
        folder: &Path,
        checkpoints: Checkpoints,
        optimizer: Optimizer,
        state: State,
    ) -> Result<Self> {
        config.validate()?;
        let best = config.best.as_ref().map(|_| "best");
        for subfolder in ["", "checkpoints", "last"].into_iter().chain(best) {
            let folder = folder.join(subfolder);
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
            remove_unfinished(&folder)?;
        }
        write_json(&folder.join("config.json"), &state.config)?;
        let log = RunLog::open(folder, state.log_lengths)?;
        let folder = folder.to_path_buf();
        let all_reduce = None;
        let other_threads = None;
        Ok(Self { config, objective, source, folder, checkpoints, optimizer, all_reduce, log, state, other_threads })
    }

    /// Makes this process one of several that train together: in each step, `all_reduce` averages the gradients over
    /// the processes. They must start from the same weights and each read its own [`Shard`](crate::data::Shard) of the
    /// data. The batch of a step is that of all processes together, but a pair is compared only with the other pairs of
    /// its own micro-batch (see [`Gradients::mean`]).
    #[must_use]
    pub fn with_all_reduce(mut self, all_reduce: AllReduce<'a>) -> Self {
        self.all_reduce = Some(all_reduce);
        self
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
        if self.state.step == 0 {
            // Record the starting point, and detect a failing validation now rather than after the first epoch.
            self.validate("start", false, observe)?;
        }
        while !self.is_finished() {
            let mut batches = source.epoch(self.state.epoch, self.state.batch)?;
            while let Some(report) = self.step(&mut batches, begin)? {
                self.log.step(report.step, report.epoch, &report.metrics, report.samples_per_second)?;
                observe(TrainEvent::Step(&report));
                if stop.load(Ordering::Relaxed) {
                    self.save(observe)?;
                    return Ok(Outcome::Stopped);
                }
                if self.is_finished() {
                    self.validate(&format!("step-{}", self.state.step), true, observe)?;
                    self.save(observe)?;
                    return Ok(Outcome::Finished);
                }
                if self.config.checkpoint_every.is_some_and(|every| self.state.step.is_multiple_of(every)) {
                    self.save(observe)?;
                }
            }
            if self.state.batch == 0 {
                let found = format!("none in epoch {}", self.state.epoch);
                return Err(Error::argument("data", "batches that can be read", found));
            }
            self.validate(&format!("epoch-{}", self.state.epoch), true, observe)?;
            self.state.epoch += 1;
            self.state.batch = 0;
            self.save(observe)?;
        }
        Ok(Outcome::Finished)
    }

    /// Makes one optimizer step from the next batches; `None` when the epoch has no more.
    fn step(
        &mut self,
        batches: &mut impl Iterator<Item = Result<Loaded<O::Batch>>>,
        (begin, first_step): (Instant, usize),
    ) -> Result<Option<StepReport>> {
        let started = Instant::now();
        let step = self.state.step + 1;
        let vars = self.optimizer.vars();
        let mut gradients = Gradients::new(self.optimizer.names());
        let (mut metrics, mut ids) = (Metrics::new(), Vec::new());
        while gradients.num_added() < self.config.accumulation {
            let Some(loaded) = batches.next().transpose()? else { break };
            let output = self.objective.loss(&loaded.batch, &mut self.state.rng)?;
            let loss = f64::from(output.loss.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?);
            if !loss.is_finite() {
                return Err(non_finite("the loss", step, &loaded.ids, &output.metrics));
            }
            gradients.add(&vars, output.loss.backward()?)?;
            accumulate(&mut metrics, std::iter::once(("loss".to_string(), loss)).chain(output.metrics));
            ids.extend(loaded.ids);
            self.state.batch = loaded.index + 1;
        }
        if ids.is_empty() {
            return Ok(None);
        }
        let num_batches = gradients.num_added() as f64;
        metrics.iter_mut().for_each(|(_, value)| *value /= num_batches);

        gradients.mean()?;
        if let Some(all_reduce) = &mut self.all_reduce {
            all_reduce(gradients.values_mut())?;
        }
        let norm = gradients.norm().map_err(|error| match error {
            Error::NonFinite { what, .. } => non_finite(&what, step, &ids, &metrics),
            other => other,
        })?;
        if let Some(max_norm) = self.config.max_grad_norm {
            gradients.clip(norm, max_norm)?;
        }
        let total_steps = self.total_steps();
        let learning_rate = self.config.learning_rate * self.config.schedule.factor(self.state.step, total_steps);
        self.optimizer.step(&gradients, learning_rate)?;
        self.state.step = step;

        metrics.push(("grad_norm".to_string(), norm));
        metrics.push(("learning_rate".to_string(), learning_rate));
        let pace = begin.elapsed().div_f64((step - first_step) as f64);
        Ok(Some(StepReport {
            step,
            total_steps,
            epoch: self.state.epoch,
            metrics,
            num_samples: ids.len(),
            samples_per_second: ids.len() as f64 / started.elapsed().max(Duration::from_nanos(1)).as_secs_f64(),
            remaining: pace.mul_f64(total_steps.saturating_sub(step) as f64),
        }))
    }

    /// Validates, logs, and, for a `candidate`, keeps the weights if they are the best so far.
    fn validate(&mut self, name: &str, candidate: bool, observe: &mut dyn FnMut(TrainEvent<'_>)) -> Result<()> {
        let (step, epoch) = (self.state.step, self.state.epoch);
        let mut rng = stream(self.config.seed, Purpose::Validation, 0, 0);
        let Validation { metrics, pictures } = self.objective.validate(&mut rng)?;
        self.log.validation(step, epoch, &metrics, name, &pictures)?;
        let is_best = match &self.config.best {
            None => false,
            Some(wanted) => {
                let value = named(wanted, &metrics)?;
                let best = self.state.best.as_ref().map(|best| best.value);
                candidate && wanted.improves(value, best) && {
                    self.state.best = Some(Best { epoch, step, metric: wanted.name.clone(), value });
                    true
                }
            }
        };
        if is_best {
            let folder = self.folder.join("best");
            self.objective.export(&folder)?;
            write_json(&folder.join("best.json"), &json!(self.state.best))?;
        }
        observe(TrainEvent::Validated { step, epoch, metrics: &metrics, is_best });
        Ok(())
    }

    /// Writes a checkpoint and exports the current weights.
    fn save(&mut self, observe: &mut dyn FnMut(TrainEvent<'_>)) -> Result<()> {
        // Flush the logs first: a checkpoint must never refer to log entries that are not yet on the disk.
        self.state.log_lengths = self.log.sync()?;
        let (tensors, updates) = self.optimizer.state();
        self.state.updates = updates;
        let path = self.checkpoints.save(&self.state, &tensors)?;
        self.objective.export(&self.folder.join("last"))?;
        observe(TrainEvent::Saved { path: &path, step: self.state.step });
        Ok(())
    }
}

fn whole_config<S: BatchSource>(config: &TrainConfig, settings: Value, source: &S) -> Value {
    json!({
        "trainer": config,
        "settings": settings,
        "data": source.describe(),
        THREADS: rayon::current_num_threads(),
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    write_atomically(path, |writer| writeln!(writer, "{value:#}").map_err(Error::io(path, "write")))
}

/// The value of the metric that selects the best epoch.
fn named(wanted: &BestMetric, metrics: &Metrics) -> Result<f64> {
    metrics.iter().find(|(name, _)| *name == wanted.name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
        Error::config("best.name", format!("a metric of the validation: {}", names.join(", ")), &wanted.name)
    })
}

/// Adds a batch's metrics to the sums by name.
fn accumulate(sums: &mut Metrics, batch: impl Iterator<Item = (String, f64)>) {
    for (name, value) in batch {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
}

fn non_finite(what: &str, step: usize, ids: &[String], metrics: &Metrics) -> Error {
    let metrics: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let details = format!("step {step}; samples {}; {}", ids.join(", "), metrics.join(", "));
    Error::NonFinite { what: what.to_string(), details }
}
