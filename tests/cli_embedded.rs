//! The command with the model that is compiled into it.
#![cfg(all(feature = "cli", feature = "embedded"))]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use common::program::{names_in, stdout};
use common::{fixture, soundsight};
use serde_json::{Value, json};
use soundsight::weights::{Download, Hub, ModelFiles, save_safetensors};
use soundsight::{Localizer, Picture, Waveform};

fn files() -> ModelFiles {
    ModelFiles::resolve("embedded", &Hub::from_env(), Download::Never).unwrap()
}

#[test]
fn the_command_falls_back_on_it_with_one_line() {
    let out = tempfile::tempdir().unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    let output = soundsight("localize").arg("--json").arg("--out").arg(out.path()).args(&inputs).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["model"], "embedded");
    let classes = files().classes.unwrap().len();
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in ["embedded model", &format!("{classes} classes"), "--model acl-vit16"] {
        assert!(message.contains(part), "{message}");
    }
    // If the model is requested by name, there is nothing to explain.
    let mut named = soundsight("localize");
    named.args(["--model", "embedded", "--out"]).arg(out.path()).args(&inputs);
    assert!(named.output().unwrap().stderr.is_empty());
    // A folder of the same name does not hide the model.
    std::fs::create_dir(out.path().join("embedded")).unwrap();
    assert!(named.current_dir(out.path()).status().unwrap().success());
}

#[test]
fn each_source_has_pictures_of_its_own() {
    let out = tempfile::tempdir().unwrap();
    let media = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/media").join(name);
    let localize = |more: &[&str]| {
        let mut localize = soundsight("localize");
        localize.args(["--model", "embedded", "--sources", "2", "--out"]).arg(out.path()).args(more);
        stdout(localize.arg(media("frog.wav")).arg(media("shore.jpg")))
    };
    let answer: Value = serde_json::from_str(&localize(&["--json"])).unwrap();
    let sources = answer["sources"].as_array().unwrap();
    assert_eq!((sources.len(), &sources[0]["name"]), (2, &json!("frog")));
    for (number, source) in (1..).zip(sources) {
        assert!(source["outputs"]["overlay"].as_str().unwrap().ends_with(&format!("shore.{number}.overlay.png")));
        assert!(
            ["peak", "boxes", "confidence", "presence", "present", "share"].iter().all(|key| !source[key].is_null())
        );
    }
    assert_eq!(names_in(out.path()).len(), 6);
    let said = localize(&[]);
    assert!(
        said.contains("source 1    frog, ") && said.contains("source 2    ") && said.contains("present "),
        "{said}"
    );
}

#[test]
fn training_starts_from_it_and_writes_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    train_media::write_pairs(&data, 4);
    let train = |more: &[&str]| {
        let mut train = soundsight("train");
        train.args(["--device", "cpu", "--batch", "2", "--val-fraction", "0"]).args(more);
        train.arg("--data").arg(&data).arg("--out").arg(&run);
        stdout(&mut train);
    };
    train(&["--model", "auto", "--steps", "1"]);
    let last = run.join("last");
    let written = ["acl.safetensors", "beats.safetensors", "clipseg.safetensors", "config.json", "tokenizer.json"];
    assert_eq!(names_in(&last), written);
    // The run identifies the model by its weights, not by its name.
    let frozen = folder.path().join("frozen");
    std::fs::create_dir(&frozen).unwrap();
    files().link_frozen(&frozen).unwrap();
    files().acl.place_at(&frozen.join("acl.safetensors")).unwrap();
    train(&["--model", frozen.to_str().unwrap(), "--steps", "2", "--resume"]);
    let mut localize = soundsight("localize");
    localize.args(["--json", "--model"]).arg(&last).arg("--out").arg(folder.path().join("out"));
    localize.args([fixture("mini/clip.wav"), fixture("mini/frame.png")]);
    assert_eq!(serde_json::from_str::<Value>(&stdout(&mut localize)).unwrap()["model"], last.to_str().unwrap());
}

