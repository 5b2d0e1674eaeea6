//! The plots.
#![allow(clippy::unwrap_used)]

#[path = "../src/plots.rs"]
mod plots;

use plots::{Axes, Curve, Series, bars, lines};

const AXES: Axes = Axes { title: "A title", across: "step", up: "percent" };

fn series<'a>(name: &'a str, values: &[f64]) -> Series<'a> {
    Series { name, values: values.to_vec() }
}

#[test]
fn lines_show_every_curve_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.svg");
    let noisy = |step: u32| f64::from(step % 7) * 0.1 + 7.0 / (1.0 + f64::from(step) / 500.0);
    let falling = Curve { name: "falling", points: (0..4000).map(|step| (f64::from(step), noisy(step))).collect() };
    let rising = Curve { name: "rising", points: vec![(0.0, 1.0), (1000.0, f64::NAN), (2000.0, 2.0), (4000.0, 5.0)] };
    lines(&path, &AXES, &[falling, rising]).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    for text in ["A title", "step", "percent", "falling", "rising"] {
        assert!(svg.contains(text), "{text}");
    }
    let drawn: Vec<usize> = svg
        .split("<polyline")
        .skip(1)
        .filter(|line| line.contains("stroke-width=\"2\""))
        .map(|line| line.split("points=\"").nth(1).unwrap().split('"').next().unwrap().split_whitespace().count())
        .collect();
    // 4000 points in 150 groups, and three of four points, because one is NaN.
    assert_eq!(drawn, [150, 3]);
}

#[test]
fn bars_have_the_height_of_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bars.svg");
    let all = [series("sound", &[80.0, 40.0]), series("untrained", &[20.0, 60.0])];
    bars(&path, &AXES, &["which", "peak"], &all, Some(50.0)).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    for text in ["which", "peak", "sound", "untrained", "chance", "80", "40", "20", "60"] {
        assert!(svg.contains(text), "{text}");
    }
    let attribute = |tag: &str, name: &str| -> f64 {
        tag.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    // Bars are wider than the legend's marks, and not part of the frame.
    let heights: Vec<f64> = svg
        .split("<rect")
        .skip(1)
        .filter(|tag| tag.contains("fill=\"#0072B2\"") || tag.contains("fill=\"#D55E00\""))
        .filter(|tag| attribute(tag, "width") > 40.0)
        .map(|tag| attribute(tag, "height"))
        .collect();
    assert_eq!(heights.len(), 4, "{svg}");
    for (height, value) in heights.iter().zip([80.0, 40.0, 20.0, 60.0]) {
        assert!((height / heights[0] - value / 80.0).abs() < 0.02, "{heights:?}");
    }
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nothing.svg");
    let told = |result: anyhow::Result<()>, part: &str| {
        let message = format!("{:#}", result.unwrap_err());
        assert!(message.contains("nothing.svg") && message.contains(part), "{message}");
    };
    told(lines(&path, &AXES, &[]), "expected a curve");
    told(lines(&path, &AXES, &[Curve { name: "void", points: vec![(0.0, f64::NAN)] }]), "expected a curve");
    told(bars(&path, &AXES, &[], &[], None), "expected groups of bars");
    told(bars(&path, &AXES, &["a", "b"], &[series("short", &[1.0])], None), "expected 2 finite values of \"short\"");
    told(bars(&path, &AXES, &["a"], &[series("odd", &[f64::INFINITY])], None), "expected 1 finite values");
    assert!(!path.exists());
}
