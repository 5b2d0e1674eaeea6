//! `soundsight localize FILM` where something is amiss: files that are no films, damage, interruptions, full disks.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/films.rs"]
mod films;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::program::{failed, names_in, refused, with_full_disk};
use common::{fixture, soundsight};
use films::{H264, make, pictures, small, tone};
use serde_json::Value;
use soundsight::video::{Film, FrameOptions};

/// The command for `film`, which writes to `out`.
fn localize(film: &Path, out: &Path) -> Command {
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("alt")).arg("--out").arg(out).arg("--json").arg("--").arg(film);
    command
}

/// A film of three minutes, which takes long enough to be interrupted.
fn long(folder: &Path) -> std::path::PathBuf {
    make(folder, "long.mp4", &format!("{} {} {H264} -c:a aac", pictures("320x240", 25.0, 180.0), tone(180.0)))
}

/// Starts the command and waits until it has printed `count` lines.
fn start(command: &mut Command, count: usize) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..count {
        assert!(output.read_line(&mut String::new()).unwrap() > 0);
    }
    // What follows is read so that the program goes on, and thrown away.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    child
}

/// The processes of a process: their numbers, and their command lines.
fn children(parent: u32) -> Vec<(u32, String)> {
    let text = |process: u32, file: &str| std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
    let numbers = std::fs::read_dir("/proc").unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    let belongs = |process: &u32| {
        let status = text(*process, "status");
        String::from_utf8_lossy(&status).lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    let line = |process: u32| String::from_utf8_lossy(&text(process, "cmdline")).replace('\0', " ");
    numbers.filter(belongs).map(|process| (process, line(process))).collect()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// Asserts that these processes end within seconds.
#[track_caller]
fn assert_ended(processes: &[(u32, String)]) {
    for (process, line) in processes {
        for _ in 0..200 {
            // A process without an owner remains as a zombie where nothing collects them.
            let state = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            if state.is_empty() || state.contains("State:\tZ") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let state = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        assert!(state.is_empty() || state.contains("State:\tZ"), "left behind: {line}");
    }
}

/// The lines of a timeline that ends unfinished, without the last; its time must be that of the line before.
#[track_caller]
fn unfinished(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.pop().unwrap();
    assert_eq!(last, serde_json::json!({"unfinished": true, "time": lines.last().unwrap()["time"]}));
    lines
}

const OUTPUTS: [&str; 3] = ["long.localized.mp4", "long.timeline.jsonl", "long.timeline.png"];

#[test]
fn ctrl_c_leaves_whole_files_up_to_there() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = long(folder.path());
    let child = start(&mut localize(&film, out.path()), 20);
    let processes = children(child.id());
    assert!(processes.len() >= 4, "two decode pictures, one sound, one encodes: {processes:?}");
    signal("-INT", child.id());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_ended(&processes);
    assert_eq!(names_in(out.path()), OUTPUTS);
    let lines = unfinished(&out.path().join(OUTPUTS[1]));
    let end = lines.last().unwrap()["time"].as_f64().unwrap();
    assert!(lines.len() >= 20 && end < 179.0);
    let written = Film::open(out.path().join(OUTPUTS[0])).unwrap();
    let last = films::frames(&written, &FrameOptions::default()).last().unwrap().time;
    assert!(last > end - 0.05 && last < end + 0.2, "pictures to {last} s, the timeline to {end} s");
    let sound = films::samples(&written, 0.0, None).len() as f64 / 48_000.0;
    assert!((sound - last).abs() < 0.1, "sound to {sound} s, pictures to {last} s");
    assert!(films::ffprobe(written.path(), "format_tags=comment")[0].starts_with("unfinished"));
    assert!(soundsight::Picture::open(out.path().join(OUTPUTS[2])).is_ok());
}

#[test]
fn an_ffmpeg_that_is_killed_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let film = long(folder.path());
    // The one that writes, and one that reads.
    for writes in [true, false] {
        let out = tempfile::tempdir().unwrap();
        let child = start(&mut localize(&film, out.path()), 10);
        let processes = children(child.id());
        let victim = processes.iter().find(|(_, line)| line.contains("pipe:0") == writes).unwrap();
        signal("-KILL", victim.0);
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("SIGKILL") && message.matches("error:").count() == 1, "{message}");
        assert!(message.contains(if writes { OUTPUTS[0] } else { "long.mp4" }), "{message}");
        assert_ended(&processes);
        // What is left says that it is unfinished.
        unfinished(&out.path().join(OUTPUTS[1]));
        let names = names_in(out.path());
        assert_eq!(names.iter().any(|name| name == OUTPUTS[0]), !writes, "{names:?}");
        assert!(names.iter().all(|name| OUTPUTS.contains(&name.as_str())), "{names:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_work() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = long(folder.path());
    let mut child = localize(&film, out.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && message.contains("standard output: cannot write"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_truncated_film_is_annotated_up_to_there() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let arguments = format!("{} {} {H264} -c:a aac", pictures("320x240", 25.0, 6.0), tone(6.0));
    let whole = std::fs::read(make(folder.path(), "whole.mkv", &arguments)).unwrap();
    let film = folder.path().join("long.mkv");
    std::fs::write(&film, &whole[..whole.len() * 6 / 10]).unwrap();
    failed(&mut localize(&film, out.path()), &["long.mkv", "expected a track of 6.0", "truncated"]);
    assert_eq!(names_in(out.path()), OUTPUTS);
    assert!(unfinished(&out.path().join(OUTPUTS[1])).len() > 10);
    let written = Film::open(out.path().join(OUTPUTS[0])).unwrap();
    assert!(films::frames(&written, &FrameOptions::default()).len() > 50);
}

#[test]
fn files_that_are_no_films() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let film = std::fs::read(small(folder.path(), "film.mp4")).unwrap();
    let silent = make(folder.path(), "silent.mp4", &format!("{} {H264}", pictures("64x48", 25.0, 1.0)));
    let no_frames = format!("{} {} -vf select=0 -c:v ffv1", pictures("64x48", 25.0, 1.0), tone(1.0));
    let no_frames = make(folder.path(), "empty.mkv", &no_frames);
    for (path, parts) in [
        (fixture("alt/clip.wav"), &["no picture given", "clip.wav", "a picture track"][..]),
        (fixture("alt/frame.png"), &["no picture given", "frame.png", "a still picture", "localize SOUND PICTURE"]),
        (folder.path().join("missing.mp4"), &["missing.mp4", "cannot read"]),
        (folder.path().to_path_buf(), &["cannot read"]),
        (file("nothing.mp4", b""), &["nothing.mp4", "an empty file"]),
        (file("text.mp4", &b"Once upon a time ".repeat(100)), &["text.mp4"]),
        (file("cut.mp4", &film[..film.len() / 2]), &["cut.mp4", "moov atom not found"]),
        (silent, &["silent.mp4", "expected a sound track, found none"]),
        (no_frames, &["empty.mkv", "at least one picture"]),
    ] {
        let folder = out.path().join("out");
        refused(&mut localize(&path, &folder), parts);
        assert_eq!(names_in(&folder), [""; 0], "{}", path.display());
    }
}

#[test]
fn without_ffmpeg_the_error_says_what_to_install() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mp4");
    let mut command = localize(&film, &out.path().join("out"));
    let output = refused_with(command.env("PATH", "/nonexistent"));
    assert!(output.contains("apt-get install ffmpeg") && !output.contains("no picture given"), "{output}");
    assert_eq!(names_in(out.path()), [""; 0]);
}

/// The message of a command that must fail before it does anything.
fn refused_with(command: &mut Command) -> String {
    let output = failed(command, &[]);
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let film = small(folder.path(), "film.mp4");
    // A folder that cannot be created, because its parent is a file.
    let out = film.join("out");
    refused(&mut localize(&film, &out), &["film.mp4/out"]);
    let out = folder.path().join("out");
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("alt")).arg("--out").arg(&out);
    command.arg("--save-heatmaps").arg("/nonexistent/heatmaps.safetensors").arg(&film);
    refused(&mut command, &["/nonexistent/heatmaps.safetensors"]);
    assert_eq!(names_in(&out), [""; 0]);
    // A full disk: files may not grow beyond a block, so that writing fails half-way.
    let message = failed(&mut with_full_disk(&localize(&film, &out), 1), &["out/film.", "cannot write"]);
    assert_eq!(names_in(&out), [""; 0], "{}", String::from_utf8_lossy(&message.stderr));
}
