//! Adam and AdamW with the semantics of `torch.optim`.
//!
//! - Adam: Kingma & Ba, "Adam: A Method for Stochastic Optimization", 2015. Weight decay is an L2 term in the gradient.
//! - AdamW: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use super::elementwise;
use super::gradients::Gradients;
use crate::error::{Error, Result};

/// How weight decay is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// To the gradient, g ← g + λθ, as in `torch.optim.Adam` and in the published recipe.
    Adam,
    /// To the weights, θ ← θ − ηλθ, as in `torch.optim.AdamW`.
    AdamW,
}

/// Settings of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Adam or AdamW.
    pub kind: OptimizerKind,
    /// β₁: the decay rate of the running mean of the gradients, 0 ≤ β₁ < 1.
    pub beta1: f64,
    /// β₂: the decay rate of the running mean of the squared gradients, 0 ≤ β₂ < 1.
    pub beta2: f64,
    /// ε: added to the root of the mean square, > 0.
    pub eps: f64,
    /// λ: weight decay, ≥ 0.
    pub weight_decay: f64,
    /// Tensors with a different learning rate or weight decay; a tensor belongs to the first group that matches its
    /// name.
    pub groups: Vec<Group>,
}

/// A group of tensors with their own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The common prefix of the names of the group's tensors.
    pub prefix: String,
    /// A factor applied to the learning rate, ≥ 0.
    pub lr_multiplier: f64,
    /// λ for this group, ≥ 0.
    pub weight_decay: f64,
}

impl Default for OptimizerConfig {
    /// The published recipe: Adam, β = (0.9, 0.999), ε = 1e-8, λ = 1e-4, one group.
    fn default() -> Self {
        Self { kind: OptimizerKind::Adam, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4, groups: Vec::new() }
    }
}

impl OptimizerConfig {
    /// Checks that every setting is in range.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is not.
    pub fn validate(&self) -> Result<()> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(format!("optimizer.{name}"), "0 ≤ β < 1", beta));
            }
        }
        if !(self.eps > 0.0 && self.eps.is_finite()) {
            return Err(Error::config("optimizer.eps", "a number above 0", self.eps));
        }
        let of_groups = self.groups.iter().flat_map(|group| {
            [("groups.lr_multiplier", group.lr_multiplier), ("groups.weight_decay", group.weight_decay)]
        });
        for (name, value) in of_groups.chain([("weight_decay", self.weight_decay)]) {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(format!("optimizer.{name}"), "a number of at least 0", value));
            }
        }
        Ok(())
    }
}

/// One trainable tensor with its moments.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    lr_multiplier: f64,
    weight_decay: f64,
    /// The number of updates so far. It differs between tensors, because a step skips tensors without a gradient,
    /// moments included.
    steps: u32,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
}

/// Adam or AdamW over named tensors in a fixed order.
///
/// With g the gradient (plus λθ for Adam), t the number of updates of the tensor and η the learning rate times the
/// multiplier of its group:
///
/// m ← m + (1 − β₁)(g − m), v ← β₂v + (1 − β₂)g², θ ← θ − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
}

impl Optimizer {
    /// Creates an optimizer for `parameters`, with zero moments.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting is out of range or the prefix of a group matches no name; [`Error::Argument`]
    /// when `parameters` is empty or a name occurs twice.
    pub fn new(config: OptimizerConfig, parameters: Vec<(String, Var)>) -> Result<Self> {
        config.validate()?;
        if parameters.is_empty() {
            return Err(Error::argument("trainable tensors", "at least one", "none"));
        }
        if let Some(group) =
            config.groups.iter().find(|group| !parameters.iter().any(|(name, _)| name.starts_with(&group.prefix)))
        {
            return Err(Error::config(
                "optimizer.groups.prefix",
                "the start of a trainable tensor's name",
                &group.prefix,
            ));
        }
        let mut slots: Vec<Slot> = Vec::with_capacity(parameters.len());
        for (name, var) in parameters {
            if slots.iter().any(|slot| slot.name == name) {
                return Err(Error::argument("trainable tensors", "unique names", format!("`{name}` twice")));
            }
            let group = config.groups.iter().find(|group| name.starts_with(&group.prefix));
            let (lr_multiplier, weight_decay) =
                group.map_or((1.0, config.weight_decay), |group| (group.lr_multiplier, group.weight_decay));
            // Two separate allocations, because they are updated in place on a CPU.
            let zeros = || Ok::<_, Error>(var.as_tensor().zeros_like()?.detach());
            let (exp_avg, exp_avg_sq) = (zeros()?, zeros()?);
            slots.push(Slot { name, var, lr_multiplier, weight_decay, steps: 0, exp_avg, exp_avg_sq });
        }
        Ok(Self { config, slots })
    }

