//! Scenes as training samples of the frozen parts: pictures with names and masks.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::data::Dataset;
use soundsight::image::NormalizeOptions;
use soundsight::{Picture, Result};

use crate::masks::{coverage, imperfect};
use crate::model::PATCH;
use crate::world::{Scene, Split, World};

/// The number of names queried in each scene: those of its objects first, then others.
pub const NAMES_PER_SCENE: usize = 4;
/// A patch belongs to the object that covers more than this fraction of it,
const MINE: f32 = 0.5;
/// and to nothing if all objects together cover less than this.
const NOBODYS: f32 = 0.05;

/// The normalised pixels `[3, S, S]` of a scene.
pub fn pixels(scene: &Scene) -> Result<Tensor> {
    picture(scene)?.to_tensor(&NormalizeOptions::default(), &Device::Cpu)
}

/// The picture of a scene as the library reads it.
pub fn picture(scene: &Scene) -> Result<Picture> {
    let (width, height) = scene.picture.dimensions();
    Picture::from_rgb8(width as usize, height as usize, scene.picture.as_raw().clone())
}

/// A mask of `side` × `side` pixels as a tensor `[1, S, S]` of 0 and 1.
pub fn mask_tensor(mask: &[bool], side: usize) -> Result<Tensor> {
    let values: Vec<f32> = mask.iter().map(|inside| f32::from(u8::from(*inside))).collect();
    Ok(Tensor::from_vec(values, (1, side, side), &Device::Cpu)?)
}

/// The queries and answers for one scene.
pub struct SceneSample {
    pixels: Tensor,
    /// The classes in the scene.
    classes: Vec<usize>,
    asked: Vec<u32>,
    /// The answers `[names, S, S]`.
    masks: Tensor,
    /// The picture times an imperfect mask of one of its objects.
    cut_out: Tensor,
    cut_out_object: u32,
    /// The owner of each patch; `None` at borders.
    patches: Vec<Option<Owner>>,
}

/// What a patch shows.
#[derive(Clone, Copy)]
enum Owner {
    Class(u32),
    Nothing,
}

/// A batch of B scenes, with N queried names each.
pub struct SceneBatch {
    /// `[B, 3, S, S]`.
    pub pixels: Tensor,
    /// The queried names, scene by scene: classes `[B·N]`.
    pub asked: Tensor,
    /// The answers `[B·N, S, S]`.
    pub masks: Tensor,
    /// Whether each name is in its scene, 1 or 0: `[B·N]`.
    pub present: Tensor,
    /// Pictures multiplied by imperfect masks, `[B, 3, S, S]`.
    pub cut_outs: Tensor,
    /// The classes shown by the cut-outs, `[B]`.
    pub cut_out_objects: Tensor,
    /// The distribution over classes in each scene, uniform over those present, `[B, K]`.
    pub shares: Tensor,
    /// The patches (indices in `[0, B·G·G)`) that show an object, and its class.
    pub class_patches: (Tensor, Tensor),
    /// The patches that show no object.
    pub nothing_patches: Tensor,
}

/// Scenes composed on the fly: sample `index` differs in each epoch.
pub struct Scenes {
    world: Arc<World>,
    ids: Vec<String>,
}

impl Scenes {
    pub fn new(world: Arc<World>, num_samples: usize) -> Self {
        Self { world, ids: (0..num_samples).map(|i| format!("scene {i}")).collect() }
    }
}

impl Dataset for Scenes {
    type Sample = SceneSample;
    type Batch = SceneBatch;

    fn num_samples(&self) -> usize {
        self.ids.len()
    }

    fn id(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", String::as_str)
    }

    fn load(&self, _: usize, rng: &mut ChaCha8Rng) -> Result<SceneSample> {
        let count = rng.random_range(1..=3);
        let scene = self.world.scene(Split::Train, count, None, rng);
        let pixels = pixels(&scene)?;
        let side = self.world.side();
        let num_classes = self.world.classes.len() as u32;
        let mut asked: Vec<u32> = scene.placed.iter().map(|placed| placed.class as u32).collect();
        while asked.len() < NAMES_PER_SCENE {
            let other = rng.random_range(0..num_classes);
            if !asked.contains(&other) || num_classes as usize <= asked.len() {
                asked.push(other);
            }
        }
        asked.truncate(NAMES_PER_SCENE);
        let masks = (0..NAMES_PER_SCENE).map(|i| match scene.placed.get(i) {
            Some(placed) => mask_tensor(&placed.mask, side),
            None => mask_tensor(&vec![false; side * side], side),
        });
        let masks = Tensor::cat(&masks.collect::<Result<Vec<_>>>()?, 0)?;
        let cut_out = &scene.placed[rng.random_range(0..scene.placed.len())];
        let mask = mask_tensor(&imperfect(&cut_out.mask, side, rng), side)?;

        let num_patches = (side / PATCH).pow(2);
        let mut patches = vec![Some(Owner::Nothing); num_patches];
        let mut total = vec![0.0; num_patches];
        for placed in &scene.placed {
            for ((patch, total), share) in patches.iter_mut().zip(&mut total).zip(coverage(&placed.mask, side, PATCH)) {
                *total += share;
                if share > MINE {
                    *patch = Some(Owner::Class(placed.class as u32));
                } else if matches!(patch, Some(Owner::Nothing)) && *total > NOBODYS {
                    *patch = None;
                }
            }
        }
        Ok(SceneSample {
            cut_out: pixels.broadcast_mul(&mask)?,
            cut_out_object: cut_out.class as u32,
            pixels,
            classes: scene.placed.iter().map(|placed| placed.class).collect(),
            asked,
            masks,
            patches,
        })
    }

    fn collate(&self, samples: Vec<SceneSample>) -> Result<SceneBatch> {
        let (batch, classes) = (samples.len(), self.world.classes.len());
        let stack = |part: fn(&SceneSample) -> &Tensor| Tensor::stack(&samples.iter().map(part).collect::<Vec<_>>(), 0);
        let mut shares = vec![0f32; batch * classes];
        let (mut present, mut asked) = (Vec::new(), Vec::new());
        let (mut places, mut owners, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
        for (b, sample) in samples.iter().enumerate() {
            for class in &sample.classes {
                shares[b * classes + class] = 1.0 / sample.classes.len() as f32;
            }
            asked.extend(&sample.asked);
            present.extend((0..NAMES_PER_SCENE).map(|i| f32::from(u8::from(i < sample.classes.len()))));
            for (patch, owner) in sample.patches.iter().enumerate() {
                let place = (b * sample.patches.len() + patch) as u32;
                match owner {
                    Some(Owner::Class(class)) => {
                        places.push(place);
                        owners.push(*class);
                    }
                    Some(Owner::Nothing) => nothing.push(place),
                    None => {}
                }
            }
        }
        let cut_out_objects: Vec<u32> = samples.iter().map(|sample| sample.cut_out_object).collect();
        let list = |values: Vec<u32>| Tensor::new(values, &Device::Cpu);
        Ok(SceneBatch {
            pixels: stack(|sample| &sample.pixels)?,
            asked: list(asked)?,
            masks: stack(|sample| &sample.masks)?.flatten_to(1)?,
            present: Tensor::new(present, &Device::Cpu)?,
            cut_outs: stack(|sample| &sample.cut_out)?,
            cut_out_objects: list(cut_out_objects)?,
            shares: Tensor::from_vec(shares, (batch, classes), &Device::Cpu)?,
            class_patches: (list(places)?, list(owners)?),
            nothing_patches: list(nothing)?,
        })
    }
}
