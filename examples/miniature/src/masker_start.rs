//! Initial values of w, b and the target area, from the logits of the frozen decoder and the true sizes of the objects.
#![allow(clippy::print_stdout)] // command-line output

use std::sync::Arc;

use candle_core::{DType, Tensor};
use rand::RngExt;
use soundsight::Result;
use soundsight::acl::Acl;
use soundsight::data::random::{Purpose, stream};

use crate::grounding::{MaskerStart, Pool};
use crate::scenes::pixels;
use crate::world::{Split, World};

/// The number of training scenes used.
const NUM_SCENES: usize = 96;
const CHUNK: usize = 32;
/// The decoder was trained by binary cross entropy, so its logits *are* log-odds: with w = 1 the Gumbel noise draws
/// each pixel with the decoder's own probability. (With w = 10, as published, nearly all masks would be certain, with
/// no gradient.)
const W: f32 = 1.0;

/// Measures with `acl`, whose AudioTokenizer is untrained.
///
/// The embedding of an untrained tokenizer is meaningless to the decoder: with b = 0, every mask would be empty,
/// every masked picture the same, and nothing would be learned. Therefore b is chosen so that the initial masks cover
/// as much of a picture as
/// an object does on average, which is also the target area.
pub fn measure(world: &Arc<World>, pool: &Pool, acl: &Acl, seed: u64) -> Result<MaskerStart> {
    let mut rng = stream(seed, Purpose::Validation, 4, 0);
    let (mut scenes, mut features, mut areas) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..NUM_SCENES {
        let count = rng.random_range(1..=3);
        let (class, variations) = &pool.sounding[rng.random_range(0..pool.sounding.len())];
        let scene = world.scene(Split::Train, count, Some(*class), &mut rng);
        for placed in &scene.placed {
            let inside = placed.mask.iter().filter(|inside| **inside).count();
            areas.push(inside as f64 / placed.mask.len() as f64);
        }
        scenes.push(pixels(&scene)?);
        features.push(variations[rng.random_range(0..variations.len())].to_dtype(DType::F32)?);
    }
    let mut logits = Vec::new();
    for (scenes, features) in scenes.chunks(CHUNK).zip(features.chunks(CHUNK)) {
        let image = acl.image_features(&Tensor::stack(scenes, 0)?)?;
        let audio = acl.audio_embedding_in(&acl.audio_token(&Tensor::stack(features, 0)?)?, &image)?;
        logits.extend(acl.logits(&image, &audio)?.flatten_all()?.to_vec1::<f32>()?);
    }
    logits.sort_unstable_by(f32::total_cmp);
    let area = areas.iter().sum::<f64>() / areas.len().max(1) as f64;
    let quantile = |share: f64| logits[((logits.len() - 1) as f64 * share) as usize];
    let b = -W * quantile(1.0 - area);
    println!(
        "masker: an object covers {:.1} % of its picture (published for photographs: 40 %); untrained sounds give logits of \
         {:.2} (5 %), {:.2} (half), {:.2} (95 %); so w = {W} (published 10), b = {b:.2} (published 14), expected area {area:.3}",
        100.0 * area,
        quantile(0.05),
        quantile(0.5),
        quantile(0.95),
    );
    Ok(MaskerStart { w: W, b, area })
}
