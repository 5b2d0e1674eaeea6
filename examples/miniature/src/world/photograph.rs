//! Photographs as backgrounds: a random part of one fills the scene.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::DynamicImage;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use soundsight::data::random::{Purpose, stream};

use super::canvas::{Canvas, blend};
use super::cutout::{CutOut, Pose, Tint};
use super::pictures::read_picture;
use super::scene::tint;
use super::stamps;

/// One in this many photographs of a folder is held out.
const HELD_OUT: usize = 4;

/// The longer side to which photographs are reduced, in sides of a scene.
const REDUCED: usize = 6;

/// The longer side in pixels of a photograph when it is judged. It is the same for scenes of all sizes, so that they have the
/// same photographs.
const JUDGED: u32 = 384;

/// The smallest number of pixels of its shorter side then.
const MIN_SHORTER: u32 = 32;

/// A photograph whose grey values deviate less than this from their mean (0..255) is nearly one colour.
const FLAT: f64 = 8.0;

/// Photographs by the folder that they come from.
#[derive(Default)]
pub struct Photographs {
    folders: Vec<Vec<CutOut>>,
}

impl Photographs {
    /// Reads the JPEG and PNG files below each of `folders`, for scenes of `side` pixels, and divides those of every
    /// folder into `[training, held-out]`.
    ///
    /// # Errors
    /// A folder contains no usable photographs, or a file cannot be decoded.
    pub fn open(folders: &[PathBuf], side: usize, seed: u64) -> Result<[Self; 2]> {
        let mut splits = [Self::default(), Self::default()];
        for (number, folder) in folders.iter().enumerate() {
            let mut files = BTreeSet::new();
            stamps::list(folder, Path::new(""), &mut files)?;
            let pictures: Vec<&PathBuf> = files.iter().filter(|path| is_picture(path)).collect();
            let loaded = pictures.par_iter().map(|path| load(&folder.join(path), REDUCED * side));
            let loaded = loaded.collect::<Result<Vec<_>>>()?;
            let mut usable: Vec<CutOut> = loaded.into_iter().flatten().collect();
            ensure!(
                usable.len() >= HELD_OUT,
                "{}: expected at least {HELD_OUT} photographs (JPEG or PNG), found {}",
                folder.display(),
                usable.len()
            );
            usable.shuffle(&mut stream(seed, Purpose::HoldOut, 3, number as u64));
            let held_out = usable.split_off(usable.len() - usable.len() / HELD_OUT);
            for (split, photographs) in splits.iter_mut().zip([usable, held_out]) {
                split.folders.push(photographs);
            }
        }
        Ok(splits)
    }

    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The number of photographs of each folder.
    pub fn counts(&self) -> Vec<usize> {
        self.folders.iter().map(Vec::len).collect()
    }

    /// Covers the square `canvas` with a random part of a photograph; every folder is equally likely.
    pub(super) fn cover(&self, canvas: &mut Canvas, rng: &mut ChaCha8Rng) {
        let folder = &self.folders[rng.random_range(0..self.folders.len())];
        let photograph = &folder[rng.random_range(0..folder.len())];
        let side = canvas.width as f32;
        // The shorter side of the photograph is as long as the scene, or up to three times as long.
        let zoom = 3.0_f32.powf(rng.random());
        let pose = Pose {
            extent: side * zoom * photograph.elongation(),
            flip: rng.random(),
            angle: rng.random_range(-0.1..0.1),
        };
        // A turned photograph is enlarged until it covers the corners again.
        let pose = Pose { extent: pose.extent * (1.0 + 1.1 * pose.angle.abs() * photograph.elongation()), ..pose };
        let (width, height) = photograph.bounds(&Pose { angle: 0.0, ..pose });
        let mut middle = |length: f32| {
            let spare = ((length - side) / 2.0 - side * pose.angle.abs()).max(0.0);
            side / 2.0 + spare * rng.random_range(-1.0_f32..=1.0)
        };
        let middle = (middle(width), middle(height));
        let colours = if rng.random_bool(0.5) { tint(rng) } else { Tint::NONE };
        let patch = photograph.draw_window(&pose, &colours, (canvas.width, canvas.height), middle);
        for (pixel, over) in canvas.pixels.iter_mut().zip(&patch.pixels) {
            blend(pixel, *over);
        }
    }
}

/// Whether the name of a file is that of a picture.
fn is_picture(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ["jpg", "jpeg", "png"].contains(&extension.as_str())
}

/// The photograph in the file `path`, reduced to `longest` pixels; `None` if it is not of use as a background.
fn load(path: &Path, longest: usize) -> Result<Option<CutOut>> {
    let decoded = read_picture(path).with_context(|| format!("{}: expected a JPEG or PNG picture", path.display()))?;
    let judged = reduced(&decoded, JUDGED);
    let transparent = judged.color().has_alpha() && judged.to_rgba8().pixels().any(|pixel| pixel.0[3] < 255);
    let usable = !transparent && judged.width().min(judged.height()) >= MIN_SHORTER && deviation(&judged) >= FLAT;
    Ok(usable.then(|| CutOut::new(&reduced(&decoded, longest as u32).to_rgba8(), longest)))
}

/// The picture with at most `longest` pixels on its longer side.
fn reduced(picture: &DynamicImage, longest: u32) -> Cow<'_, DynamicImage> {
    match picture.width().max(picture.height()) > longest {
        true => Cow::Owned(picture.thumbnail(longest, longest)),
        false => Cow::Borrowed(picture),
    }
}

/// The standard deviation of the grey values.
fn deviation(picture: &DynamicImage) -> f64 {
    let grey = picture.to_luma8();
    let count = grey.len().max(1) as f64;
    let mean = grey.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    (grey.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count).sqrt()
}
