//! The training loop on a small problem: its results, its files, and how it ends.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

#[path = "common/pictures.rs"]
mod pictures;
mod train_toy;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use soundsight::data::BatchSource;
use soundsight::train::{
    BestMetric, Checkpoints, Decay, Goal, Length, Objective, Outcome, Schedule, StepOutput, TrainConfig, TrainEvent,
    Trainer, Validation,
};
use soundsight::{Error, Result};
use train_toy::{BROKEN, Line, config, files_of, loader};

/// A stop flag that is never set.
static RUNNING: AtomicBool = AtomicBool::new(false);

fn settings() -> Value {
    json!({ "model": "line" })
}

/// Trains a new line in `folder` and returns it.
fn trained(config: TrainConfig, folder: &Path, num_threads: usize) -> Line {
    let (line, loader) = (Line::new(), loader(folder, num_threads));
    let mut trainer = Trainer::start(config, settings(), &line, &loader, folder).unwrap();
    assert_eq!(trainer.run(&RUNNING, &mut |_| ()).unwrap(), Outcome::Finished);
    drop(trainer);
    line
}

fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_learns_and_writes_what_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = trained(TrainConfig { length: Length::Epochs(20), ..config() }, folder, 2);
    let lines = lines(folder);
    let error = |line: &Value| line["error"].as_f64().unwrap();
    let validations: Vec<&Value> = lines.iter().filter(|line| line["split"] == "validation").collect();
    assert_eq!(validations.len(), 21, "one before the first step and one after each epoch");
    assert!(error(validations[20]) < 0.2 * error(validations[0]), "{validations:?}");

    // 15 batches per epoch, two per step; the last step of an epoch has only one.
    let steps: Vec<&Value> = lines.iter().filter(|line| line["split"] == "train").collect();
    assert_eq!(steps.iter().map(|s| s["step"].as_u64().unwrap()).collect::<Vec<_>>(), (1..=160).collect::<Vec<_>>());
    assert_eq!(steps[7]["epoch"], 0);
    assert_eq!(steps[8]["epoch"], 1);
    for name in ["loss", "mean_x", "grad_norm", "learning_rate"] {
        assert!(steps.iter().all(|step| step[name].is_f64()), "{name}");
    }

    let exported = |file: &str| candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap();
    let last = exported("last/line.safetensors");
    assert_eq!(last["slope"].to_vec1::<f32>().unwrap()[0], line.weights()[0]);
    let best: Value = serde_json::from_slice(&std::fs::read(folder.join("best/best.json")).unwrap()).unwrap();
    let smallest = validations[1..].iter().map(|line| error(line)).fold(f64::MAX, f64::min);
    assert_eq!((best["metric"].as_str(), best["value"].as_f64()), (Some("error"), Some(smallest)));
    assert!(exported("best/line.safetensors").contains_key("offset"));

    let mut checkpoints: Vec<String> = files_of(&folder.join("checkpoints")).into_keys().collect();
    checkpoints.retain(|name| name != "latest");
    assert_eq!(checkpoints, ["step-00000159.safetensors", "step-00000160.safetensors"]);
    let latest = Checkpoints::new(&folder.join("checkpoints"), 2).latest().unwrap();
    let (state, tensors) = Checkpoints::load(&latest).unwrap();
    assert_eq!((state.step, state.epoch, state.batch), (160, 20, 0));
    assert_eq!(tensors.len(), 6);

    let bad = std::fs::read_to_string(folder.join("bad_pairs.csv")).unwrap();
    assert!(bad.starts_with("id,reason\n") && bad.lines().count() == 2, "{bad}");
    assert!(bad.contains(&format!("point-{BROKEN},")), "{bad}");
    assert_eq!(pictures::size(folder.join("samples/epoch-0/fit_line.png")), (5, 3));
    let saved: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    assert_eq!(saved["settings"], settings());
    assert_eq!(saved["trainer"]["learning_rate"], json!(0.05));
}

#[test]
fn the_number_of_decoding_threads_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> = [0, 1, 5]
        .into_iter()
        .map(|num_threads| {
            let folder = folder.path().join(num_threads.to_string());
            trained(config(), &folder, num_threads);
            files_of(&folder)
        })
        .collect();
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}

