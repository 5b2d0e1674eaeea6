//! The published augmentation of a training picture.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One draw of the published augmentation: resize both sides to [`Augmentation::resized`], crop S × S pixels at
/// (`x`, `y`), and mirror the crop if `flip` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// The left edge of the crop, in pixels of the resized picture.
    pub x: u32,
    /// The upper edge of the crop, in pixels of the resized picture.
    pub y: u32,
    /// Whether the crop is mirrored left to right.
    pub flip: bool,
}

impl Augmentation {
    /// The side of the resized picture before the crop: ⌊1.1 · S⌋ pixels (387 for S = 352).
    pub fn resized(image_size: u32) -> u32 {
        // Integer arithmetic, because 1.1 is not exact in binary and 1.1 × 10 must not become 10.
        image_size + image_size / 10
    }

    /// Draws a uniform crop position, and mirrors with probability ½. `image_size` is S.
    pub fn draw(rng: &mut ChaCha8Rng, image_size: u32) -> Self {
        let slack = Self::resized(image_size) - image_size;
        Self { x: rng.random_range(0..=slack), y: rng.random_range(0..=slack), flip: rng.random() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::{Purpose, stream};
    use super::*;

    #[test]
    fn draws_reach_every_position_and_never_leave_the_picture() {
        assert_eq!(Augmentation::resized(352), 387);
        let mut rng = stream(0, Purpose::Augmentation, 0, 0);
        let draws: Vec<Augmentation> = (0..5000).map(|_| Augmentation::draw(&mut rng, 352)).collect();
        for edge in [0, 35] {
            assert!(draws.iter().any(|d| d.x == edge) && draws.iter().any(|d| d.y == edge));
        }
        assert!(draws.iter().all(|d| d.x <= 35 && d.y <= 35));
        let flips = draws.iter().filter(|d| d.flip).count();
        // Binomial(5000, ½): mean 2500, standard deviation 35; the seed is fixed.
        assert!((2350..2650).contains(&flips), "{flips}");
    }
}
