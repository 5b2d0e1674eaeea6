//! `soundsight prepare` as a user runs it: interruptions, shards, and what `train` and `evaluate` make of the result.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/films.rs"]
mod films;
mod prepare_films;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::program::{failed, names_in, refused, stdout};
use common::{fixture, soundsight};
use prepare_films::{assert_same, flawed_films, good_films, gzip, results, tar, tree, zip};

/// The command for spans of two seconds.
fn prepare(films: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = soundsight("prepare");
    command.arg(films).arg("--out").arg(out).args(["--seconds", "2"]).args(more);
    command
}

/// The number of films that are done.
fn done(out: &Path) -> usize {
    let journal = std::fs::read_to_string(out.join(".prepare/1-of-1.jsonl")).unwrap_or_default();
    journal.matches('\n').count()
}

/// Starts the command, and ends it with this signal once `count` films are done.
fn interrupt(command: &mut Command, out: &Path, count: usize, signal: &str) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while done(out) < count && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child
}

#[cfg(unix)]
#[test]
fn a_run_that_was_killed_goes_on_and_ends_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 14);
    flawed_films(folder.path(), &films);
    let archive = folder.path().join("films.tar.gz");
    std::fs::write(&archive, gzip(&tar(&films))).unwrap();
    let whole = folder.path().join("whole");
    stdout(&mut prepare(&films, &whole, &[]));
    let expected = tree(&whole);
    for (source, jobs) in [(&films, "2"), (&archive, "3")] {
        let out = folder.path().join(format!("killed{jobs}"));
        let mut last = 0;
        for count in [2, 9] {
            interrupt(&mut prepare(source, &out, &["--jobs", jobs]), &out, count, "-KILL").wait().unwrap();
            // What is there is complete, and nothing else is there.
            for (name, bytes) in results(&out) {
                assert!(expected[&name] == bytes, "{name} is not complete");
            }
            assert!(done(&out) >= last, "what was done is forgotten");
            last = done(&out);
        }
        let noted = std::fs::read_to_string(out.join(".prepare/1-of-1.jsonl")).unwrap();
        let time = |name: &str| std::fs::metadata(out.join(name)).and_then(|file| file.modified()).ok();
        let is_noted = |id: &str| noted.contains(&format!("\"id\":\"{id}\""));
        let times: Vec<_> = (0..14).map(|k| format!("f{k:02}")).filter(|id| is_noted(id)).collect();
        let before: Vec<_> = times.iter().map(|id| time(&format!("audio/{id}.wav"))).collect();
        assert!(!before.is_empty());
        stdout(&mut prepare(source, &out, &["--jobs", jobs]));
        let after: Vec<_> = times.iter().map(|id| time(&format!("audio/{id}.wav"))).collect();
        assert_eq!(before, after, "something was done twice");
        assert_same(&tree(&out), &expected);
    }
}

#[cfg(unix)]
#[test]
fn control_c_finishes_what_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 12);
    let out = folder.path().join("out");
    let child = interrupt(&mut prepare(&films, &out, &["--jobs", "1"]), &out, 1, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = 12 - done(&out);
    assert!(said.contains(&format!("stopped with {left} films left")), "{said}");
    assert!(!out.join("train.csv").exists());
    let said = stdout(&mut prepare(&films, &out, &[]));
    assert!(said.contains("prepared    12 of 12 films: 12 pictures, 24 s of sound"), "{said}");
}

#[test]
fn a_full_disk_is_named_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 4);
    let (out, whole) = (folder.path().join("out"), folder.path().join("whole"));
    stdout(&mut prepare(&films, &whole, &[]));
    // There is enough space for pictures, but not for sounds of 64 kB.
    let mut full = common::program::with_full_disk(&prepare(&films, &out, &[]), 40);
    failed(&mut full, &["audio/f0", "cannot write"]);
    assert_eq!(names_in(&out.join("audio")), [""; 0]);
    stdout(&mut prepare(&films, &out, &[]));
    assert_same(&tree(&out), &tree(&whole));
}

