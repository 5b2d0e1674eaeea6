//! A model with AST as its audio encoder, as a user makes, trains and runs it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::Path;
use std::process::Command;

use common::program::{names_in, refused, stdout};
use common::{fixture, soundsight};
use serde_json::Value;
use train_media::write_pairs;

/// `convert` from the fixtures of AST and, for the picture, of `mini`.
fn convert(clipseg_config: &Path, out: &Path) -> Command {
    convert_as(&fixture("ast/plain.json"), clipseg_config, out)
}

fn convert_as(ast_config: &Path, clipseg_config: &Path, out: &Path) -> Command {
    let mut convert = soundsight("convert");
    convert.arg("--ast").arg(fixture("ast/plain.bin")).arg("--ast-config").arg(ast_config);
    convert.arg("--clipseg").arg(fixture("mini/clipseg.safetensors")).arg("--clipseg-config").arg(clipseg_config);
    convert.arg("--out").arg(out);
    convert
}

fn localize(model: &Path, out: &Path) -> Vec<Vec<u8>> {
    let mut localize = soundsight("localize");
    localize.arg("--model").arg(model).args(["--device", "cpu", "--out"]).arg(out);
    stdout(localize.args([fixture("alt/clip.wav"), fixture("alt/frame.png")]));
    names_in(out).into_iter().map(|name| std::fs::read(out.join(name)).unwrap()).collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_model_is_converted_trained_compressed_and_localizes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("clipseg.json"), json(&fixture("mini/config.json"))["clipseg"].to_string()).unwrap();
    // Another config.json than the checkpoint's.
    let mut wrong = convert_as(&fixture("alt/config.json"), &path("clipseg.json"), &path("model"));
    refused(&mut wrong, &["plain.bin", "position_embeddings"]);
    assert!(!path("model").exists());

    let model = path("model");
    let said = stdout(&mut convert(&path("clipseg.json"), &model));
    assert!(said.contains("untrained"), "{said}");
    let mut config = json(&model.join("config.json"));
    assert_eq!(config["acl"]["audio_blocks"], serde_json::json!([0, 1]));
    // Small pictures are faster.
    config["acl"]["image_size"] = 96.into();
    std::fs::write(model.join("config.json"), config.to_string()).unwrap();
    let before = localize(&model, &path("before"));

    write_pairs(&path("data"), 8);
    let train = |run: &str, more: &[&str]| {
        let mut train = soundsight("train");
        train.arg("--model").arg(&model).args(["--device", "cpu", "--workers", "1", "--data"]).arg(path("data"));
        train.args(["--val-fraction", "0", "--batch", "4", "--accumulate", "1", "--lr", "0.01"]);
        stdout(train.arg("--out").arg(path(run)).args(more));
        std::fs::read(path(run).join("last/acl.safetensors")).unwrap()
    };
    let trained = train("run", &["--steps", "2"]);
    let cache = path("cache");
    let cache = cache.to_str().unwrap();
    assert!(train("filled", &["--steps", "2", "--cache", cache]) == train("read", &["--steps", "2", "--cache", cache]));
    let last = path("run").join("last");
    assert_eq!(names_in(&last), ["acl.safetensors", "ast.safetensors", "clipseg.safetensors", "config.json"]);
    assert_eq!(json(&last.join("config.json")), json(&model.join("config.json")));
    assert!(localize(&last, &path("after")) != before);

    let mut compress = soundsight("convert");
    compress.arg("--model").arg(&last).args(["--weights", "q8", "--out"]).arg(path("small"));
    stdout(&mut compress);
    assert_eq!(names_in(&path("small")), ["acl.gguf", "ast.gguf", "clipseg.gguf", "config.json"]);
    localize(&path("small"), &path("compressed"));
    assert_ne!(trained, std::fs::read(model.join("acl.safetensors")).unwrap());
}
