//! `soundsight train` as a user runs it: errors, interruptions, and resumption without loss.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::program::{failed, names_in, refused, stdout};
use common::{fixture, soundsight};
use serde_json::Value;
use tempfile::TempDir;
use train_media::write_pairs;

/// A folder with `data/` (twelve pairs) and room for runs.
struct Set(TempDir);

impl Set {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_pairs(&folder.path().join("data"), 12);
        Self(folder)
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn run(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Training on the folder in batches of four: three steps an epoch.
    fn train(&self, run: &str, more: &[&str]) -> Command {
        self.train_on(
            &self.data(),
            run,
            &[&["--val-fraction", "0", "--batch", "4", "--accumulate", "1"], more].concat(),
        )
    }

    fn train_on(&self, data: &Path, run: &str, more: &[&str]) -> Command {
        let mut command = soundsight("train");
        if !more.contains(&"--model") {
            command.arg("--model").arg(fixture("mini"));
        }
        command.args(["--device", "cpu", "--workers", "1", "--data"]).arg(data).arg("--out").arg(self.run(run));
        command.args(more);
        command
    }

    /// A list of pairs with this text, next to the data.
    fn list(&self, text: &str) -> PathBuf {
        let path = self.data().join("list.csv");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn corrupt_sound(&self, id: &str) {
        std::fs::write(self.data().join(format!("audio/{id}.wav")), "this is no sound").unwrap();
    }

    fn checkpoints(&self, run: &str) -> Vec<String> {
        names_in(&self.run(run).join("checkpoints"))
    }

    fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.run(run).join("last/acl.safetensors")).unwrap()
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.path().join(file)).unwrap_or_default()
    }

    /// The steps in the log of the run.
    fn steps(&self, run: &str) -> Vec<u64> {
        let text = self.text(&format!("{run}/metrics.jsonl"));
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["split"] == "train").map(|line| line["step"].as_u64().unwrap()).collect()
    }
}

#[test]
fn lists_that_nothing_can_be_learned_from_are_refused() {
    let set = Set::new();
    let pair = |k: usize| format!("audio/p{k}.wav,frames/p{k}.png\n");
    let three = format!("audio,image\n{}{}{}", pair(0), pair(1), pair(2));
    for (text, more, parts) in [
        ("audio,image\n", &[][..], &["list.csv", "at least one pair", "found none"][..]),
        (&format!("audio,image\n{}", pair(0)), &[], &["list.csv", "at least two pairs", "found 1"]),
        (
            &three.replace("image\n", "image,class\n"),
            &[],
            &["list.csv", "audio,image[,label]", "unknown column `class`"],
        ),
        (&three, &["--val-fraction", "0"], &["list.csv", "at most the number of samples, 3", "found 8"]),
        (&three, &[], &["list.csv", "at least two pairs", "found 1", "--val-fraction 0"]),
        (&three, &["--batch", "1", "--val-fraction", "0"], &["--batch", "at least 2", "found 1"]),
        (&three, &["--split", "x.csv"], &["list.csv", "--split", "folder"]),
        (&three, &["--val-fraction", "1.5"], &["validation fraction", "between 0 and 1", "1.5"]),
        (&three, &["--val-fraction", "0", "--batch", "2", "--max-bad", "2"], &["max_bad", "from 0 to 1", "found 2"]),
        (&three, &["--val-fraction", "0", "--batch", "2", "--area=-1"], &["area", "-1"]),
    ] {
        refused(&mut set.train_on(&set.list(text), "run", more), parts);
        assert!(!set.run("run").exists(), "left behind after {text:?} {more:?}");
    }
    refused(&mut set.train_on(&set.data().join("absent.csv"), "run", &[]), &["absent.csv"]);
    refused(&mut set.train("run", &["--split", "absent.csv"]), &["absent.csv"]);
    assert!(!set.run("run").exists());
}

#[test]
fn too_many_unreadable_pairs_end_the_run_before_its_first_step() {
    let set = Set::new();
    set.corrupt_sound("p3");
    std::fs::remove_file(set.data().join("frames/p7.png")).unwrap();
    let parts = ["max_bad", "at most 1 % of 12 pairs", "found 2", "bad_pairs.csv", "p3.wav"];
    refused(&mut set.train("run", &["--steps", "1"]), &parts);
    assert_eq!(names_in(&set.run("run")), ["bad_pairs.csv"]);
    let list = set.text("run/bad_pairs.csv");
    assert!(list.contains("p3.wav") && list.contains("frames/p7.*"), "{list}");

    // With a higher limit, the two are left out of their batches, and the same folder may be used.
    let said = stdout(&mut set.train("run", &["--epochs", "1", "--max-bad", "0.2"]));
    assert!(said.contains("unreadable pairs: 2, listed in"), "{said}");
    assert_eq!(set.steps("run"), [1, 2, 3]);
}

