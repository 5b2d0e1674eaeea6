//! `soundsight localize FILM` as a user runs it: the annotated film, the timeline, and the options.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/films.rs"]
mod films;

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use common::program::{names_in, refused, stdout};
use common::{fixture, soundsight};
use films::{H264, beep_times, beeps, ffprobe, flash_times, flashes, make, pictures, small, tone};
use serde_json::Value;
use soundsight::Picture;
use soundsight::video::{Film, FrameOptions};

/// The files that a film of this name becomes.
fn outputs(name: &str) -> [String; 3] {
    [".localized.mp4", ".timeline.jsonl", ".timeline.png"].map(|ending| format!("{name}{ending}"))
}

/// The command for `film`, which writes to `out`.
fn localize(film: &Path, out: &Path) -> Command {
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("alt")).arg("--out").arg(out).arg("--").arg(film);
    command
}

/// The command with options before the film.
fn with(options: &[&str], film: &Path, out: &Path) -> Command {
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("alt")).arg("--out").arg(out).args(options).arg(film);
    command
}

/// The lines of a timeline, each of which must have exactly the documented keys, in order.
#[track_caller]
fn timeline(text: &str, (width, height): (u64, u64)) -> Vec<Value> {
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, text) in lines.iter().zip(text.lines()) {
        let mut places: Vec<usize> = ["time", "peak", "boxes", "area", "confidence", "sounding", "cut"]
            .map(|key| text.find(key).unwrap())
            .into();
        assert!(places.is_sorted() && places.remove(0) == 2, "{text}");
        assert_eq!(line.as_object().unwrap().len(), 7, "{text}");
        let number = |value: &Value| value.as_u64().unwrap();
        assert!(number(&line["peak"]["x"]) < width && number(&line["peak"]["y"]) < height, "{text}");
        assert_eq!(line["peak"].as_object().unwrap().len(), 3, "{text}");
        for found in line["boxes"].as_array().unwrap() {
            assert!(number(&found["x"]) + number(&found["width"]) <= width, "{text}");
            assert!(number(&found["y"]) + number(&found["height"]) <= height, "{text}");
        }
        assert!((0.0..=1.0).contains(&line["area"].as_f64().unwrap()), "{text}");
        assert!((-1.0..=1.0).contains(&line["confidence"].as_f64().unwrap()), "{text}");
        assert!(line["sounding"].is_boolean() && line["cut"].is_boolean(), "{text}");
    }
    lines
}

/// The times of the lines.
fn times(lines: &[Value]) -> Vec<f64> {
    lines.iter().map(|line| line["time"].as_f64().unwrap()).collect()
}

#[track_caller]
fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_film_becomes_a_film_a_timeline_and_a_picture() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mp4");
    let out = out.path().join("made/on/the/way");
    let said = stdout(&mut localize(&film, &out));
    assert_eq!(names_in(&out), outputs("film"));
    for part in ["analysed    15 moments, ", "sounding", "written", "film.localized.mp4, ", "film.timeline.png"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }

    let lines = timeline(&read(&out, "film.timeline.jsonl"), (64, 48));
    let expected: Vec<f64> = (0..15).map(|n| f64::from(n) / 5.0).collect();
    assert!(times(&lines).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.021) && lines.len() == 15);

    let written = out.join("film.localized.mp4");
    let entries = "stream=width,height,r_frame_rate,nb_frames";
    assert_eq!(ffprobe(&written, entries), ffprobe(&film, entries));
    let (before, after) = (Film::open(&film).unwrap(), Film::open(&written).unwrap());
    assert!((before.info().seconds - after.info().seconds).abs() < 0.02);
    assert_eq!(before.info().sound, after.info().sound);
    films::assert_times(&films::true_times(&written), &films::true_times(&film));
    // The sound is the same, sample by sample.
    assert!(films::samples(&before, 0.0, None) == films::samples(&after, 0.0, None));
    let picture = Picture::open(out.join("film.timeline.png")).unwrap();
    assert_eq!(picture.width(), 1600);
    assert!(picture.height() > 300);
}

