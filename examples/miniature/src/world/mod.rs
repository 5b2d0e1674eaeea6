//! A small world of real objects: cut-out pictures and their own recordings, from Tux Paint's stamps.
//!
//! [`World::open`] reads every pair `name.png` + `name.ogg|wav` below a folder; [`World::scene`] composes pictures in
//! which the mask of every object is known, [`World::sound`] varies a class's recording. Everything is a pure function
//! of the folder's contents, the configuration and the given random numbers.
//!
//! # What is held out
//! A class has few pictures and recordings, so both splits share the classes. These are held out:
//!
//! - **combinations**: the classes are arranged on a circle in an order drawn from the seed; two whose distance on it
//!   is 1, 6, 11, … (a fifth of all pairs, as many partners for every class) never meet in a training scene, and every
//!   held-out scene of two or more objects contains at least one such pair;
//! - **backgrounds and distractors**: a fifth of the soundless pictures is used only in held-out scenes, the others
//!   only in training scenes. Every continuous parameter of a background (hue, saturation, lightness, angle, period)
//!   has its range cut into eight cells: the first 70 % of each belong to training, 75 to 95 % to the held-out scenes;
//! - **photographs**: a quarter of those of each folder;
//! - **sound variations**: speed, offset, gain, gaps, noise level, tilt and the room's delays and gains have their
//!   ranges divided in the same way.
//!
//! In a held-out scene of a single object, only the background is therefore new. Size, position, rotation, mirroring
//! and colour jitter of the objects have the same distributions in both splits and practically never repeat.

mod background;
mod camera;
mod canvas;
mod cutout;
mod export;
mod photograph;
mod pictures;
mod scene;
mod small;
mod sound;
mod split;
mod stamps;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use soundsight::data::random::{Purpose, stream};

pub use background::{BackgroundPlan, Clouds, Kind};
pub use canvas::Canvas;
pub use cutout::{CutOut, Patch, Pose, Tint};
pub use export::Question;
pub use photograph::Photographs;
pub use pictures::{png, read_picture};
pub use scene::{MIN_VISIBLE, Placed, Scene, masks, pose, tint};
pub use small::SmallScene;
pub use sound::{Recording, SAMPLE_RATE, Variation, effective, fade, noise, repeated_piece, wav};
pub use split::{Combinations, Split};

/// The smallest number of classes in a world: with fewer, one split would have no combinations.
const MIN_CLASSES: usize = 4;

/// One in this many soundless pictures is held out.
const HELD_OUT_PICTURES: usize = 5;

/// Soundless pictures also serve as backgrounds, larger than the scene.
const ENLARGED: usize = 2;

/// The configuration of a world.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// The side of a scene's picture, in pixels.
    pub side: usize,
    /// The length of a sound, in seconds.
    pub seconds: f64,
    /// Decides which combinations and pictures are held out and which classes are unheard.
    pub seed: u64,
    /// The number of classes marked as [`Class::unheard`].
    pub num_unheard: usize,
    /// Folders of photographs for backgrounds. With any, scenes are also disturbed as by a camera: shadows, colour
    /// casts, blur, grain, compression.
    pub photographs: Vec<PathBuf>,
}

/// The backgrounds of a world's scenes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backgrounds {
    /// Drawn ones only, and pictures that no camera disturbs.
    Drawn,
    /// Photographs for three scenes in four, if the world has any.
    Mixed,
    /// Photographs only, if the world has any.
    Photographs,
}

/// The probability of a photograph as background in [`Backgrounds::Mixed`].
const PHOTOGRAPHED: f64 = 0.75;

/// A class of objects that can be seen and heard.
pub struct Class {
    /// One to three lower-case words.
    pub name: String,
    /// Whether it is silent in self-supervised training.
    pub unheard: bool,
    /// Where its pictures and recordings come from, relative to the stamps' folder, without extension.
    pub sources: Vec<PathBuf>,
    /// At least one.
    pub pictures: Vec<CutOut>,
    /// At least one.
    pub recordings: Vec<Recording>,
}

/// The material of all scenes and sounds; clones share it.
#[derive(Clone)]
pub struct World {
    /// Ordered by name.
    pub classes: Arc<[Class]>,
    /// Unused pairs, each with the reason.
    pub left_out: Vec<(PathBuf, String)>,
    /// The classes that may occur together, by split.
    pub combinations: Combinations,
    /// Pictures without a sound, for backgrounds and distractors: `[training, held-out]`.
    soundless: Arc<[Vec<CutOut>; 2]>,
    /// `[training, held-out]`.
    photographs: Arc<[Photographs; 2]>,
    backgrounds: Backgrounds,
    side: usize,
    samples: usize,
}

