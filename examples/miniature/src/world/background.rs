//! Backgrounds of scenes.

use std::f32::consts::{PI, TAU};
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Split;
use super::canvas::{Canvas, blend};
use super::cutout::{CutOut, Pose, Tint};

/// Fractions of the picture's side.
const PERIOD: Range<f32> = 0.08..0.6;
const ANGLE: Range<f32> = 0.0..PI;
const HUE: Range<f32> = 0.0..1.0;
const SATURATION: Range<f32> = 0.1..0.8;
const LIGHTNESS: Range<f32> = 0.15..0.95;
/// The distance in hue between the two colours.
const HUE_STEP: Range<f32> = 0.0..0.25;

/// The pattern of a background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A gradient from one colour to the other.
    Gradient,
    /// Clouds of both colours.
    Clouds,
    /// Straight bands with soft edges.
    Stripes,
    /// A checkerboard of both colours.
    Checks,
    /// A part of a soundless picture, greatly enlarged.
    Crop {
        /// The index of the picture among those of the split.
        picture: usize,
        /// Whether it is out of focus.
        blurred: bool,
    },
}

/// The parameters of a background that depend on the split.
#[derive(Clone, PartialEq, Debug)]
pub struct BackgroundPlan {
    /// The pattern.
    pub kind: Kind,
    /// Hue, saturation and lightness of the first colour, in 0..1.
    pub colour: [f32; 3],
    /// The second colour: its distance in hue from the first, its saturation and its lightness.
    pub second: [f32; 3],
    /// The direction, in radians.
    pub angle: f32,
    /// The period of the pattern, as a fraction of the side.
    pub period: f32,
}

impl BackgroundPlan {
    /// Draws a background of `split`, which has `pictures` soundless pictures.
    pub fn draw(split: Split, pictures: usize, rng: &mut ChaCha8Rng) -> Self {
        let kind = match rng.random_range(0..8) {
            0 | 1 => Kind::Gradient,
            2 | 3 => Kind::Clouds,
            4 => Kind::Stripes,
            5 => Kind::Checks,
            _ if pictures == 0 => Kind::Clouds,
            _ => Kind::Crop { picture: rng.random_range(0..pictures), blurred: rng.random() },
        };
        let mut colour = |hue| [hue, SATURATION, LIGHTNESS].map(|range| split.draw(range, rng));
        let (first, second) = (colour(HUE), colour(HUE_STEP));
        Self { kind, colour: first, second, angle: split.draw(ANGLE, rng), period: split.draw(PERIOD, rng) }
    }

    /// The split to which all parameters belong, if there is one.
    #[cfg(test)]
    pub fn split(&self) -> Option<Split> {
        let ranges = [HUE, SATURATION, LIGHTNESS, HUE_STEP, SATURATION, LIGHTNESS, ANGLE, PERIOD];
        let values = self.colour.iter().chain(&self.second).chain([&self.angle, &self.period]);
        let splits: Vec<_> = values.zip(ranges).map(|(&value, range)| Split::of(value, range)).collect();
        splits.windows(2).all(|pair| pair[0] == pair[1]).then_some(splits[0]).flatten()
    }

    /// Paints `side` × `side` pixels, RGB in 0..1. Everything that the plan does not determine is drawn from `rng`.
    pub(super) fn paint(&self, side: usize, pictures: &[CutOut], rng: &mut ChaCha8Rng) -> Canvas {
        let [hue, saturation, lightness] = self.colour;
        let first = from_hsl(hue, saturation, lightness);
        let second = from_hsl(hue + self.second[0], self.second[1], self.second[2]);
        let (sin, cos) = self.angle.sin_cos();
        let phase: f32 = rng.random();
        let clouds = matches!(self.kind, Kind::Clouds).then(|| Clouds::new(self.period, rng));
        let mut canvas = Canvas::new(side, side, |x, y| {
            let [x, y] = [x, y].map(|at| (at as f32 + 0.5) / side as f32 - 0.5);
            let (along, across) = (x * cos + y * sin, y * cos - x * sin);
            let wave = |at: f32| (TAU * (at / self.period / 2.0 + phase)).sin();
            let share = match (&self.kind, &clouds) {
                (Kind::Stripes, _) => 0.5 + 0.5 * (4.0 * wave(along)).clamp(-1.0, 1.0),
                (Kind::Checks, _) => 0.5 + 0.5 * (8.0 * wave(along) * wave(across)).clamp(-1.0, 1.0),
                (_, Some(clouds)) => clouds.at(x + 0.5, y + 0.5),
                // The corners are 1/√2 from the middle.
                _ => along / 2.0_f32.sqrt() + 0.5,
            };
            std::array::from_fn(|c| first[c] + (second[c] - first[c]) * share)
        });
        if let Kind::Crop { picture, blurred } = self.kind {
            cover(&mut canvas, &pictures[picture], self.angle, blurred, rng);
        }
        canvas
    }
}

