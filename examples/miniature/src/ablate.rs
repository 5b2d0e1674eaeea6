//! Ablations of the losses and of the batch size: repeated runs of stage b from the same frozen parts.
#![allow(clippy::print_stdout)] // command-line output

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use soundsight::acl::Acl;
use soundsight::train::losses::LossWeights;

use crate::crosses::RETRIEVAL;
use crate::curves::{LOG, figure, read_curve};
use crate::docs::{Docs, percent, table};
use crate::measure::Scoreboard;
use crate::model::write_json;
use crate::plots::{self, Axes, Curve, Series};
use crate::stages::{Recipe, Run, is_finished};

/// The batch size of comparisons.
pub const BATCH: usize = 16;
/// The batch sizes to compare with it.
const OTHER_BATCHES: [usize; 2] = [8, 32];
/// The number of validations of a run; during the first quarter, scenes contain a single object.
const EPOCHS: usize = 8;
/// Names of the run with all losses, and of the untrained tokenizer.
const ALL: &str = "all";
const UNTRAINED: &str = "untrained";

/// The results of one run.
type Named<T> = (String, T);
/// (pairs seen, %)
type Points = Vec<(f64, f64)>;

/// The losses of one run, and its batch size.
struct Plan {
    name: String,
    weights: [f64; 3],
    recipe: Recipe,
}

impl Plan {
    fn losses(&self) -> LossWeights {
        let [acl_i, acl_f, area] = self.weights;
        LossWeights { acl_i, acl_f, area, ..LossWeights::default() }
    }
}

/// Each loss alone, each pair of losses, all three; then all three with other batch sizes, for the same number of
/// pairs.
fn plans(steps: usize, learning_rate: f64) -> Vec<Plan> {
    let recipe = |batch: usize| {
        let steps = (steps * BATCH / batch).max(1);
        Recipe { steps, batch, learning_rate, epoch: steps.div_ceil(EPOCHS) }
    };
    let losses = |name: &str, weights| Plan { name: name.to_string(), weights, recipe: recipe(BATCH) };
    let batch = |batch| Plan { name: format!("batch {batch}"), weights: [1.0; 3], recipe: recipe(batch) };
    [
        losses(ALL, [1.0, 1.0, 1.0]),
        losses("ACL_I", [1.0, 0.0, 0.0]),
        losses("ACL_F", [0.0, 1.0, 0.0]),
        losses("area", [0.0, 0.0, 1.0]),
        losses("ACL_I + ACL_F", [1.0, 1.0, 0.0]),
        losses("ACL_I + area", [1.0, 0.0, 1.0]),
        losses("ACL_F + area", [0.0, 1.0, 1.0]),
    ]
    .into_iter()
    .chain(OTHER_BATCHES.map(batch))
    .collect()
}

/// Trains and measures the runs that are missing in `RUN/ablate/<name>/`, then writes their parts of the document.
pub fn ablate(run: &Run, steps: usize, learning_rate: f64, docs: &Docs) -> Result<()> {
    let foundation = run.foundation()?;
    let heard: Vec<usize> = foundation.pool.sounding.iter().map(|(class, _)| *class).collect();
    let mut board = Scoreboard::new(&run.world, &heard, run.scenes, run.seed)?;
    board.hear(&foundation.acl, &run.ear()?, run.seed)?;
    let mut results = vec![(UNTRAINED.to_string(), measure(&board, &foundation.acl)?)];
    let mut curves = Vec::new();
    for plan in plans(steps, learning_rate) {
        let folder = run.out.join("ablate").join(plan.name.to_lowercase().replace(" + ", "+").replace(' ', "-"));
        if !is_finished(&folder, plan.recipe)? {
            run.ground(&foundation, &plan.name, &folder, plan.recipe, plan.losses())?;
        }
        let acl = run.learned(&foundation.acl, &folder)?;
        let result = measure(&board, &acl)?;
        let Recipe { steps, batch, .. } = plan.recipe;
        let kept = json!({ "steps": steps, "batch": batch, "scenes": run.scenes, "measured": result });
        write_json(&folder.join("result.json"), &kept)?;
        println!("{:16} {}", plan.name, row(&plan.name, &result).join("  "));
        let pairs = |(step, which): (f64, f64)| (step * batch as f64, 100.0 * which);
        let which = read_curve(&folder.join(LOG), "validation", "which")?;
        curves.push((plan.name.clone(), which.into_iter().map(pairs).collect()));
        results.push((plan.name, result));
        // Write after every run, so that an interrupted ablation shows its results.
        write(run, docs, &results, &curves, steps * batch)?;
    }
    Ok(())
}

