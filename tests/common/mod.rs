//! Helpers shared by several test programs.
#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each test program uses only a part

pub mod pictures;
pub mod program;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

/// The command `soundsight` with this subcommand.
#[cfg(feature = "cli")]
pub fn soundsight(subcommand: &str) -> std::process::Command {
    let mut command = program::command(env!("CARGO_BIN_EXE_soundsight"));
    command.arg(subcommand);
    command
}

/// A file or folder of the committed fixtures.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The device of the parity tests: the CPU, or the device in `SOUNDSIGHT_TEST_DEVICE` (`cuda`, `metal`).
pub fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("SOUNDSIGHT_TEST_DEVICE") {
        Ok(name) => soundsight::localizer::select_device(&name).unwrap(),
        Err(_) => Device::Cpu,
    })
}

/// The tolerance on the current device: `tolerance` on the CPU, and ten times that on other devices, which sum
/// in a different order and have less accurate functions.
pub fn allowed(tolerance: f32) -> f32 {
    if device().is_cpu() { tolerance } else { 10.0 * tolerance }
}

/// All tensors of a safetensors fixture.
pub fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), device()).unwrap()
}

/// A builder over a safetensors fixture.
pub fn builder(name: &str) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(name), DType::F32, device())
}

/// The trained tensors of the mini model with the learned prompt of `train/prompt.safetensors`.
pub fn head_with_learned_prompt() -> HashMap<String, Tensor> {
    let net = tensors("train/prompt.safetensors").into_iter().filter(|(name, _)| name.starts_with("prompt_net."));
    tensors("mini/acl.safetensors").into_iter().chain(net).collect()
}

/// Makes `folder` a model directory: the mini model with a learned prompt, with these trained tensors and `settings` in the part
/// `acl` of its configuration.
pub fn write_model_with_learned_prompt(
    folder: &Path,
    head: &HashMap<String, Tensor>,
    settings: &[(&str, serde_json::Value)],
) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["beats.safetensors", "clipseg.safetensors"] {
        std::fs::copy(fixture("mini").join(name), folder.join(name)).unwrap();
    }
    candle_core::safetensors::save(head, folder.join("acl.safetensors")).unwrap();
    let config = std::fs::read_to_string(fixture("mini/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["acl"]["prompt_vectors"] = 4.into();
    for (name, value) in settings {
        config["acl"][*name] = value.clone();
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// The largest absolute difference.
pub fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims(), "shapes differ");
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Asserts that two tensors agree to `tolerance` (see [`allowed`]), and that the expected one is not trivial.
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    let tolerance = allowed(tolerance);
    let difference = max_difference(found, expected);
    assert!(difference <= tolerance, "{what}: off by {difference:e}, allowed {tolerance:e}");
    let values = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let varies = values.len() == 1 || values.iter().any(|v| (v - values[0]).abs() > 10.0 * tolerance);
    assert!(varies, "{what}: the expected tensor is constant, so the comparison shows nothing");
}
