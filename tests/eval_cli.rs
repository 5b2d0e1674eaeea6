//! `soundsight evaluate`, end to end, on data sets made from Debian's stamps (cut-out photographs with sounds) in
//! the layout of each benchmark.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test that panics has failed, one that is skipped says so

mod eval_common;
#[path = "common/pictures.rs"]
mod pictures;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use eval_common::write_tensors;
use image::{Rgb, RgbImage};
use pictures::write_png;
use serde_json::{Value, json};
use soundsight::candle_core::{Device, safetensors};
use soundsight::eval::{PIXELS, SIZE};

const STAMPS: &str = "/usr/share/tuxpaint/stamps";
const NAMES: [&str; 6] = [
    "animals/birds/owl",
    "animals/birds/penguin",
    "animals/mammals/dogs/dog",
    "animals/mammals/bovines/cow",
    "household/kettle",
    "hobbies/music/string/violin",
];

/// The stamps. Without them, tests print a message and pass, except in CI, where the stamps are required.
fn stamps() -> Option<Vec<PathBuf>> {
    if cfg!(not(feature = "audio-formats")) {
        return None; // their sounds are Ogg files
    }
    let stamps: Vec<PathBuf> = NAMES.iter().map(|name| Path::new(STAMPS).join(name)).collect();
    let complete = stamps.iter().all(|s| s.with_extension("png").is_file() && s.with_extension("ogg").is_file());
    if !complete {
        assert!(std::env::var_os("CI").is_none(), "CI needs tuxpaint-stamps-default");
        eprintln!("skipped: {STAMPS} is not there (package tuxpaint-stamps-default)");
    }
    complete.then_some(stamps)
}

/// A data set in the layouts of all benchmarks: two stamps per scene, and the sound of one of them.
struct Set {
    folder: tempfile::TempDir,
    /// Per scene its id and the box of the sounding stamp (pixels of 224).
    scenes: Vec<(String, [usize; 4])>,
}