/// Writes the parts of the document that have results.
fn write(run: &Run, docs: &Docs, results: &[Named<Value>], curves: &[Named<Points>], pairs: usize) -> Result<()> {
    let is_batch = |name: &str| name.starts_with("batch ");
    let (batches, losses): (Vec<_>, Vec<_>) = results.iter().cloned().partition(|(name, _)| is_batch(name));
    let (batch_curves, loss_curves): (Vec<_>, Vec<_>) = curves.iter().cloned().partition(|(name, _)| is_batch(name));
    if batches.is_empty() {
        return docs.write("losses", &losses_part(run, docs, &losses, &loss_curves, pairs)?);
    }
    let usual = |name: &str| name == ALL;
    let batches = with_usual(batches, losses.iter().find(|(name, _)| usual(name)));
    let batch_curves = with_usual(batch_curves, loss_curves.iter().find(|(name, _)| usual(name)));
    docs.write("batch", &batch_part(docs, &batches, &batch_curves, pairs)?)
}

/// The other batch sizes, with the usual one between them.
fn with_usual<T: Clone>(others: Vec<Named<T>>, usual: Option<&Named<T>>) -> Vec<Named<T>> {
    let mut with = others;
    with.extend(usual.map(|(_, value)| (format!("batch {BATCH}"), value.clone())));
    with.sort_by_key(|(name, _)| name.trim_start_matches("batch ").parse().unwrap_or(0usize));
    with
}

/// Figures of the held-out scenes.
fn measure(board: &Scoreboard, acl: &Acl) -> Result<Value> {
    let mut figures = board.score_sounds(acl)?.json();
    let crosses = board.crosses(acl)?.json();
    let object = figures.as_object_mut().context("figures: expected an object")?;
    object.extend(crosses.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    Ok(figures)
}

const HEAD: [&str; 9] =
    ["", "which", "peak", "cIoU@0.5", "retrieval", "confidence gap", "AUROC", "mask covers", "signature"];

fn row(name: &str, result: &Value) -> Vec<String> {
    let share = |key: &str| percent(figure(result, key));
    let signature = result["signature"].as_str().unwrap_or("none");
    vec![
        name.to_string(),
        share("which"),
        share("peak"),
        share("ciou"),
        share("retrieval"),
        format!("{:+.3}", figure(result, "confidence_gap")),
        format!("{:.2}", figure(result, "confidence_auroc")),
        percent(figure(&result["masks"], "area")),
        signature.to_string(),
    ]
}

fn losses_part(
    run: &Run,
    docs: &Docs,
    results: &[Named<Value>],
    curves: &[Named<Points>],
    pairs: usize,
) -> Result<String> {
    let (bars, shows_bars) = docs.plot("losses", "What each loss, each pair of them, and all three reach");
    draw_bars(&bars, "What the losses reach", results)?;
    let (lines, shows_lines) = docs.plot("losses-curves", "Which of the two objects sounds, over the pairs seen");
    draw_curves(&lines, "Which of two sounds, by losses", curves)?;
    let rows: Vec<_> = results.iter().map(|(name, result)| row(name, result)).collect();
    Ok(format!(
        "## Each loss alone, each pair, all three\n\nFrom the same frozen parts and the same fresh AudioTokenizer, {pairs} pairs each in \
         batches of {BATCH}; measured on {} held-out scenes of two classes (chance: which 50 %, retrieval {} %). The \
         confidence gap is the mean confidence of what sounds in the picture above that of sounds from outside it, AUROC \
         how well a confidence tells the two apart (chance 0.50).\n\n{}\n{shows_bars}\n{shows_lines}",
        run.scenes,
        percent(1.0 / RETRIEVAL as f64),
        table(&HEAD, &rows),
    ))
}

fn batch_part(docs: &Docs, results: &[Named<Value>], curves: &[Named<Points>], pairs: usize) -> Result<String> {
    let (lines, shows_lines) = docs.plot("batch-curves", "Which of the two objects sounds, by size of the batch");
    draw_curves(&lines, "Which of two sounds, by batch", curves)?;
    let rows: Vec<_> = results.iter().map(|(name, result)| row(name, result)).collect();
    Ok(format!(
        "## Larger batches\n\nAll three losses, {pairs} pairs each: an equal number of *pairs*, so that the smaller batch \
         makes more steps. The learning rate is the same.\n\n{}\n{shows_lines}",
        table(&HEAD, &rows)
    ))
}

/// "ACL_I + area" → "I+area", for the limited space of a plot.
fn short(name: &str) -> String {
    name.replace("ACL_", "").replace(" + ", "+")
}

fn draw_bars(path: &Path, title: &str, results: &[Named<Value>]) -> Result<()> {
    let groups: Vec<String> = results.iter().map(|(name, _)| short(name)).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let series = [("which", "which"), ("peak", "peak"), ("cIoU@0.5", "ciou")].map(|(name, key)| Series {
        name,
        values: results.iter().map(|(_, result)| 100.0 * figure(result, key)).collect(),
    });
    plots::bars(path, &Axes { title, across: "", up: "% of held-out scenes" }, &groups, &series, None)
}

fn draw_curves(path: &Path, title: &str, curves: &[Named<Points>]) -> Result<()> {
    let names: Vec<String> = curves.iter().map(|(name, _)| short(name)).collect();
    let curves = names.iter().zip(curves).map(|(name, (_, points))| Curve { name, points: points.clone() });
    let curves: Vec<Curve> = curves.collect();
    plots::lines(path, &Axes { title, across: "pairs seen", up: "% of held-out scenes" }, &curves)
}