#[test]
fn a_raised_flag_ends_the_run_after_its_step_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, stopped) = (folder.path().join("whole"), folder.path().join("stopped"));
    // Without periodic checkpoints, both runs end with the same number of files.
    let config = TrainConfig { checkpoint_every: None, keep_checkpoints: 1, ..config() };
    trained(config.clone(), &whole, 1);

    for _ in 0..100 {
        let (line, loader) = (Line::new(), loader(&stopped, 1));
        let mut trainer = match stopped.join("checkpoints/latest").exists() {
            true => Trainer::resume(config.clone(), settings(), &line, &loader, &stopped).unwrap(),
            false => Trainer::start(config.clone(), settings(), &line, &loader, &stopped).unwrap(),
        };
        let (first, stop) = (trainer.state().step, AtomicBool::new(false));
        let outcome = trainer.run(&stop, &mut |event| {
            if let TrainEvent::Step(report) = event {
                assert!(report.step <= first + 3, "went on after the flag");
                stop.store(report.step == first + 3, Ordering::Relaxed);
            }
        });
        if outcome.unwrap() == Outcome::Finished {
            assert_eq!(trainer.state().step, 32);
            assert!(files_of(&whole) == files_of(&stopped));
            return;
        }
        assert_eq!(trainer.state().step, first + 3);
    }
    panic!("never finished");
}

#[test]
fn another_number_of_threads_is_reported_and_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let with_threads = |num_threads, length| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap();
        pool.install(|| {
            let (line, loader) = (Line::new(), loader(folder.path(), 1));
            let config = TrainConfig { length: Length::Epochs(length), ..config() };
            let mut trainer = match length {
                1 => Trainer::start(config, settings(), &line, &loader, folder.path()).unwrap(),
                _ => Trainer::resume(config, settings(), &line, &loader, folder.path()).unwrap(),
            };
            let mut changes = Vec::new();
            let outcome = trainer.run(&AtomicBool::new(false), &mut |event| {
                if let TrainEvent::ThreadsChanged { before, now } = event {
                    changes.push((before, now));
                }
            });
            assert_eq!(outcome.unwrap(), Outcome::Finished);
            changes
        })
    };
    assert_eq!(with_threads(1, 1), []);
    assert_eq!(with_threads(3, 2), [(1, 3)]);
    assert_eq!(with_threads(3, 3), []);
    let saved: Value = serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(saved["threads"], json!(3));
}

#[test]
fn a_run_may_be_made_longer() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, longer) = (folder.path().join("whole"), folder.path().join("longer"));
    let of_length = |length| TrainConfig { length, ..config() };
    trained(of_length(Length::Epochs(3)), &whole, 1);
    trained(of_length(Length::Epochs(1)), &longer, 1);
    let (line, loader) = (Line::new(), loader(&longer, 1));
    let mut trainer = Trainer::resume(of_length(Length::Epochs(3)), settings(), &line, &loader, &longer).unwrap();
    trainer.run(&RUNNING, &mut |_| ()).unwrap();
    assert!(files_of(&whole) == files_of(&longer));
    // A finished run stays finished.
    assert_eq!(trainer.run(&RUNNING, &mut |_| panic!("nothing is left to do")).unwrap(), Outcome::Finished);
}

#[test]
fn a_number_of_steps_ends_within_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let schedule = Schedule { warmup_steps: 5, decay: Decay::Cosine { floor: 0.5 } };
    trained(TrainConfig { length: Length::Steps(11), schedule, ..config() }, folder.path(), 1);
    let lines = lines(folder.path());
    let rates: Vec<f64> =
        lines.iter().filter(|l| l["split"] == "train").map(|l| l["learning_rate"].as_f64().unwrap()).collect();
    let expected: Vec<f64> = (0..11).map(|step| 0.05 * schedule.factor(step, 11)).collect();
    assert_eq!(rates, expected);
    let last = lines.last().unwrap();
    assert_eq!((last["split"].as_str(), last["step"].as_u64()), (Some("validation"), Some(11)));
}

