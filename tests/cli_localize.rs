//! `soundsight localize` and `soundsight convert` as a user runs them: output files, printed results and errors.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::pictures::{self, write_png};
use common::program::{self, names_in, stdout, with_full_disk};
use common::{fixture, soundsight};
use serde_json::Value;

fn localize(out: &Path) -> Command {
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("mini")).arg("--out").arg(out);
    command
}

/// Runs a command that must fail ([`program::refused`]) and leave nothing in `out`.
#[track_caller]
fn refused(command: &mut Command, out: &Path, parts: &[&str]) {
    program::refused(command, parts);
    assert_eq!(names_in(out), [""; 0], "left behind");
}

#[test]
fn the_contract_of_json_pictures_and_tensors() {
    let out = tempfile::tempdir().unwrap();
    let tensors = out.path().join("all.safetensors");
    let mut command = localize(out.path());
    command.args(["--json", "--save-tensors"]).arg(&tensors);
    command.args([fixture("mini/clip.wav"), fixture("mini/frame.png")]);
    let result: Value = serde_json::from_str(&stdout(&mut command)).unwrap();
    assert_eq!(result["device"], "cpu");
    assert_eq!(result["dtype"], "f32");
    assert_eq!(result["audio"]["sample_rate"], 16_000);
    assert_eq!(result["audio"]["channels"], 1);
    assert_eq!(result["audio"]["seconds"], 3.0);
    assert_eq!(result["image"]["width"], 96);
    assert_eq!(result["threshold"], 0.5);
    for stage in ["decode", "fbank", "beats", "tokenizer", "text", "vision", "decoder", "write", "total"] {
        assert!(result["timings_ms"][stage].is_f64(), "{stage}: {}", result["timings_ms"]);
    }
    for kind in ["overlay", "heatmap", "mask"] {
        let path = out.path().join(format!("frame.{kind}.png"));
        assert_eq!(result["outputs"][kind], path.to_str().unwrap());
        let picture = pictures::read(&path);
        assert_eq!((picture.width(), picture.height()), (96, 96));
        assert_eq!(matches!(picture, image::DynamicImage::ImageLuma16(_)), kind == "heatmap");
    }
    let mask = pictures::read(out.path().join("frame.mask.png")).to_luma8();
    let covered = mask.pixels().filter(|p| p.0[0] == 255).count() as f64 / (96.0 * 96.0);
    assert!((result["area"].as_f64().unwrap() - covered).abs() < 1e-9);
    let (saved, expected) = (
        candle_core::safetensors::load(&tensors, &candle_core::Device::Cpu).unwrap(),
        common::tensors("mini/expected.safetensors"),
    );
    assert_eq!(saved.len(), expected.len());
    for (name, expected) in &expected {
        common::assert_close(name, &saved[name], expected, if name.starts_with("heatmap") { 1e-5 } else { 1e-4 });
    }
}