impl Set {
    fn new(stamps: &[PathBuf]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["frames", "audio", "visual_frames", "audio_wav", "xml", "masks"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        let mut scenes = Vec::new();
        let mut annotations = Vec::new();
        for (i, stamp) in stamps.iter().enumerate() {
            let mut scene = RgbImage::from_pixel(SIZE as u32, SIZE as u32, Rgb([180, 190, 200]));
            let other = &stamps[(i + 1) % stamps.len()];
            let mut mask = vec![false; PIXELS];
            for (stamp, x, sounds) in [(stamp, 4, true), (other, 116, false)] {
                let stamp = pictures::read(stamp.with_extension("png")).thumbnail(104, 216).into_rgba8();
                for (column, row, pixel) in stamp.enumerate_pixels().filter(|(_, _, pixel)| pixel[3] > 127) {
                    scene.put_pixel(x + column, 4 + row, Rgb([pixel[0], pixel[1], pixel[2]]));
                    if sounds {
                        mask[(4 + row as usize) * SIZE + (x + column) as usize] = true;
                    }
                }
            }
            let places = || mask.iter().enumerate().filter(|(_, inside)| **inside).map(|(at, _)| at);
            let (left, right) =
                (places().map(|at| at % SIZE).min().unwrap(), places().map(|at| at % SIZE).max().unwrap());
            let (top, bottom) = (places().min().unwrap() / SIZE, places().max().unwrap() / SIZE);
            let corners = [left, top, right + 1, bottom + 1];

            let name = stamp.file_name().unwrap().to_str().unwrap();
            let id = format!("{name}_{i}");
            write_png(scene.clone(), path("frames").join(format!("{id}.png")));
            write_png(scene, path("visual_frames").join(format!("{id}.png")));
            std::fs::copy(stamp.with_extension("ogg"), path("audio").join(format!("{id}.ogg"))).unwrap();
            std::fs::copy(stamp.with_extension("ogg"), path("audio_wav").join(format!("{name}.ogg"))).unwrap();
            // Add half a pixel, so that truncation gives the same pixels again.
            let relative = corners.map(|c| (c as f64 + 0.5) / SIZE as f64);
            annotations.push(json!({"file": id, "class": format!("<{name}> & co"), "bbox": [relative]}));
            let [x0, y0, x1, y1] = corners.map(|c| c * 256 / SIZE);
            let bbox =
                format!("<bbox><id>1</id><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bbox>");
            let xml = format!("<annotations><sounds>{bbox}{bbox}</sounds></annotations>");
            std::fs::write(path("xml").join(format!("{id}.xml")), xml).unwrap();
            let pixels = mask.iter().map(|&inside| if inside { 255 } else { 0 }).collect();
            let png = image::GrayImage::from_raw(SIZE as u32, SIZE as u32, pixels).unwrap();
            write_png(png, path("masks").join(format!("{id}.png")));
            scenes.push((id, corners));
        }
        std::fs::write(path("vggss.json"), serde_json::to_vec(&annotations).unwrap()).unwrap();
        let (first, second) = (&scenes[0].0, &scenes[1].0);
        std::fs::write(path("silent.csv"), format!("video,audio,label\n{first},{second},non-sounding\n")).unwrap();
        std::fs::write(path("heard.csv"), format!("{first},x\n{second},y\n")).unwrap();
        Self { folder, scenes }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Heatmaps for all scenes except `left_out`: 0.9 in the box, 0.35 in that of the mismatched pair.
    fn predict(&self, left_out: usize) -> PathBuf {
        let mut tensors = Vec::new();
        for (id, [x0, y0, x1, y1]) in self.scenes.iter().skip(left_out) {
            let inside = |at: usize| (*x0..*x1).contains(&(at % SIZE)) && (*y0..*y1).contains(&(at / SIZE));
            let values = (0..PIXELS).map(|at| if inside(at) { 0.9 } else { 0.1 }).collect();
            tensors.push((format!("heatmap.{id}"), vec![SIZE, SIZE], values));
            tensors.push((format!("confidence.{id}"), vec![1], vec![0.6]));
        }
        let pair = format!("{}_{}", self.scenes[0].0, self.scenes[1].0);
        tensors.push((format!("heatmap.{pair}"), vec![SIZE, SIZE], vec![0.35; PIXELS]));
        tensors.push((format!("confidence.{pair}"), vec![1], vec![0.2]));
        let path = self.path("mine.safetensors");
        write_tensors(&path, tensors);
        path
    }
}

/// Runs `soundsight evaluate`.
fn evaluate(benchmark: &str, annotations: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_soundsight"))
        .args(["evaluate", "--benchmark", benchmark, "--annotations"])
        .arg(annotations)
        .args(more)
        .output()
        .unwrap()
}

#[track_caller]
fn output_of(run: &Output) -> String {
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout.clone()).unwrap()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_benchmark_runs_and_repeats() {
    let Some(stamps) = stamps() else { return };
    let set = Set::new(&stamps);
    let predictions = set.predict(1);
    let (json, silent) = (set.path("report.json"), set.path("silent.csv"));
    let to = |path: &Path| path.to_str().unwrap().to_owned();
    for (benchmark, annotations, keys, perfect) in [
        ("vggss", "vggss.json", &["cIoU", "AUC"][..], Some("cIoU")),
        ("flickr", "xml", &["cIoU", "AUC"], Some("cIoU")),
        ("vggss-extended", "vggss.json", &["AP", "maxF1", "LocAcc"], Some("maxF1")),
        ("flickr-extended", "xml", &["AP", "maxF1", "LocAcc"], Some("maxF1")),
        ("avsbench-s4", "masks", &["mIoU", "Fmeasure"], None),
        ("avsbench-ms3", "masks", &["mIoU", "Fmeasure"], None),
    ] {
        let mut options = vec!["--predictions".to_owned(), to(&predictions), "--json".to_owned(), to(&json)];
        let is_extended = benchmark.ends_with("extended");
        if is_extended {
            options.extend(["--silent".to_owned(), to(&silent)]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let run = || {
            let text = output_of(&evaluate(benchmark, &set.path(annotations), &options));
            (text, json_of(&json))
        };
        let (text, report) = run();
        assert_eq!((&text, &report), (&run().0, &run().1), "{benchmark} twice");

        assert_eq!(report["benchmark"], benchmark);
        assert_eq!(report["samples"], if is_extended { 6 } else { 5 }, "{benchmark}");
        assert_eq!(report["missing"], 1);
        assert_eq!(report["missing_ids"][0], set.scenes[0].0);
        let of_all = if is_extended { "6 of 7 samples scored" } else { "5 of 6 samples scored" };
        assert!(text.contains(of_all), "{text}");
        assert!(text.contains("whole picture") && text.contains("adaptive (oracle)"), "{text}");
        assert_eq!(text.contains("published"), !is_extended, "{text}");
        for key in keys {
            let at = |threshold: &str| report["thresholds"][threshold][key].as_f64().unwrap();
            assert!(at("0.50") >= at("0.95"), "{benchmark} {key}");
        }
        let principal = keys[0];
        assert!(report["best"][principal].as_f64() >= report["thresholds"]["0.50"][principal].as_f64(), "{benchmark}");
        if let Some(perfect) = perfect {
            assert_eq!(report["thresholds"]["0.50"][perfect], 100.0, "{benchmark}");
        }
    }
}

/// With a model (the fixture `mini`, which gets a presence), pictures and sounds are read from the folder; two runs give
/// the same result.
#[test]
fn every_benchmark_runs_with_a_model_and_repeats() {
    let Some(stamps) = stamps() else { return };
    let set = Set::new(&stamps);
    let lost = &set.scenes[5].0;
    for folder in ["frames", "visual_frames"] {
        std::fs::remove_file(set.path(folder).join(format!("{lost}.png"))).unwrap();
    }
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let model = set.path("model");
    std::fs::create_dir(&model).unwrap();
    for file in ["config.json", "acl.safetensors", "beats.safetensors", "clipseg.safetensors"] {
        let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mini");
        std::fs::copy(mini.join(file), model.join(file)).unwrap();
    }
    let presence = json!({
        "bias": 0.5, "confidence": 1.0, "peak": 0.1, "threshold": 0.4, "false_alarms": 0.05
    });
    std::fs::write(model.join("presence.json"), presence.to_string()).unwrap();
    let model = text(model);
    let (data, json, silent) = (text(set.path("")), text(set.path("report.json")), text(set.path("silent.csv")));
    let page = text(set.path("page.html"));
    for (benchmark, annotations) in [
        ("vggss", "vggss.json"),
        ("vggss-extended", "vggss.json"),
        ("flickr", "xml"),
        ("flickr-extended", "xml"),
        ("avsbench-s4", "masks"),
        ("avsbench-ms3", "masks"),
    ] {
        let mut options =
            vec!["--model", &model, "--data", &data, "--device", "cpu", "--json", &json, "--report", &page];
        if benchmark.ends_with("extended") {
            options.extend(["--silent", &silent]);
        }
        let run = || {
            let text = output_of(&evaluate(benchmark, &set.path(annotations), &options));
            (text, json_of(&set.path("report.json")), std::fs::read(set.path("page.html")).unwrap())
        };
        let (first, second) = (run(), run());
        assert!(first == second, "{benchmark} twice");
        let report = first.1;
        assert_eq!(report["missing_ids"], json!([lost]), "{benchmark}");
        let kinds = report["universal_threshold"]["negatives"].as_object().unwrap();
        for kind in ["silence", "noise", "offscreen"] {
            assert_eq!(kinds[kind]["samples"], report["samples"], "{benchmark} {kind}");
        }
        let page = String::from_utf8(first.2).unwrap();
        for part in ["<h2>Universal threshold: ", "<h2>Presence: 0.400 or more</h2>", "Calibration of the presence"] {
            assert!(page.contains(part), "{benchmark}: no {part} in the page");
        }
    }
}

/// The heatmaps of a sound's sources are scored together.
#[test]
fn the_sources_of_each_sound_are_scored_together() {
    let Some(stamps) = stamps() else { return };
    let set = Set::new(&stamps);
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (data, path) = (text(set.path("")), text(set.path("predictions.safetensors")));
    let model = text(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mini"));
    let options = ["--model", &model, "--data", &data, "--device", "cpu", "--save-predictions", &path];
    let heatmaps = |more: &[&str]| {
        output_of(&evaluate("avsbench-ms3", &set.path("masks"), &[&options[..], more].concat()));
        let tensors = safetensors::load(&path, &Device::Cpu).unwrap();
        let of = |(id, _): &(String, _)| tensors[&format!("heatmap.{id}")].flatten_all().unwrap().to_vec1::<f32>();
        set.scenes.iter().map(of).collect::<Result<Vec<_>, _>>().unwrap()
    };
    let (one, two) = (heatmaps(&["--sources", "1"]), heatmaps(&["--sources", "2"]));
    assert!(one != two && one != heatmaps(&[]));
    for heatmap in &two {
        assert!(heatmap.iter().all(|score| (0.0..=1.0).contains(score)));
    }
    let run = evaluate("avsbench-ms3", &set.path("masks"), &[&options[..], &["--sources", "17"]].concat());
    assert!(String::from_utf8_lossy(&run.stderr).contains("number of sources: expected 1 to 16, found 17"));
}

#[test]
fn a_split_a_threshold_the_csv_and_the_page() {
    let Some(stamps) = stamps() else { return };
    let set = Set::new(&stamps);
    let to = |name: &str| set.path(name).to_str().unwrap().to_owned();
    let predictions = set.predict(0);
    let options = [
        ["--predictions".to_owned(), predictions.to_str().unwrap().to_owned()],
        ["--split".to_owned(), to("heard.csv")],
        ["--threshold".to_owned(), "0.9".to_owned()],
        ["--data".to_owned(), set.folder.path().to_str().unwrap().to_owned()],
        ["--csv".to_owned(), to("samples.csv")],
        ["--report".to_owned(), to("page.html")],
        ["--json".to_owned(), to("report.json")],
    ];
    let options: Vec<&str> = options.iter().flatten().map(String::as_str).collect();
    let text = output_of(&evaluate("vggss", &set.path("vggss.json"), &options));
    assert!(text.starts_with("VGG-SS (heard): 2 of 2 samples scored"), "{text}");
    assert!(text.contains("48.44"), "the numbers of Heard-110: {text}");
    let report = json_of(&set.path("report.json"));
    assert_eq!(report["split"], "heard");
    assert_eq!(
        report["fixed"],
        json!({
            "threshold": 0.9, "cIoU": 100.0, "AUC": report["fixed"]["AUC"], "mIoU": 100.0, "cIoU@0.3": 100.0
        })
    );

    let mut csv = csv::Reader::from_path(set.path("samples.csv")).unwrap();
    assert_eq!(csv.headers().unwrap().len(), 11 + 19);
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows[0][0] < rows[1][0] && &rows[0][9] == "1" && &rows[0][29] == "0", "{rows:?}");

    let page = std::fs::read_to_string(set.path("page.html")).unwrap();
    for part in
        ["data:image/png;base64,", "data:audio/ogg;base64,", "<polyline", "&lt;owl&gt; &amp; co", "Best by cIoU"]
    {
        assert!(page.contains(part), "no {part} in the page");
    }
    // The page is self-contained, and markup in class names is escaped.
    for part in ["<script", "http://", "https://", "<owl>", "src=\"/"] {
        assert!(!page.contains(part), "{part} in the page");
    }
}

/// Uninformative heatmaps are reported on the terminal, in JSON and on the page.
#[test]
fn failures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ids = ["a", "b", "c"];
    let samples = ids.map(|id| json!({"file": id, "class": "dog", "bbox": [[0.1, 0.1, 0.5, 0.6]]}));
    std::fs::write(to("vggss.json"), json!(samples).to_string()).unwrap();
    // Bright columns from `from` on, of `PIXELS` pixels.
    let columns = |from: usize| (0..PIXELS).map(|i| if i % SIZE >= from { 0.9 } else { 0.01 }).collect::<Vec<f32>>();
    for (own, others, failure, words) in [
        (columns(0), columns(0), json!("covers_everything"), "the mask covers everything (100 % of the masks)"),
        (columns(SIZE), columns(0), json!("covers_nothing"), "the mask is empty (100 % of the masks)"),
        (columns(150), columns(150), json!("ignores_the_sound"), "the mask is the same for any sound (overlap 1.00)"),
        (columns(150), columns(190), Value::Null, ""),
    ] {
        let tensor = |kind: &str, id: &str, values: &[f32]| (format!("{kind}.{id}"), vec![SIZE, SIZE], values.to_vec());
        let tensors = ids.iter().flat_map(|id| [tensor("heatmap", id, &own), tensor("silence", id, &others)]);
        write_tensors(Path::new(&to("mine.safetensors")), tensors.collect());
        let options =
            ["--predictions", &to("mine.safetensors"), "--json", &to("report.json"), "--report", &to("page.html")];
        let text = output_of(&evaluate("vggss", Path::new(&to("vggss.json")), &options));
        let page = std::fs::read_to_string(to("page.html")).unwrap();
        assert_eq!(json_of(Path::new(&to("report.json")))["failure"], failure);
        assert_eq!(text.contains("warning: "), !failure.is_null(), "{text}");
        assert_eq!(page.contains("<p class=\"warning\">"), !failure.is_null());
        assert!(text.contains(words) && page.contains(words), "{text}");
    }
}

#[test]
fn wrong_command_lines_are_refused() {
    let fixture = eval_common::fixture("vggss.json");
    for (options, expected) in [
        (&[][..], "--predictions"),
        (&["--model", "acl"], "--data"),
        (&["--predictions", "a", "--model", "b", "--data", "c"], "cannot be used with"),
        (&["--predictions", "absent.safetensors"], "absent.safetensors"),
    ] {
        let run = evaluate("vggss", &fixture, options);
        let message = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && message.contains(expected), "{options:?}: {message}");
    }
    let run = evaluate("vgg", &fixture, &["--predictions", "a"]);
    let message = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && message.contains("avsbench-ms3"), "{message}");
}
