//! Small objects in large pictures: the picture as a whole, and in tiles.
#![allow(clippy::print_stdout)] // command-line output

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use soundsight::data::random::{Purpose, stream};
use soundsight::eval::{NUM_THRESHOLDS, THRESHOLDS};
use soundsight::{Embedding, Heatmap, Localizer, Picture, Waveform};

use crate::docs::{Docs, percent, table};
use crate::measure::{count_hits, mean_inside, peak, which};
use crate::model::{own_or_embedded, write_json};
use crate::sounds::Ear;
use crate::statistics::auroc;
use crate::world::{Placed, SAMPLE_RATE, SmallScene, Split, World};

/// The fractions of the picture that objects cover.
const SHARES: [f32; 5] = [0.005, 0.01, 0.02, 0.04, 0.08];
/// Pictures of as many pixels as a square of 256 × 256.
const SHAPES: [(&str, (usize, usize)); 4] =
    [("1:1", (256, 256)), ("4:3", (296, 222)), ("16:9", (341, 192)), ("2:1", (362, 181))];
/// The ways in which a picture is looked at.
const WAYS: [(&str, Way); 5] = [
    ("the whole, squeezed into a square", Way::Tiles(0)),
    ("the whole, with borders that make it square", Way::Letterbox),
    ("tiles, 1 across", Way::Tiles(1)),
    ("tiles, 2 across", Way::Tiles(2)),
    ("tiles, 3 across", Way::Tiles(3)),
];
/// The colour of the borders.
const GREY: u8 = 128;

#[derive(Clone, Copy)]
enum Way {
    /// That many across; 0 stands for the whole picture alone.
    Tiles(usize),
    Letterbox,
}

/// One scene of two objects, and the embeddings of the sound of the one and of an absent class.
struct Question {
    picture: Picture,
    share: usize,
    shape: usize,
    own: Vec<bool>,
    other: Vec<bool>,
    sound: Embedding,
    absent: Embedding,
}

/// What is found in one scene.
struct Outcome {
    share: usize,
    shape: usize,
    which: f64,
    peak: bool,
    hits: [usize; NUM_THRESHOLDS],
    /// The confidence in the sound, and in that of an absent class.
    confidences: [f32; 2],
    passes: usize,
    time: Duration,
}

/// Measures a finished run's model, or else the embedded one, on `count` scenes of two small objects, and writes the figures to
/// `out/small.json` and tables to the document.
pub fn small(world: &Arc<World>, out: &Path, count: usize, seed: u64, docs: &Docs) -> Result<()> {
    let localizer = Localizer::load(own_or_embedded(out))?;
    let questions = questions(world, &localizer, count, seed)?;
    let (mut overall, mut shapes, mut figures) = (Vec::new(), Vec::new(), Map::new());
    for (name, way) in WAYS {
        let outcomes = questions.iter().map(|q| answer(&localizer, q, way)).collect::<Result<Vec<_>>>()?;
        let row = Row::new(&outcomes);
        println!("{name:45} {}", row.line());
        overall.push([vec![name.to_string()], row.cells()].concat());
        shapes.push(std::iter::once(name.to_string()).chain(row.shapes.map(percent)).collect());
        figures.insert(name.to_string(), row.json());
    }
    let text = format!(
        "## Small objects in large pictures\n\n{} held-out scenes of two objects over {}, as many pixels as 256 \
         × 256 in four shapes. Each object covers about the same fraction of the picture. *Peak* is given for all and by that \
         fraction; chance is the fraction itself. *AUROC*: how well the confidence tells the sound from that of an absent class. \
         The last columns are what one picture costs: how many pictures the vision tower encodes, and milliseconds for encoding it \
         and localizing one sound.\n\n{}\nThe peak by the picture's shape:\n\n{}",
        questions.len(),
        world.describe_backgrounds(),
        table(
            &["", "which", "peak", "cIoU@0.5", "peak at 0.5 %", "1 %", "2 %", "4 %", "8 %", "AUROC", "encoded", "ms"],
            &overall
        ),
        table(&["", "1:1", "4:3", "16:9", "2:1"], &shapes)
    );
    docs.write("small", &text)?;
    write_json(&out.join("small.json"), &json!({ "scenes": questions.len(), "seed": seed, "rows": figures }))
}