#[test]
fn shards_together_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 7);
    flawed_films(folder.path(), &films);
    let archive = folder.path().join("films.zip");
    zip(&films, &archive);
    let (out, whole) = (folder.path().join("out"), folder.path().join("whole"));
    stdout(&mut prepare(&films, &whole, &[]));
    for (shard, waiting) in [("2/3", "1/3, 3/3"), ("3/3", "1/3")] {
        let said = stdout(&mut prepare(&archive, &out, &["--shard", shard]));
        assert!(
            said.contains(&format!("shard {shard} is done")) && said.contains(&format!("of {waiting} are left")),
            "{said}"
        );
        assert!(!out.join("train.csv").exists());
    }
    let said = stdout(&mut prepare(&archive, &out, &["--shard", "1/3"]));
    assert!(said.contains("prepared    7 of 19 films"), "{said}");
    assert_same(&results(&out), &results(&whole));
    // Nothing is left for anyone.
    let said = stdout(&mut prepare(&films, &out, &[]));
    assert!(said.contains("prepared    7 of 19 films"), "{said}");
    assert_same(&results(&out), &results(&whole));

    // All at the same time: the last one writes the lists.
    let out = folder.path().join("together");
    let children: Vec<Child> = ["1/3", "2/3", "3/3"]
        .map(|shard| prepare(&films, &out, &["--shard", shard]).stdout(Stdio::null()).spawn().unwrap())
        .into();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    assert_same(&results(&out), &results(&whole));
    for shard in ["0/3", "4/3", "1", "x"] {
        refused(&mut prepare(&films, &out, &["--shard", shard]), &["--shard", "I/N", shard]);
    }
}

/// Annotations of VGG-SS for these films.
fn annotations(folder: &Path, ids: &[&str]) -> PathBuf {
    let entries: Vec<String> =
        ids.iter().map(|id| format!("{{\"file\":\"{id}\",\"class\":\"x\",\"bbox\":[[0.1,0.1,0.6,0.6]]}}")).collect();
    let path = folder.join("vggss.json");
    std::fs::write(&path, format!("[{}]", entries.join(","))).unwrap();
    path
}

#[test]
fn train_and_evaluate_read_what_was_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 8);
    let out = folder.path().join("out");
    let list = folder.path().join("list.csv");
    let rows: String = (0..8).map(|k| format!("f{k:02},sound {},{}\n", k % 3, "")).collect();
    std::fs::write(&list, rows.replace(",\n", "\n")).unwrap();
    let said = stdout(&mut prepare(&films, &out, &["--list", list.to_str().unwrap()]));
    let next = said.lines().find_map(|line| line.strip_prefix("next        soundsight train ")).unwrap();
    let mut train = soundsight("train");
    train.args(next.replace("--out RUN", "--steps 1 --batch 4 --accumulate 1 --val-fraction 0 --workers 1").split(' '));
    train.arg("--model").arg(fixture("alt")).arg("--out").arg(folder.path().join("run"));
    assert!(stdout(&mut train).contains("finished after 1 steps"));

    // Several pictures a film.
    let several = folder.path().join("several");
    let said = stdout(&mut prepare(&films, &several, &["--pictures", "2"]));
    let next = said.lines().find_map(|line| line.strip_prefix("next        soundsight train ")).unwrap();
    let mut train = soundsight("train");
    train.args(next.replace("--out RUN", "--steps 1 --batch 4 --accumulate 1 --val-fraction 0 --workers 1").split(' '));
    train.arg("--model").arg(fixture("alt")).arg("--out").arg(folder.path().join("run2"));
    assert!(stdout(&mut train).contains("finished after 1 steps"));

    let benchmark = folder.path().join("benchmark");
    let options = ["--benchmark", "vggss", "--frame", "30", "--list", list.to_str().unwrap()];
    let said = stdout(&mut prepare(&films, &benchmark, &options));
    assert!(said.contains("test.csv") && !said.contains("next"), "{said}");
    let annotations = annotations(folder.path(), &["f00", "f03", "f07"]);
    let mut evaluate = soundsight("evaluate");
    evaluate.args(["--benchmark", "vggss", "--annotations"]).arg(&annotations).arg("--data").arg(&benchmark);
    let said = stdout(evaluate.arg("--model").arg(fixture("alt")));
    assert!(said.contains("3 of 3 samples scored"), "{said}");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 1);
    let out = folder.path().join("out");
    for (options, parts) in [
        (&["--frame", "125"][..], &["frame", "within the span of 2 s", "after 5.000 s"][..]),
        (&["--fps", "10"], &["--frame"]),
        (&["--frame", "1", "--pictures", "2"], &["--frame", "--pictures"]),
        (&["--pictures", "0"], &["pictures", "1 to 1000"]),
        (&["--min-seconds", "3"], &["min_seconds", "at most 2", "3"]),
        (&["--from=-1"], &["from", "0 s or more", "-1"]),
        (&["--split", "test"], &["--list"]),
        (&["--list", "absent.csv"], &["absent.csv"]),
        (&["--keep", "broken"], &["--keep", "silent", "still"]),
        (&["--benchmark", "coco"], &["--benchmark", "vggss"]),
    ] {
        refused(&mut prepare(&films, &out, options), parts);
        assert!(!out.exists(), "{options:?} left something behind");
    }
    refused(soundsight("prepare").arg("--out").arg(&out), &["FILMS"]);
    // Nothing but flawed films.
    failed(
        &mut prepare(&films, &out, &["--min-seconds", "2", "--from", "1"]),
        &["none of 1 films", "1 short", "flaws.csv"],
    );
}
