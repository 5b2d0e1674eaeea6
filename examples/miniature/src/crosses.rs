//! Every picture of a group with every sound of the group: retrieval in both directions, confidences, mask statistics.

use candle_core::{D, Tensor};
use serde_json::{Value, json};
use soundsight::Result;
use soundsight::acl::{Acl, masked_features};
use soundsight::viz::{FailureSignature, MaskStatistics, MaskTally, mask_overlap};

use crate::measure::Scoreboard;
use crate::naming::unit;
use crate::statistics::auroc;

/// The number of pairs in a group, among which a sound must find its picture.
pub const RETRIEVAL: usize = 16;

/// How often the right match is ranked first of [`RETRIEVAL`], and among the first five.
#[derive(Clone, Copy, Default)]
pub struct Found {
    pub first: f64,
    pub five: f64,
}

/// The results of the groups of a scoreboard.
#[derive(Default)]
pub struct Crosses {
    /// Pictures retrieved by their sounds, ranked by how well the sound matches the features under its mask.
    pub pictures: Found,
    /// Sounds retrieved by their pictures.
    pub sounds: Found,
    /// Confidences of sounds whose object is in the picture.
    pub present: Vec<f32>,
    /// Confidences of sounds of classes that are not in the picture.
    pub absent: Vec<f32>,
    /// Statistics of the masks under their own sounds and under sounds of absent objects.
    pub masks: Option<MaskStatistics>,
}

impl Crosses {
    /// The difference between the mean confidences of present and absent objects.
    pub fn confidence_gap(&self) -> f64 {
        let mean = |values: &[f32]| values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64;
        mean(&self.present) - mean(&self.absent)
    }

    pub fn json(&self) -> Value {
        json!({
            "retrieval": self.pictures.first,
            "retrieval_five": self.pictures.five,
            "retrieval_of_sounds": self.sounds.first,
            "retrieval_of_sounds_five": self.sounds.five,
            "confidence_gap": self.confidence_gap(),
            "confidence_auroc": auroc(&self.present, &self.absent),
            "masks": self.masks,
            "signature": self.masks.and_then(|masks| masks.failure()).map(signature),
        })
    }
}

impl Scoreboard {
    /// Localizes every sound of each complete group in every picture of the group.
    pub fn crosses(&self, acl: &Acl) -> Result<Crosses> {
        let offset = acl.masker.offset()?;
        let (mut crosses, mut tally, mut total) = (Crosses::default(), MaskTally::default(), 0);
        for (first, count) in self.chunks(RETRIEVAL).filter(|(_, count)| *count == RETRIEVAL) {
            let image = acl.image_features(&self.pixels(first, count)?)?;
            let tokens = self.audio_tokens(acl, first, count)?;
            let embeddings = match acl.prompt_vectors(&image)? {
                Some(vectors) => acl.audio_embedding_of_pairs(&tokens, &vectors)?,
                None => acl.audio_embedding(&tokens)?.unsqueeze(0)?,
            };
            let embeddings = embeddings.broadcast_as((count, count, embeddings.dim(2)?))?; // [pictures, sounds, P]
            let logits = (0..count).map(|n| acl.logits(&image, &embeddings.narrow(1, n, 1)?.squeeze(1)?.contiguous()?));
            let logits = Tensor::stack(&logits.collect::<Result<Vec<_>>>()?, 1)?; // [pictures, sounds, S, S]
            let seen = unit(&masked_features(&acl.dense_features(&image)?, &logits)?)?;
            let fit = seen.broadcast_mul(&unit(&embeddings)?)?.sum(D::Minus1)?; // [pictures, sounds]
            let (fit, sideways) = (fit.to_vec2::<f32>()?, fit.t()?.contiguous()?.to_vec2::<f32>()?);
            let logits = logits.flatten_from(2)?.to_vec3::<f32>()?;
            for (i, question) in self.questions[first..first + count].iter().enumerate() {
                add(&mut crosses.pictures, &sideways[i], i);
                add(&mut crosses.sounds, &fit[i], i);
                crosses.present.push(fit[i][i]);
                let sounding = |n: usize| self.questions[first + n].class;
                let absent =
                    || (0..count).filter(|n| sounding(*n) != question.class && sounding(*n) != question.other_class);
                crosses.absent.extend(absent().map(|n| fit[i][n]));
                let inside = |n: usize| logits[i][n].iter().map(move |logit| logit + offset > 0.0);
                let area = |n: usize| share(inside(n));
                let common = |n: usize| share(inside(i).zip(inside(n)).map(|(a, b)| a && b));
                tally.add(area(i), absent().map(|n| mask_overlap(area(i), area(n), common(n))));
            }
            total += count;
        }
        for found in [&mut crosses.pictures, &mut crosses.sounds] {
            found.first /= total.max(1) as f64;
            found.five /= total.max(1) as f64;
        }
        crosses.masks = tally.finish();
        Ok(crosses)
    }
}

/// The detected failure, without advice.
fn signature(failure: FailureSignature) -> String {
    let text = failure.to_string();
    text.split(':').next().unwrap_or_default().to_string()
}

/// Counts whether `fits[own]` is the best, and whether it is among the best five.
fn add(found: &mut Found, fits: &[f32], own: usize) {
    let better = fits.iter().filter(|fit| **fit > fits[own]).count();
    found.first += f64::from(u8::from(better == 0));
    found.five += f64::from(u8::from(better < 5));
}

fn share(inside: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut total) = (0usize, 0usize);
    for inside in inside {
        yes += usize::from(inside);
        total += 1;
    }
    yes as f64 / total.max(1) as f64
}
