//! `soundsight calibrate`, and what the calibrated model then says.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::Path;

use common::program::stdout;
use common::{fixture, soundsight};
use serde_json::{Value, json};
use soundsight::localizer::{LabelledPair, PresenceCalibration};
use soundsight::{Error, Localizer, Picture, Waveform};

/// A copy of the model of random weights.
fn model(folder: &Path) -> std::path::PathBuf {
    let model = folder.join("model");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(fixture("alt")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    model
}

#[test]
fn a_calibrated_model_says_whether_the_source_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (model, data) = (model(folder.path()), folder.path().join("data"));
    train_media::write_pairs(&data, 6);
    let localize = || {
        let mut localize = soundsight("localize");
        localize.args(["--json", "--device", "cpu", "--model"]).arg(&model).arg("--out").arg(folder.path().join("out"));
        localize.arg(data.join("audio/p0.wav")).arg(data.join("frames/p0.png"));
        serde_json::from_str::<Value>(&stdout(&mut localize)).unwrap()
    };
    let before = localize();
    assert_eq!((&before["presence"], &before["present"]), (&Value::Null, &Value::Null));

    let mut calibrate = soundsight("calibrate");
    calibrate.args(["--device", "cpu", "--false-alarms", "0.2", "--model"]).arg(&model);
    let said = stdout(calibrate.arg("--pairs").arg(data.join("pairs.csv")));
    for line in ["present ", "offscreen ", "silence ", "noise ", "written "] {
        assert!(said.contains(line), "{said}");
    }
    let written = std::fs::read(model.join("presence.json")).unwrap();
    let calibration: PresenceCalibration = serde_json::from_slice(&written).unwrap();
    calibration.validate().unwrap();
    assert!(calibration.false_alarms <= 0.2, "{calibration:?}");
    let after = localize();
    let presence = after["presence"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&presence));
    assert_eq!(after["present"], json!(presence as f32 >= calibration.threshold));
    assert_eq!(after["confidence"], before["confidence"]);

    // Settings that make no calibration are reported by name.
    std::fs::write(model.join("presence.json"), r#"{"bias": 0}"#).unwrap();
    let output = soundsight("localize").arg("--model").arg(&model).args(["a.wav", "b.png"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("presence.json") && message.contains("confidence"), "{message}");
}

#[test]
fn a_model_without_a_folder_needs_to_be_told_where_to_write() {
    let folder = tempfile::tempdir().unwrap();
    train_media::write_pairs(folder.path(), 2);
    let mut calibrate = soundsight("calibrate");
    calibrate.args(["--model", "embedded", "--pairs"]).arg(folder.path().join("pairs.csv"));
    let output = calibrate.output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("--out"), "{message}");
}

#[test]
fn the_evidence_of_pairs_is_that_of_their_heatmaps() {
    let localizer = Localizer::load(fixture("alt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    train_media::write_pairs(folder.path(), 3);
    let sound = |k: usize| Waveform::open(folder.path().join(format!("audio/p{k}.wav"))).unwrap();
    let picture = |k: usize| Picture::open(folder.path().join(format!("frames/p{k}.png"))).unwrap();
    let pairs = || {
        let pair = |(k, label): (usize, &str)| LabelledPair {
            sound: sound(k),
            picture: picture(k),
            label: Some(label.to_string()),
        };
        [(0, "bee"), (1, "bee"), (2, "dog")].map(pair).into_iter().map(Ok)
    };
    let silence = Waveform::from_samples(vec![0.0; 16_000], 16_000).unwrap();
    let gathered = localizer.gather_evidence(pairs(), std::slice::from_ref(&silence)).unwrap();
    let expected = |sound: &Waveform, k: usize| localizer.localize_pair(sound, &picture(k)).unwrap().evidence();
    assert_eq!(gathered.present, (0..3).map(|k| expected(&sound(k), k)).collect::<Vec<_>>());
    assert_eq!(gathered.negatives, [(0..3).map(|k| expected(&silence, k)).collect::<Vec<_>>()]);
    // The two bees are not absent in each other's pictures.
    assert_eq!(gathered.elsewhere, [expected(&sound(2), 0), expected(&sound(2), 1), expected(&sound(0), 2)]);

    let broken = || Err(Error::Argument { what: "pair".into(), expected: "one".into(), found: "none".into() });
    let failed = localizer.gather_evidence(pairs().chain(std::iter::once_with(broken)), &[]).unwrap_err();
    assert!(matches!(failed, Error::Argument { what, .. } if what == "pair"));
    assert!(gathered.calibrate(0.5).unwrap().threshold > 0.0);
}