#[test]
fn the_heatmap_is_painted_where_something_sounds_and_a_strip_at_the_bottom() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // With the random model, the first film sounds and the second one does not.
    for (source, sounds) in [("mandelbrot", true), ("testsrc2", false)] {
        let sources = format!("-f lavfi -i {source}=size=64x48:rate=25 {} -t 2", tone(2.0));
        let film = make(folder.path(), "film.mp4", &format!("{sources} {H264} -crf 10 -c:a aac"));
        stdout(&mut localize(&film, &out));
        let lines = timeline(&read(&out, "film.timeline.jsonl"), (64, 48));
        assert!(lines.iter().all(|line| line["sounding"] == sounds), "{source}");
        let frame = |path: &Path| films::frames(&Film::open(path).unwrap(), &FrameOptions::default()).swap_remove(40);
        let (before, after) = (frame(&film).picture, frame(&out.join("film.localized.mp4")).picture);
        // How far the pixels of these rows are from what they were, in levels.
        let difference = |rows: std::ops::Range<usize>| {
            let bytes = rows.start * 64 * 3..rows.end * 64 * 3;
            let pairs = before.pixels()[bytes.clone()].iter().zip(&after.pixels()[bytes]);
            pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / (rows.len() * 64 * 3) as f64
        };
        let (above, strip) = (difference(0..40), difference(45..48));
        assert!((above > 10.0) == sounds && strip > 20.0, "{source}: {above} and {strip}");
    }
}

#[test]
fn the_lines_are_printed_as_they_are_written() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mkv");
    let said = stdout(&mut with(&["--json", "--no-film"], &film, out.path()));
    assert_eq!(names_in(out.path()), outputs("film")[1..]);
    assert_eq!(said, read(out.path(), "film.timeline.jsonl"));
    assert_eq!(timeline(&said, (64, 48)).len(), 15);
}

/// The times at which the picture becomes bright, whatever is painted over it.
fn painted_flash_times(film: &Film) -> Vec<f64> {
    let frames = films::frames(film, &FrameOptions::default());
    let light = |picture: &Picture| picture.pixels().iter().map(|&p| f64::from(p)).sum::<f64>();
    let light: Vec<f64> = frames.iter().map(|frame| light(&frame.picture)).collect();
    let (low, high) = light.iter().fold((f64::MAX, 0.0_f64), |(low, high), &l| (low.min(l), high.max(l)));
    let bright: Vec<bool> = light.iter().map(|&light| light > (low + high) / 2.0).collect();
    let begins = |n: &usize| bright[*n] && (*n == 0 || !bright[n - 1]);
    (0..frames.len()).filter(begins).map(|n| frames[n].time).collect()
}

/// Asserts that flashes and beeps begin together, to 20 ms, and at `times` to 45 ms.
#[track_caller]
fn assert_painted_in_step(film: &Film, times: &[f64]) {
    let (flashes, beeps) = (painted_flash_times(film), beep_times(film));
    let close = |a: &[f64], b: &[f64], by: f64| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= by);
    let in_step = close(&flashes, &beeps, 0.02) && close(&flashes, times, 0.045);
    assert!(in_step, "flashes {flashes:?}, beeps {beeps:?}, expected {times:?}");
}

#[test]
fn sound_and_picture_stay_in_step() {
    let folder = tempfile::tempdir().unwrap();
    for (name, codecs) in
        [("aac.mp4", H264.to_string() + " -c:a aac"), ("vorbis.mkv", H264.to_string() + " -c:a libvorbis")]
    {
        let film = make(folder.path(), name, &format!("{} {} {codecs}", flashes(4.0), beeps(4.0)));
        let out = folder.path().join("out");
        let stem = name.split('.').next().unwrap();
        let written = out.join(format!("{stem}.localized.mp4"));
        stdout(&mut localize(&film, &out));
        let opened = Film::open(&film).unwrap();
        assert_painted_in_step(&Film::open(&written).unwrap(), &flash_times(&opened));
        stdout(&mut with(&["--from", "0.5", "--to", "3.5"], &film, &out));
        let part = Film::open(&written).unwrap();
        assert_painted_in_step(&part, &[0.5, 1.5, 2.5]);
        assert!((part.info().seconds - 3.0).abs() < 0.05, "{:?}", part.info());
        let lines = timeline(&read(&out, &format!("{stem}.timeline.jsonl")), (64, 48));
        assert!(times(&lines).iter().all(|time| (0.5..3.5).contains(time)) && lines.len() == 16, "{:?}", times(&lines));
    }
}

