//! The figures of a finished run: a table and `report.json`.
#![allow(clippy::print_stdout)] // command-line output

use anyhow::{Context, Result};
use serde_json::{Value, json};
use soundsight::acl::Acl;
use soundsight::data::random::{Purpose, stream};

use crate::crosses::RETRIEVAL;
use crate::hearing::naming_accuracy;
use crate::measure::{Answer, Scoreboard, Scores};
use crate::sounds::{Ear, SoundBatch};
use crate::stages::Run;
use crate::statistics::{discordant, sign_test};
use crate::world::{Backgrounds, Split, repeated_piece};

/// Held-out variations of each sound.
const VARIATIONS: usize = 6;

/// Held-out variations of all sounds; with `pieces`, only a short piece of each, repeated.
pub fn held_out_sounds(
    ear: &Ear,
    num_classes: usize,
    variations: usize,
    seed: u64,
    pieces: bool,
) -> soundsight::Result<SoundBatch> {
    let classes: Vec<usize> = (0..variations).flat_map(|_| 0..num_classes).collect();
    let mut sounds = ear.sounds(&classes, Split::HeldOut, seed);
    if pieces {
        let mut rng = stream(seed, Purpose::Validation, 8, 0);
        sounds = sounds.iter().map(|sound| repeated_piece(sound, &mut rng)).collect();
    }
    let target = |class: usize| (0..num_classes).map(|other| f32::from(other == class)).collect();
    SoundBatch::new(&ear.listen(&sounds)?, classes.into_iter().map(target).collect())
}

/// Held-out mixtures of two sounds.
pub fn held_out_mixtures(ear: &Ear, count: usize, seed: u64) -> soundsight::Result<SoundBatch> {
    let mut rng = stream(seed, Purpose::Validation, 12, 0);
    let (sounds, targets): (Vec<_>, Vec<_>) = (0..count).map(|_| ear.example(true, Split::HeldOut, &mut rng)).unzip();
    SoundBatch::new(&ear.listen(&sounds)?, targets)
}

/// Measures `trained` and, for comparison, the same model with a fresh AudioTokenizer.
pub fn measure(run: &Run, trained: &Acl, untrained: &Acl) -> Result<Value> {
    let Run { world, vocabulary, seed, .. } = run;
    let (ear, seed) = (run.ear()?, *seed);
    let num_classes = world.classes.len();
    let (unheard, heard): (Vec<usize>, Vec<usize>) = (0..num_classes).partition(|class| world.classes[*class].unheard);
    let (clipseg, offset) = (&trained.clipseg, trained.masker.offset()?);
    let mut tables = serde_json::Map::new();
    let mut figures = serde_json::Map::new();
    let mut kinds = vec![("heard", Backgrounds::Drawn, heard.clone()), ("unheard", Backgrounds::Drawn, unheard)];
    if world.photographs(Split::HeldOut).is_some() {
        kinds.push(("photographs", Backgrounds::Photographs, heard));
    }
    for (name, backgrounds, sounding) in kinds {
        if sounding.is_empty() {
            continue;
        }
        let mut board = Scoreboard::new(&world.with_backgrounds(backgrounds), &sounding, run.scenes, seed)?;
        board.hear(trained, &ear, seed)?;
        let rows = [
            ("name (oracle)", board.score_names(clipseg, vocabulary, offset)?),
            ("sound", board.score_sounds(trained)?),
            ("sound, untrained tokenizer", board.score_sounds(untrained)?),
            ("random", board.score_random(seed)),
            ("centre", board.score_centre()),
        ];
        println!("{name}: {} scenes, in which one of {} classes sounds", board.num_questions(), sounding.len());
        show(&rows, board.mean_area());
        let lead = lead(&rows[1].1, &rows[2].1);
        println!("{:28} p = {:.1e}  p = {:.1e}", "sound above untrained", lead[0].2, lead[1].2);
        let lead = lead.map(|(better, worse, p)| json!({ "better": better, "worse": worse, "p": p }));
        let rows: serde_json::Map<String, Value> =
            rows.into_iter().map(|(row, scores)| (row.to_string(), scores.json())).collect();
        tables.insert(
            name.to_string(),
            json!({
                "scenes": board.num_questions(), "area": board.mean_area(), "rows": rows,
                "above_untrained": { "which": lead[0], "peak": lead[1] },
            }),
        );
        if name == "heard" {
            let (trained, untrained) = (board.crosses(trained)?, board.crosses(untrained)?);
            figures.insert("retrieval".to_string(), json!(trained.pictures.first));
            figures.insert("retrieval_untrained".to_string(), json!(untrained.pictures.first));
            figures.insert("retrieval_chance".to_string(), json!(1.0 / RETRIEVAL as f64));
        }
        let named = board.name_cut_outs(clipseg, vocabulary)?;
        figures.insert(format!("cut_outs_named_{name}"), json!(named));
    }
    let beats = trained.audio_encoder.beats().context("the audio encoder: expected BEATs, found another")?;
    for (name, pieces) in [("sounds_named", false), ("pieces_named", true)] {
        let sounds = held_out_sounds(&ear, num_classes, VARIATIONS, seed, pieces)?;
        figures.insert(name.to_string(), json!(naming_accuracy(beats, &sounds)?));
    }
    figures.insert("naming_chance".to_string(), json!(1.0 / num_classes as f64));
    for (name, value) in &figures {
        println!("{name:28} {:6.1} %", 100.0 * value.as_f64().unwrap_or(f64::NAN));
    }
    Ok(json!({ "scenes": tables, "figures": figures }))
}

/// For `which` and `peak`: the scenes that only the first model got right, those that only the second did, and the
/// probability that chance gives the first such a lead ([`sign_test`]).
fn lead(first: &Scores, second: &Scores) -> [(usize, usize, f64); 2] {
    let outcomes: [fn(&Answer) -> bool; 2] = [|answer| answer.which, |answer| answer.peak];
    outcomes.map(|outcome| {
        let (better, worse) = discordant(first.answers.iter().map(outcome), second.answers.iter().map(outcome));
        (better, worse, sign_test(better, worse))
    })
}

fn show(rows: &[(&str, Scores)], area: f64) {
    println!("{:28} {:>7} {:>7} {:>7} {:>5}", "", "which", "peak", "cIoU", "at");
    for (name, scores) in rows {
        let percent = [scores.which, scores.peak, scores.ciou].map(|share| format!("{:6.1} ", 100.0 * share));
        println!("{name:28} {} {:5.2}", percent.join(" "), scores.threshold);
    }
    println!("{:28} {:6.1}  {:6.1}", "chance", 50.0, 100.0 * area);
}
