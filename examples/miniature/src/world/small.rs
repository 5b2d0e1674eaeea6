//! Larger pictures of any shape with two small objects.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::canvas::Canvas;
use super::cutout::{CutOut, Patch, Pose};
use super::scene::{Placed, masks, pose, tint};
use super::{Split, World, camera};

/// The number of positions to try before the objects are made smaller.
const TRIES: usize = 24;

/// The places of patches, and their masks.
type Spread = (Vec<(i32, i32)>, Vec<Vec<bool>>);

/// A picture of any shape, and the two objects that it shows.
pub struct SmallScene {
    /// The picture.
    pub picture: RgbImage,
    /// The two objects; the class asked for is the first. Their masks have the picture's size.
    pub placed: [Placed; 2],
}

impl World {
    /// A scene of `width` × `height` pixels with an object of class `class` and another one, each covering about the fraction
    /// `share` of the picture. Both are wholly visible. `None` if a small world has no other class for it.
    pub fn small_scene(
        &self,
        split: Split,
        (width, height): (usize, usize),
        share: f32,
        class: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<SmallScene> {
        let &[first, second] = &self.combinations.draw(split, 2, class, rng)[..] else { return None };
        let wide = width.max(height);
        let place = |spare: usize, rng: &mut ChaCha8Rng| rng.random_range(0..=spare) as f32;
        let corner = (place(wide - width, rng), place(wide - height, rng));
        let mut canvas = self.backdrop(split, self.side, wide, rng).window(corner, (width, height));
        let looks = [first, second].map(|class| {
            let pictures = &self.classes[class].pictures;
            let picture = &pictures[rng.random_range(0..pictures.len())];
            let posed = Pose { extent: extent(picture, share * (width * height) as f32), ..pose(picture, wide, rng) };
            (picture, posed, tint(rng))
        });
        let photographed = self.photographs(split).is_some();
        let mut shrink = 1.0;
        loop {
            let patches: Vec<Patch> = looks
                .iter()
                .map(|(picture, posed, tint)| picture.draw(&Pose { extent: posed.extent * shrink, ..*posed }, tint))
                .collect();
            if let Some((places, seen)) = apart(&canvas, &patches, rng) {
                camera::put(&mut canvas, &patches, &places, photographed, rng);
                let mut placed = [first, second].into_iter().zip(seen).map(|(class, mask)| Placed { class, mask });
                let placed = [placed.next()?, placed.next()?];
                return Some(SmallScene { picture: camera::picture(canvas, photographed, rng), placed });
            }
            // This terminates, because there is always room for two small objects.
            shrink *= 0.95;
        }
    }
}

/// Places for the patches' top left corners at which all of them are wholly visible, and their masks there.
fn apart(canvas: &Canvas, patches: &[Patch], rng: &mut ChaCha8Rng) -> Option<Spread> {
    let (width, height) = (canvas.width, canvas.height);
    if patches.iter().any(|patch| patch.width > width || patch.height > height) {
        return None;
    }
    let whole = |(mask, patch): (&Vec<bool>, &Patch)| {
        let seen = mask.iter().filter(|inside| **inside).count();
        seen > 0 && seen == patch.num_opaque()
    };
    for _ in 0..TRIES {
        let mut along = |side: usize, length: usize| rng.random_range(0..=side - length) as i32;
        let places: Vec<_> = patches.iter().map(|p| (along(width, p.width), along(height, p.height))).collect();
        let masks = masks(canvas, patches, &places);
        if masks.iter().zip(patches).all(whole) {
            return Some((places, masks));
        }
    }
    None
}

/// The longer side at which `picture` covers `area` pixels.
fn extent(picture: &CutOut, area: f32) -> f32 {
    (area * picture.elongation() / picture.opaque).sqrt()
}