/// The sounds of examples/media, each with its picture and the approximate horizontal position of the animal.
const PAIRS: [(&str, &str, [f64; 2]); 7] = [
    ("dog", "farm", [0.0, 0.33]),
    ("goat", "farm", [0.33, 0.67]),
    ("horse", "farm", [0.67, 1.0]),
    ("elephant", "savanna", [0.0, 0.6]),
    ("lion", "savanna", [0.6, 1.0]),
    ("duck", "shore", [0.0, 0.5]),
    ("frog", "shore", [0.5, 1.0]),
];

#[test]
fn localize_evaluate_and_the_library_find_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for folder in ["audio", "frames"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    let localizer = Localizer::load("embedded").unwrap();
    let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/media");
    let (mut csv, mut annotations) = ("audio,image\n".to_string(), Vec::new());
    let (mut heatmaps, mut found) = (BTreeMap::new(), BTreeMap::new());
    for (sound, picture, [left, right]) in PAIRS {
        let (audio, frame) = (path(&format!("audio/{sound}.wav")), path(&format!("frames/{sound}.jpg")));
        std::fs::copy(media.join(format!("{sound}.wav")), &audio).unwrap();
        std::fs::copy(media.join(format!("{picture}.jpg")), &frame).unwrap();
        csv += &format!("audio/{sound}.wav,frames/{sound}.jpg\n");
        annotations.push(json!({"file": sound, "class": sound, "bbox": [[left, 0.3, right, 0.9]]}));

        let (sound_file, picture) = (Waveform::open(&audio).unwrap(), Picture::open(&frame).unwrap());
        let heatmap = localizer.localize_pair(&sound_file, &picture).unwrap();
        let resized = Tensor::from_vec(heatmap.resized(224).unwrap(), (224, 224), &Device::Cpu).unwrap();
        heatmaps.insert(format!("heatmap.{sound}"), resized);
        let scores = heatmap.score_map(picture.width(), picture.height()).unwrap();
        found.insert(sound, (heatmap.confidence, scores.findings(0.5).unwrap()));
    }
    std::fs::write(path("pairs.csv"), csv).unwrap();
    std::fs::write(path("vggss.json"), json!(annotations).to_string()).unwrap();
    save_safetensors(path("library.safetensors"), &heatmaps, &BTreeMap::new()).unwrap();

    // `evaluate`, from the model and from the library's heatmaps: all figures, per sample and in total.
    let evaluate = |name: &str, from: &[&str]| {
        let mut evaluate = soundsight("evaluate");
        evaluate.args(["--benchmark", "vggss", "--annotations"]).arg(path("vggss.json")).args(from);
        let (table, csv) =
            (stdout(evaluate.arg("--csv").arg(path(name))), std::fs::read_to_string(path(name)).unwrap());
        let scores = csv.lines().map(|line| line.split(',').skip(8).collect::<Vec<_>>().join(","));
        (table.lines().skip(1).map(str::to_string).collect::<Vec<_>>(), scores.collect::<Vec<_>>())
    };
    let data = folder.path().to_str().unwrap();
    let (table, scores) = evaluate("model.csv", &["--model", "embedded", "--data", data]);
    let library = evaluate("library.csv", &["--predictions", path("library.safetensors").to_str().unwrap()]);
    assert!(scores[0].starts_with("pointing") && scores.len() == 1 + PAIRS.len(), "{scores:?}");
    assert_eq!(scores, library.1);
    // With the model, silence and noise are evaluated too.
    assert_eq!(table[..library.0.len()], library.0);

    // `localize`: confidence, peak and boxes.
    let mut localize = soundsight("localize");
    localize.args(["--json", "--model", "embedded", "--pairs"]).arg(path("pairs.csv")).arg("--out").arg(path("out"));
    let lines: Vec<Value> = stdout(&mut localize).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), PAIRS.len());
    for line in lines {
        let sound = Path::new(line["audio"]["path"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap();
        let (confidence, findings) = &found[sound];
        assert!((line["confidence"].as_f64().unwrap() - f64::from(*confidence)).abs() < 1e-5, "{line}");
        assert_eq!(
            (&line["peak"]["x"], &line["peak"]["y"]),
            (&json!(findings.peak.x), &json!(findings.peak.y)),
            "{line}"
        );
        assert_eq!(line["boxes"].as_array().unwrap().len(), findings.boxes.len(), "{line}");
    }
}
