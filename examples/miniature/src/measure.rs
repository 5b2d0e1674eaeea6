//! Measures a model of the miniature world on held-out scenes of two objects, one of which sounds.

use candle_core::{D, Device, Tensor};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use soundsight::acl::Acl;
use soundsight::clipseg::ClipSeg;
use soundsight::data::random::{Purpose, stream};
use soundsight::eval::{NUM_THRESHOLDS, THRESHOLDS};
use soundsight::train::Metrics;
use soundsight::viz::MaskStatistics;
use soundsight::{Picture, Result};

use crate::crosses::RETRIEVAL;
use crate::model::Vocabulary;
use crate::naming::{embed_plain_names, unit};
use crate::scenes::{mask_tensor, picture, pixels};
use crate::sounds::{Ear, features};
use crate::world::{Split, World};

/// The number of scenes that the network processes at once.
const CHUNK: usize = 32;

/// One held-out scene of two or three objects.
pub struct Question {
    /// `[3, S, S]`.
    pixels: Tensor,
    /// The same, before it was normalised.
    pub picture: Picture,
    /// The sounding class, and another one.
    pub class: usize,
    pub other_class: usize,
    /// The masks of the two objects, `[S·S]`.
    pub own: Vec<bool>,
    pub other: Vec<bool>,
    /// The mask of the third object.
    pub third: Option<Vec<bool>>,
}

/// Held-out scenes, with the features of their sounds once there is an encoder.
pub struct Scoreboard {
    pub questions: Vec<Question>,
    num_classes: usize,
    side: usize,
    features: Vec<Tensor>,
}

/// The outcome of one scene.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The sounding object's mean is above the other's.
    pub which: bool,
    /// The highest value is inside the sounding object.
    pub peak: bool,
}

/// The results for one kind of heatmap; fractions in [0, 1].
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// Scene by scene.
    pub answers: Vec<Answer>,
    /// The sounding object's mean is above the other's.
    pub which: f64,
    /// The highest value is inside the sounding object.
    pub peak: f64,
    /// The IoU is at least one half, at the best threshold over all scenes.
    pub ciou: f64,
    pub threshold: f32,
}

impl Scores {
    pub fn json(&self) -> Value {
        json!({ "which": self.which, "peak": self.peak, "ciou": self.ciou, "threshold": self.threshold })
    }

    fn metrics(&self) -> Metrics {
        let named = [("which", self.which), ("peak", self.peak), ("ciou", self.ciou)];
        named.map(|(name, value)| (name.to_string(), value)).to_vec()
    }
}

impl Scoreboard {
    /// Creates `count` scenes in which one of `sounding` sounds. Each [`RETRIEVAL`] consecutive ones differ in class if
    /// there are enough classes.
    pub fn new(world: &World, sounding: &[usize], count: usize, seed: u64) -> Result<Self> {
        Self::with_classes(2, world, sounding, count, seed)
    }

