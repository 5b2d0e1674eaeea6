//! Whether two objects that sound at once are told apart: each source its own heatmap.
#![allow(clippy::print_stdout)] // command-line output

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use serde_json::{Map, json};
use soundsight::localizer::Separation;
use soundsight::{Embedding, EncodedImage, Localizer, Picture, Waveform};

use crate::disturb::mixed;
use crate::docs::{Docs, percent, table};
use crate::measure::{Scoreboard, mean_inside, peak};
use crate::model::{own_or_embedded, write_json};
use crate::sounds::Ear;
use crate::world::{SAMPLE_RATE, Split, World};

/// The heatmaps of two sources in each scene.
type Pair = [Vec<Vec<f32>>; 2];

/// Measures a finished run's model, or else the embedded one, on `count` scenes of three objects of which two sound at once,
/// and writes the figures to `out/apart.json` and a table to the document.
pub fn apart(world: &Arc<World>, out: &Path, count: usize, seed: u64, docs: &Docs) -> Result<()> {
    let localizer = Localizer::load(own_or_embedded(out))?;
    let acl = localizer.acl();
    let ear = Ear::new(world.clone(), acl.config().acl.frontend())?;
    let heard: Vec<usize> = (0..world.classes.len()).filter(|class| !world.classes[*class].unheard).collect();
    let mut board = Scoreboard::with_classes(3, world, &heard, count, seed)?;
    board.questions.retain(|question| question.third.is_some());
    let classes: [Vec<usize>; 2] =
        [board.sounding(), board.questions.iter().map(|question| question.other_class).collect()];
    let first = ear.sounds(&classes[0], Split::HeldOut, seed);
    let second = ear.sounds(&classes[1], Split::HeldOut, seed ^ 1);
    let both: Vec<Vec<f32>> = first.iter().zip(&second).map(|(own, other)| mixed(own, other)).collect();

    let pictures: Vec<Picture> = board.questions.iter().map(|question| question.picture.clone()).collect();
    let images = localizer.encode_image_batch(&pictures)?;
    let draw = |embeddings: Vec<Embedding>| -> Result<Vec<Vec<f32>>> {
        let found = localizer.localize_batch(&embeddings.iter().zip(&images).collect::<Vec<_>>())?;
        Ok(found.into_iter().map(|heatmap| heatmap.scores).collect())
    };
    let waveform = |samples: &Vec<f32>| Waveform::from_samples(samples.clone(), SAMPLE_RATE);
    let whole = |sounds: &[Vec<f32>]| -> Result<Vec<Vec<f32>>> {
        let sounds = sounds.iter().map(waveform).collect::<soundsight::Result<Vec<_>>>()?;
        draw(localizer.embed_audio_batch(&sounds)?)
    };
    let named = |classes: &[usize]| -> Result<Vec<Vec<f32>>> {
        let prompt = |class: &usize| acl.config().acl.prompt.replace("{}", &world.classes[*class].name);
        draw(classes.iter().map(|class| localizer.embed_text(&prompt(class))).collect::<soundsight::Result<_>>()?)
    };
    let taken_apart = |separation: Separation| -> Result<Pair> {
        let sources = |sound: &Vec<f32>| -> Result<[Embedding; 2]> {
            let sources = localizer.sources_by(separation, &waveform(sound)?, 2)?;
            // Windows that are all alike make one source.
            let embedding = |index: usize| sources[index.min(sources.len() - 1)].embedding.clone();
            Ok([embedding(0), embedding(1)])
        };
        let pairs = both.par_iter().map(sources).collect::<Result<Vec<_>>>()?;
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
        Ok([draw(a)?, draw(b)?])
    };
    let in_its_picture = || -> Result<Pair> {
        let scores = |(sound, image): (&Vec<f32>, &EncodedImage)| -> Result<[Vec<f32>; 2]> {
            let found = localizer.localize_sources(&waveform(sound)?, image, 2)?;
            let scores = |index: usize| found[index.min(found.len() - 1)].1.scores.clone();
            Ok([scores(0), scores(1)])
        };
        let pairs = both.par_iter().zip(&images).map(scores).collect::<Result<Vec<_>>>()?;
        let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().map(|[a, b]| (a, b)).unzip();
        Ok([a, b])
    };
    let mixture = whole(&both)?;
    let rows: [(&str, Pair); 6] = [
        ("one heatmap for both", [mixture.clone(), mixture]),
        ("windows over time, clustered", taken_apart(Separation::Windows)?),
        ("BEATs' tags as names", taken_apart(Separation::Tags)?),
        ("tags that the picture shows", in_its_picture()?),
        ("each sound alone (oracle)", [whole(&first)?, whole(&second)?]),
        ("the true names (oracle)", [named(&classes[0])?, named(&classes[1])?]),
    ];
    let (mut cells, mut figures) = (Vec::new(), Map::new());
    for (name, pair) in &rows {
        let [apart, covered] = told_apart(&board, pair);
        println!("{name:30} told apart {:5.1} %, both half covered {:5.1} %", 100.0 * apart, 100.0 * covered);
        cells.push(vec![(*name).to_string(), percent(apart), percent(covered)]);
        figures.insert((*name).to_string(), json!({ "told_apart": apart, "half_covered": covered }));
    }
    let text = format!(
        "## Two objects told apart\n\nThe same kind of scenes: {} held-out ones of three objects over {}, two of which sound \
         at once, equally loud. Each source has its own heatmap. *Told apart*: the peak of one is in the one object, that of \
         the other in the other one. *Both half covered*: the two masks (heatmap above ½) together cover at least half of each object.\n\n{}",
        board.num_questions(),
        world.describe_backgrounds(),
        table(&["", "told apart", "both half covered"], &cells)
    );
    docs.write("apart", &text)?;
    write_json(&out.join("apart.json"), &json!({ "scenes": board.num_questions(), "seed": seed, "rows": figures }))
}

/// The fractions of scenes in which both objects are told apart, and in which both are half covered.
fn told_apart(board: &Scoreboard, [first, second]: &Pair) -> [f64; 2] {
    let (mut apart, mut covered) = (0usize, 0usize);
    for ((question, a), b) in board.questions.iter().zip(first).zip(second) {
        let hits = |heatmap: &[f32], mask: &[bool]| peak(heatmap).is_some_and(|at| mask[at]);
        let (own, other) = (&question.own, &question.other);
        apart += usize::from(hits(a, own) && hits(b, other) || hits(a, other) && hits(b, own));
        let either: Vec<f32> = a.iter().zip(b).map(|(a, b)| f32::from(u8::from(a.max(*b) > 0.5))).collect();
        covered += usize::from([own, other].iter().all(|mask| mean_inside(&either, mask) >= 0.5));
    }
    [apart, covered].map(|count| count as f64 / board.num_questions().max(1) as f64)
}
