//! What is made of moments: heatmaps between them, and files.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::fixture;
use common::program::names_in;
use serde_json::{Value, json};
use soundsight::watch::{HeatmapWriter, Moment, TimelineWriter, WatchOptions, Watcher};
use soundsight::{Error, Localizer, Picture};

/// Five moments of half a second, with a model of random weights.
fn moments() -> Vec<Moment> {
    let localizer = Localizer::load(fixture("alt")).unwrap();
    let options = WatchOptions { rate: 10.0, smoothing: None, ..Default::default() };
    let mut watcher = Watcher::new(&localizer, 16_000, options).unwrap();
    watcher.push_sound(&(0..8000).map(|n| (n as f32 * n as f32 * 1e-5).sin()).collect::<Vec<_>>()).unwrap();
    let mut moments = Vec::new();
    for n in 0..5 {
        let pixels = (0..64 * 48 * 3).map(|at| (at * (n + 3) % 251) as u8).collect();
        moments.extend(watcher.push_frame(n as f64 / 10.0, Picture::from_rgb8(64, 48, pixels).unwrap()).unwrap());
    }
    moments.extend(watcher.finish().unwrap());
    assert_eq!(moments.len(), 5);
    moments
}

/// The lines of a file.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_heatmap_between_two_moments() {
    let moments = moments();
    let [first, second, ..] = &moments[..] else { panic!() };
    let between = |time| first.heatmap_between(second, time).unwrap();
    // Scores are computed once more from the logits.
    let same = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    for (time, moment) in [(0.0, first), (-1.0, first), (0.1, second), (9.0, second)] {
        assert!(same(&between(time).logits, &moment.heatmap.logits), "{time}");
        assert!(same(&between(time).scores, &moment.heatmap.scores), "{time}");
    }
    let quarter = between(0.025);
    let expected = |a: f32, b: f32| 0.75 * a + 0.25 * b;
    for (at, logit) in quarter.logits.iter().enumerate() {
        assert!((logit - expected(first.heatmap.logits[at], second.heatmap.logits[at])).abs() < 1e-6);
    }
    let confidence = expected(first.heatmap.confidence, second.heatmap.confidence);
    assert!((quarter.confidence - confidence).abs() < 1e-6);
    // Two moments at the same time.
    assert!(same(&first.heatmap_between(first, 0.0).unwrap().logits, &first.heatmap.logits));
    let mut small = second.clone();
    small.heatmap.size = 1;
    assert!(matches!(first.heatmap_between(&small, 0.05), Err(Error::Shape { .. })));
}

#[test]
fn a_timeline() {
    let (folder, moments) = (tempfile::tempdir().unwrap(), moments());
    let path = folder.path().join("film.timeline.jsonl");
    let mut timeline = TimelineWriter::create(&path).unwrap();
    for moment in &moments {
        timeline.write(&moment.to_json(0.5).unwrap()).unwrap();
    }
    assert!(!path.exists());
    timeline.finish().unwrap();
    let written = lines(&path);
    assert_eq!(written.len(), moments.len());
    for (line, moment) in written.iter().zip(&moments) {
        let findings = moment.findings(0.5).unwrap();
        // Through text, because numbers of 32 bits are written with fewer digits.
        let parsed = |value: String| serde_json::from_str::<Value>(&value).unwrap();
        let expected = json!({
            "time": moment.time,
            "peak": parsed(serde_json::to_string(&findings.peak).unwrap()),
            "boxes": parsed(serde_json::to_string(&findings.boxes).unwrap()),
            "area": findings.area,
            "confidence": parsed(moment.heatmap.confidence.to_string()),
            "sounding": moment.sounding,
            "cut": moment.cut,
        });
        assert_eq!(line, &expected);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(r#"{"time":0.0,"peak":{"x":"#), "{text}");
    assert!(matches!(moments[0].to_json(1.5), Err(Error::Argument { .. })));

    let mut timeline = TimelineWriter::create(&path).unwrap();
    timeline.write(&moments[0].to_json(0.5).unwrap()).unwrap();
    timeline.finish_unfinished(0.0).unwrap();
    assert_eq!(lines(&path)[1..], [json!({"unfinished": true, "time": 0.0})]);
    drop(TimelineWriter::create(&path).unwrap());
    assert_eq!(names_in(folder.path()), ["film.timeline.jsonl"]);
    let missing = TimelineWriter::create(folder.path().join("missing/film.jsonl"));
    assert!(matches!(missing, Err(Error::Io { .. })));
}

#[test]
fn a_file_of_heatmaps() {
    let (folder, moments) = (tempfile::tempdir().unwrap(), moments());
    let path = folder.path().join("heatmaps.safetensors");
    let mut heatmaps = HeatmapWriter::create(&path).unwrap();
    for moment in &moments {
        heatmaps.write(moment).unwrap();
    }
    let mut small = moments[0].clone();
    small.heatmap.size = 1;
    assert!(matches!(heatmaps.write(&small), Err(Error::Shape { .. })));
    assert!(!path.exists());
    heatmaps.finish().unwrap();

    let size = moments[0].heatmap.size;
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(tensors.len(), 2);
    let (time, heatmap) = (&tensors["time"], &tensors["heatmap"]);
    assert_eq!((time.dtype(), time.dims()), (DType::F32, &[5][..]));
    assert_eq!((heatmap.dtype(), heatmap.dims()), (DType::F16, &[5, size, size][..]));
    assert_eq!(time.to_vec1::<f32>().unwrap(), [0.0, 0.1, 0.2, 0.3, 0.4]);
    let scores = heatmap.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (n, score) in scores.iter().enumerate() {
        let expected = moments[n / (size * size)].heatmap.scores[n % (size * size)];
        assert!((score - expected).abs() < 5e-4, "{score} and {expected}");
    }

    // A film without moments is a file, too.
    HeatmapWriter::create(&path).unwrap().finish().unwrap();
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!((tensors["time"].dims(), tensors["heatmap"].dims()), (&[0][..], &[0, 0, 0][..]));
    drop(HeatmapWriter::create(&path).unwrap());
    assert_eq!(names_in(folder.path()), ["heatmaps.safetensors"]);
}