    /// Like [`Scoreboard::new`], with `num_placed` objects in each scene (two or three).
    pub fn with_classes(num_placed: usize, world: &World, sounding: &[usize], count: usize, seed: u64) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Validation, 2, sounding.len() as u64);
        let mut classes = Vec::new();
        let whole = if sounding.len() < RETRIEVAL { sounding.len() } else { sounding.len() / RETRIEVAL * RETRIEVAL };
        while classes.len() < count {
            let mut order = sounding.to_vec();
            order.shuffle(&mut rng);
            classes.extend(order.into_iter().take(whole));
        }
        classes.truncate(count);
        let mut questions = Vec::new();
        for class in classes {
            let scene = world.scene(Split::HeldOut, num_placed, Some(class), &mut rng);
            let mut others = scene.placed.iter().filter(|placed| placed.class != class);
            let own = scene.placed.iter().find(|placed| placed.class == class);
            let (Some(own), Some(other)) = (own, others.next()) else { continue };
            questions.push(Question {
                pixels: pixels(&scene)?,
                picture: picture(&scene)?,
                class,
                other_class: other.class,
                own: own.mask.clone(),
                other: other.mask.clone(),
                third: others.next().map(|placed| placed.mask.clone()),
            });
        }
        Ok(Self { questions, num_classes: world.classes.len(), side: world.side(), features: Vec::new() })
    }

    /// Encodes a held-out sound for each scene with the encoder of `acl`.
    pub fn hear(&mut self, acl: &Acl, ear: &Ear, seed: u64) -> Result<()> {
        self.hear_sounds(acl, ear, &ear.sounds(&self.sounding(), Split::HeldOut, seed))
    }

    /// Encodes these sounds, one for each scene, with the encoder of `acl`.
    pub fn hear_sounds(&mut self, acl: &Acl, ear: &Ear, sounds: &[Vec<f32>]) -> Result<()> {
        self.features = features(acl, &ear.listen(sounds)?, |_| ())?;
        Ok(())
    }

    /// The sounding class of each scene.
    pub fn sounding(&self) -> Vec<usize> {
        self.questions.iter().map(|question| question.class).collect()
    }

    pub fn num_questions(&self) -> usize {
        self.questions.len()
    }

    /// The mean fraction of the picture that the sounding object covers: how often a random point hits it.
    pub fn mean_area(&self) -> f64 {
        let area = |q: &Question| q.own.iter().filter(|inside| **inside).count() as f64 / q.own.len() as f64;
        self.questions.iter().map(area).sum::<f64>() / self.questions.len().max(1) as f64
    }

    pub fn pixels(&self, first: usize, count: usize) -> Result<Tensor> {
        let pixels: Vec<&Tensor> = self.questions.iter().skip(first).take(count).map(|q| &q.pixels).collect();
        Ok(Tensor::stack(&pixels, 0)?)
    }

    pub fn chunks(&self, size: usize) -> impl Iterator<Item = (usize, usize)> {
        let total = self.questions.len();
        (0..total).step_by(size).map(move |first| (first, size.min(total - first)))
    }

    /// Scores heatmaps `[S·S]`, one for each scene.
    fn score(&self, heatmaps: &[Vec<f32>]) -> Scores {
        let mut scores = Scores::default();
        let mut hits = [0usize; NUM_THRESHOLDS];
        for (question, heatmap) in self.questions.iter().zip(heatmaps) {
            let (own, other) = (mean_inside(heatmap, &question.own), mean_inside(heatmap, &question.other));
            scores.which += which(own, other);
            let peak = peak(heatmap).is_some_and(|i| question.own[i]);
            scores.peak += f64::from(u8::from(peak));
            scores.answers.push(Answer { which: own > other, peak });
            count_hits(&mut hits, heatmap, &question.own);
        }
        let count = self.questions.len().max(1) as f64;
        scores.which /= count;
        scores.peak /= count;
        if let Some((hits, threshold)) = hits.iter().zip(THRESHOLDS).max_by_key(|(hits, _)| **hits) {
            (scores.ciou, scores.threshold) = (*hits as f64 / count, threshold);
        }
        scores
    }

    /// The decoder's heatmaps for embeddings `[Q, P]`, one for each scene; `offset` is the masker's b/w.
    fn draw(&self, clipseg: &ClipSeg, embeddings: &Tensor, offset: f32) -> Result<Vec<Vec<f32>>> {
        let mut heatmaps = Vec::new();
        for (first, count) in self.chunks(CHUNK) {
            let blocks = clipseg.config().num_mask_blocks();
            let scenes = clipseg.clip.vision_model.forward_blocks(&self.pixels(first, count)?, blocks)?;
            let condition = embeddings.narrow(0, first, count)?.contiguous()?;
            heatmaps.extend(scores(&clipseg.decoder.forward(&clipseg.reduce(&scenes)?, &condition)?, offset)?);
        }
        Ok(heatmaps)
    }

    /// Scores the name of the sounding object as a text prompt: the oracle.
    pub fn score_names(&self, clipseg: &ClipSeg, vocabulary: &Vocabulary, offset: f32) -> Result<Scores> {
        let names = embed_plain_names(clipseg, vocabulary, self.num_classes)?;
        let classes: Vec<u32> = self.questions.iter().map(|question| question.class as u32).collect();
        let embeddings = names.index_select(&Tensor::new(classes, &Device::Cpu)?, 0)?;
        Ok(self.score(&self.draw(clipseg, &embeddings, offset)?))
    }

    /// The audio tokens `[n, H]` of the sounds of `count` scenes.
    pub fn audio_tokens(&self, acl: &Acl, first: usize, count: usize) -> Result<Tensor> {
        acl.audio_token(&Tensor::stack(&self.features[first..first + count], 0)?.to_dtype(candle_core::DType::F32)?)
    }

    /// The heatmaps of the scenes' sounds, `[S·S]` each.
    pub fn heatmaps(&self, acl: &Acl) -> Result<Vec<Vec<f32>>> {
        let (mut heatmaps, offset) = (Vec::new(), acl.masker.offset()?);
        for (first, count) in self.chunks(CHUNK) {
            let image = acl.image_features(&self.pixels(first, count)?)?;
            let embeddings = acl.audio_embedding_in(&self.audio_tokens(acl, first, count)?, &image)?;
            heatmaps.extend(scores(&acl.logits(&image, &embeddings)?, offset)?);
        }
        Ok(heatmaps)
    }

    /// Scores the heatmaps of the sounds.
    pub fn score_sounds(&self, acl: &Acl) -> Result<Scores> {
        Ok(self.score(&self.heatmaps(acl)?))
    }

    /// Scores a heatmap of independent uniform numbers for each scene.
    pub fn score_random(&self, seed: u64) -> Scores {
        let mut rng = stream(seed, Purpose::Validation, 3, 0);
        let heatmaps: Vec<Vec<f32>> =
            self.questions.iter().map(|_| (0..self.side.pow(2)).map(|_| rng.random()).collect()).collect();
        self.score(&heatmaps)
    }

    /// Scores a blob in the middle.
    pub fn score_centre(&self) -> Scores {
        self.score(&vec![centre(self.side); self.questions.len()])
    }

    /// The fraction of the sounding objects that CLIP names correctly when the picture is masked by their true mask.
    pub fn name_cut_outs(&self, clipseg: &ClipSeg, vocabulary: &Vocabulary) -> Result<f64> {
        let names = unit(&embed_plain_names(clipseg, vocabulary, self.num_classes)?)?;
        let mut right = 0;
        for (first, count) in self.chunks(CHUNK) {
            let questions = &self.questions[first..first + count];
            let masks = questions.iter().map(|q| mask_tensor(&q.own, self.side)).collect::<Result<Vec<_>>>()?;
            let cut_outs = self.pixels(first, count)?.broadcast_mul(&Tensor::stack(&masks, 0)?)?;
            let states = clipseg.clip.vision_model.forward(&cut_outs)?.hidden_states;
            let embeddings = clipseg.clip.embed_image(&states[states.len() - 1])?;
            let guesses = unit(&embeddings)?.matmul(&names.t()?)?.argmax(D::Minus1)?.to_vec1::<u32>()?;
            right += guesses.iter().zip(questions).filter(|(guess, q)| **guess as usize == q.class).count();
        }
        Ok(right as f64 / self.questions.len().max(1) as f64)
    }

    /// The validation metrics of stage a for vision.
    pub fn naming(&self, clipseg: &ClipSeg, vocabulary: &Vocabulary) -> Result<Metrics> {
        let mut metrics = self.score_names(clipseg, vocabulary, 0.0)?.metrics();
        metrics.push(("cut_outs_named".to_string(), self.name_cut_outs(clipseg, vocabulary)?));
        Ok(metrics)
    }

    /// The validation metrics of stage b.
    pub fn grounding(&self, acl: &Acl) -> Result<Metrics> {
        let mut metrics = self.score_sounds(acl)?.metrics();
        let crosses = self.crosses(acl)?;
        metrics.push(("retrieval".to_string(), crosses.pictures.first));
        if let Some(MaskStatistics { area, full, empty, alike }) = crosses.masks {
            let alike = alike.unwrap_or(f64::NAN);
            // Use the names of the library's own validation, which the progress display understands.
            let named = [("mask_area", area), ("masks_full", full), ("masks_empty", empty), ("masks_alike", alike)];
            metrics.extend(named.map(|(name, value)| (name.to_string(), value)));
        }
        Ok(metrics)
    }
}

