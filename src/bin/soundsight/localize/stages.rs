//! How long a localization takes, stage by stage.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long each stage took.
#[derive(Default)]
pub struct Stages {
    spent: BTreeMap<&'static str, Duration>,
}

impl Stages {
    /// Runs `work` and adds its time to `stage`.
    pub fn time<T, E>(&mut self, stage: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let result = work();
        *self.spent.entry(stage).or_default() += started.elapsed();
        result
    }

    /// All stages and the time since `started`, in milliseconds.
    pub fn finish(&self, started: Instant) -> Value {
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
        let mut stages: BTreeMap<&str, Value> =
            self.spent.iter().map(|(stage, time)| (*stage, json!(milliseconds(*time)))).collect();
        stages.insert("total", json!(milliseconds(started.elapsed())));
        json!(stages)
    }
}
