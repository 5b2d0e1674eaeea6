//! Tests whether one heatmap finds both of two objects that sound at once.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::disturb::mixed;
use crate::docs::{Docs, percent, table};
use crate::measure::{Question, Scoreboard, mean_inside, peak};
use crate::probe::Probe;
use crate::world::Split;

const HEAD: [&str; 6] = [
    "what is heard",
    "peak in either",
    "both above the third",
    "first above the third",
    "second above the third",
    "both half covered",
];

/// Scenes of three objects, of which two sound and the third is silent.
pub fn mixtures(probe: &mut Probe, _: &Docs) -> Result<(Value, String)> {
    let mut board = Scoreboard::with_classes(3, &probe.world, &probe.heard, probe.num_scenes(), probe.seed)?;
    board.questions.retain(|question| question.third.is_some());
    let others: Vec<usize> = board.questions.iter().map(|question| question.other_class).collect();
    let first = probe.ear.sounds(&board.sounding(), Split::HeldOut, probe.seed);
    let second = probe.ear.sounds(&others, Split::HeldOut, probe.seed ^ 1);
    let both: Vec<Vec<f32>> = first.iter().zip(&second).map(|(own, other)| mixed(own, other)).collect();
    let mut rows = Vec::new();
    for (name, sounds, acl) in [
        ("both at once", &both, &probe.trained),
        ("the first alone", &first, &probe.trained),
        ("the second alone", &second, &probe.trained),
        ("both at once, untrained tokenizer", &both, &probe.untrained),
    ] {
        board.hear_sounds(acl, &probe.ear, sounds)?;
        rows.push((name, found(&board.questions, &board.heatmaps(acl)?)));
    }
    let area = |mask: &[bool]| mask.iter().filter(|inside| **inside).count() as f64 / mask.len() as f64;
    let areas = board.questions.iter().map(|question| area(&question.own) + area(&question.other));
    let either = areas.sum::<f64>() / board.num_questions().max(1) as f64;
    let chance = ["chance".to_string(), percent(either), percent(1.0 / 3.0), percent(0.5), percent(0.5), String::new()];
    let cells = rows.iter().map(|(name, shares)| {
        std::iter::once((*name).to_string()).chain(shares.iter().map(|share| percent(*share))).collect()
    });
    let cells: Vec<Vec<String>> = cells.chain([chance.to_vec()]).collect();
    let text = format!(
        "## Two objects sounding at once\n\n{} held-out scenes of three objects over {}. The sounds of two of them, equally \
         loud, are mixed; the third is silent. *Above the third*: the mean of the heatmap inside the one is above that inside the \
         silent one; *half covered*: the mask (heatmap above ½) covers at least half of each of the two.\n\n{}",
        board.num_questions(),
        probe.world.describe_backgrounds(),
        table(&HEAD, &cells)
    );
    let figures: BTreeMap<&str, [f64; 5]> = rows.into_iter().collect();
    Ok((json!({ "columns": &HEAD[1..], "rows": figures }), text))
}

/// The fractions of scenes for which the columns of [`HEAD`] are true.
fn found(questions: &[Question], heatmaps: &[Vec<f32>]) -> [f64; 5] {
    let mut counts = [0usize; 5];
    for (question, heatmap) in questions.iter().zip(heatmaps) {
        let classes = [&question.own, &question.other];
        let silent = question.third.as_ref().map_or(0.0, |mask| mean_inside(heatmap, mask));
        let above = classes.map(|mask| mean_inside(heatmap, mask) > silent);
        let covered: Vec<f32> = heatmap.iter().map(|value| f32::from(u8::from(*value > 0.5))).collect();
        let holds = [
            peak(heatmap).is_some_and(|at| question.own[at] || question.other[at]),
            above[0] && above[1],
            above[0],
            above[1],
            classes.iter().all(|mask| mean_inside(&covered, mask) >= 0.5),
        ];
        counts.iter_mut().zip(holds).for_each(|(count, holds)| *count += usize::from(holds));
    }
    counts.map(|count| count as f64 / questions.len().max(1) as f64)
}