#[test]
fn a_loss_that_is_no_number_names_step_and_samples_and_spares_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let loader = loader(folder.path(), 1);
    let line = Line::failing_from(10);
    let mut trainer = Trainer::start(config(), settings(), &line, &loader, folder.path()).unwrap();
    // Two batches a step: the tenth batch is the second one of step 5.
    match trainer.run(&RUNNING, &mut |_| ()).unwrap_err() {
        Error::NonFinite { what, details } => {
            assert_eq!(what, "the loss");
            let ids = loader.epoch(0, 9).unwrap().next().unwrap().unwrap().ids;
            assert!(details.contains("step 5;") && details.contains(&ids.join(", ")), "{details}");
            assert_eq!(details.matches("point-").count(), ids.len(), "only that batch: {details}");
        }
        other => panic!("{other:?}"),
    }
    let latest = Checkpoints::new(&folder.path().join("checkpoints"), 2).latest().unwrap();
    let (state, tensors) = Checkpoints::load(&latest).unwrap();
    assert_eq!(state.step, 3);
    assert!(tensors.values().all(|t| t.sum_all().unwrap().to_scalar::<f32>().unwrap().is_finite()));
    assert!(line.weights().iter().all(|weight| weight.is_finite()));

    // Without the fault, the run continues from there.
    let line = Line::new();
    let mut trainer = Trainer::resume(config(), settings(), &line, &loader, folder.path()).unwrap();
    assert_eq!(trainer.state().step, 3);
    assert_eq!(trainer.run(&RUNNING, &mut |_| ()).unwrap(), Outcome::Finished);
}

/// The loss √θ at θ = 0: finite, with an infinite gradient.
struct Root(Var);

impl Objective for Root {
    type Batch = (Tensor, Tensor);

    fn trainable(&self) -> Vec<(String, Var)> {
        vec![("root".to_string(), self.0.clone())]
    }

    fn loss(&self, _: &Self::Batch, _: &mut ChaCha8Rng) -> Result<StepOutput> {
        Ok(StepOutput { loss: self.0.sqrt()?.sum_all()?, metrics: vec![] })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        Ok(Validation::default())
    }

    fn export(&self, _: &Path) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_gradient_that_is_no_number_is_caught_before_it_reaches_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (loader, root) = (loader(folder.path(), 0), Root(Var::new(&[0f32], &Device::Cpu).unwrap()));
    let config = TrainConfig { best: None, ..config() };
    let mut trainer = Trainer::start(config, settings(), &root, &loader, folder.path()).unwrap();
    match trainer.run(&RUNNING, &mut |_| ()).unwrap_err() {
        Error::NonFinite { what, details } => {
            assert_eq!(what, "the gradient of `root`");
            assert!(details.contains("step 1;") && details.contains("point-"), "{details}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(root.0.to_vec1::<f32>().unwrap(), [0.0]);
}

#[test]
fn a_second_run_never_overwrites_the_first() {
    let folder = tempfile::tempdir().unwrap();
    trained(config(), folder.path(), 1);
    let before = files_of(folder.path());
    let (line, loader) = (Line::new(), loader(folder.path(), 1));
    match Trainer::start(config(), settings(), &line, &loader, folder.path()).err().unwrap() {
        Error::Argument { what, found, .. } => {
            assert_eq!(what, "run folder");
            assert!(found.contains(folder.path().to_str().unwrap()), "{found}");
        }
        other => panic!("{other:?}"),
    }
    assert!(before == files_of(folder.path()));
}

/// The error of resuming a finished run in `folder`.
fn refused<O: Objective<Batch = (Tensor, Tensor)>>(
    config: TrainConfig,
    settings: Value,
    objective: &O,
    folder: &Path,
) -> Error {
    let loader = loader(folder, 1);
    Trainer::resume(config, settings, objective, &loader, folder).err().unwrap()
}

#[test]
fn what_cannot_be_resumed_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    match refused(config(), settings(), &Line::new(), folder) {
        Error::Io { path, action: "read", .. } => assert_eq!(path, folder.join("checkpoints/latest")),
        other => panic!("no checkpoint: {other:?}"),
    }
    trained(config(), folder, 1);
    let before = files_of(folder);

    let other_rate = TrainConfig { learning_rate: 1e-3, ..config() };
    match refused(other_rate, settings(), &Line::new(), folder) {
        Error::Config { what, expected, found } => {
            assert_eq!((what.as_str(), found.as_str()), ("trainer.learning_rate", "0.001"));
            assert_eq!(expected, "0.05 as in the checkpoint");
        }
        other => panic!("another configuration: {other:?}"),
    }
    match refused(config(), json!({ "model": "parabola" }), &Line::new(), folder) {
        Error::Config { what, .. } => assert_eq!(what, "settings.model"),
        other => panic!("other settings: {other:?}"),
    }
    let latest = Checkpoints::new(&folder.join("checkpoints"), 2).latest().unwrap();
    let root = Root(Var::new(&[0f32], &Device::Cpu).unwrap());
    match refused(config(), settings(), &root, folder) {
        Error::Weights { path, problems } => {
            assert_eq!(path, latest);
            assert!(problems.contains(&"missing `parameters.root` [1]".to_string()), "{problems:?}");
            assert!(problems.contains(&"unexpected `parameters.slope` [1]".to_string()), "{problems:?}");
        }
        other => panic!("another model: {other:?}"),
    }
    assert!(before == files_of(folder), "a refused run was changed");

    let whole = std::fs::read(&latest).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&latest, &whole[..length]).unwrap();
        match refused(config(), settings(), &Line::new(), folder) {
            Error::Format { path, kind: "checkpoint", expected, .. } => {
                assert_eq!(path, latest);
                assert!(expected.contains("complete checkpoint") && expected.contains("`latest`"), "{expected}");
            }
            other => panic!("truncated to {length} bytes: {other:?}"),
        }
    }
    std::fs::copy(folder.join("last/line.safetensors"), &latest).unwrap();
    match refused(config(), settings(), &Line::new(), folder) {
        Error::Format { kind: "checkpoint", found, .. } => assert!(found.contains("without the state"), "{found}"),
        other => panic!("mere weights: {other:?}"),
    }
}

