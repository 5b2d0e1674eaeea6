//! The model that is compiled into the program.
#![cfg(all(feature = "embedded", feature = "text"))]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::fixture;
use soundsight::weights::{Download, Hub, ModelFiles};
use soundsight::{Localizer, ModelSource, Picture, Waveform};

/// Simulates a machine without the published weights and without a network.
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
    assert_eq!(localizer.source(), Some(&ModelSource::Embedded));
    let (sound, picture) = media();
    let found = localizer.localize_pair(&sound, &picture).unwrap();
    assert_eq!(found.scores.len(), found.size * found.size);
    let classes = files().classes.unwrap();
    assert!(!classes.is_empty());
    // Each of its classes can be used as a text prompt.
    for class in &classes {
        localizer.embed_text(&format!("a photo of a {class}")).unwrap();
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
    files.write_presence(folder.path()).unwrap();
    let written = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!(written.classes, files.classes);
    assert_eq!(written.acl_config, files.acl_config);
    let (sound, picture) = media();
    let found = |files: &ModelFiles| {
        let localizer = Localizer::from_files(files, Device::Cpu, DType::F32).unwrap();
        let text = localizer.embed_text("a photo of a dog").ok().map(|e| e.tensor().to_vec2::<f32>().unwrap());
        (localizer.localize_pair(&sound, &picture).unwrap(), text)
    };
    assert_eq!(found(&written), found(&files));
}
