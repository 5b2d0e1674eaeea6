//! One step of the training loop: batches, gradients, their exchange with other processes, and the optimizer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::{DType, Var};

use super::Trainer;
use crate::data::random::{Purpose, stream};
use crate::data::{BatchSource, Loaded};
use crate::error::{Error, Result};
use crate::train::collective::agree;
use crate::train::event::StepReport;
use crate::train::exchange::{Computed, Reading, mean_metrics};
use crate::train::gradients::Gradients;
use crate::train::metrics::{Metrics, to_bits};
use crate::train::objective::Objective;

/// What became of a step.
pub(super) enum Step {
    Made(StepReport),
    /// The epoch has no more batches.
    EpochOver,
    /// A process was told to stop.
    Stopped,
}

impl<O: Objective, S: BatchSource<Batch = O::Batch>> Trainer<'_, O, S> {
    /// Makes one optimizer step from the next batches.
    pub(super) fn step(
        &mut self,
        batches: &mut impl Iterator<Item = Result<Loaded<O::Batch>>>,
        (begin, first_step): (Instant, usize),
        stop: &AtomicBool,
    ) -> Result<Step> {
        let started = Instant::now();
        let (vars, step) = (self.optimizer.vars(), self.state.step + 1);
        let (computed, num_samples) = loop {
            let loaded = batches.take(self.config.accumulation).collect::<Result<Vec<_>>>();
            let (loaded, readings) = agree(&*self.group, loaded, |loaded| Reading {
                lens: loaded.iter().map(|loaded| loaded.ids.len()).collect(),
                unreadable: self.source.take_unreadable(),
                stop: stop.load(Ordering::Relaxed),
            })?;
            if readings.iter().any(|reading| reading.stop) {
                return Ok(Step::Stopped);
            }
            let Some(last) = loaded.last().map(|loaded| loaded.index) else { return Ok(Step::EpochOver) };
            // A batch is large enough or left out in all processes alike.
            let lens = (0..loaded.len()).map(|place| readings.iter().map(|reading| reading.lens[place]).sum::<usize>());
            let lens: Vec<usize> = lens.map(|len| if len < self.source.min_batch() { 0 } else { len }).collect();
            let computed = self.gradients(&vars, loaded, &lens, &readings);
            self.state.batch = last + 1;
            let num_samples = lens.iter().sum::<usize>();
            let computed = agree(&*self.group, computed, |(gradients, metrics, _)| Computed {
                metrics: metrics.iter().map(|(index, metrics)| (*index, to_bits(metrics))).collect(),
                gradients: gradients.summary(),
            })?;
            if num_samples > 0 {
                break (computed, num_samples);
            }
        };
        let ((mut gradients, _, ids), computed) = computed;
        let mut metrics = mean_metrics(&computed);
        let summaries: Vec<_> = computed.into_iter().map(|computed| computed.gradients).collect();
        gradients.all_reduce(&*self.group, &vars, &summaries)?;
        gradients.mean()?;
        let norm = match gradients.norm() {
            Ok(norm) => norm,
            Err(Error::NonFinite { what, .. }) => return self.fail(non_finite(&what, step, &ids, &metrics)),
            Err(other) => return Err(other),
        };
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
        Ok(Step::Made(StepReport {
            step,
            total_steps,
            epoch: self.state.epoch,
            metrics,
            num_samples,
            samples_per_second: num_samples as f64 / started.elapsed().max(Duration::from_nanos(1)).as_secs_f64(),
            remaining: pace.mul_f64(total_steps.saturating_sub(step) as f64),
        }))
    }

    /// The sums of the gradients of the batches that this process has, their metrics, and the names of the samples. `lens`
    /// are the sizes of the batches in all processes together, 0 for a batch that is left out.
    #[allow(clippy::type_complexity)] // three lists
    fn gradients(
        &self,
        vars: &[Var],
        loaded: Vec<Loaded<O::Batch>>,
        lens: &[usize],
        readings: &[Reading],
    ) -> Result<(Gradients, Vec<(usize, Metrics)>, Vec<String>)> {
        let others = readings.iter().enumerate().filter(|(rank, _)| *rank != self.group.rank());
        for (_, reading) in others {
            self.source.add_unreadable(&reading.unreadable)?;
        }
        let mut gradients = Gradients::new(self.optimizer.names());
        let (mut metrics, mut ids) = (Vec::new(), Vec::new());
        for (Loaded { index, ids: own, batch }, _) in loaded.into_iter().zip(lens).filter(|(_, len)| **len > 0) {
            let Some(batch) = batch else { continue };
            let mut rng = stream(self.config.seed, Purpose::Training, self.state.epoch as u64, index as u64);
            let output = self.objective.loss(&batch, &mut rng)?;
            let loss = f64::from(output.loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            if !loss.is_finite() {
                return Err(non_finite("the loss", self.state.step + 1, &own, &output.metrics));
            }
            gradients.add(vars, output.loss.backward()?)?;
            metrics.push((index, std::iter::once(("loss".to_string(), loss)).chain(output.metrics).collect()));
            ids.extend(own);
        }
        Ok((gradients, metrics, ids))
    }
}

fn non_finite(what: &str, step: usize, ids: &[String], metrics: &Metrics) -> Error {
    let metrics: Vec<String> = metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let details = format!("step {step}; samples {}; {}", ids.join(", "), metrics.join(", "));
    Error::NonFinite { what: what.to_string(), details }
}