/// Held-out scenes: every shape with every size of the objects, as often as each other.
fn questions(world: &Arc<World>, localizer: &Localizer, count: usize, seed: u64) -> Result<Vec<Question>> {
    let ear = Ear::new(world.clone(), localizer.acl().config().acl.frontend())?;
    let mut heard: Vec<usize> = (0..world.classes.len()).filter(|class| !world.classes[*class].unheard).collect();
    heard.shuffle(&mut stream(seed, Purpose::Validation, 7, u64::MAX));
    let scene = |i: usize| {
        let (shape, share) = (i % SHAPES.len(), i / SHAPES.len() % SHARES.len());
        let class = heard[i % heard.len()];
        let mut rng = stream(seed, Purpose::Validation, 7, i as u64);
        let scene = world.small_scene(Split::HeldOut, SHAPES[shape].1, SHARES[share], class, &mut rng)?;
        Some((scene, shape, share))
    };
    let scenes: Vec<_> = (0..count).into_par_iter().filter_map(scene).collect();
    let embed = |classes: Vec<usize>, seed: u64| -> Result<Vec<Embedding>> {
        let sounds = ear.sounds(&classes, Split::HeldOut, seed);
        let sounds = sounds.into_iter().map(|samples| Waveform::from_samples(samples, SAMPLE_RATE));
        Ok(localizer.embed_audio_batch(&sounds.collect::<soundsight::Result<Vec<_>>>()?)?)
    };
    let shown = || scenes.iter().map(|(scene, ..)| &scene.placed);
    let sounds = embed(shown().map(|placed| placed[0].class).collect(), seed)?;
    let missing = |(i, placed): (usize, &[Placed; 2])| {
        let next = (1..heard.len()).map(|step| heard[(i + step) % heard.len()]);
        next.into_iter().find(|class| placed.iter().all(|placed| placed.class != *class)).unwrap_or(placed[1].class)
    };
    let absent = embed(shown().enumerate().map(missing).collect(), seed ^ 1)?;
    let question = |((scene, shape, share), (sound, absent)): ((SmallScene, usize, usize), _)| {
        let (width, height) = SHAPES[shape].1;
        let [own, other] = scene.placed.map(|placed| placed.mask);
        let picture = Picture::from_rgb8(width, height, scene.picture.into_raw())?;
        Ok(Question { picture, share, shape, own, other, sound, absent })
    };
    scenes.into_iter().zip(sounds.into_iter().zip(absent)).map(question).collect()
}

/// Localizes the sound of a scene, and that of an absent class.
fn answer(localizer: &Localizer, question: &Question, way: Way) -> Result<Outcome> {
    let Question { picture, own, other, .. } = question;
    let (width, height) = picture.size();
    let started = Instant::now();
    let (passes, [found, absent], time) = match way {
        Way::Tiles(0) | Way::Letterbox => {
            let square = if matches!(way, Way::Letterbox) { letterboxed(picture)? } else { picture.clone() };
            let image = localizer.encode_image(&square)?;
            let found = localizer.localize(&question.sound, &image)?;
            let time = started.elapsed();
            (1, [found, localizer.localize(&question.absent, &image)?], time)
        }
        Way::Tiles(across) => {
            let image = localizer.encode_tiles(picture, across)?;
            let found = localizer.localize_tiles(&question.sound, &image)?;
            let time = started.elapsed();
            (image.num_encoded(), [found, localizer.localize_tiles(&question.absent, &image)?], time)
        }
    };
    let scores = match way {
        Way::Letterbox => unboxed(&found, (width, height))?,
        Way::Tiles(_) => found.score_map(width, height)?.rows(0..height)?,
    };
    let mut hits = [0; NUM_THRESHOLDS];
    count_hits(&mut hits, &scores, own);
    Ok(Outcome {
        share: question.share,
        shape: question.shape,
        which: which(mean_inside(&scores, own), mean_inside(&scores, other)),
        peak: peak(&scores).is_some_and(|at| own[at]),
        hits,
        confidences: [found.confidence, absent.confidence],
        passes,
        time,
    })
}

