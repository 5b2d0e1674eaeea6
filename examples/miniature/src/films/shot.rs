//! A film between two cuts.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Kind;
use super::motion::{Motion, Place, WIDE};
use crate::world::{Canvas, CutOut, MIN_VISIBLE, Patch, Pose, Split, Tint, World, masks, pose, tint};

/// How many motions are tried before the things are made smaller.
const TRIES: usize = 12;
const SHRINK: f32 = 0.93;

/// How often, in Hz, and at which size it is tried whether enough of the things is visible.
const TRIED_RATE: f64 = 4.0;
const TRIED_SIDE: usize = 32;

/// Two things in front of a background.
pub struct Shot<'w> {
    background: Canvas,
    things: [Look<'w>; 2],
    motion: Motion,
    side: usize,
}

/// How a thing looks.
struct Look<'w> {
    picture: &'w CutOut,
    /// At rest; the extent is a fraction of the picture's side.
    pose: Pose,
    tint: Tint,
}

impl<'w> Shot<'w> {
    /// A shot of one thing each of `classes`, of which enough is visible during `time` (in seconds).
    pub fn draw(
        world: &'w World,
        (split, kind): (Split, Kind),
        classes: [usize; 2],
        time: Range<f64>,
        side: usize,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let wide = if kind == Kind::Pan { (WIDE * side as f32).ceil() as usize } else { side };
        let background = world.backdrop(split, side, wide, rng);
        let mut things = classes.map(|class| {
            let pictures = &world.classes[class].pictures;
            let picture = &pictures[rng.random_range(0..pictures.len())];
            Look { picture, pose: pose(picture, 1, rng), tint: tint(rng) }
        });
        // This ends: there is always room for two small things.
        loop {
            for _ in 0..TRIES {
                let halves = things.each_ref().map(|thing| {
                    let (width, height) = thing.picture.bounds(&thing.pose);
                    [width / 2.0, height / 2.0]
                });
                let motion = Motion::draw(kind, halves, rng);
                if visible(&things, &motion, &time) {
                    return Self { background, things, motion, side };
                }
            }
            for thing in &mut things {
                thing.pose.extent *= SHRINK;
            }
        }
    }

    /// The picture at `time` (in seconds of the film), and where each of the things is seen.
    pub fn paint(&self, time: f64) -> (Canvas, Vec<Vec<bool>>) {
        let side = self.side as f32;
        let spare = (self.background.width as f32 - side) / 2.0;
        let corner = self.motion.camera(time).map(|middle| spare + middle * side);
        let mut canvas = self.background.window((corner[0], corner[1]), (self.side, self.side));
        let (patches, places) = patches(&self.things, &self.motion, time, self.side);
        for (patch, &place) in patches.iter().zip(&places) {
            canvas.blend(patch, place);
        }
        let masks = masks(&canvas, &patches, &places);
        (canvas, masks)
    }
}

/// The things as they look at `time`, and where.
fn patches(things: &[Look; 2], motion: &Motion, time: f64, side: usize) -> (Vec<Patch>, Vec<(i32, i32)>) {
    let side = side as f32;
    let places = motion.places(time);
    let draw = |(thing, place): (&Look, _)| {
        let Place { middle, turn, growth } = place;
        let Pose { extent, flip, angle } = thing.pose;
        let pose = Pose { extent: extent * growth * side, flip, angle: angle + turn };
        thing.picture.draw_at(&pose, &thing.tint, (middle[0] * side, middle[1] * side))
    };
    things.iter().zip(places).map(draw).unzip()
}

/// Whether enough of both things is visible at all times, except while they cross.
fn visible(things: &[Look; 2], motion: &Motion, time: &Range<f64>) -> bool {
    let canvas = Canvas::new(TRIED_SIDE, TRIED_SIDE, |_, _| [0.0; 3]);
    let moments = ((time.end - time.start) * TRIED_RATE).ceil() as usize;
    (0..=moments).map(|moment| time.start + moment as f64 / TRIED_RATE).all(|time| {
        motion.crosses(time) || {
            let (patches, places) = patches(things, motion, time, TRIED_SIDE);
            masks(&canvas, &patches, &places).iter().zip(&patches).all(|(mask, patch)| {
                let seen = mask.iter().filter(|&&on| on).count();
                seen > 0 && seen as f32 >= MIN_VISIBLE * patch.num_opaque() as f32
            })
        }
    })
}
