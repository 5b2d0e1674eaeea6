//! Learning curves of the three stages, from their logs.
#![allow(clippy::print_stdout)] // command-line output

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::docs::{Docs, percent, table};
use crate::plots::{self, Axes, Curve};
use crate::stages::LARGER;

/// One plot of a stage: the available metrics of `split`, multiplied by `scale`.
struct Plot {
    name: &'static str,
    stage: &'static str,
    split: &'static str,
    metrics: &'static [&'static str],
    scale: f64,
    axes: Axes<'static>,
}

/// The file in a stage's folder that contains all its metrics.
pub const LOG: &str = "metrics.jsonl";

const LOSSES: &str = "loss";
const SHARES: &str = "% of held-out cases";
const PLOTS: [Plot; 6] = [
    Plot {
        name: "clip-losses",
        stage: "clip",
        split: "train",
        metrics: &["mask", "dice", "cut_out", "patches", "nothing", "whole"],
        scale: 1.0,
        axes: Axes { title: "Eyes and language: losses", across: "step", up: LOSSES },
    },
    Plot {
        name: "clip-held-out",
        stage: "clip",
        split: "validation",
        metrics: &["which", "peak", "ciou", "cut_outs_named"],
        scale: 100.0,
        axes: Axes { title: "Eyes and language: held-out scenes, asked by name", across: "step", up: SHARES },
    },
    Plot {
        name: "beats-losses",
        stage: "beats",
        split: "train",
        metrics: &["loss"],
        scale: 1.0,
        axes: Axes { title: "Ears: loss", across: "step", up: LOSSES },
    },
    Plot {
        name: "beats-held-out",
        stage: "beats",
        split: "validation",
        metrics: &["named"],
        scale: 100.0,
        axes: Axes { title: "Ears: held-out sounds", across: "step", up: SHARES },
    },
    Plot {
        name: "acl-losses",
        stage: "acl",
        split: "train",
        metrics: &["acl_i", "acl_f", "area"],
        scale: 1.0,
        axes: Axes { title: "ACL: losses", across: "step", up: LOSSES },
    },
    Plot {
        name: "acl-held-out",
        stage: "acl",
        split: "validation",
        metrics: &["which", "peak", "ciou", "retrieval"],
        scale: 100.0,
        axes: Axes { title: "ACL: held-out scenes, asked by sound", across: "step", up: SHARES },
    },
];

/// Draws the metrics that the stages in `run` have logged so far, and writes the table of a finished run.
pub fn plot(run: &Path, docs: &Docs) -> Result<()> {
    let mut text =
        "## Learning curves\n\nHeld-out scenes and held-out variations of sounds were never trained on. After a \
                    quarter of ACL's steps the scenes get more than one class, and the losses a step upwards. \
                    *Retrieval*: a sound finds its picture among 16 (chance 6.2 %). Where there are steps with larger pictures, \
                    they come last.\n\n"
            .to_string();
    ensure!(
        PLOTS.iter().any(|plot| run.join(plot.stage).join(LOG).exists()),
        "{}: expected a run (clip/{LOG} and so on), found none",
        run.display()
    );
    for Plot { name, stage, split, metrics, scale, axes } in &PLOTS {
        let log = run.join(stage).join(LOG);
        if !log.exists() {
            continue;
        }
        let curves = metrics.iter().map(|metric| {
            let mut points = read_curve(&log, split, metric)?;
            let larger = run.join(LARGER).join(stage).join(LOG);
            if larger.exists() {
                let first = points.last().map_or(0.0, |(step, _)| *step);
                let further = read_curve(&larger, split, metric)?.into_iter();
                points.extend(further.map(|(step, value)| (first + step, value)));
            }
            Ok(Curve { name: metric, points: points.into_iter().map(|(step, value)| (step, scale * value)).collect() })
        });
        let (path, shows) = docs.plot(name, axes.title);
        plots::lines(&path, axes, &curves.collect::<Result<Vec<_>>>()?)?;
        text += &shows;
    }
    docs.write("curves", &text)?;
    let report = run.join("report.json");
    if report.exists() {
        docs.write("figures", &figures(&read_json(&report)?)?)?;
    }
    println!("{}: curves", docs.path().display());
    Ok(())
}

/// The table of the report of a run.
fn figures(report: &Value) -> Result<String> {
    let mut text = "## Figures\n".to_string();
    let tables = report["measured"]["scenes"].as_object().context("report.json: expected measured scenes")?;
    for (name, board) in tables {
        let rows = ["name (oracle)", "sound", "sound, untrained tokenizer", "random", "centre"].map(|row| {
            let scores = &board["rows"][row];
            let share = |key: &str| percent(figure(scores, key));
            vec![row.to_string(), share("which"), share("peak"), share("ciou")]
        });
        let area = figure(board, "area");
        let chance = vec!["chance".to_string(), percent(0.5), percent(area), String::new()];
        let rows: Vec<_> = rows.into_iter().chain([chance]).collect();
        let which = match name.as_str() {
            "photographs" => {
                "over photographs that were not trained on, in which one of the heard classes sounds".to_string()
            }
            name => format!("in which one of the {name} classes sounds"),
        };
        text += &format!(
            "\n{} held-out scenes of two objects, {which}:\n\n{}",
            board["scenes"],
            table(&["", "which", "peak", "cIoU@0.5"], &rows)
        );
        let above = &board["above_untrained"];
        if let (Some(which), Some(peak)) = (above["which"]["p"].as_f64(), above["peak"]["p"].as_f64()) {
            text += &format!(
                "\nThe lead of the sound over the untrained tokenizer by chance (exact sign test): p = {which:.1e} (which), \
                 p = {peak:.1e} (peak).\n"
            );
        }
    }
    let figures = &report["measured"]["figures"];
    let rows: Vec<_> = [
        ("sounds named", "sounds_named", "naming_chance"),
        ("pieces of 0.75 to 2.5 s named", "pieces_named", "naming_chance"),
        ("cut-outs named, heard classes", "cut_outs_named_heard", "naming_chance"),
        ("cut-outs named, unheard classes", "cut_outs_named_unheard", "naming_chance"),
        ("a sound finds its picture among 16", "retrieval", "retrieval_chance"),
        ("the same, untrained tokenizer", "retrieval_untrained", "retrieval_chance"),
    ]
    .into_iter()
    .filter(|(_, key, _)| !figures[*key].is_null())
    .map(|(name, key, chance)| vec![name.to_string(), percent(figure(figures, key)), percent(figure(figures, chance))])
    .collect();
    Ok(format!("{text}\n{}", table(&["", "%", "chance"], &rows)))
}

/// A number in a JSON object; NaN if it is missing.
pub fn figure(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or(f64::NAN)
}

/// The `(step, value)` pairs of a metric in the log of a run.
pub fn read_curve(log: &Path, split: &str, metric: &str) -> Result<Vec<(f64, f64)>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("{}: cannot read", log.display()))?;
    // A run in progress may be writing the last line.
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["split"] == split);
    Ok(lines.filter_map(|line| Some((line["step"].as_f64()?, line[metric].as_f64()?))).collect())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: not what this program wrote", path.display()))
}
