//! `soundsight` under `mpirun`: two processes compute what one does, and the job ends with one message when one of them
//! fails. Needs Open MPI (Debian's `libopenmpi-dev`, `openmpi-bin`).
#![cfg(feature = "mpi")]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // the kill test says where it hit

mod common;
mod train_media;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::program::names_in;
use common::{fixture, max_difference, soundsight};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;
use train_media::write_pairs;

/// No job of these tests takes longer, whatever happens to its processes.
const LIMIT: Duration = Duration::from_secs(120);
/// Steps in an epoch of the runs in batches of four.
const STEPS_PER_EPOCH: u64 = 3;
/// The bias that no loss depends on: its gradient is rounding error, which Adam turns into full steps.
const WITHOUT_EFFECT: &str = "audio_proj.fga.un_models.0.feature_reduce.bias";

/// `mpirun` of `size` processes of one thread on this machine.
fn mpirun(size: usize, command: &Command) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", &size.to_string()]);
    mpirun.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => mpirun.env(name, value),
            None => mpirun.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        mpirun.current_dir(folder);
    }
    mpirun.env("RAYON_NUM_THREADS", "1");
    mpirun
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a job, which must end in time.
fn end(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("the job did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = end(start(command));
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The job fails with a single message, which contains all of `parts`.
#[track_caller]
fn fails(command: &mut Command, parts: &[&str]) {
    let output = end(start(command));
    let message = text(&output.stderr);
    assert!(!output.status.success() && !message.contains("panicked"), "{message}");
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    let line = message.lines().find(|line| line.starts_with("error:")).unwrap();
    for part in parts {
        assert!(line.contains(part), "expected {part:?} in: {message}");
    }
}

/// A folder with `data/` (sixteen pairs) and room for runs.
struct Set(TempDir);

impl Set {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_pairs(&folder.path().join("data"), 16);
        Self(folder)
    }

    fn run(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Training with validation, in batches of four: three steps an epoch.
    fn train(&self, run: &str, more: &[&str]) -> Command {
        let mut command = soundsight("train");
        command.arg("--model").arg(fixture("mini")).args([
            "--device",
            "cpu",
            "--workers",
            "1",
            "--val-fraction",
            "0.2",
        ]);
        command.arg("--data").arg(self.run("data")).arg("--out").arg(self.run(run)).args(more);
        command.env("RAYON_NUM_THREADS", "1");
        command
    }

    fn weights(&self, run: &str) -> Vec<u8> {
        std::fs::read(self.run(run).join("last/acl.safetensors")).unwrap()
    }

    fn log(&self, run: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.run(run).join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[test]
fn two_processes_train_as_one_does() {
    let set = Set::new();
    for (negatives, batch) in
        [("local", ["--batch", "3", "--accumulate", "2"]), ("global", ["--batch", "4", "--accumulate", "1"])]
    {
        let options = [&batch[..], &["--steps", "6", "--negatives", negatives]].concat();
        let run = |size: usize| format!("{negatives}-{size}");
        succeeds(&mut set.train(&run(0), &options));
        for size in [1, 2] {
            let said = succeeds(&mut mpirun(size, &set.train(&run(size), &options)));
            assert_eq!(said.matches("finished after 6 steps").count(), 1, "{said}");
        }
        assert!(set.weights(&run(0)) == set.weights(&run(1)), "mpirun -n 1 computes something else");
        for (one, two) in set.log(&run(0)).iter().zip(set.log(&run(2))) {
            assert_eq!((&one["split"], &one["step"]), (&two["split"], &two["step"]));
            let (a, b) = (one["loss"].as_f64().unwrap(), two["loss"].as_f64().unwrap());
            assert!((a - b).abs() < 1e-4, "{negatives}: {one} {two}");
        }
        let read = |size| {
            candle_core::safetensors::load(set.run(&run(size)).join("last/acl.safetensors"), &candle_core::Device::Cpu)
        };
        let (one, two) = (read(0).unwrap(), read(2).unwrap());
        for (name, one) in &one {
            let difference = max_difference(one, &two[name]);
            assert!(difference < 1e-4 || name == WITHOUT_EFFECT, "{negatives}, {name}: off by {difference}");
        }
    }
}

#[test]
fn a_failure_is_told_once_with_the_process_and_the_cause() {
    let set = Set::new();
    let job = |run: &str, more: &[&str]| mpirun(2, &set.train(run, more));
    fails(&mut job("run", &["--accumulate", "3", "--batch", "3"]), &["process 0", "--accumulate", "multiple of 2"]);
    fails(&mut job("run", &["--resume"]), &["process 0", "no run to resume"]);
    let absent = ["--split", "absent.csv"];
    fails(&mut job("run", &absent), &["process 0", "absent.csv", "cannot read"]);
    assert!(!set.run("run").exists());

    let options = ["--batch", "4", "--accumulate", "1", "--negatives", "global", "--save-every", "1"];
    succeeds(&mut job("run", &[&options[..], &["--steps", "1"]].concat()));
    // Sounds break during the run: one of the processes meets the first of them.
    let data = set.run("data/audio");
    let sounds: Vec<(PathBuf, Vec<u8>)> =
        names_in(&data).into_iter().map(|name| (data.join(&name), std::fs::read(data.join(&name)).unwrap())).collect();
    sounds.iter().for_each(|(path, _)| std::fs::write(path, "no sound").unwrap());
    let more = [&options[..], &["--steps", "6", "--resume"]].concat();
    fails(&mut job("run", &more), &["process ", " on ", "max_bad", "bad_pairs.csv"]);
    sounds.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    std::fs::remove_file(set.run("run/bad_pairs.csv")).unwrap();

    let mut full = common::program::with_full_disk(&set.train("run", &more), 100);
    full.env("RAYON_NUM_THREADS", "1");
    fails(&mut mpirun(2, &full), &["process 0", "/run/", "cannot write"]);
    succeeds(&mut job("run", &more));
    succeeds(&mut job("whole", &[&options[..], &["--steps", "6"]].concat()));
    assert!(set.weights("run") == set.weights("whole"), "a run that failed ends elsewhere");

    // With another number of processes, up to rounding.
    succeeds(&mut job("half", &[&options[..], &["--steps", "3"]].concat()));
    let output = end(start(&mut set.train("half", &more)));
    let message = text(&output.stderr);
    assert!(output.status.success() && message.contains("had 2 processes and continues with 1"), "{message}");
}

/// The processes that `mpirun` with this id has started.
fn ranks(mpirun: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let entries =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut ranks: Vec<u32> = entries.filter(|pid| parent(*pid) == Some(mpirun)).collect();
    ranks.sort_unstable();
    ranks
}

/// Whether a process has found the others, after which its watch begins. Before that, Open MPI's own `mpirun` may wait for
/// ever for a process that was killed.
fn has_joined(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let name =
        |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.ok()?.path().join("comm")).ok();
    threads.filter_map(name).any(|name| name.trim() == "watch")
}

fn signal(name: &str, pid: u32) -> bool {
    Command::new("kill").args([name, &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
}

/// What a run is doing when one of its processes is killed.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Reading,
    Step,
    Checkpoint,
    Validation,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Reading, Self::Step, Self::Checkpoint, Self::Validation];

    /// Waits until `job`, which trains in the folder `run` of `set` and had logged `before` lines when it was started, is in
    /// this phase. `false` if it ended first.
    fn wait(self, job: &mut Child, set: &Set, run: &str, before: usize) -> bool {
        let checkpoints = set.run(run).join("checkpoints");
        while job.try_wait().unwrap().is_none() {
            let log = set.log(run);
            let step = log.last().filter(|line| line["split"] == "train").and_then(|line| line["step"].as_u64());
            // The last step is in a checkpoint, so what follows has begun.
            let saved = || {
                let latest = std::fs::read_to_string(checkpoints.join("latest")).unwrap_or_default();
                step.is_some_and(|step| latest.contains(&format!("{step:08}.")))
            };
            let last_of_epoch = step.is_some_and(|step| step.is_multiple_of(STEPS_PER_EPOCH));
            let is_here = match self {
                Self::Reading => {
                    let ranks = ranks(job.id());
                    ranks.len() == 2 && ranks.into_iter().all(has_joined)
                }
                Self::Step => log.len() > before && !last_of_epoch && saved(),
                Self::Checkpoint => {
                    log.len() > before
                        && checkpoints.exists()
                        && names_in(&checkpoints).iter().any(|name| name.starts_with('.'))
                }
                Self::Validation => log.len() > before && last_of_epoch && saved(),
            };
            if is_here {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }
}

/// Kills a process while it reads, makes a step, writes a checkpoint or validates, in turn. `SOUNDSIGHT_TEST_KILLS` is the
/// number of times.
#[test]
fn killed_processes_never_hang_the_job_or_break_a_file() {
    let set = Set::new();
    let options = ["--batch", "4", "--accumulate", "1", "--negatives", "global", "--epochs", "4", "--save-every", "1"];
    succeeds(&mut mpirun(2, &set.train("whole", &options)));
    let kills: usize = std::env::var("SOUNDSIGHT_TEST_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut hits = Vec::new();
    loop {
        let begun = set.run("killed/checkpoints/latest").exists();
        if !begun && set.run("killed").exists() {
            std::fs::remove_dir_all(set.run("killed")).unwrap();
        }
        let more = if begun { &["--resume"][..] } else { &[] };
        let before = set.log("killed").len();
        let mut job = start(&mut mpirun(2, &set.train("killed", &[&options[..], more].concat())));
        if hits.len() < kills {
            let phase = Phase::ALL[hits.len() % Phase::ALL.len()];
            if phase.wait(&mut job, &set, "killed", before) {
                // Reading follows the start of the program; the other phases have just begun.
                let delay = if matches!(phase, Phase::Reading) { 30 } else { 3 };
                std::thread::sleep(Duration::from_micros(rng.random_range(0..1000 * delay)));
                let ranks = ranks(job.id());
                if !ranks.is_empty() && signal("-KILL", ranks[rng.random_range(0..ranks.len())]) {
                    hits.push((phase, set.log("killed").len()));
                }
            }
        }
        let output = end(job);
        let message = text(&output.stderr);
        if output.status.success() {
            if hits.len() >= kills {
                break;
            }
            // It was too fast: once more from the beginning.
            std::fs::remove_dir_all(set.run("killed")).unwrap();
            continue;
        }
        assert!(message.contains("process rank") && message.contains("signal 9"), "{message}");
        assert!(!message.contains("unusable checkpoint"), "{message}");
    }
    println!("kills, with the lines of the log at each: {hits:?}");
    assert!(set.weights("whole") == set.weights("killed"), "a run that was killed ends elsewhere");
    assert_eq!(set.log("whole"), set.log("killed"));
}

#[test]
fn a_process_that_hangs_is_named_in_time() {
    let set = Set::new();
    let options =
        ["--batch", "4", "--accumulate", "1", "--epochs", "1000", "--negatives", "global", "--mpi-timeout", "3"];
    let job = start(&mut mpirun(2, &set.train("run", &options)));
    while set.log("run").len() < 3 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (started, ranks) = (Instant::now(), ranks(job.id()));
    assert!(signal("-STOP", ranks[1]));
    let output = end(job);
    signal("-KILL", ranks[1]);
    let message = text(&output.stderr);
    assert!(!output.status.success() && message.contains("process 1 on "), "{message}");
    assert!(message.contains("no answer for 3 s (--mpi-timeout)"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn bulk_work_is_shared() {
    let set = Set::new();
    let pairs = |out: &str| {
        let mut command = soundsight("localize");
        command.arg("--pairs").arg(set.run("data/pairs.csv")).arg("--out").arg(set.run(out)).arg("--json");
        command.arg("--model").arg(fixture("alt")).env("RAYON_NUM_THREADS", "1");
        command
    };
    let lines = |said: String, out: &str| {
        let lines = said.lines().map(|line| line.replace(&*set.run(out).to_string_lossy(), ""));
        lines.collect::<Vec<String>>()
    };
    let one = lines(succeeds(&mut pairs("one")), "one");
    assert_eq!(lines(succeeds(&mut mpirun(2, &pairs("two"))), "two"), one);
    let files = |out: &str| -> Vec<Vec<u8>> {
        names_in(&set.run(out)).into_iter().map(|name| std::fs::read(set.run(out).join(name)).unwrap()).collect()
    };
    assert!(files("one").len() >= 16 && files("one") == files("two"));
}

#[test]
fn a_benchmark_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_pairs(folder, 40);
    let annotations: Vec<_> = (0..40)
        .map(|k| serde_json::json!({"file": format!("p{k}"), "class": "tone", "bbox": [[0.1, 0.2, 0.6, 0.7]]}))
        .collect();
    std::fs::write(folder.join("vggss.json"), serde_json::to_vec(&annotations).unwrap()).unwrap();
    let command = |more: &[&str]| {
        let mut command = soundsight("evaluate");
        command.args(["--benchmark", "vggss", "--annotations", "vggss.json", "--data", ".", "--model"]);
        command.arg(fixture("alt")).args(more).current_dir(folder).env("RAYON_NUM_THREADS", "1");
        command
    };
    let table = succeeds(&mut command(&[]));
    fails(&mut mpirun(2, &command(&[])), &["--save-predictions"]);
    assert_eq!(succeeds(&mut mpirun(2, &command(&["--save-predictions", "all"]))), table);
    let parts = names_in(folder).into_iter().filter(|name| name.starts_with("all.")).collect::<Vec<_>>();
    assert_eq!(parts, ["all.1-of-2", "all.2-of-2"]);
}
