//! Settings of a training run.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::optimizer::OptimizerConfig;
use super::schedule::Schedule;
use crate::error::{Error, Result};

/// The length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// This many passes over the data.
    Epochs(usize),
    /// This many optimizer steps, even if the last one falls in the middle of an epoch.
    Steps(usize),
}

/// The direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Higher is better: AUC, accuracy.
    Maximize,
    /// Lower is better: a loss.
    Minimize,
}

/// The validation metric that selects the best epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestMetric {
    /// The name of the metric, as reported by the validation.
    pub name: String,
    /// Whether higher or lower is better.
    pub goal: Goal,
}

impl BestMetric {
    /// Whether `value` is better than `best`, or the first value. NaN and infinity are never better.
    pub fn improves(&self, value: f64, best: Option<f64>) -> bool {
        value.is_finite()
            && best.is_none_or(|best| match self.goal {
                Goal::Maximize => value > best,
                Goal::Minimize => value < best,
            })
    }
}

/// Settings of the [`Trainer`](super::Trainer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The seed of the training noise. The data has its own seed.
    pub seed: u64,
    /// When the run ends. May be changed when a run is resumed; a decaying schedule changes with it.
    pub length: Length,
    /// The number of micro-batches per optimizer step, at least 1. [`Gradients::mean`](super::Gradients::mean) explains
    /// how their gradients are combined. The last step of an epoch uses the remaining micro-batches.
    pub accumulation: usize,
    /// The largest norm of all gradients taken together; larger gradients are scaled down to it. `None` disables
    /// clipping.
    pub max_grad_norm: Option<f64>,
    /// The peak learning rate, > 0.
    pub learning_rate: f64,
    /// How the learning rate changes over the steps.
    pub schedule: Schedule,
    /// The optimizer, Adam or AdamW, and its settings.
    pub optimizer: OptimizerConfig,
    /// The number of optimizer steps between checkpoints, in addition to the checkpoint after each epoch. May be
    /// changed when a run is resumed.
    pub checkpoint_every: Option<usize>,
    /// The number of checkpoints to keep, at least 1. May be changed when a run is resumed.
    pub keep_checkpoints: usize,
    /// The metric that selects the best epoch; with `None`, no epoch is selected.
    pub best: Option<BestMetric>,
}

impl Default for TrainConfig {
    /// The published recipe: 20 epochs of Adam at 1e-4, constant, L2 1e-4, no clipping, seed 0.
    fn default() -> Self {
        Self {
            seed: 0,
            length: Length::Epochs(20),
            accumulation: 1,
            max_grad_norm: None,
            learning_rate: 1e-4,
            schedule: Schedule::CONSTANT,
            optimizer: OptimizerConfig::default(),
            checkpoint_every: None,
            keep_checkpoints: 3,
            best: None,
        }
    }
}

/// Settings that a resumed run may change. The model's name is one of them because the digests of its files identify
/// it; the trainer reports a changed number of threads or processes.
const FREE_ON_RESUME: [&str; 6] = [
    "threads",
    "processes",
    "trainer.length",
    "trainer.checkpoint_every",
    "trainer.keep_checkpoints",
    "settings.model.name",
];

impl TrainConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is not.
    pub fn validate(&self) -> Result<()> {
        let (Length::Epochs(length) | Length::Steps(length)) = self.length;
        let counts = [
            ("length", length),
            ("accumulation", self.accumulation),
            ("keep_checkpoints", self.keep_checkpoints),
            ("checkpoint_every", self.checkpoint_every.unwrap_or(1)),
        ];
        if let Some((name, value)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::config(name, "at least 1", value));
        }
        let rates = [("learning_rate", self.learning_rate), ("max_grad_norm", self.max_grad_norm.unwrap_or(1.0))];
        if let Some((name, value)) = rates.into_iter().find(|(_, value)| !(*value > 0.0 && value.is_finite())) {
            return Err(Error::config(name, "a number above 0", value));
        }
        self.schedule.validate()?;
        self.optimizer.validate()
    }
}