#[test]
fn a_sound_that_breaks_during_the_run_is_skipped_and_listed() {
    let set = Set::new();
    stdout(&mut set.train("run", &["--steps", "1"]));
    assert!(!set.run("run").join("bad_pairs.csv").exists());
    set.corrupt_sound("p5");
    let two_epochs = ["--epochs", "2", "--resume"];
    let output = failed(&mut set.train("run", &two_epochs), &["max_bad", "found 1", "bad_pairs.csv", "p5.wav"]);
    assert!(!String::from_utf8_lossy(&output.stdout).contains("finished"));
    assert!(set.text("run/checkpoints/latest").starts_with("step-"));

    let said = stdout(&mut set.train("run", &[&two_epochs[..], &["--max-bad", "0.1"]].concat()));
    assert!(said.contains("finished after 6 steps") && said.contains("unreadable pairs: 1"), "{said}");
    assert_eq!(set.steps("run"), [1, 2, 3, 4, 5, 6]);
    let list = set.text("run/bad_pairs.csv");
    assert!(list.lines().count() == 2 && list.contains("p5.wav: unusable sound"), "{list}");
}

#[test]
fn a_failure_of_the_masks_is_named_at_each_validation() {
    let set = Set::new();
    let model = set.run("model");
    std::fs::create_dir(&model).unwrap();
    for name in ["config.json", "beats.safetensors", "clipseg.safetensors"] {
        std::fs::copy(fixture("mini").join(name), model.join(name)).unwrap();
    }
    for (b, words) in
        [(1e4f32, "warning: the mask covers everything (100 %"), (-1e4, "warning: the mask is empty (100 %")]
    {
        let mut tensors = common::tensors("mini/acl.safetensors");
        let masker = tensors.get_mut("masker_i.b").unwrap();
        *masker = (masker.zeros_like().unwrap() + f64::from(b)).unwrap();
        candle_core::safetensors::save(&tensors, model.join("acl.safetensors")).unwrap();
        let options = ["--val-fraction", "0.2", "--batch", "4", "--accumulate", "1", "--steps", "1"];
        let model = model.to_str().unwrap();
        let mut train = set.train_on(&set.data(), &format!("run{b}"), &[&options[..], &["--model", model]].concat());
        let output = train.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        assert_eq!(message.lines().filter(|line| line.starts_with(words)).count(), 2, "{message}");
    }
}

#[test]
fn a_model_without_a_text_tower_is_trained_and_localizes() {
    let set = Set::new();
    refused(&mut set.train("run", &["--steps", "1", "--no-text-tower"]), &["--from-scratch"]);
    let direct = ["--from-scratch", "--no-text-tower", "--steps"];
    stdout(&mut set.train("run", &[&direct[..], &["1"]].concat()));
    stdout(&mut set.train("run", &[&direct[..], &["2", "--resume"]].concat()));
    let run = set.run("run").join("last");
    let localizer = soundsight::Localizer::load(run.to_str().unwrap()).unwrap();
    let config = localizer.acl().config();
    assert!(!config.acl.text_tower);
    assert_eq!(localizer.acl().audio_tokenizer.token_dim(), config.clipseg.projection_dim);
    // It is a model directory like any other: training goes on from it, and it localizes.
    stdout(&mut set.train("more", &["--steps", "1", "--model", run.to_str().unwrap()]));
    let mut localize = soundsight("localize");
    localize.arg("--model").arg(&run).args(["--device", "cpu", "--out"]).arg(set.run("found"));
    stdout(localize.arg(fixture("mini/clip.wav")).arg(fixture("mini/frame.png")));
}

#[test]
fn a_model_with_a_learned_prompt_is_trained_resumed_and_localizes() {
    let set = Set::new();
    refused(&mut set.train("run", &["--steps", "1", "--prompt-vectors", "4"]), &["--from-scratch"]);
    let scratch = |run: &str, more: &[&str]| set.train(run, &[&["--from-scratch"][..], more].concat());
    let both = ["--prompt-vectors", "4", "--no-text-tower", "--steps", "1"];
    refused(&mut scratch("run", &both), &["acl.prompt_vectors", "0 without a text tower", "found 4"]);
    refused(&mut scratch("run", &["--prompt-vectors", "75", "--steps", "1"]), &["at most 74", "found 75"]);
    assert!(!set.run("run").exists());

    let four = |run: &str, more: &[&str]| stdout(&mut scratch(run, &[&["--prompt-vectors", "4"][..], more].concat()));
    four("run", &["--steps", "1", "--silence-negatives", "1"]);
    refused(&mut scratch("run", &["--steps", "2", "--resume"]), &["run: cannot resume"]);
    four("run", &["--steps", "3", "--silence-negatives", "1", "--resume"]);
    four("whole", &["--steps", "3", "--silence-negatives", "1"]);
    assert!(set.weights("run") == set.weights("whole"), "a resumed run ends elsewhere");
    four("recomputed", &["--steps", "3", "--silence-negatives", "1", "--recompute"]);
    assert!(set.weights("recomputed") == set.weights("whole"), "recomputed activations end elsewhere");

    let trained = set.run("run").join("last");
    let localizer = soundsight::Localizer::load(trained.to_str().unwrap()).unwrap();
    assert_eq!(localizer.acl().prompt_net.as_ref().unwrap().num_vectors(), 4);
    stdout(&mut set.train("more", &["--steps", "1", "--model", trained.to_str().unwrap()]));
    let localize = || {
        let mut localize = soundsight("localize");
        localize.arg("--model").arg(&trained).args(["--device", "cpu", "--json", "--out"]).arg(set.run("found"));
        localize.arg(fixture("mini/clip.wav")).arg(fixture("mini/frame.png"));
        localize
    };
    let answer: Value = serde_json::from_str(&stdout(&mut localize())).unwrap();
    let [sound, picture] = ["mini/clip.wav", "mini/frame.png"].map(fixture);
    let (sound, picture) = (soundsight::Waveform::open(sound).unwrap(), soundsight::Picture::open(picture).unwrap());
    let expected = f64::from(localizer.localize_pair(&sound, &picture).unwrap().confidence);
    assert!((answer["confidence"].as_f64().unwrap() - expected).abs() < 1e-4, "{answer}");
    stdout(localize().args(["--tiles", "2"]));
    // Back to the words of the published prompt.
    let words = ["--prompt-vectors", "0", "--steps", "1", "--model", trained.to_str().unwrap()];
    stdout(&mut scratch("words", &words));
    assert!(
        soundsight::Localizer::load(set.run("words").join("last").to_str().unwrap())
            .unwrap()
            .acl()
            .prompt_net
            .is_none()
    );
}

