//! The split into training and held-out data.

use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The number of cells into which the range of a parameter is divided.
const CELLS: usize = 8;

/// Two parts of one world that share no combination of classes, no background and no variation of a sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split {
    /// To learn from.
    Train = 0,
    /// To measure on.
    HeldOut = 1,
}

impl Split {
    /// The part of each cell that this split draws from; the gaps between the parts belong to neither split.
    fn part(self) -> Range<f32> {
        match self {
            Self::Train => 0.0..0.70,
            Self::HeldOut => 0.75..0.95,
        }
    }

    /// A number from this split's part of `range`.
    pub fn draw(self, range: Range<f32>, rng: &mut ChaCha8Rng) -> f32 {
        let cell = rng.random_range(0..CELLS) as f32;
        let within = rng.random_range(self.part());
        range.start + (range.end - range.start) * (cell + within) / CELLS as f32
    }

    /// The split whose part of `range` contains `value`, if any.
    #[cfg(test)]
    pub fn of(value: f32, range: Range<f32>) -> Option<Self> {
        const ROUNDING: f32 = 1e-3;
        let within = ((value - range.start) / (range.end - range.start) * CELLS as f32).rem_euclid(1.0);
        [Self::Train, Self::HeldOut].into_iter().find(|split| {
            let part = split.part();
            (part.start - ROUNDING..part.end + ROUNDING).contains(&within)
        })
    }
}

/// The pairs of classes that may occur together in a training scene; the others are held out.
#[derive(Clone)]
pub struct Combinations {
    /// The position of each class on the circle.
    places: Vec<usize>,
}

impl Combinations {
    /// Creates the arrangement from `order`, which must contain every class once.
    pub(super) fn new(order: &[usize]) -> Self {
        let mut places = vec![0; order.len()];
        for (place, &class) in order.iter().enumerate() {
            places[class] = place;
        }
        Self { places }
    }

    /// Whether classes `a` and `b` never occur together in a training scene. No scene has two objects of one class.
    pub fn is_held_out(&self, a: usize, b: usize) -> bool {
        let apart = self.places[a].abs_diff(self.places[b]);
        let distance = apart.min(self.places.len() - apart);
        distance % 5 == 1
    }

    /// Draws `count` different classes that `split` allows, starting with `first` if given; fewer if a small world does
    /// not have enough of them.
    pub(super) fn draw(&self, split: Split, count: usize, first: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut chosen = vec![first];
        while chosen.len() < count {
            let fits = |other: usize| {
                !chosen.contains(&other)
                    && match split {
                        Split::Train => chosen.iter().all(|&class| !self.is_held_out(class, other)),
                        // One such pair makes the whole combination new, so further classes are unrestricted.
                        Split::HeldOut => chosen.len() > 1 || self.is_held_out(first, other),
                    }
            };
            let candidates: Vec<usize> = (0..self.places.len()).filter(|&other| fits(other)).collect();
            if candidates.is_empty() {
                break;
            }
            chosen.push(candidates[rng.random_range(0..candidates.len())]);
        }
        chosen
    }
}