/// Checks that the `current` configuration equals another one, that of `origin`, except for [`FREE_ON_RESUME`].
///
/// # Errors
/// [`Error::Config`] naming the first setting that differs.
pub(super) fn require_same(other: &Value, current: &Value, origin: &str) -> Result<()> {
    match first_difference("", other, current) {
        Some((path, other, current)) => Err(Error::config(path, format!("{other} as in {origin}"), current)),
        None => Ok(()),
    }
}

/// The first setting in which two configurations differ, except for [`FREE_ON_RESUME`]: its path and both values.
fn first_difference(path: &str, saved: &Value, current: &Value) -> Option<(String, String, String)> {
    if saved == current || FREE_ON_RESUME.contains(&path) {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (saved, current) {
        return a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).find_map(|key| {
            let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let entry = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
            first_difference(&inner, &entry(a), &entry(b))
        });
    }
    Some((path.to_string(), saved.to_string(), current.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_published_recipe_is_valid_and_survives_json() {
        let config = TrainConfig::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
    }

    #[test]
    fn each_impossible_setting_is_refused_by_name() {
        let base = TrainConfig::default;
        let adam = OptimizerConfig::default;
        for (name, config) in [
            ("length", TrainConfig { length: Length::Steps(0), ..base() }),
            ("accumulation", TrainConfig { accumulation: 0, ..base() }),
            ("keep_checkpoints", TrainConfig { keep_checkpoints: 0, ..base() }),
            ("checkpoint_every", TrainConfig { checkpoint_every: Some(0), ..base() }),
            ("learning_rate", TrainConfig { learning_rate: f64::NAN, ..base() }),
            ("max_grad_norm", TrainConfig { max_grad_norm: Some(0.0), ..base() }),
            ("optimizer.beta1", TrainConfig { optimizer: OptimizerConfig { beta1: 1.0, ..adam() }, ..base() }),
            ("optimizer.beta2", TrainConfig { optimizer: OptimizerConfig { beta2: -0.1, ..adam() }, ..base() }),
            ("optimizer.eps", TrainConfig { optimizer: OptimizerConfig { eps: 0.0, ..adam() }, ..base() }),
            (
                "optimizer.weight_decay",
                TrainConfig { optimizer: OptimizerConfig { weight_decay: -1.0, ..adam() }, ..base() },
            ),
        ] {
            match config.validate().unwrap_err() {
                Error::Config { what, .. } => assert_eq!(what, name),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_resumed_run_may_be_longer_but_not_different() {
        let saved = json!({"trainer": {"length": {"epochs": 2}, "learning_rate": 1e-4}, "data": {"num_samples": 8}});
        let mut current = saved.clone();
        current["trainer"]["length"] = json!({"steps": 100});
        require_same(&saved, &current, "the checkpoint").unwrap();
        current["data"]["num_samples"] = json!(9);
        match require_same(&saved, &current, "the checkpoint").unwrap_err() {
            Error::Config { what, expected, found } => {
                assert_eq!((what.as_str(), found.as_str()), ("data.num_samples", "9"));
                assert_eq!(expected, "8 as in the checkpoint");
            }
            other => panic!("{other:?}"),
        }
        let more = json!({"trainer": saved["trainer"], "data": saved["data"], "extra": 1});
        assert!(
            matches!(require_same(&saved, &more, "the checkpoint"), Err(Error::Config { what, .. }) if what == "extra")
        );
    }

    #[test]
    fn nothing_that_is_no_number_is_best() {
        let auc = BestMetric { name: "auc".to_string(), goal: Goal::Maximize };
        assert!(auc.improves(0.5, Some(0.4)) && !auc.improves(0.4, Some(0.5)) && !auc.improves(0.4, Some(0.4)));
        assert!(auc.improves(0.1, None) && !auc.improves(f64::NAN, None) && !auc.improves(f64::INFINITY, Some(0.1)));
        let loss = BestMetric { name: "loss".to_string(), goal: Goal::Minimize };
        assert!(loss.improves(0.4, Some(0.5)) && !loss.improves(0.5, Some(0.4)));
    }
}