#[test]
fn what_cannot_be_resumed_is_refused_and_left_alone() {
    let set = Set::new();
    refused(&mut set.train("none", &["--resume"]), &["none", "--resume"]);
    assert!(!set.run("none").exists());

    stdout(&mut set.train("run", &["--steps", "2", "--save-every", "1"]));
    let files = || {
        let mut files = Vec::new();
        for folder in ["run", "run/checkpoints", "run/last"] {
            for name in names_in(&set.run(folder)) {
                files.push((format!("{folder}/{name}"), std::fs::read(set.run(folder).join(&name)).ok()));
            }
        }
        files
    };
    let before = files();
    refused(&mut set.train("run", &["--steps", "2"]), &["run", "--resume"]);
    let alt = fixture("alt");
    let other_model = ["--steps", "4", "--resume", "--model", alt.to_str().unwrap()];
    refused(&mut set.train("run", &other_model), &["run: cannot resume", "alt", "settings.model"]);
    refused(&mut set.train("run", &["--steps", "4", "--resume", "--lr", "0.5"]), &["learning_rate", "0.5"]);
    assert!(before == files(), "a refusal changed the run");

    // A truncated checkpoint: the message says how to fall back to an earlier one.
    let latest = set.run("run").join("checkpoints/step-00000002.safetensors");
    let whole = std::fs::read(&latest).unwrap();
    std::fs::write(&latest, &whole[..whole.len() / 2]).unwrap();
    refused(
        &mut set.train("run", &["--steps", "3", "--resume"]),
        &["step-00000002", "complete checkpoint", "`latest`"],
    );
    std::fs::write(set.run("run").join("checkpoints/latest"), "step-00000001.safetensors\n").unwrap();
    stdout(&mut set.train("run", &["--steps", "3", "--resume"]));
    stdout(&mut set.train("whole", &["--steps", "3"]));
    assert!(set.weights("run") == set.weights("whole"), "a run that fell back ends elsewhere");
    assert_eq!(set.steps("run"), [1, 2, 3]);
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on_later() {
    let set = Set::new();
    stdout(&mut set.train("run", &["--steps", "1"]));
    let more = ["--steps", "3", "--save-every", "1", "--resume"];
    // There is enough space for the logs, but not for a checkpoint.
    let mut full = common::program::with_full_disk(&set.train("run", &more), 100);
    failed(&mut full, &["step-00000002.safetensors", "cannot write"]);
    assert_eq!(set.checkpoints("run"), ["latest", "step-00000000.safetensors", "step-00000001.safetensors"]);
    assert_eq!(set.text("run/checkpoints/latest").trim(), "step-00000001.safetensors");

    stdout(&mut set.train("run", &more));
    stdout(&mut set.train("whole", &["--steps", "3"]));
    assert!(set.weights("run") == set.weights("whole"), "a run that met a full disk ends elsewhere");
}

#[cfg(unix)]
#[test]
fn control_c_finishes_the_step_and_saves() {
    use std::process::Stdio;
    use std::time::Duration;

    let set = Set::new();
    let mut train = set.train("run", &["--epochs", "1000"]);
    let mut child = train.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while set.steps("run").len() < 2 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let step = *set.steps("run").last().unwrap();
    assert!(said.contains(&format!("stopped after {step} steps: --resume continues")), "{said}");
    assert_eq!(set.text("run/checkpoints/latest").trim(), format!("step-{step:08}.safetensors"));

    let end = (step + 1).to_string();
    let said = stdout(&mut set.train("run", &["--steps", &end, "--resume"]));
    assert!(said.contains(&format!("finished after {end} steps")), "{said}");
    stdout(&mut set.train("whole", &["--steps", &end]));
    assert!(set.weights("run") == set.weights("whole"), "an interrupted run ends elsewhere");
}
