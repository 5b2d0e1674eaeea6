//! The optimizers compared with `torch.optim` (`benches/peers/fixtures_train.py optimizer`).
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use soundsight::Error;
use soundsight::train::{Gradients, Group, Optimizer, OptimizerConfig, OptimizerKind};

const STEPS: usize = 6;
const NAMES: [&str; 2] = ["a", "b"];

fn fixture() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/train/optimizer.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn parameters(fixture: &HashMap<String, Tensor>) -> Vec<(String, Var)> {
    NAMES.map(|name| (name.to_string(), Var::from_tensor(&fixture[&format!("start.{name}")]).unwrap())).to_vec()
}

/// The gradients of a step, obtained from a loss that has them: Σ g·θ.
fn gradients(fixture: &HashMap<String, Tensor>, optimizer: &Optimizer, step: usize) -> Gradients {
    let mut loss = Tensor::new(0f32, &Device::Cpu).unwrap();
    for (name, var) in optimizer.names().iter().zip(optimizer.vars()) {
        if let Some(gradient) = fixture.get(&format!("gradient.{name}.{step}")) {
            loss = (loss + (var.as_tensor() * gradient).unwrap().sum_all().unwrap()).unwrap();
        }
    }
    let mut gradients = Gradients::new(optimizer.names());
    gradients.add(&optimizer.vars(), loss.backward().unwrap()).unwrap();
    gradients
}