    /// The tensors' names, in order.
    pub fn names(&self) -> Vec<String> {
        self.slots.iter().map(|slot| slot.name.clone()).collect()
    }

    /// The tensors, in order.
    pub fn vars(&self) -> Vec<Var> {
        self.slots.iter().map(|slot| slot.var.clone()).collect()
    }

    /// Updates every tensor that has a gradient. `gradients` must be in the order of [`Optimizer::vars`].
    ///
    /// # Errors
    /// [`Error::Candle`] when the shapes of a gradient and its tensor differ.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) -> Result<()> {
        for (slot, gradient) in self.slots.iter_mut().zip(gradients.values()) {
            if let Some(gradient) = gradient {
                slot.update(gradient, learning_rate, &self.config)?;
            }
        }
        Ok(())
    }

    /// The complete state: the tensors as `parameters.<name>`, their moments as `exp_avg.<name>` and
    /// `exp_avg_sq.<name>`, and the number of updates of each tensor, in order. The tensors share their storage with
    /// the optimizer: write or copy them before the next step.
    pub fn state(&self) -> (Vec<(String, Tensor)>, Vec<u32>) {
        let tensors = self.slots.iter().flat_map(Slot::tensors).collect();
        (tensors, self.slots.iter().map(|slot| slot.steps).collect())
    }

    /// Restores a state returned by [`Optimizer::state`]. `origin` is the file that it was read from, for error
    /// messages.
    ///
    /// # Errors
    /// [`Error::Weights`] listing each tensor that is missing, unexpected, or has the wrong shape or type; nothing is
    /// then changed.
    pub fn restore(&mut self, origin: &Path, mut tensors: HashMap<String, Tensor>, steps: &[u32]) -> Result<()> {
        let (mut problems, mut restored) = (Vec::new(), Vec::new());
        for (name, own) in self.slots.iter().flat_map(Slot::tensors) {
            match tensors.remove(&name) {
                None => problems.push(format!("missing `{name}` {:?}", own.dims())),
                Some(saved) if saved.shape() != own.shape() || saved.dtype() != own.dtype() => {
                    let describe = |t: &Tensor| format!("{:?} {:?}", t.dtype(), t.dims());
                    problems.push(format!("`{name}`: expected {}, found {}", describe(&own), describe(&saved)));
                }
                Some(saved) => restored.push(saved),
            }
        }
        let mut unexpected: Vec<String> =
            tensors.iter().map(|(name, tensor)| format!("unexpected `{name}` {:?}", tensor.dims())).collect();
        unexpected.sort();
        problems.append(&mut unexpected);
        if steps.len() != self.slots.len() {
            problems.push(format!("update counts: expected {}, found {}", self.slots.len(), steps.len()));
        }
        if !problems.is_empty() {
            return Err(Error::Weights { path: origin.to_path_buf(), problems });
        }
        let mut restored = restored.into_iter();
        for (slot, steps) in self.slots.iter_mut().zip(steps) {
            let (Some(value), Some(exp_avg), Some(exp_avg_sq)) = (restored.next(), restored.next(), restored.next())
            else {
                break;
            };
            let device = slot.var.device();
            slot.var.set(&value.to_device(device)?)?;
            slot.exp_avg = exp_avg.to_device(device)?;
            slot.exp_avg_sq = exp_avg_sq.to_device(device)?;
            slot.steps = *steps;
        }
        Ok(())
    }
}

/// The scalar factors of one tensor's update at one step.
struct Coefficients {
    /// λ if the decay is part of the gradient, otherwise 0.
    l2: f64,
    /// 1 − ηλ if the decay is decoupled, otherwise 1.
    shrink: f64,
    mean_rate: f64,
    square_keep: f64,
    square_rate: f64,
    /// 1 / √(1 − β₂ᵗ)
    root_scale: f64,
    eps: f64,
    /// η / (1 − β₁ᵗ)
    rate: f64,
}

