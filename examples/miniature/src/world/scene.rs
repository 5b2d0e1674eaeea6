//! Pictures of several objects in front of a background.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::canvas::Canvas;
use super::cutout::{CutOut, Patch, Pose, Tint};
use super::{BackgroundPlan, Backgrounds, PHOTOGRAPHED, Split, World, camera};

/// The largest number of objects in a scene.
pub const MAX_OBJECTS: usize = 4;

/// The smallest visible fraction of an object that is overlapped by others or cut by the border.
pub const MIN_VISIBLE: f32 = 0.6;

/// The smallest fraction of the picture that an object should cover: thin ones are drawn longer.
const MIN_AREA: f32 = 0.035;

/// The longer side of an object, as a fraction of the picture's side.
const EXTENT: std::ops::Range<f32> = 0.3..0.62;
const LONGEST: f32 = 0.85;

/// The number of positions to try before the objects are made smaller.
const TRIES: usize = 12;

/// The probability of placing a soundless picture among the objects.
const DISTRACTOR: f64 = 0.35;

/// A picture and what it shows.
pub struct Scene {
    /// `side` × `side` pixels.
    pub picture: RgbImage,
    /// The requested objects, from back to front.
    pub placed: Vec<Placed>,
}

/// An object in a scene.
pub struct Placed {
    /// The class.
    pub class: usize,
    /// Its visible pixels: side · side values, row by row.
    pub mask: Vec<bool>,
}

impl World {
    /// A scene with one object each of `count` different classes (1 to [`MAX_OBJECTS`]; fewer where a small world has
    /// no such combination), `must` among them when it is given.
    ///
    /// Masks of different objects share no pixel. At least 60 % of each object is visible.
    pub fn scene(&self, split: Split, count: usize, must: Option<usize>, rng: &mut ChaCha8Rng) -> Scene {
        let first = must.unwrap_or_else(|| rng.random_range(0..self.classes.len()));
        let mut chosen = self.combinations.draw(split, count.clamp(1, MAX_OBJECTS), first, rng);
        // The requested class must not be recognisable from its place in the order.
        for last in (1..chosen.len()).rev() {
            chosen.swap(last, rng.random_range(0..=last));
        }
        let mut canvas = self.backdrop(split, self.side, self.side, rng);
        let looks: Vec<_> = chosen
            .iter()
            .map(|&class| {
                let pictures = &self.classes[class].pictures;
                let picture = &pictures[rng.random_range(0..pictures.len())];
                Look { picture, pose: pose(picture, self.side, rng), tint: tint(rng) }
            })
            .collect();
        let photographed = self.photographs(split).is_some();
        let masks = self.arrange(&looks, &mut canvas, photographed, rng);
        let placed = chosen.into_iter().zip(masks).map(|(class, mask)| Placed { class, mask }).collect();
        Scene { picture: camera::picture(canvas, photographed, rng), placed }
    }

    /// A background of `split`, now and then with a distractor: `wide` × `wide` pixels, of which a scene shows
    /// `side` × `side`.
    pub fn backdrop(&self, split: Split, side: usize, wide: usize, rng: &mut ChaCha8Rng) -> Canvas {
        let soundless = self.soundless(split);
        let mut plan = BackgroundPlan::draw(split, soundless.len(), rng);
        // What repeats is as large in a wide background as in a scene's.
        plan.period *= side as f32 / wide as f32;
        let mut canvas = plan.paint(wide, soundless, rng);
        if let Some(photographs) = self.photographs(split)
            && (self.backgrounds == Backgrounds::Photographs || rng.random_bool(PHOTOGRAPHED))
        {
            photographs.cover(&mut canvas, rng);
        }
        if !soundless.is_empty() && rng.random_bool(DISTRACTOR) {
            let picture = &soundless[rng.random_range(0..soundless.len())];
            let pose = pose(picture, side, rng);
            let patch = picture.draw(&Pose { extent: pose.extent * 0.75, ..pose }, &tint(rng));
            let place = place(&patch, wide, rng);
            canvas.blend(&patch, place);
        }
        canvas
    }

    /// Draws the objects onto the canvas so that enough of each is visible, some with `shadows`, and returns their masks.
    fn arrange(&self, looks: &[Look], canvas: &mut Canvas, shadows: bool, rng: &mut ChaCha8Rng) -> Vec<Vec<bool>> {
        let mut shrink = 1.0;
        loop {
            let draw = |look: &Look| {
                let pose = Pose { extent: look.pose.extent * shrink, ..look.pose };
                look.picture.draw(&pose, &look.tint)
            };
            let patches: Vec<Patch> = looks.iter().map(draw).collect();
            for _ in 0..TRIES {
                let places: Vec<_> = patches.iter().map(|patch| place(patch, self.side, rng)).collect();
                let masks = masks(canvas, &patches, &places);
                let seen = |(mask, patch): (&Vec<bool>, &Patch)| {
                    let seen = mask.iter().filter(|&&on| on).count();
                    seen > 0 && seen as f32 >= MIN_VISIBLE * patch.num_opaque() as f32
                };
                if masks.iter().zip(&patches).all(seen) {
                    camera::put(canvas, &patches, &places, shadows, rng);
                    return masks;
                }
            }
            // This terminates, because there is always room for four small objects.
            shrink *= 0.9;
        }
    }
}

/// The appearance of an object in one scene.
struct Look<'a> {
    picture: &'a CutOut,
    pose: Pose,
    tint: Tint,
}

/// How `picture` is drawn in a scene of `side` pixels.
pub fn pose(picture: &CutOut, side: usize, rng: &mut ChaCha8Rng) -> Pose {
    // The covered fraction of the picture is opaque · extent² / elongation.
    let least = (MIN_AREA * picture.elongation() / picture.opaque).sqrt();
    let extent = rng.random_range(EXTENT).max(least).min(LONGEST);
    Pose { extent: extent * side as f32, flip: rng.random(), angle: rng.random_range(-0.25..0.25) }
}

/// A place for the patch's top left corner, mostly inside the `side` × `side` pixels.
fn place(patch: &Patch, side: usize, rng: &mut ChaCha8Rng) -> (i32, i32) {
    let mut along = |length: usize| {
        let beyond = length as i32 / 12;
        let last = (side as i32 - length as i32).max(0) + beyond;
        rng.random_range(-beyond..=last)
    };
    (along(patch.width), along(patch.height))
}

/// A slight change of an object's colours.
pub fn tint(rng: &mut ChaCha8Rng) -> Tint {
    Tint::new(rng.random_range(0.75..1.2), rng.random_range(0.8..1.2), rng.random_range(-0.2..0.2))
}

/// Where each patch is seen; later ones cover earlier ones.
pub fn masks(canvas: &Canvas, patches: &[Patch], places: &[(i32, i32)]) -> Vec<Vec<bool>> {
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