fn deviation(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn follows_torch(case: &str, config: OptimizerConfig, max_norm: Option<f64>) {
    let fixture = fixture();
    let mut optimizer = Optimizer::new(config, parameters(&fixture)).unwrap();
    for step in 1..=STEPS {
        let mut gradients = gradients(&fixture, &optimizer, step);
        if let Some(max_norm) = max_norm {
            let norm = gradients.norm().unwrap();
            gradients.clip(norm, max_norm).unwrap();
        }
        optimizer.step(&gradients, 1e-2).unwrap();
        for (name, var) in NAMES.iter().zip(optimizer.vars()) {
            let deviation = deviation(&var, &fixture[&format!("{case}.{name}.{step}")]);
            assert!(deviation <= 1e-6, "{case}, step {step}, {name}: {deviation}");
        }
    }
}

fn config() -> OptimizerConfig {
    OptimizerConfig { weight_decay: 0.0, ..OptimizerConfig::default() }
}

#[test]
fn adam_follows_torch() {
    follows_torch("adam", OptimizerConfig { weight_decay: 1e-1, ..config() }, None);
}

#[test]
fn adamw_follows_torch() {
    let kind = OptimizerKind::AdamW;
    follows_torch(
        "adamw",
        OptimizerConfig { kind, beta1: 0.8, beta2: 0.95, eps: 1e-6, weight_decay: 1e-1, ..config() },
        None,
    );
}

#[test]
fn clipping_follows_torch() {
    follows_torch("clipped", config(), Some(0.5));
}

#[test]
fn groups_follow_torch() {
    let group = Group { prefix: "b".to_string(), lr_multiplier: 5.0, weight_decay: 0.3 };
    follows_torch("groups", OptimizerConfig { groups: vec![group], ..config() }, None);
}

#[test]
fn a_restored_optimizer_goes_on_exactly() {
    let fixture = fixture();
    let run = |optimizer: &mut Optimizer, steps: std::ops::RangeInclusive<usize>| {
        for step in steps {
            let gradients = gradients(&fixture, optimizer, step);
            optimizer.step(&gradients, 1e-2).unwrap();
        }
    };
    let mut whole = Optimizer::new(config(), parameters(&fixture)).unwrap();
    run(&mut whole, 1..=3);
    let (tensors, updates) = whole.state();
    assert_eq!(updates, [3, 2], "`b` has no gradient in one of the steps");
    // Copy the tensors as a file would, because the state shares its storage with the parameters.
    let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
    run(&mut whole, 4..=STEPS);

    let mut resumed = Optimizer::new(config(), parameters(&fixture)).unwrap();
    resumed.restore(Path::new("x"), tensors, &updates).unwrap();
    run(&mut resumed, 4..=STEPS);
    for (a, b) in whole.state().0.into_iter().zip(resumed.state().0) {
        assert_eq!(a.0, b.0);
        assert_eq!(deviation(&a.1, &b.1), 0.0, "{}", a.0);
    }
}

#[test]
fn no_graph_survives_a_step() {
    let fixture = fixture();
    let mut optimizer = Optimizer::new(OptimizerConfig::default(), parameters(&fixture)).unwrap();
    for step in 1..=2 {
        let gradients = gradients(&fixture, &optimizer, step);
        assert!(gradients.values().iter().flatten().all(|gradient| !gradient.track_op()));
        optimizer.step(&gradients, 1e-2).unwrap();
    }
    assert!(optimizer.state().0.iter().all(|(_, tensor)| !tensor.track_op()));
}

#[test]
fn the_state_of_another_model_is_refused_whole() {
    let fixture = fixture();
    let mut optimizer = Optimizer::new(config(), parameters(&fixture)).unwrap();
    let (tensors, updates) = optimizer.state();
    let mut tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    tensors.remove("exp_avg.a").unwrap();
    tensors.insert("parameters.b".to_string(), Tensor::ones(6, candle_core::DType::F32, &Device::Cpu).unwrap());
    tensors.insert("parameters.c".to_string(), Tensor::ones(1, candle_core::DType::F32, &Device::Cpu).unwrap());
    match optimizer.restore(Path::new("some/file"), tensors, &updates).unwrap_err() {
        Error::Weights { path, problems } => {
            assert_eq!(path, Path::new("some/file"));
            let expected = [
                "missing `exp_avg.a` [3, 4]",
                "`parameters.b`: expected F32 [5], found F32 [6]",
                "unexpected `parameters.c` [1]",
            ];
            assert_eq!(problems, expected);
        }
        other => panic!("{other:?}"),
    }
    let unchanged = optimizer.vars();
    assert_eq!(deviation(&unchanged[0], &fixture["start.a"]), 0.0);
}

#[test]
fn impossible_parameters_are_refused_by_name() {
    let fixture = fixture();
    let refused = |config, parameters| match Optimizer::new(config, parameters).unwrap_err() {
        Error::Config { what, found, .. } | Error::Argument { what, found, .. } => (what, found),
        other => panic!("{other:?}"),
    };
    let twice = [parameters(&fixture), parameters(&fixture)].concat();
    assert_eq!(refused(config(), vec![]), ("trainable tensors".to_string(), "none".to_string()));
    assert_eq!(refused(config(), twice), ("trainable tensors".to_string(), "`a` twice".to_string()));
    let group = Group { prefix: "audio".to_string(), lr_multiplier: 1.0, weight_decay: 0.0 };
    let lost = OptimizerConfig { groups: vec![group], ..config() };
    assert_eq!(refused(lost, parameters(&fixture)), ("optimizer.groups.prefix".to_string(), "audio".to_string()));
}

#[test]
fn micro_batches_are_averaged_and_a_bad_gradient_is_named() {
    let fixture = fixture();
    let optimizer = Optimizer::new(config(), parameters(&fixture)).unwrap();
    let mut sum = gradients(&fixture, &optimizer, 1);
    sum.add(&optimizer.vars(), {
        let loss = (optimizer.vars()[0].as_tensor() * &fixture["gradient.a.2"]).unwrap().sum_all().unwrap();
        loss.backward().unwrap()
    })
    .unwrap();
    sum.mean().unwrap();
    let expected = ((&fixture["gradient.a.1"] + &fixture["gradient.a.2"]).unwrap() * 0.5).unwrap();
    assert!(deviation(sum.values()[0].as_ref().unwrap(), &expected) < 1e-7);
    let half = (&fixture["gradient.b.1"] * 0.5).unwrap();
    assert!(deviation(sum.values()[1].as_ref().unwrap(), &half) < 1e-7);

    let square = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    let expected = f64::from(square(&expected) + square(&half)).sqrt();
    assert!((sum.norm().unwrap() - expected).abs() < 1e-6 * expected);

    let loss = (optimizer.vars()[1].as_tensor() * (half / 0.0).unwrap()).unwrap().sum_all().unwrap();
    sum.add(&optimizer.vars(), loss.backward().unwrap()).unwrap();
    match sum.norm().unwrap_err() {
        Error::NonFinite { what, .. } => assert_eq!(what, "the gradient of `b`"),
        other => panic!("{other:?}"),
    }
}
