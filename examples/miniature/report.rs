//! The figures of a finished run: a table and `report.json`.
#![allow(clippy::print_stdout)] // a program talks

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use soundsight::acl::Acl;

use crate::hearing::naming_accuracy;
use crate::measure::{RETRIEVAL, Scoreboard, Scores};
use crate::model::{Vocabulary, write_json};
use crate::sounds::{Ear, SoundBatch};
use crate::world::{Split, World};

/// Scenes in which a heard thing sounds, and those in which an unheard one does.
const NUM_SCENES: usize = 512;
/// Held-out variations of each sound.
const VARIATIONS: usize = 6;

/// Held-out variations of all sounds.
pub fn held_out_sounds(ear: &Ear, num_things: usize, variations: usize, seed: u64) -> soundsight::Result<SoundBatch> {
    let things: Vec<usize> = (0..variations).flat_map(|_| 0..num_things).collect();
    let fbanks = Tensor::stack(&ear.fbanks(&things, Split::HeldOut, seed)?, 0)?;
    let things: Vec<u32> = things.into_iter().map(|thing| thing as u32).collect();
    Ok(SoundBatch { fbanks, things: Tensor::new(things, &Device::Cpu)? })
}

/// Measures `trained` and, beside it, the same model with a fresh AudioTokenizer.
pub fn measure(
    world: &Arc<World>,
    vocabulary: &Vocabulary,
    ear: &Ear,
    trained: &Acl,
    untrained: &Acl,
    seed: u64,
) -> Result<Value> {
    let num_things = world.things.len();
    let (unheard, heard): (Vec<usize>, Vec<usize>) = (0..num_things).partition(|thing| world.things[*thing].unheard);
    let (clipseg, offset) = (&trained.clipseg, trained.masker.offset()?);
    let mut tables = serde_json::Map::new();
    let mut figures = serde_json::Map::new();
    for (name, sounding) in [("heard", heard), ("unheard", unheard)] {
        if sounding.is_empty() {
            continue;
        }
        let mut board = Scoreboard::new(world, &sounding, NUM_SCENES, seed)?;
        board.hear(trained, ear, seed)?;
        let rows = [
            ("name (oracle)", board.score_names(clipseg, vocabulary, offset)?),
            ("sound", board.score_sounds(trained)?),
            ("sound, untrained tokenizer", board.score_sounds(untrained)?),
            ("random", board.score_random(seed)),
            ("centre", board.score_centre()),
        ];
        println!("{} scenes, a thing of the {} {name} sounds", board.num_questions(), sounding.len());
        show(&rows, board.mean_area());
        let rows: serde_json::Map<String, Value> =
            rows.into_iter().map(|(row, scores)| (row.to_string(), scores.json())).collect();
        tables.insert(
            name.to_string(),
            json!({ "scenes": board.num_questions(), "area": board.mean_area(), "rows": rows }),
        );
        if name == "heard" {
            figures.insert("retrieval".to_string(), json!(board.retrieval(trained)?));
            figures.insert("retrieval_untrained".to_string(), json!(board.retrieval(untrained)?));
            figures.insert("retrieval_chance".to_string(), json!(1.0 / RETRIEVAL as f64));
        }
        let named = board.name_cut_outs(clipseg, vocabulary)?;
        figures.insert(format!("cut_outs_named_{name}"), json!(named));
    }
    let sounds = held_out_sounds(ear, num_things, VARIATIONS, seed)?;
    figures.insert("sounds_named".to_string(), json!(naming_accuracy(&trained.beats, &sounds)?));
    figures.insert("naming_chance".to_string(), json!(1.0 / num_things as f64));
    for (name, value) in &figures {
        println!("{name:28} {:6.1} %", 100.0 * value.as_f64().unwrap_or(f64::NAN));
    }
    Ok(json!({ "scenes": tables, "figures": figures }))
}

fn show(rows: &[(&str, Scores)], area: f64) {
    println!("{:28} {:>7} {:>7} {:>7} {:>5}", "", "which", "peak", "cIoU", "at");
    for (name, scores) in rows {
        let percent = [scores.which, scores.peak, scores.ciou].map(|share| format!("{:6.1} ", 100.0 * share));
        println!("{name:28} {} {:5.2}", percent.join(" "), scores.threshold);
    }
    println!("{:28} {:6.1}  {:6.1}", "chance", 50.0, 100.0 * area);
}

pub fn write(path: &Path, report: &Value) -> Result<()> {
    write_json(path, report)
}