/// Draws a part of `picture` over the canvas.
fn cover(canvas: &mut Canvas, picture: &CutOut, angle: f32, blurred: bool, rng: &mut ChaCha8Rng) {
    let side = canvas.width;
    let length = side as f32;
    let extent = length * rng.random_range(1.2..2.4) * picture.elongation().min(2.5);
    let pose = Pose { extent, flip: rng.random(), angle };
    let mut middle = || length * rng.random_range(0.25..0.75);
    let middle = (middle(), middle());
    // Out of focus: a much smaller picture, enlarged.
    let (pose, window, middle) = if blurred {
        let shrink = 1.0 / rng.random_range(5.0..9.0);
        let small = ((length * shrink).ceil() as usize).max(2);
        let shrink = small as f32 / length;
        (Pose { extent: extent * shrink, ..pose }, small, (middle.0 * shrink, middle.1 * shrink))
    } else {
        (pose, side, middle)
    };
    let patch = picture.draw_window(&pose, &Tint::NONE, (window, window), middle);
    let scale = window as f32 / length;
    for (at, pixel) in canvas.pixels.iter_mut().enumerate() {
        let over = if blurred {
            let place = |along: usize| ((along as f32 + 0.5) * scale - 0.5).clamp(0.0, (window - 1) as f32);
            smooth(&patch.pixels, window, place(at % side), place(at / side))
        } else {
            patch.pixels[at]
        };
        blend(pixel, over);
    }
}

/// Interpolation with a smooth step between the four neighbours of (`x`, `y`) in a square grid.
fn smooth<const N: usize>(grid: &[[f32; N]], side: usize, x: f32, y: f32) -> [f32; N] {
    let step = |t: f32| t * t * (3.0 - 2.0 * t);
    let (left, top) = ((x as usize).min(side - 2), (y as usize).min(side - 2));
    let (across, down) = (step(x - left as f32), step(y - top as f32));
    let at = top * side + left;
    let (a, b, c, d) = (&grid[at], &grid[at + 1], &grid[at + side], &grid[at + side + 1]);
    std::array::from_fn(|i| {
        let (upper, lower) = (a[i] + (b[i] - a[i]) * across, c[i] + (d[i] - c[i]) * across);
        upper + (lower - upper) * down
    })
}

/// Value noise of two octaves.
pub struct Clouds {
    octaves: [(usize, f32, Vec<[f32; 1]>); 2],
}

impl Clouds {
    /// `period` is the size of the larger clouds, as a fraction of the side.
    pub fn new(period: f32, rng: &mut ChaCha8Rng) -> Self {
        let mut octave = |period: f32| {
            let side = (1.0 / period).ceil() as usize + 2;
            (side, 1.0 / period, (0..side * side).map(|_| [rng.random()]).collect())
        };
        Self { octaves: [octave(period), octave(period / 2.0)] }
    }

    /// In 0..1; `x` and `y` too.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let [low, high] = &self.octaves;
        let value = |(side, scale, grid): &(usize, f32, Vec<[f32; 1]>)| smooth(grid, *side, x * scale, y * scale)[0];
        (value(low) * 2.0 + value(high)) / 3.0
    }
}

/// Hue (any; its fraction counts), saturation and lightness in 0..1 → RGB in 0..1.
fn from_hsl(hue: f32, saturation: f32, lightness: f32) -> [f32; 3] {
    let reach = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|shift| {
        let k = (shift + hue.rem_euclid(1.0) * 12.0) % 12.0;
        lightness - reach * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0)
    })
}
