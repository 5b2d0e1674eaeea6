//! Pictures of several classes before a background.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::canvas::Canvas;
use super::cutout::{CutOut, Patch, Pose, Tint};
use super::{BackgroundPlan, Split, World};

/// The most classes in a scene.
pub const MAX_THINGS: usize = 4;

/// How much of a class others and the border leave to be seen, at least.
const MIN_VISIBLE: f32 = 0.6;

/// How much of the picture a class is to cover, at least: thin ones are drawn longer.
const MIN_AREA: f32 = 0.035;

/// The longer side of a class, as a fraction of the picture's.
const EXTENT: std::ops::Range<f32> = 0.3..0.62;
const LONGEST: f32 = 0.85;

/// How often a place is drawn before the classes are made smaller.
const TRIES: usize = 12;

/// How often a soundless picture stands among the classes.
const DISTRACTOR: f64 = 0.35;

/// A picture and what it shows.
pub struct Scene {
    /// `side` × `side` pixels.
    pub picture: RgbImage,
    /// The classes that it was asked for, from back to front.
    pub placed: Vec<Placed>,
}

/// A class in a scene.
pub struct Placed {
    /// Which.
    pub class: usize,
    /// Where it is seen: side · side pixels, row after row.
    pub mask: Vec<bool>,
}

impl World {
    /// A scene of `count` different classes (1 to [`MAX_THINGS`]; fewer where a small world has no such combination),
    /// `must` among them when it is given.
    ///
    /// Masks of different classes share no pixel. A class is seen by at least 60 %.
    pub fn scene(&self, split: Split, count: usize, must: Option<usize>, rng: &mut ChaCha8Rng) -> Scene {
        let first = must.unwrap_or_else(|| rng.random_range(0..self.classes.len()));
        let mut chosen = self.combinations.draw(split, count.clamp(1, MAX_THINGS), first, rng);
        // Who was asked for is not to be told by lying behind.
        for last in (1..chosen.len()).rev() {
            chosen.swap(last, rng.random_range(0..=last));
        }
        let soundless = self.soundless(split);
        let background = BackgroundPlan::draw(split, soundless.len(), rng);
        let mut canvas = background.paint(self.side, soundless, rng);
        if !soundless.is_empty() && rng.random_bool(DISTRACTOR) {
            let picture = &soundless[rng.random_range(0..soundless.len())];
            let pose = self.pose(picture, rng);
            let patch = picture.draw(&Pose { extent: pose.extent * 0.75, ..pose }, &tint(rng));
            let place = self.place(&patch, rng);
            canvas.blend(&patch, place);
        }

        let looks: Vec<_> = chosen
            .iter()
            .map(|&class| {
                let pictures = &self.classes[class].pictures;
                let picture = &pictures[rng.random_range(0..pictures.len())];
                Look { picture, pose: self.pose(picture, rng), tint: tint(rng) }
            })
            .collect();
        let masks = self.arrange(&looks, &mut canvas, rng);
        let placed = chosen.into_iter().zip(masks).map(|(class, mask)| Placed { class, mask }).collect();
        Scene { picture: canvas.to_picture(), placed }
    }

    fn pose(&self, picture: &CutOut, rng: &mut ChaCha8Rng) -> Pose {
        // The covered fraction of the picture is opaque · extent² / elongation.
        let least = (MIN_AREA * picture.elongation() / picture.opaque).sqrt();
        let extent = rng.random_range(EXTENT).max(least).min(LONGEST);
        Pose { extent: extent * self.side as f32, flip: rng.random(), angle: rng.random_range(-0.25..0.25) }
    }

    /// A place for the patch's top left corner, mostly inside the picture.
    fn place(&self, patch: &Patch, rng: &mut ChaCha8Rng) -> (i32, i32) {
        let mut along = |length: usize| {
            let beyond = length as i32 / 12;
            let last = (self.side as i32 - length as i32).max(0) + beyond;
            rng.random_range(-beyond..=last)
        };
        (along(patch.width), along(patch.height))
    }

    /// Draws the classes onto the canvas, in places where enough of each is seen; the masks say where that is.
    fn arrange(&self, looks: &[Look], canvas: &mut Canvas, rng: &mut ChaCha8Rng) -> Vec<Vec<bool>> {
        let mut shrink = 1.0;
        loop {
            let draw = |look: &Look| {
                let pose = Pose { extent: look.pose.extent * shrink, ..look.pose };
                look.picture.draw(&pose, &look.tint)
            };
            let patches: Vec<Patch> = looks.iter().map(draw).collect();
            for _ in 0..TRIES {
                let places: Vec<_> = patches.iter().map(|patch| self.place(patch, rng)).collect();
                let masks = masks(canvas, &patches, &places);
                let seen = |(mask, patch): (&Vec<bool>, &Patch)| {
                    let seen = mask.iter().filter(|&&on| on).count();
                    seen > 0 && seen as f32 >= MIN_VISIBLE * patch.num_opaque() as f32
                };
                if masks.iter().zip(&patches).all(seen) {
                    for (patch, &place) in patches.iter().zip(&places) {
                        canvas.blend(patch, place);
                    }
                    return masks;
                }
            }
            // Ends: four small classes always find room.
            shrink *= 0.9;
        }
    }
}

/// How a class is drawn this time.
struct Look<'a> {
    picture: &'a CutOut,
    pose: Pose,
    tint: Tint,
}

fn tint(rng: &mut ChaCha8Rng) -> Tint {
    Tint::new(rng.random_range(0.75..1.2), rng.random_range(0.8..1.2), rng.random_range(-0.2..0.2))
}

/// Where each patch is seen; later ones cover earlier ones.
fn masks(canvas: &Canvas, patches: &[Patch], places: &[(i32, i32)]) -> Vec<Vec<bool>> {
    let mut masks: Vec<Vec<bool>> = Vec::with_capacity(patches.len());
    for (patch, &place) in patches.iter().zip(places) {
        let mut mask = vec![false; canvas.pixels.len()];
        for (at, pixel) in canvas.under(patch, place) {
            if pixel[3] > 0.5 {
                mask[at] = true;
                for below in &mut masks {
                    below[at] = false;
                }
            }
        }
        masks.push(mask);
    }
    masks
}