impl Slot {
    fn update(&mut self, gradient: &Tensor, learning_rate: f64, config: &OptimizerConfig) -> Result<()> {
        self.steps += 1;
        let rate = learning_rate * self.lr_multiplier;
        let (l2, shrink) = match config.kind {
            OptimizerKind::Adam => (self.weight_decay, 1.0),
            OptimizerKind::AdamW => (0.0, 1.0 - rate * self.weight_decay),
        };
        let coefficients = Coefficients {
            l2,
            shrink,
            mean_rate: 1.0 - config.beta1,
            square_keep: config.beta2,
            square_rate: 1.0 - config.beta2,
            root_scale: 1.0 / (1.0 - config.beta2.powi(self.steps as i32)).sqrt(),
            eps: config.eps,
            rate: rate / (1.0 - config.beta1.powi(self.steps as i32)),
        };
        // Detached throughout: a moment that kept its graph would keep the graphs of all steps alive.
        let gradient = gradient.detach().contiguous()?;
        if elementwise::supports([&self.var, &gradient, &self.exp_avg, &self.exp_avg_sq]) {
            self.update_in_place(&gradient, &coefficients)
        } else {
            self.update_composed(&gradient, &coefficients)
        }
    }

    /// The update on a CPU: three passes over the memory instead of seventeen.
    fn update_in_place(&mut self, gradient: &Tensor, coefficients: &Coefficients) -> Result<()> {
        let c = coefficients;
        let (l2, mean_rate, square_keep) = (c.l2 as f32, c.mean_rate as f32, c.square_keep as f32);
        let (square_rate, root_scale, eps) = (c.square_rate as f32, c.root_scale as f32, c.eps as f32);
        let (rate, shrink) = (c.rate as f32, c.shrink as f32);
        let value = self.var.as_detached_tensor();
        elementwise::update(&self.exp_avg, gradient, &value, |m, g, p| m + ((g + p * l2) - m) * mean_rate)?;
        elementwise::update(&self.exp_avg_sq, gradient, &value, |v, g, p| {
            let g = g + p * l2;
            v * square_keep + g * g * square_rate
        })?;
        elementwise::update(&value, &self.exp_avg, &self.exp_avg_sq, |p, m, v| {
            p * shrink - m / (v.sqrt() * root_scale + eps) * rate
        })?;
        Ok(())
    }

    /// The same update for any device.
    fn update_composed(&mut self, gradient: &Tensor, coefficients: &Coefficients) -> Result<()> {
        let c = coefficients;
        let value = self.var.as_detached_tensor();
        let gradient = (gradient + (&value * c.l2)?)?;
        self.exp_avg = (&self.exp_avg + ((&gradient - &self.exp_avg)? * c.mean_rate)?)?;
        self.exp_avg_sq = ((&self.exp_avg_sq * c.square_keep)? + (gradient.sqr()? * c.square_rate)?)?;
        let denominator = self.exp_avg_sq.sqrt()?.affine(c.root_scale, c.eps)?;
        let change = ((&self.exp_avg / denominator)? * c.rate)?;
        Ok(self.var.set(&((value * c.shrink)? - change)?)?)
    }

    fn tensors(&self) -> [(String, Tensor); 3] {
        [
            (format!("parameters.{}", self.name), self.var.as_detached_tensor()),
            (format!("exp_avg.{}", self.name), self.exp_avg.clone()),
            (format!("exp_avg_sq.{}", self.name), self.exp_avg_sq.clone()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn both_ways_of_updating_agree_bit_for_bit() {
        let random = || Tensor::randn(0f32, 1.0, (70, 130), &Device::Cpu).unwrap();
        let bits = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (kind, weight_decay) in
            [(OptimizerKind::Adam, 0.1), (OptimizerKind::AdamW, 0.1), (OptimizerKind::Adam, 0.0)]
        {
            let start = random();
            let slot = || {
                let config = OptimizerConfig { kind, weight_decay, ..OptimizerConfig::default() };
                let var = Var::from_tensor(&start.copy().unwrap()).unwrap();
                Optimizer::new(config, vec![("x".to_string(), var)]).unwrap().slots.remove(0)
            };
            let (mut in_place, mut composed) = (slot(), slot());
            for step in 1..=3 {
                let gradient = random();
                let rate = 0.01 * f64::from(step);
                let coefficients = Coefficients {
                    l2: if kind == OptimizerKind::Adam { weight_decay } else { 0.0 },
                    shrink: if kind == OptimizerKind::Adam { 1.0 } else { 1.0 - rate * weight_decay },
                    mean_rate: 0.1,
                    square_keep: 0.999,
                    square_rate: 0.001,
                    root_scale: 20.0,
                    eps: 1e-8,
                    rate,
                };
                in_place.update_in_place(&gradient, &coefficients).unwrap();
                composed.update_composed(&gradient, &coefficients).unwrap();
                for ((name, a), (_, b)) in in_place.tensors().into_iter().zip(composed.tensors()) {
                    assert!(bits(&a) == bits(&b), "{name}, step {step}, {kind:?}");
                }
            }
            assert!(bits(&in_place.var) != bits(&start));
        }
    }
}
