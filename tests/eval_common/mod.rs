//! Helpers for the tests of the evaluation: heatmaps from recipes, predictions files, the fixtures.

#![allow(dead_code)] // Every test program uses only a part.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::Value;
use soundsight::eval::{Benchmark, PIXELS, SIZE};

/// A file of `tests/fixtures/eval`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/eval").join(name)
}

/// `cases.json`, written by `benches/peers/fixtures_eval.py`.
pub fn fixtures() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("cases.json")).unwrap()).unwrap()
}

/// The benchmark of a case.
pub fn benchmark(case: &Value) -> Benchmark {
    case["benchmark"].as_str().unwrap().parse().unwrap()
}

/// The heatmap of a recipe, `[224 * 224]`: the same fractions of whole numbers as in `fixtures_eval.py`.
pub fn heatmap(recipe: &Value) -> Vec<f32> {
    let number = |name: &str| recipe[name].as_i64().unwrap_or_else(|| panic!("{name} in {recipe}"));
    let pixel: Box<dyn Fn(i64, i64) -> f32> = match recipe["kind"].as_str().unwrap() {
        "flat" => Box::new(|_, _| number("num") as f32 / number("den") as f32),
        "disc" => Box::new(|x, y| {
            let squared = number("r").pow(2);
            let rest = squared - (x - number("x")).pow(2) - (y - number("y")).pow(2);
            rest.max(0) as f32 / squared as f32
        }),
        "steps" => Box::new(|x, y| ((number("a") * x + number("b") * y) % 21) as f32 / 20.0),
        "box" => {
            let corner = |i: usize| recipe["box"][i].as_i64().unwrap();
            let [x0, y0, x1, y1] = [0, 1, 2, 3].map(corner);
            Box::new(move |x, y| {
                let inside = (x0..x1).contains(&x) && (y0..y1).contains(&y);
                number(if inside { "inside" } else { "outside" }) as f32 / 20.0
            })
        }
        "noise" => Box::new(|x, y| {
            let mixed = (x * 374_761_393 + y * 668_265_263 + number("seed") * 40_503) & 0xffff_ffff;
            let mixed = ((mixed ^ (mixed >> 13)) * 1_274_126_177) & 0xffff_ffff;
            (mixed >> 8) as f32 / 16_777_216.0
        }),
        other => panic!("no recipe {other}"),
    };
    let size = SIZE as i64;
    (0..PIXELS as i64).map(|i| pixel(i % size, i / size)).collect()
}

/// Writes the predictions of a case as a safetensors file.
pub fn write_predictions(path: &Path, predictions: &[Value]) {
    let mut tensors = Vec::new();
    for said in predictions {
        let id = said["id"].as_str().unwrap();
        for name in ["heatmap", "silence", "noise", "offscreen"] {
            if !said[name].is_null() {
                tensors.push((format!("{name}.{id}"), vec![SIZE, SIZE], heatmap(&said[name])));
            }
        }
        if let Some(confidence) = said["confidence"].as_f64() {
            tensors.push((format!("confidence.{id}"), vec![1], vec![confidence as f32]));
        }
    }
    write_tensors(path, tensors);
}

/// Writes f32 tensors as a safetensors file.
pub fn write_tensors(path: &Path, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) {
    let bytes: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, (shape, values.into_iter().flat_map(f32::to_le_bytes).collect())))
        .collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize_to_file(views.collect::<Vec<_>>(), None, path).unwrap();
}

/// Asserts that `found` contains everything in `expected`, with numbers to a relative tolerance of 1e-9.
pub fn assert_agrees(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (name, value) in expected {
                let place = format!("{place}.{name}");
                assert_agrees(found.get(name).unwrap_or_else(|| panic!("no {place}")), value, &place);
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "length of {place}");
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_agrees(found, expected, &format!("{place}[{i}]"));
            }
        }
        (Value::Number(found), Value::Number(expected)) => {
            let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
            let close = (found - expected).abs() <= 1e-9 * expected.abs().max(1.0);
            assert!(close, "{place}: expected {expected}, found {found}");
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}
