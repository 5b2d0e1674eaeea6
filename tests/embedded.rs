//! The model that is compiled into the program.
#![cfg(feature = "embedded")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::Path;

use candle_core::{DType, Device};
use common::fixture;
use common::program::{example, names_in, stdout};
use serde_json::Value;
use soundsight::weights::{Download, Hub, ModelFiles};
use soundsight::{Localizer, Picture, Waveform};

/// The published weights are not on this machine, and cannot be fetched.
fn nowhere() -> Hub {
    Hub { cache: "/nonexistent".into(), endpoint: "http://127.0.0.1:9".into(), token: None, offline: false }
}

fn media() -> (Waveform, Picture) {
    (Waveform::open(fixture("mini/clip.wav")).unwrap(), Picture::open(fixture("mini/frame.png")).unwrap())
}

fn files() -> ModelFiles {
    ModelFiles::resolve("embedded", &nowhere(), Download::Never).unwrap()
}

#[test]
fn it_loads_by_name_says_what_it_knows_and_localizes() {
    let localizer = Localizer::builder("auto").hub(nowhere()).load().unwrap();
    assert_eq!(localizer.name(), "embedded");
    let (sound, picture) = media();
    let found = localizer.localize_pair(&sound, &picture).unwrap();
    assert_eq!(found.heatmap.len(), found.size * found.size);
    let things = files().things.unwrap();
    assert!(!things.is_empty());
    // Each of its things can be asked for by name.
    for thing in &things {
        localizer.embed_text(&format!("a photo of a {thing}")).unwrap();
    }
}

#[test]
fn its_files_take_less_than_eight_megabytes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/embedded");
    let parts = ["config.json", "tokenizer.json", "beats.safetensors", "clipseg.safetensors", "acl.safetensors"];
    let bytes: u64 = parts.iter().map(|name| folder.join(name).metadata().unwrap().len()).sum();
    assert!(bytes <= 8 << 20, "{bytes}");
}

#[test]
fn written_out_it_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    files.link_frozen(folder.path()).unwrap();
    files.acl.place_at(&folder.path().join("acl.safetensors")).unwrap();
    let written = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!(written.things, files.things);
    assert_eq!(written.acl_config, files.acl_config);
    let (sound, picture) = media();
    let found = |files: &ModelFiles| {
        let localizer = Localizer::from_files(files, Device::Cpu, DType::F32).unwrap();
        let text = localizer.embed_text("a photo of a dog").ok().map(|e| e.tensor().to_vec2::<f32>().unwrap());
        (localizer.localize_pair(&sound, &picture).unwrap(), text)
    };
    assert_eq!(found(&written), found(&files));
}

#[test]
fn the_programs_fall_back_on_it_with_one_line() {
    let out = tempfile::tempdir().unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    let output = example("localize").arg("--json").arg("--out").arg(out.path()).args(&inputs).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["model"], "embedded");
    let things = files().things.unwrap().len();
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in ["embedded model", &format!("{things} things"), "--model acl-vit16"] {
        assert!(message.contains(part), "{message}");
    }
    // Asked for by name there is nothing to explain.
    let mut named = example("localize");
    named.args(["--model", "embedded", "--out"]).arg(out.path()).args(&inputs);
    assert!(named.output().unwrap().stderr.is_empty());
}

#[test]
fn training_starts_from_it_and_writes_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    train_media::write_pairs(&data, 4);
    let train = |more: &[&str]| {
        let mut train = example("train");
        train.args(["--device", "cpu", "--batch", "2", "--val-fraction", "0"]).args(more);
        train.arg("--data").arg(&data).arg("--out").arg(&run);
        stdout(&mut train);
    };
    train(&["--model", "auto", "--steps", "1"]);
    let last = run.join("last");
    let written = ["acl.safetensors", "beats.safetensors", "clipseg.safetensors", "config.json", "tokenizer.json"];
    assert_eq!(names_in(&last), written);
    // The run knows the model by its weights, whatever it is called.
    let frozen = folder.path().join("frozen");
    std::fs::create_dir(&frozen).unwrap();
    files().link_frozen(&frozen).unwrap();
    files().acl.place_at(&frozen.join("acl.safetensors")).unwrap();
    train(&["--model", frozen.to_str().unwrap(), "--steps", "2", "--resume"]);
    let mut localize = example("localize");
    localize.args(["--json", "--model"]).arg(&last).arg("--out").arg(folder.path().join("out"));
    localize.args([fixture("mini/clip.wav"), fixture("mini/frame.png")]);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&mut localize)).unwrap()["model"], last.to_str().unwrap());
}