#[test]
fn films_that_are_turned_odd_or_of_varying_rate() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let sources = |size: &str| format!("{} {}", pictures(size, 25.0, 2.0), tone(2.0));
    let plain = make(folder.path(), "plain.mp4", &format!("{} {H264} -c:a aac", sources("80x48")));
    let turned = films::turned(folder.path(), &plain);
    let odd = make(folder.path(), "odd.mkv", &format!("{} -c:v ffv1", sources("85x47")));
    let varying = format!("{} -vf select='not(mod(n,7))+gt(t,1)' -vsync vfr {H264}", sources("80x48"));
    let varying = make(folder.path(), "varying.mkv", &varying);
    for (film, size, encoded) in [(turned, (48, 80), "48,80"), (odd, (85, 47), "86,48"), (varying, (80, 48), "80,48")] {
        stdout(&mut localize(&film, &out));
        let name = film.file_stem().unwrap().to_str().unwrap();
        let written = out.join(format!("{name}.localized.mp4"));
        // Odd sides cannot be encoded; the pictures get another column or row.
        assert_eq!(ffprobe(&written, "stream=width,height"), [encoded], "{name}");
        assert_eq!(Film::open(&written).unwrap().info().rotation, 0);
        let (first, last) = (films::true_times(&film), films::true_times(&written));
        assert!(first.len() == last.len() && first.iter().zip(&last).all(|(a, b)| (a - b).abs() < 2e-3), "{name}");
        let lines = timeline(&read(&out, &format!("{name}.timeline.jsonl")), size);
        assert!((9..=10).contains(&lines.len()), "{name}: {}", lines.len());
    }
}

#[test]
fn options_change_the_analysis() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mkv");
    let run = |options: &[&str]| {
        let said = stdout(&mut with(&[options, &["--json", "--no-film"]].concat(), &film, out.path()));
        timeline(&said, (64, 48))
    };
    let usual = run(&[]);
    assert_eq!(run(&[]), usual);
    assert_eq!(run(&["--fps", "10"]).len(), 30);
    assert_eq!(run(&["--fps", "0.5"]).len(), 2);
    assert_ne!(run(&["--window", "0.3"]), usual);
    let alone = run(&["--no-smoothing"]);
    assert_eq!(times(&alone), times(&usual));
    assert_ne!(alone, usual);
    let area = |lines: &[Value]| lines.iter().map(|line| line["area"].as_f64().unwrap()).sum::<f64>();
    assert!(area(&run(&["--threshold", "0.6"])) < area(&usual));
    assert_eq!(times(&run(&["--from", "1", "--to", "2"])).len(), 5);
}

#[test]
fn heatmaps_are_saved() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mkv");
    let file = out.path().join("heatmaps.safetensors");
    stdout(&mut with(&["--no-film", "--save-heatmaps", file.to_str().unwrap()], &film, out.path()));
    let tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    assert_eq!(tensors["time"].dims(), [15]);
    let [15, side, same] = *tensors["heatmap"].dims() else { panic!("{:?}", tensors["heatmap"]) };
    assert_eq!(side, same);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let film = small(folder.path(), "film.mp4");
    let heatmaps = folder.path().join("heatmaps.safetensors");
    for options in [
        &["--fps", "5"][..],
        &["--window", "1"],
        &["--from", "0"],
        &["--to", "2"],
        &["--no-film"],
        &["--no-smoothing"],
        &["--save-heatmaps", heatmaps.to_str().unwrap()],
    ] {
        let mut command = with(options, &fixture("alt/clip.wav"), out.path());
        refused(command.arg(fixture("alt/frame.png")), &[options[0], "cannot be used with"]);
    }
    for (options, parts) in [
        (&["--start", "1"][..], &["--start", "--from"][..]),
        (&["--save-tensors", "x"], &["--save-tensors", "--save-heatmaps"]),
        (&["--from", "9"], &["--from", "9"]),
        (&["--from", "2", "--to", "1"], &["--from", "2"]),
        (&["--fps", "0"], &["--fps", "rate", "0"]),
        (&["--fps", "NaN"], &["--fps", "NaN"]),
        (&["--window", "1000"], &["--window", "1000"]),
        (&["--threshold", "2"], &["threshold", "2"]),
    ] {
        refused(&mut with(options, &film, out.path()), parts);
        assert_eq!(names_in(out.path()), [""; 0], "{options:?}");
    }
    assert!(!heatmaps.exists());
}

#[test]
fn names_are_nothing_but_names() {
    let folder = tempfile::tempdir().unwrap();
    let film = small(folder.path(), "film.mp4");
    let out = folder.path().join("out");
    for stem in ["-version", "a%03d", "http:film", "two\nlines"] {
        let name = PathBuf::from(format!("{stem}.mp4"));
        std::fs::copy(&film, folder.path().join(&name)).unwrap();
        // From within the folder, so that nothing is before the name.
        stdout(localize(&name, Path::new("out")).current_dir(folder.path()));
        assert_eq!(names_in(&out), outputs(stem), "{name:?}");
        assert!(Film::open(out.join(&outputs(stem)[0])).unwrap().info().sound.is_some());
        std::fs::remove_dir_all(&out).unwrap();
    }
}
