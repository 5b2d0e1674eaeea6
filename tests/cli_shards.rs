//! `soundsight evaluate` in shards, as a user runs it.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;

use std::path::Path;
use std::process::Command;

use common::program::{refused, stdout};
use common::{fixture, soundsight};

const NUM_SAMPLES: usize = 70;

fn evaluate(folder: &Path, more: &[&str]) -> Command {
    let mut command = soundsight("evaluate");
    command.args(["--benchmark", "vggss", "--annotations", "vggss.json"]).args(more).current_dir(folder);
    command
}

#[test]
fn three_parts_equal_the_whole_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    train_media::write_pairs(folder.path(), NUM_SAMPLES);
    let entry = |k: usize| {
        let (left, top) = (k as f64 % 7.0 / 20.0, k as f64 % 5.0 / 10.0);
        let corners = [left, top, left + 0.5, top + 0.4];
        serde_json::json!({"file": format!("p{k}"), "class": format!("tone {}", k % 3), "bbox": [corners]})
    };
    let annotations: Vec<_> = (0..NUM_SAMPLES).map(entry).collect();
    std::fs::write(folder.path().join("vggss.json"), serde_json::to_vec(&annotations).unwrap()).unwrap();
    std::fs::remove_file(folder.path().join("audio/p33.wav")).unwrap();
    let model = fixture("alt");
    let model = ["--model", model.to_str().unwrap(), "--data", "."];
    let run = |more: &[&str]| stdout(&mut evaluate(folder.path(), more));
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let table = run(&[&model[..], &["--json", "whole.json", "--csv", "whole.csv"]].concat());
    assert!(table.contains("69 of 70 samples scored"), "{table}");

    let files = ["1.safetensors", "2.safetensors", "3.safetensors"];
    for (place, file) in files.iter().enumerate() {
        let shard = format!("{}/3", place + 1);
        let said = run(&[&model[..], &["--shard", &shard, "--save-predictions", file]].concat());
        assert!(said.starts_with(&format!("shard {shard}: ")) && said.contains(file), "{said}");
    }
    let merged = [&["--predictions"][..], &files, &["--json", "parts.json", "--csv", "parts.csv"]].concat();
    assert_eq!(run(&merged), table);
    assert!(read("whole.json") == read("parts.json") && read("whole.csv") == read("parts.csv"));
    // In one process, by way of a file.
    let saved = ["--save-predictions", "all.safetensors", "--json", "saved.json"];
    assert_eq!(run(&[&model[..], &saved].concat()), table);
    assert!(read("whole.json") == read("saved.json"));
    assert_eq!(run(&["--predictions", "all.safetensors"]), table);

    let refuse = |more: &[&str], parts: &[&str]| refused(&mut evaluate(folder.path(), more), parts);
    refuse(&["--predictions", files[0], files[2]], &["all 3 shards", "nothing of shard 2/3", "such as `p"]);
    refuse(&["--predictions", files[0], files[1], files[2], files[1]], &["each sample in one file", "shard 2/3", "`p"]);
    refuse(&[&model[..], &["--shard", "1/3"]].concat(), &["--save-predictions"]);
    refuse(&["--predictions", files[0], "--save-predictions", "x"], &["--save-predictions"]);
    let sharded = [&model[..], &["--save-predictions", "x", "--shard"]].concat();
    refuse(&[&sharded[..], &["4/4"]].concat(), &["shard", "at most 3 shards", "4/4"]);
    refuse(&[&sharded[..], &["0/4"]].concat(), &["--shard", "I/N", "0/4"]);
    refuse(&[&sharded[..], &["1/2", "--json", "x.json"]].concat(), &["--json", "--shard"]);
    assert!(!folder.path().join("x").exists());
}
