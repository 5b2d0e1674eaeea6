//! The program `miniature` as a user runs it, on some of the real stamps: what it refuses, that it learns, that it
//! repeats itself bit for bit.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/pictures.rs"]
mod pictures;
#[allow(dead_code)] // each test program uses only a part
#[path = "../../../tests/common/program.rs"]
mod program;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use program::{command, failed, names_in, refused, stdout};
use serde_json::Value;
use soundsight::{Localizer, Picture};
use tempfile::TempDir;

const STAMPS: &str = "/usr/share/tuxpaint/stamps";
/// One in this many classes takes part (nine in total): fewer classes are learned sooner.
const ONE_IN: usize = 10;

/// A folder for runs, with some of the stamps in `stamps/`.
struct Set(TempDir);

impl Set {
    fn new() -> Self {
        let (found, advice) = (Path::new(STAMPS).is_dir(), "install Debian's package tuxpaint-stamps-default");
        assert!(found, "no stamps in {STAMPS}: {advice}");
        let set = Self(tempfile::tempdir().unwrap());
        let mut pictures = Vec::new();
        list(Path::new(STAMPS), &mut pictures);
        pictures.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
        pictures.sort();
        let recording =
            |picture: &Path| ["ogg", "wav"].map(|end| picture.with_extension(end)).into_iter().find(|p| p.exists());
        let (sounding, silent): (Vec<_>, Vec<_>) = pictures.into_iter().partition(|path| recording(path).is_some());
        for picture in sounding.iter().step_by(ONE_IN) {
            set.take(picture);
            set.take(&recording(picture).unwrap());
        }
        // Flowers and similar pictures, for backgrounds.
        silent.iter().filter(|path| path.starts_with(format!("{STAMPS}/plants"))).for_each(|path| set.take(path));
        set
    }