/// Heatmaps `[S·S]` from logits `[n, S, S]`; `offset` is the masker's b/w.
fn scores(logits: &Tensor, offset: f32) -> Result<Vec<Vec<f32>>> {
    Ok(candle_nn::ops::sigmoid(&(logits + f64::from(offset))?)?.flatten_from(1)?.to_vec2::<f32>()?)
}

/// The mean of a heatmap's values where `mask` is.
pub fn mean_inside(heatmap: &[f32], mask: &[bool]) -> f64 {
    let inside = || heatmap.iter().zip(mask).filter(|(_, inside)| **inside);
    inside().map(|(value, _)| f64::from(*value)).sum::<f64>() / inside().count().max(1) as f64
}

/// Adds a heatmap to the hits at each of [`THRESHOLDS`]: where its IoU with `mask` is at least one half.
pub fn count_hits(hits: &mut [usize; NUM_THRESHOLDS], heatmap: &[f32], mask: &[bool]) {
    for (hits, threshold) in hits.iter_mut().zip(THRESHOLDS) {
        let (mut common, mut either) = (0, 0);
        for (value, inside) in heatmap.iter().zip(mask) {
            let predicted = *value >= threshold;
            common += usize::from(predicted && *inside);
            either += usize::from(predicted || *inside);
        }
        *hits += usize::from(2 * common >= either && either > 0);
    }
}

/// Whether the mean on the sounding thing is above that on the other one: 1 or 0, and one half if they are equal.
pub fn which(own: f64, other: f64) -> f64 {
    if own == other { 0.5 } else { f64::from(u8::from(own > other)) }
}

/// A heatmap `[side · side]` with a blob in the middle, exp(−d²/2σ²) with σ a quarter of the side.
pub fn centre(side: usize) -> Vec<f32> {
    let from_centre = |i: usize| i as f32 - (side as f32 - 1.0) / 2.0;
    let sigma = side as f32 / 4.0;
    let value = |i: usize| {
        let squared = from_centre(i / side).powi(2) + from_centre(i % side).powi(2);
        (-squared / (2.0 * sigma * sigma)).exp()
    };
    (0..side * side).map(value).collect()
}

/// Where a heatmap is highest.
pub fn peak(heatmap: &[f32]) -> Option<usize> {
    heatmap.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i)
}
