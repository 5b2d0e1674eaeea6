//! A run that is repeatedly killed and resumed gives the same result as an uninterrupted one, bit for bit (the number
//! of threads is the same throughout).
#![cfg(feature = "train")]
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod train_toy;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use soundsight::train::{Length, Outcome, TrainConfig, TrainEvent, Trainer};
use train_toy::{Line, config, files_of, loader};

/// The environment variable with the folder in which the child process trains.
const FOLDER: &str = "SOUNDSIGHT_TEST_RUN_FOLDER";
const KILLS: usize = 10;

fn long_config() -> TrainConfig {
    TrainConfig { length: Length::Epochs(20), ..config() }
}

/// Trains to the end in `folder`, from its latest checkpoint if there is one.
fn train(folder: &Path, pause: Duration) {
    let (line, loader) = (Line::new(), loader(folder, 2));
    let settings = serde_json::json!({ "model": "line" });
    let mut trainer = if folder.join("checkpoints/latest").exists() {
        Trainer::resume(long_config(), settings, &line, &loader, folder).unwrap()
    } else {
        Trainer::start(long_config(), settings, &line, &loader, folder).unwrap()
    };
    let mut wait = |event: TrainEvent<'_>| {
        if let TrainEvent::Step(_) = event {
            std::thread::sleep(pause);
        }
    };
    assert_eq!(trainer.run(&AtomicBool::new(false), &mut wait).unwrap(), Outcome::Finished);
}

/// The process that the test below kills; on its own, it does nothing.
#[test]
#[ignore = "run by the test below, in a separate process"]
fn child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        train(Path::new(&folder), Duration::from_millis(4));
    }
}

#[test]
fn killed_and_resumed_equals_uninterrupted() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    train(&whole, Duration::ZERO);

    let lines = || std::fs::read_to_string(killed.join("metrics.jsonl")).unwrap_or_default().lines().count();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut kills = 0;
    for round in 0.. {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--test-threads=1"])
            .env(FOLDER, &killed)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if round < KILLS {
            // Kill it within the next steps, at any point of a step, a validation or a checkpoint.
            let target = lines() + rng.random_range(0..16);
            while lines() < target && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        if status.signal() == Some(9) {
            kills += 1;
            continue;
        }
        assert!(status.success(), "{status}");
        break;
    }
    assert!(kills >= 3, "only {kills} of {KILLS} attempts hit a running process");

    let (whole, killed) = (files_of(&whole), files_of(&killed));
    assert_eq!(whole.keys().collect::<Vec<_>>(), killed.keys().collect::<Vec<_>>());
    assert!(whole.contains_key("best/line.safetensors") && whole.contains_key("samples/epoch-19/fit_line.png"));
    for (name, bytes) in &whole {
        assert!(*bytes == killed[name], "{name} differs");
    }
    let text = String::from_utf8(whole["bad_pairs.csv"].clone()).unwrap();
    assert!(text.contains("point-17"), "{text}");
}