#[test]
fn the_summary_says_where_and_how_sure() {
    let out = tempfile::tempdir().unwrap();
    let text = stdout(localize(out.path()).args([fixture("mini/clip.wav"), fixture("mini/frame.png")]));
    for word in ["where", "how much", "how sure", "how long", "frame.overlay.png"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn start_hears_another_part() {
    let run = |start: &str| {
        let out = tempfile::tempdir().unwrap();
        let command = &mut localize(out.path());
        command.args(["--json", "--start", start, "--"]).args([fixture("mini/clip.wav"), fixture("mini/frame.png")]);
        let result: Value = serde_json::from_str(&stdout(command)).unwrap();
        result["confidence"].as_f64().unwrap()
    };
    assert_ne!(run("0"), run("1.5"));
    let out = tempfile::tempdir().unwrap();
    refused(
        localize(out.path()).args(["--start", "99"]).args([fixture("mini/clip.wav"), fixture("mini/frame.png")]),
        out.path(),
        &["clip.wav", "99", "3"],
    );
}

#[test]
fn unusable_files_are_named() {
    let (out, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str, content: &[u8]| {
        let path = inputs.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (sound, picture) = (fixture("mini/clip.wav"), fixture("mini/frame.png"));
    let (wav, png) = (std::fs::read(&sound).unwrap(), std::fs::read(&picture).unwrap());
    let sounds = [
        inputs.path().join("missing.wav"),
        inputs.path().to_path_buf(),
        file("empty.wav", b""),
        file("text.wav", b"this is no sound"),
        file("cut.wav", &wav[..wav.len() / 2]),
        file("header.wav", &wav[..44]),
    ];
    for bad in &sounds {
        let name = bad.file_name().unwrap().to_str().unwrap();
        refused(localize(out.path()).arg(bad).arg(&picture), out.path(), &[name]);
    }
    let pictures = [
        inputs.path().join("missing.png"),
        inputs.path().to_path_buf(),
        file("empty.png", b""),
        file("text.png", b"this is no picture"),
        file("cut.png", &png[..png.len() / 2]),
    ];
    for bad in &pictures {
        let name = bad.file_name().unwrap().to_str().unwrap();
        refused(localize(out.path()).arg(&sound).arg(bad), out.path(), &[name]);
    }
}

#[test]
fn models_that_cannot_be_had_are_explained() {
    let out = tempfile::tempdir().unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    let run = |model: &str| {
        let mut command = soundsight("localize");
        command.args(["--model", model, "--out"]).arg(out.path()).args(&inputs);
        command
    };
    refused(&mut run("no-such-model"), out.path(), &["no-such-model", "acl-vit16"]);
    refused(&mut run("acl-vit16"), out.path(), &["acl-vit16"]);
    let empty = tempfile::tempdir().unwrap();
    refused(&mut run(empty.path().to_str().unwrap()), out.path(), &["config.json", "beats.safetensors"]);
}

#[test]
fn results_are_written_whole_or_not_at_all() {
    let out = tempfile::tempdir().unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    // A folder that cannot be created, because its parent is a file.
    let file = out.path().join("file");
    std::fs::write(&file, "").unwrap();
    let nowhere = file.join("out");
    refused(localize(&nowhere).args(&inputs), &nowhere, &["file"]);
    // A full disk: files may not grow beyond a block, so that writing fails half-way.
    if cfg!(unix) {
        let out = tempfile::tempdir().unwrap();
        let mut localize = localize(out.path());
        localize.args(&inputs);
        refused(&mut with_full_disk(&localize, 1), out.path(), &["overlay.png"]);
    }
}

#[test]
fn a_threshold_outside_of_its_range_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    refused(localize(out.path()).args(["--threshold", "1.5"]).args(&inputs), out.path(), &["1.5"]);
}

#[test]
fn tiles_look_closer() {
    let folder = tempfile::tempdir().unwrap();
    let wide = folder.path().join("wide.png");
    write_png(pictures::read(fixture("mini/frame.png")).crop_imm(0, 0, 96, 54), &wide);
    let out = folder.path().join("out");
    let run = |more: &[&str]| {
        let mut command = localize(&out);
        command.args(more).args([&fixture("mini/clip.wav"), &wide]);
        stdout(&mut command)
    };
    let answer = |more: &[&str]| serde_json::from_str::<Value>(&run(&[&["--json"], more].concat())).unwrap();
    let (whole, closer) = (answer(&[]), answer(&["--tiles", "2"]));
    assert_eq!(whole["tiles"], Value::Null);
    assert_eq!(closer["tiles"], serde_json::json!({"columns": 6, "rows": 3, "encoded": 22}));
    assert_ne!(whole["peak"]["score"], closer["peak"]["score"]);
    for key in ["confidence", "threshold", "area"] {
        assert!(closer[key].is_f64(), "{key}: {closer}");
    }
    assert_eq!(pictures::size(out.join("wide.heatmap.png")), (96, 54));
    assert!(run(&["--tiles", "1"]).contains("how close   3 × 1 tiles"));
    // Each source and each pair is looked at as closely.
    let sources = answer(&["--tiles", "2", "--sources", "1"]);
    assert_eq!(sources["tiles"], closer["tiles"]);
    assert_ne!(sources["sources"][0]["peak"], answer(&["--sources", "1"])["sources"][0]["peak"]);
    let list = folder.path().join("list.csv");
    std::fs::copy(fixture("mini/clip.wav"), folder.path().join("clip.wav")).unwrap();
    std::fs::write(&list, "audio,image\nclip.wav,wide.png\n").unwrap();
    let pair = stdout(localize(&out).args(["--json", "--tiles", "2", "--pairs"]).arg(&list));
    assert_eq!(serde_json::from_str::<Value>(&pair).unwrap()["peak"], closer["peak"]);
}

#[test]
fn tiles_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let inputs = [fixture("mini/clip.wav"), fixture("mini/frame.png")];
    let usage = |more: &[&str], parts: &[&str]| {
        let output = localize(&out).args(more).args(&inputs).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && parts.iter().all(|part| message.contains(part)), "{message}");
    };
    for number in ["0", "9", "two"] {
        usage(&["--tiles", number], &["--tiles", number, "1 to 8"]);
    }
    usage(&["--tiles", "2", "--save-tensors", "x"], &["--tiles", "--save-tensors"]);
    // A film, which is never opened.
    refused(localize(&out).args(["--tiles", "2", "film.mp4"]), &out, &["--tiles", "film"]);
    let long = folder.path().join("long.png");
    write_png(image::RgbImage::new(2000, 10), &long);
    refused(localize(&out).args(["--tiles", "2"]).arg(&inputs[0]).arg(&long), &out, &["number of tiles", "400"]);
}

#[test]
fn convert_writes_a_model_directory_that_says_the_same() {
    let (out, heatmaps) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = serde_json::from_slice::<Value>(&std::fs::read(fixture("mini/config.json")).unwrap()).unwrap();
    let clipseg_config = heatmaps.path().join("clipseg.json");
    std::fs::write(&clipseg_config, config["clipseg"].to_string()).unwrap();
    let model = out.path().join("model");
    let original = |name: &str| fixture("mini/original").join(name);
    let mut convert = soundsight("convert");
    convert.arg("--beats").arg(original("beats.pt")).arg("--clipseg").arg(original("clipseg.bin"));
    convert.arg("--clipseg-config").arg(&clipseg_config).arg("--acl").arg(original("acl.pth")).arg("--out").arg(&model);
    stdout(&mut convert);
    for part in ["beats", "clipseg", "acl"] {
        let file = format!("{part}.safetensors");
        let (ours, theirs) = (
            candle_core::safetensors::load(model.join(&file), &candle_core::Device::Cpu).unwrap(),
            common::tensors(&format!("mini/{file}")),
        );
        assert_eq!(ours.len(), theirs.len(), "{part}");
        for (name, tensor) in &theirs {
            assert_eq!(common::max_difference(&ours[name], tensor), 0.0, "{part}: {name}");
        }
    }
    // The published sizes do not match these weights: nothing may be written.
    let wrong = out.path().join("wrong");
    let mut convert = soundsight("convert");
    convert.arg("--beats").arg(original("beats.pt")).arg("--clipseg").arg(original("clipseg.bin"));
    convert.arg("--acl").arg(original("acl.pth")).arg("--out").arg(&wrong);
    refused(&mut convert, &wrong, &["clipseg.bin"]);
}

#[test]
fn convert_writes_fewer_bits_that_localize_reads() {
    let (out, heatmaps) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let convert = |weights: &str, to: &Path| {
        let mut convert = soundsight("convert");
        convert.arg("--model").arg(fixture("mini")).args(["--weights", weights]).arg("--out").arg(to);
        convert
    };
    let small = out.path().join("q8");
    stdout(&mut convert("q8", &small));
    let size = |folder: &Path, name: &str| std::fs::metadata(folder.join(name)).unwrap().len();
    for part in ["beats", "clipseg"] {
        let (small, large) =
            (size(&small, &format!("{part}.gguf")), size(&fixture("mini"), &format!("{part}.safetensors")));
        assert!(3 * small < 2 * large, "{part}: {small} bytes of {large}");
    }
    let run = |model: &Path, weights: &str, to: &str| {
        let to = heatmaps.path().join(to);
        let mut localize = soundsight("localize");
        localize.arg("--model").arg(model).args(["--weights", weights]).arg("--out").arg(&to);
        stdout(localize.args([fixture("mini/clip.wav"), fixture("mini/frame.png")]));
        names_in(&to).into_iter().map(|name| std::fs::read(to.join(name)).unwrap()).collect::<Vec<_>>()
    };
    assert!(run(&small, "as-stored", "a") == run(&fixture("mini"), "q8", "b"));
    // Two files for the same part are ambiguous.
    refused(&mut convert("f16", &small), &out.path().join("none"), &["beats.gguf", "another format"]);
    assert!(!small.join("beats.safetensors").exists());
    assert!(convert("f16", &out.path().join("f16")).arg("--beats").arg("x").output().unwrap().status.code() == Some(1));
}