/// The place of a picture of this size in the middle of a square.
fn margins((width, height): (usize, usize)) -> (usize, usize, usize) {
    let side = width.max(height);
    (side, (side - width) / 2, (side - height) / 2)
}

/// The picture in the middle of a grey square.
fn letterboxed(picture: &Picture) -> Result<Picture> {
    let (side, left, top) = margins(picture.size());
    let row_bytes = picture.width() * 3;
    let mut pixels = vec![GREY; side * side * 3];
    for (y, row) in picture.pixels().chunks_exact(row_bytes).enumerate() {
        pixels[((top + y) * side + left) * 3..][..row_bytes].copy_from_slice(row);
    }
    Ok(Picture::from_rgb8(side, side, pixels)?)
}

/// The scores of a letterboxed picture of this size, without its borders.
fn unboxed(heatmap: &Heatmap, (width, height): (usize, usize)) -> Result<Vec<f32>> {
    let (side, left, top) = margins((width, height));
    let rows = heatmap.score_map(side, side)?.rows(top..top + height)?;
    Ok(rows.chunks_exact(side).flat_map(|row| &row[left..left + width]).copied().collect())
}

/// The results for one way of looking; fractions in [0, 1].
struct Row {
    which: f64,
    peak: f64,
    ciou: f64,
    threshold: f32,
    /// The peak by [`SHARES`] and by [`SHAPES`].
    shares: [f64; SHARES.len()],
    shapes: [f64; SHAPES.len()],
    auroc: f64,
    /// Means over the pictures.
    passes: f64,
    milliseconds: f64,
}

impl Row {
    fn new(outcomes: &[Outcome]) -> Self {
        let mean = |value: &dyn Fn(&Outcome) -> f64, of: &dyn Fn(&Outcome) -> bool| {
            let values: Vec<f64> = outcomes.iter().filter(|outcome| of(outcome)).map(value).collect();
            values.iter().sum::<f64>() / values.len().max(1) as f64
        };
        let all = |_: &Outcome| true;
        let right = |outcome: &Outcome| f64::from(u8::from(outcome.peak));
        let at = |place: usize| outcomes.iter().map(|outcome| outcome.hits[place]).sum::<usize>();
        let best = (0..NUM_THRESHOLDS).max_by_key(|place| at(*place)).unwrap_or(0);
        let confidences = |which: usize| outcomes.iter().map(|o| o.confidences[which]).collect::<Vec<f32>>();
        Self {
            which: mean(&|outcome| outcome.which, &all),
            peak: mean(&right, &all),
            ciou: at(best) as f64 / outcomes.len().max(1) as f64,
            threshold: THRESHOLDS[best],
            shares: std::array::from_fn(|share| mean(&right, &|outcome| outcome.share == share)),
            shapes: std::array::from_fn(|shape| mean(&right, &|outcome| outcome.shape == shape)),
            auroc: auroc(&confidences(0), &confidences(1)),
            passes: mean(&|outcome| outcome.passes as f64, &all),
            milliseconds: mean(&|outcome| outcome.time.as_secs_f64() * 1e3, &all),
        }
    }

    fn cells(&self) -> Vec<String> {
        let rates = [self.which, self.peak, self.ciou].into_iter().chain(self.shares).map(percent);
        let costs = [format!("{:.3}", self.auroc), format!("{:.1}", self.passes), format!("{:.0}", self.milliseconds)];
        rates.chain(costs).collect()
    }

    fn line(&self) -> String {
        self.cells().iter().map(|cell| format!("{cell:>7}")).collect()
    }

    fn json(&self) -> Value {
        json!({
            "which": self.which, "peak": self.peak, "ciou": self.ciou, "threshold": self.threshold,
            "peak_by_share": self.shares, "peak_by_shape": self.shapes, "auroc": self.auroc,
            "encoded": self.passes, "milliseconds": self.milliseconds,
        })
    }
}