    fn take(&self, file: &Path) {
        let target = self.path("stamps").join(file.strip_prefix(STAMPS).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn miniature(&self, run: &str, more: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_miniature"));
        // The threads of the matrix library wait for each other in busy loops.
        command.env("CANDLE_NUM_THREADS", "1");
        command.arg("--stamps").arg(self.path("stamps")).arg("--out").arg(self.path(run));
        command.args(["--quick", "--unheard", "0"]).args(more);
        command
    }

    fn json(&self, file: &str) -> Value {
        let path = self.path(file);
        serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
    }

    /// The values of a metric, in order of the steps.
    fn curve(&self, log: &str, metric: &str) -> Vec<f64> {
        let text = std::fs::read_to_string(self.path(log)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["split"] == "train").map(|line| line[metric].as_f64().unwrap()).collect()
    }
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

#[test]
fn stamps_that_nothing_can_be_made_of_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (run, stamps) = (folder.path().join("run"), folder.path().join("stamps"));
    let miniature = || {
        let mut command = command(env!("CARGO_BIN_EXE_miniature"));
        command.arg("--stamps").arg(&stamps).arg("--out").arg(&run);
        command
    };
    let advice = "tuxpaint-stamps-default";
    refused(&mut miniature(), &["stamps: expected a folder of stamps, found nothing", advice]);

    let kind = stamps.join("animals/mammals");
    std::fs::create_dir_all(&kind).unwrap();
    pictures::write_png(image::RgbaImage::from_pixel(40, 40, image::Rgba([9, 9, 9, 255])), kind.join("dog.png"));
    refused(
        &mut miniature(),
        &["stamps: expected pictures with a recording of the same name", "found 1 pictures", advice],
    );

    std::fs::write(kind.join("dog.wav"), "this is no sound").unwrap();
    refused(&mut miniature(), &["cannot use the recording of \"dog\"", "dog.wav"]);

    std::fs::write(kind.join("dog.png"), "this is no picture").unwrap();
    refused(&mut miniature(), &["dog.png: expected a whole PNG picture"]);
    assert!(!run.exists());
}

#[test]
fn a_document_needs_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (run, docs) = (folder.path().join("run"), folder.path().join("docs"));
    let mut command = command(env!("CARGO_BIN_EXE_miniature"));
    command.arg("--plot").arg("--out").arg(&run).arg("--docs").arg(&docs);
    refused(&mut command, &["run: expected a run", "found none"]);
}

/// The mean of the first and of the last fifth of a curve.
fn ends(curve: &[f64]) -> (f64, f64) {
    let fifth = curve.len() / 5;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    (mean(&curve[..fifth]), mean(&curve[curve.len() - fifth..]))
}

#[test]
fn in_its_short_form_the_losses_fall_and_sound_finds_its_class() {
    let set = Set::new();
    stdout(&mut set.miniature("run", &["--scenes", "512"]));
    // In so few steps, ACL_F falls least.
    let losses = [
        ("clip", "loss", 0.9),
        ("beats", "loss", 0.9),
        ("acl", "loss", 0.9),
        ("acl", "acl_i", 0.9),
        ("acl", "acl_f", 0.95),
    ];
    for (stage, loss, most) in losses {
        let (first, last) = ends(&set.curve(&format!("run/{stage}/metrics.jsonl"), loss));
        assert!(last < most * first, "{stage}: {loss} from {first} to {last}");
    }
    let report = set.json("run/report.json");
    let heard = &report["measured"]["scenes"]["heard"];
    assert_eq!(heard["scenes"], 512);
    // McNemar's exact test of the trained against an untrained AudioTokenizer on the same scenes.
    let lead = &heard["above_untrained"];
    assert!(lead["which"]["p"].as_f64().unwrap() < 1e-3, "{lead}");
    assert!(lead["peak"]["better"].as_u64() > lead["peak"]["worse"].as_u64(), "{lead}");
}

/// The stages in order, each with the weights that it writes.
const WEIGHTS: [&str; 8] = [
    "clip/last/clipseg.safetensors",
    "larger/clip/last/clipseg.safetensors",
    "beats/last/beats.safetensors",
    "acl/last/acl.safetensors",
    "larger/acl/last/acl.safetensors",
    "model/clipseg.safetensors",
    "model/beats.safetensors",
    "model/acl.safetensors",
];
/// A few steps of each stage; the last option is the checkpoint interval.
const BRIEF: &str =
    "--clip-steps 4 --larger-clip-steps 4 --beats-steps 4 --acl-steps 4 --larger-acl-steps 4 --scenes 32 --save-every";
/// The stages in order.
const STAGES: [&str; 5] = ["clip", "larger/clip", "beats", "acl", "larger/acl"];

#[test]
fn from_one_seed_come_the_same_weights_also_after_a_kill_and_they_answer_questions() {
    let set = Set::new();
    let brief =
        |run: &str, save_every: &str| set.miniature(run, &BRIEF.split(' ').chain([save_every]).collect::<Vec<_>>());
    stdout(&mut brief("whole", "100"));
    for stage in STAGES {
        let mut child = brief("killed", "1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun =
            || std::fs::read_to_string(set.path(&format!("killed/{stage}/checkpoints/latest"))).unwrap_or_default();
        while begun().as_str() < "step-00000002" && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    stdout(&mut brief("killed", "1"));
    for file in WEIGHTS {
        let read = |run: &str| std::fs::read(set.path(run).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs");
    }
    for stage in STAGES {
        let log = |run: &str| std::fs::read_to_string(set.path(&format!("{run}/{stage}/metrics.jsonl"))).unwrap();
        assert!(log("whole") == log("killed"), "{stage}: another course");
    }

    names_and_nothing_else(&set);
    documents(&set);
    tuned(&set);
}

/// A finished model is trained further, or its sounds and pictures are linked in another way.
fn tuned(set: &Set) {
    let tune = |steps: &str, more: &[&str]| {
        let options = ["--scenes", "32", "--save-every", "2", "--tune", "--acl-steps", steps];
        set.miniature("whole", &[&options, more].concat())
    };
    let read = || std::fs::read(set.path("whole/tuned/model/acl.safetensors")).unwrap();
    let link = || set.json("whole/tuned/model/config.json")["acl"]["text_tower"].clone();
    stdout(&mut tune("2", &[]));
    assert_ne!(link(), false);
    Localizer::load(set.path("whole/tuned/model")).unwrap();
    // What has begun is not continued as something else.
    failed(&mut tune("4", &["--no-text-tower"]), &["text_tower"]);
    std::fs::remove_dir_all(set.path("whole/tuned")).unwrap();
    stdout(&mut tune("2", &["--no-text-tower"]));
    assert_eq!(link(), false);
    Localizer::load(set.path("whole/tuned/model")).unwrap();
    // Once finished, nothing is repeated.
    let weights = read();
    stdout(&mut tune("2", &["--no-text-tower"]));
    assert_eq!(read(), weights);
}

/// The model supports its classes as text prompts, and lists them for any other.
fn names_and_nothing_else(set: &Set) {
    let config = set.json("whole/model/config.json");
    let classes: Vec<&str> = config["classes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let report = set.json("whole/report.json");
    assert_eq!(report["classes"], config["classes"]);
    // Pictures are larger than those that the positions were made for.
    assert_eq!(
        (&config["acl"]["image_size"], &config["clipseg"]["vision_config"]["image_size"]),
        (&96.into(), &64.into())
    );
    assert!(classes.len() > 4, "{classes:?}");
    let localizer = Localizer::load(set.path("whole/model").to_str().unwrap()).unwrap();
    let picture = Picture::from_rgb8(64, 48, vec![128; 64 * 48 * 3]).unwrap();
    let text = localizer.embed_text(&format!("a photo of a {}", classes[0])).unwrap();
    localizer.localize(&text, &localizer.encode_image(&picture).unwrap()).unwrap();
    let refused = localizer.embed_text("a photo of a unicorn").unwrap_err().to_string();
    assert!(refused.contains("unicorn") && refused.contains(classes[0]), "{refused}");
}

/// The parts of the document are written from a finished run, identically each time, without changing the rest.
fn documents(set: &Set) {
    let (docs, path) = (set.path("docs"), set.path("docs/miniature.md"));
    let write = || {
        for mode in ["--plot", "--probe"] {
            let mut command = set.miniature("whole", &["--scenes", "32", mode, "--docs"]);
            stdout(command.arg(&docs));
        }
        std::fs::read_to_string(&path).unwrap()
    };
    let first = write();
    std::fs::write(&path, first.replacen('\n', "\nBy hand.\n", 1)).unwrap();
    assert_eq!(write(), first.replacen('\n', "\nBy hand.\n", 1));
    for part in ["curves", "figures", "robustness", "mixtures", "confidence", "retrieval"] {
        assert_eq!(first.matches(&format!("<!-- begin {part} -->")).count(), 1, "{part}");
    }
    for line in first.lines().filter(|line| line.starts_with("![")) {
        let file = line.rsplit_once('(').unwrap().1.trim_end_matches(')');
        assert!(docs.join(file).metadata().unwrap().len() > 1000, "{line}");
    }
    assert_eq!(names_in(&docs), ["miniature", "miniature.md"]);

    std::fs::write(&path, "<!-- begin curves -->").unwrap();
    failed(set.miniature("whole", &["--plot", "--docs"]).arg(&docs), &["miniature.md", "<!-- end curves -->"]);
}