impl World {
    /// Reads the stamps below `stamps` and prepares them for scenes of `config.side` pixels and sounds of
    /// `config.seconds`.
    ///
    /// # Errors
    /// When the configuration is invalid, `stamps` is not a folder or has too few pairs of a picture and a
    /// recording, or a picture or recording cannot be decoded (a world without it would be different).
    pub fn open(stamps: &Path, config: &WorldConfig) -> Result<Self> {
        ensure!((32..=512).contains(&config.side), "side: expected 32 to 512 pixels, found {}", config.side);
        ensure!(
            (0.5..=60.0).contains(&config.seconds),
            "seconds: expected 0.5 to 60 s of sound, found {}",
            config.seconds
        );
        let found = stamps::find(stamps)?;
        let mut left_out = found.left_out;
        let loaded: Vec<_> = found.pairs.par_iter().map(|pair| pair.load(config.side)).collect::<Result<_>>()?;
        let mut classes: Vec<Class> = Vec::new();
        // Pairs are sorted by path, so the pictures of a class are always in the same order.
        for (pair, loaded) in found.pairs.into_iter().zip(loaded) {
            let (picture, recording) = match loaded {
                Ok(usable) => usable,
                Err(reason) => {
                    left_out.push((pair.stem, reason));
                    continue;
                }
            };
            let class = match classes.iter_mut().find(|class| class.name == pair.name) {
                Some(class) => class,
                None => classes.push_mut(Class {
                    name: pair.name,
                    unheard: false,
                    sources: Vec::new(),
                    pictures: Vec::new(),
                    recordings: Vec::new(),
                }),
            };
            class.sources.push(pair.stem);
            class.pictures.push(picture);
            class.recordings.push(recording);
        }
        ensure!(
            classes.len() >= MIN_CLASSES,
            "{}: expected at least {MIN_CLASSES} classes with a picture and a recording, found {}; {}",
            stamps.display(),
            classes.len(),
            stamps::ADVICE
        );
        ensure!(
            config.num_unheard <= classes.len() / 2,
            "num_unheard: expected at most half of the {} classes, found {}",
            classes.len(),
            config.num_unheard
        );
        classes.sort_by(|a, b| a.name.cmp(&b.name));
        left_out.sort();
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.shuffle(&mut stream(config.seed, Purpose::HoldOut, 0, 0));
        let combinations = Combinations::new(&order);
        order.shuffle(&mut stream(config.seed, Purpose::HoldOut, 1, 0));
        for &class in &order[..config.num_unheard] {
            classes[class].unheard = true;
        }
        let soundless = found.soundless.par_iter();
        let soundless = soundless.map(|path| stamps::load_picture(&stamps.join(path), ENLARGED * config.side));
        let mut soundless: Vec<_> = soundless.collect::<Result<Vec<_>>>()?.into_iter().filter_map(Result::ok).collect();
        soundless.shuffle(&mut stream(config.seed, Purpose::HoldOut, 2, 0));
        let held_out = soundless.split_off(soundless.len() - soundless.len() / HELD_OUT_PICTURES);
        Ok(Self {
            classes: classes.into(),
            left_out,
            combinations,
            soundless: Arc::new([soundless, held_out]),
            photographs: Arc::new(Photographs::open(&config.photographs, config.side, config.seed)?),
            backgrounds: Backgrounds::Mixed,
            side: config.side,
            samples: (config.seconds * f64::from(SAMPLE_RATE)).round() as usize,
        })
    }

    /// The classes' names, in their order.
    pub fn names(&self) -> Vec<&str> {
        self.classes.iter().map(|class| class.name.as_str()).collect()
    }

    /// The same world with these backgrounds.
    pub fn with_backgrounds(&self, backgrounds: Backgrounds) -> Self {
        Self { backgrounds, ..self.clone() }
    }

    /// The same world with scenes of `side` pixels, at most as many as it was opened for.
    pub fn with_side(&self, side: usize) -> Self {
        Self { side, ..self.clone() }
    }

    /// The photographs that belong to `split`, if scenes may have any as their background.
    pub fn photographs(&self, split: Split) -> Option<&Photographs> {
        let photographs = &self.photographs[split as usize];
        (self.backgrounds != Backgrounds::Drawn && !photographs.is_empty()).then_some(photographs)
    }

    /// What is behind held-out scenes, for tables.
    pub fn describe_backgrounds(&self) -> &'static str {
        if self.photographs(Split::HeldOut).is_some() {
            "photographs and drawn backgrounds"
        } else {
            "drawn backgrounds"
        }
    }

    /// The pictures without a sound that belong to `split`.
    pub fn soundless(&self, split: Split) -> &[CutOut] {
        &self.soundless[split as usize]
    }

    /// The side of a scene's picture, in pixels.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The length of a sound, in samples.
    pub fn num_samples(&self) -> usize {
        self.samples
    }
}