#[test]
fn the_best_epoch_needs_a_metric_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let (line, loader) = (Line::new(), loader(folder.path(), 1));
    let best = Some(BestMetric { name: "auc".to_string(), goal: Goal::Maximize });
    let config = TrainConfig { best, ..config() };
    let mut trainer = Trainer::start(config, settings(), &line, &loader, folder.path()).unwrap();
    match trainer.run(&RUNNING, &mut |event| panic!("before anything is trained: {event:?}")).unwrap_err() {
        Error::Config { what, expected, found } => {
            assert_eq!((what.as_str(), found.as_str()), ("best.name", "auc"));
            assert!(expected.contains("error"), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}

/// Trains briefly under a limit on file size, as if the disk were full.
#[test]
#[ignore = "run by the test below, in a separate process"]
fn child_with_a_full_disk() {
    let Some(folder) = std::env::var_os("SOUNDSIGHT_TEST_FULL_DISK") else { return };
    let folder = Path::new(&folder);
    let (line, loader) = (Line::new(), loader(folder, 1));
    let mut trainer = Trainer::resume(config(), settings(), &line, &loader, folder).unwrap();
    match trainer.run(&RUNNING, &mut |_| ()).unwrap_err() {
        Error::Io { path, action: "write", .. } => assert!(path.starts_with(folder), "{}", path.display()),
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_its_last_checkpoint_intact() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, folder) = (&folder.path().join("whole"), &folder.path().join("full"));
    trained(config(), whole, 1);
    {
        let (line, loader) = (Line::new(), loader(folder, 1));
        Trainer::start(config(), settings(), &line, &loader, folder).unwrap();
    }
    // `ulimit -f` counts blocks of 512 or 1024 bytes: the logs soon exceed eight. The signal for exceeding the limit
    // is ignored, because a full disk does not send one.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact child_with_a_full_disk --ignored"])
        .arg(std::env::current_exe().unwrap())
        .env("SOUNDSIGHT_TEST_FULL_DISK", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));

    // With free space again, the run continues from its last checkpoint and loses nothing.
    let (line, loader) = (Line::new(), loader(folder, 1));
    let mut trainer = Trainer::resume(config(), settings(), &line, &loader, folder).unwrap();
    assert_eq!(trainer.run(&RUNNING, &mut |_| ()).unwrap(), Outcome::Finished);
    assert!(files_of(whole) == files_of(folder));
}
