//! Progress on the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)] // command-line output

use std::io::IsTerminal;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use soundsight::train::{Metrics, TrainEvent, mask_statistics};
use soundsight::viz::{FailureSignature, MaskStatistics};

/// A progress bar on standard error; hidden if that is not a terminal.
pub fn progress_bar(length: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The progress of a training run: a bar with the latest step, and a line for each validation.
pub struct TrainingProgress(ProgressBar);

impl TrainingProgress {
    pub fn new(step: usize, total_steps: usize) -> Self {
        let bar = progress_bar(total_steps, "{wide_bar} {pos}/{len}\n{wide_msg}");
        bar.set_position(step as u64);
        Self(bar)
    }

    pub fn show(&self, event: &TrainEvent<'_>) {
        match event {
            TrainEvent::Step(report) => {
                // The most important first: a narrow terminal cuts off the end.
                let (left, pace) = (HumanDuration(report.remaining), report.samples_per_second);
                let metrics = in_words(&report.metrics);
                self.0.set_message(format!("epoch {}, {left} left, {pace:.1} samples/s, {metrics}", report.epoch));
                self.0.set_position(report.step as u64);
            }
            TrainEvent::Validated { step, metrics, is_best, .. } if !metrics.is_empty() => {
                let best = if *is_best { " (best)" } else { "" };
                self.0.suspend(|| println!("step {step}: {}{best}", in_words(metrics)));
                let masks = mask_statistics(metrics);
                // Before the first step, masks cannot depend on the sound yet.
                let is_news =
                    |masks: &MaskStatistics| *step > 0 || masks.failure() != Some(FailureSignature::IgnoresTheSound);
                if let Some(warning) = masks.filter(is_news).and_then(|masks| masks.warning()) {
                    self.0.suspend(|| eprintln!("warning: {warning}"));
                }
            }
            TrainEvent::ThreadsChanged { before, now } => self.0.suspend(|| {
                eprintln!(
                    "warning: the run had {before} threads and continues with {now}, so its results will differ in the last \
                     bits (set RAYON_NUM_THREADS={before} to avoid this)"
                );
            }),
            TrainEvent::ProcessesChanged { before, now } => self.0.suspend(|| {
                eprintln!(
                    "warning: the run had {before} processes and continues with {now}, so its results will differ in the last \
                     bits"
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
