//! `soundsight localize --pairs` as a user runs it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::Path;
use std::process::Command;

use common::pictures;
use common::program::{names_in, refused, stdout};
use common::{fixture, soundsight};
use serde_json::Value;
use tempfile::TempDir;

/// Six sounds and six pictures.
fn media() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    train_media::write_pairs(folder.path(), 6);
    folder
}

fn localize(folder: &Path, more: &[&str]) -> Command {
    let mut command = soundsight("localize");
    command.arg("--model").arg(fixture("mini")).arg("--out").arg(folder.join("out")).args(more);
    command
}

fn write_list(folder: &Path, pairs: &[(&str, &str)]) -> String {
    let lines: String = pairs.iter().map(|(sound, picture)| format!("{sound},{picture}\n")).collect();
    let path = folder.join("list.csv");
    std::fs::write(&path, format!("audio,image\n{lines}")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_pair_is_answered_as_if_it_were_alone_and_what_is_broken_is_skipped() {
    let folder = media();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::copy(folder.path().join("frames/p2.png"), folder.path().join("other/p1.png")).unwrap();
    std::fs::write(folder.path().join("audio/broken.wav"), "this is no sound").unwrap();
    let sounds = ["audio/p0.wav", "audio/p1.wav", "audio/p2.wav"];
    // Many sounds with one picture, one sound with many pictures, a repeated pair, one name in two folders; more than
    // one batch, and pictures that recur much later.
    let mut pairs: Vec<(&str, &str)> = sounds.iter().map(|sound| (*sound, "frames/p1.png")).collect();
    pairs.extend([("audio/broken.wav", "frames/p3.png"), ("audio/p0.wav", "frames/absent.png")]);
    pairs.extend(["frames/p0.png", "frames/p2.png", "frames/p3.png", "other/p1.png"].map(|p| ("audio/p5.wav", p)));
    pairs.extend([
        ("audio/p0.wav", "frames/p1.png"),
        ("audio/broken.wav", "frames/p1.png"),
        ("audio/p4.wav", "frames/p0.png"),
    ]);
    let list = write_list(folder.path(), &pairs);

    let output = localize(folder.path(), &["--json", "--pairs", &list]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{message}");
    let failed: Vec<&str> = message.lines().collect();
    assert_eq!(failed.len(), 4, "{message}");
    for (line, parts) in
        failed.iter().zip([["pair 4:", "broken.wav"], ["pair 5:", "absent.png"], ["pair 11:", "broken.wav"]])
    {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert_eq!(failed[3], "3 of 12 pairs skipped");

    let answers = lines(&String::from_utf8(output.stdout).unwrap());
    let numbers: Vec<u64> = answers.iter().map(|answer| answer["pair"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 10, 8, 6, 12, 7, 9], "those of one picture come together");
    for answer in &answers {
        let (sound, picture) = pairs[answer["pair"].as_u64().unwrap() as usize - 1];
        let paths = [sound, picture].map(|path| folder.path().join(path).to_str().unwrap().to_owned());
        assert_eq!([&answer["audio"]["path"], &answer["image"]["path"]], [&paths[0], &paths[1]]);
        let mut alone = localize(&folder.path().join("alone"), &["--json", &paths[0], &paths[1]]);
        let alone: Value = serde_json::from_str(&stdout(&mut alone)).unwrap();
        for field in ["threshold", "image", "audio"] {
            assert_eq!(answer[field], alone[field], "{field} of {answer}");
        }
        assert_eq!([&answer["peak"]["x"], &answer["peak"]["y"]], [&alone["peak"]["x"], &alone["peak"]["y"]]);
        let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-4;
        assert!(
            close(&answer["confidence"], &alone["confidence"]) && close(&answer["area"], &alone["area"]),
            "{answer}"
        );
        for kind in ["overlay", "heatmap", "mask"] {
            let file = Path::new(answer["outputs"][kind].as_str().unwrap());
            assert_eq!(
                u64::from(pictures::size(file).0),
                answer["image"]["width"].as_u64().unwrap(),
                "{}",
                file.display()
            );
        }
    }
    let written = names_in(&folder.path().join("out"));
    assert_eq!(written.len(), 3 * 9, "{written:?}");
    assert!(written.contains(&"09-p1.overlay.png".to_owned()) && written.contains(&"01-p1.mask.png".to_owned()));
}

#[test]
fn shards_together_are_the_whole_bit_for_bit() {
    let folder = media();
    std::fs::write(folder.path().join("audio/broken.wav"), "this is no sound").unwrap();
    // Each batch needs sounds, and some a picture, that occur in another one for the first time.
    let mut pairs = Vec::new();
    for k in 0..40 {
        let sound = if k == 11 { "audio/broken.wav".into() } else { format!("audio/p{}.wav", k * 5 % 6) };
        pairs.push((sound, format!("frames/p{}.png", k / 9)));
    }
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(sound, picture)| (sound.as_str(), picture.as_str())).collect();
    let list = write_list(folder.path(), &pairs);
    let localize = |out: &str, shard: Option<&str>| {
        let mut command = soundsight("localize");
        command.arg("--model").arg(fixture("mini")).args(["--json", "--out", "out", "--pairs", &list]);
        command.args(shard.iter().flat_map(|shard| ["--shard", shard]));
        std::fs::create_dir_all(folder.path().join(out)).unwrap();
        stdout(command.current_dir(folder.path().join(out)))
    };
    let whole = localize("whole", None);
    let mut lines: Vec<String> = Vec::new();
    for shard in ["3/3", "1/3", "2/3"] {
        let part = localize("parts", Some(shard));
        assert!(part.lines().count() > 7, "{shard}: {part}");
        lines.extend(part.lines().map(String::from));
    }
    let mut expected: Vec<&str> = whole.lines().collect();
    assert_eq!(expected.len(), 39);
    expected.sort();
    lines.sort();
    assert_eq!(lines, expected);
    let (whole, parts) = (folder.path().join("whole/out"), folder.path().join("parts/out"));
    assert_eq!(names_in(&whole), names_in(&parts));
    for name in names_in(&whole) {
        assert!(std::fs::read(whole.join(&name)).unwrap() == std::fs::read(parts.join(&name)).unwrap(), "{name}");
    }
    // More shards than batches: there is nothing to do.
    assert_eq!(localize("none", Some("9/9")), "");
    refused(
        &mut self::localize(folder.path(), &["--shard", "1/2", "a.wav", "b.png"]),
        &["--shard", "cannot be used with"],
    );
    refused(&mut self::localize(folder.path(), &["--shard", "3/2", "--pairs", &list]), &["--shard", "I/N", "3/2"]);
}

#[test]
fn a_folder_is_a_list_of_what_shares_a_name() {
    let folder = media();
    let both = folder.path().join("both");
    std::fs::create_dir(&both).unwrap();
    for k in [0, 3] {
        std::fs::copy(folder.path().join(format!("audio/p{k}.wav")), both.join(format!("p{k}.wav"))).unwrap();
        std::fs::copy(folder.path().join(format!("frames/p{k}.png")), both.join(format!("p{k}.png"))).unwrap();
    }
    let text = stdout(&mut localize(folder.path(), &["--pairs", both.to_str().unwrap()]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, (number, k)) in lines.iter().zip([(1, 0), (2, 3)]) {
        assert!(line.starts_with(&format!("{number} ")) && line.contains(&format!("p{k}.wav in ")), "{line}");
        assert!(line.contains("with score") && line.contains(&format!("{number}-p{k}.overlay.png")), "{line}");
    }
    // A different start selects another part of each sound, as for a single pair; beyond its end, there is no sound.
    refused(
        &mut localize(folder.path(), &["--start", "99", "--pairs", both.to_str().unwrap()]),
        &["pair 1:", "p0.wav", "99", "none of 2 pairs"],
    );
}

#[test]
fn lists_that_cannot_be_used_are_refused() {
    let folder = media();
    let list = write_list(folder.path(), &[("absent.wav", "frames/p0.png"), ("audio/p0.wav", "absent.png")]);
    let parts = ["pair 1: ", "absent.wav", "pair 2: ", "absent.png", "none of 2 pairs could be localized"];
    refused(&mut localize(folder.path(), &["--pairs", &list]), &parts);
    refused(&mut localize(folder.path(), &["--pairs", "absent.csv"]), &["absent.csv"]);
    refused(
        &mut localize(folder.path(), &["--pairs", folder.path().to_str().unwrap()]),
        &["at least one pair", "none"],
    );
    refused(&mut localize(folder.path(), &["--pairs", &list, "x.wav", "y.png"]), &["cannot be used with"]);
    refused(&mut localize(folder.path(), &["--pairs", &list, "--text", "a dog"]), &["cannot be used with"]);
    std::fs::write(&list, "audio,image,frame\n").unwrap();
    refused(&mut localize(folder.path(), &["--pairs", &list]), &["list.csv", "unknown column `frame`"]);
    assert!(!folder.path().join("out").exists(), "left behind");
}
