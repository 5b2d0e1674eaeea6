//! Stage a, vision and language: CLIP's two towers and CLIPSeg's decoder learn together from named masks.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor, Var};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::Result;
use soundsight::clipseg::ClipSeg;
use soundsight::train::losses::INVERSE_TEMPERATURE;
use soundsight::train::{Metrics, Objective, StepOutput, Validation};
use soundsight::weights::save_safetensors;

use crate::fresh::{Vars, values};
use crate::measure::Scoreboard;
use crate::model::Vocabulary;
use crate::scenes::{NAMES_PER_SCENE, SceneBatch};

/// The prompt templates for training; `None` is the place of the name. The first is the prompt of ACL.
const TEMPLATES: [(&[&str], u32); 5] = [
    (&["a", "photo", "of"], 6),
    (&["a", "photo", "of", "a"], 2),
    (&["a", "photo", "of", "an"], 1),
    (&["a", "photo", "of", "the"], 1),
    (&[], 1),
];

/// The weights of the losses.
const MASK: f64 = 4.0;
const DICE: f64 = 1.0;
const CUT_OUT: f64 = 1.0;
const PATCHES: f64 = 0.5;
const NOTHING: f64 = 0.1;
const WHOLE: f64 = 0.2;

pub struct NamingObjective<'a> {
    pub clipseg: ClipSeg,
    pub vars: Vars,
    pub vocabulary: &'a Vocabulary,
    pub num_classes: usize,
    /// Standard deviation of the noise on the decoder's conditions, as a fraction of their norm: the embedding of a sound only
    /// resembles that of its name.
    pub condition_noise: f64,
    pub scoreboard: &'a Scoreboard,
}

/// Text embeddings `[K, P]` of the names of all classes in prompts "{before} {name}", with one `before` for each.
pub fn embed_names(clipseg: &ClipSeg, vocabulary: &Vocabulary, before: &[&[&str]]) -> Result<Tensor> {
    let prompts: Vec<Vec<u32>> = before
        .iter()
        .enumerate()
        .map(|(class, before)| {
            let ids = vocabulary.prompt(before);
            ids.before.into_iter().chain([vocabulary.name(class)]).chain(ids.after).collect()
        })
        .collect();
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let ends: Vec<usize> = prompts.iter().map(|prompt| prompt.len() - 1).collect();
    // The tower is causal, so tokens after the end have no effect.
    let padded = prompts
        .iter()
        .flat_map(|prompt| prompt.iter().copied().chain(std::iter::repeat_n(vocabulary.end(), longest - prompt.len())));
    let ids = Tensor::from_vec(padded.collect::<Vec<_>>(), (prompts.len(), longest), &Device::Cpu)?;
    clipseg.clip.embed_text(&ids, &ends)
}

/// Text embeddings `[K, P]` of all names in the prompt of ACL.
pub fn embed_plain_names(clipseg: &ClipSeg, vocabulary: &Vocabulary, num_classes: usize) -> Result<Tensor> {
    embed_names(clipseg, vocabulary, &vec![TEMPLATES[0].0; num_classes])
}

/// `x / ‖x‖` over the last dimension.
pub fn unit(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?)?)
}

/// Log-probabilities `[…, K]` of the names whose directions are `names` `[K, P]`, for embeddings `[…, P]`.
fn log_probabilities(embeddings: &Tensor, names: &Tensor) -> Result<Tensor> {
    let similarities = unit(embeddings)?.matmul(&names.t()?)?;
    Ok(candle_nn::ops::log_softmax(&(similarities * INVERSE_TEMPERATURE)?, D::Minus1)?)
}

/// Mean cross entropy of log-probabilities `[B, K]` with `targets` `[B]`.
fn cross_entropy(log_probabilities: &Tensor, targets: &Tensor) -> Result<Tensor> {
    Ok(candle_nn::loss::nll(log_probabilities, targets)?)
}

/// Binary cross entropy with logits, the mean of all elements: `max(x, 0) − x·t + ln(1 + e^{−|x|})`.
fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let rest = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    Ok(((logits.relu()? - (logits * targets)?)? + rest)?.mean_all()?)
}

/// `1 − 2Σpt/(Σp + Σt)` of each map, the mean of those that are `present` (1 or 0).
fn dice(logits: &Tensor, targets: &Tensor, present: &Tensor) -> Result<Tensor> {
    let p = candle_nn::ops::sigmoid(logits)?.flatten_from(1)?;
    let t = targets.flatten_from(1)?;
    let common = ((&p * &t)?.sum(1)? * 2.0)?;
    let loss = ((common + 1.0)? / ((p.sum(1)? + t.sum(1)?)? + 1.0)?)?.affine(-1.0, 1.0)?;
    Ok(((loss * present)?.sum_all()? / present.sum_all()?)?)
}

impl NamingObjective<'_> {
    /// A random template for each name.
    fn templates(&self, rng: &mut ChaCha8Rng) -> Vec<&'static [&'static str]> {
        let total: u32 = TEMPLATES.iter().map(|(_, weight)| weight).sum();
        let pick = |mut draw: u32| {
            TEMPLATES.iter().find_map(|(words, weight)| match draw.checked_sub(*weight) {
                None => Some(*words),
                Some(rest) => {
                    draw = rest;
                    None
                }
            })
        };
        (0..self.num_classes).map(|_| pick(rng.random_range(0..total)).unwrap_or(TEMPLATES[0].0)).collect()
    }
}

impl Objective for NamingObjective<'_> {
    type Batch = SceneBatch;

    fn trainable(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    fn loss(&self, batch: &SceneBatch, rng: &mut ChaCha8Rng) -> Result<StepOutput> {
        let clip = &self.clipseg.clip;
        let num_blocks = clip.vision_model.num_blocks();
        let texts = embed_names(&self.clipseg, self.vocabulary, &self.templates(rng))?; // [K, P]
        let names = unit(&texts)?;

        let scenes = clip.vision_model.forward(&batch.pixels)?;
        let (scenes_count, _, _, _) = batch.pixels.dims4()?;

        let conditions = texts.index_select(&batch.asked, 0)?; // [B·N, P]
        let noise = Tensor::from_vec(
            (0..conditions.elem_count()).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>(),
            conditions.shape(),
            &Device::Cpu,
        )?;
        let length = conditions.sqr()?.mean_keepdim(D::Minus1)?.sqrt()?.detach();
        let noise = noise.broadcast_mul(&(length * (self.condition_noise * 3f64.sqrt()))?)?;
        let reduced = self.clipseg.reduce(&scenes)?;
        let reduced = reduced.iter().map(|x| {
            let (b, n, r) = x.dims3()?;
            Ok(x.unsqueeze(1)?.broadcast_as((b, NAMES_PER_SCENE, n, r))?.reshape((b * NAMES_PER_SCENE, n, r))?)
        });
        let reduced = reduced.collect::<Result<Vec<_>>>()?;
        let logits = self.clipseg.decoder.forward(&reduced, &(conditions + noise)?)?; // [B·N, S, S]
        let mask = binary_cross_entropy(&logits, &batch.masks)?;
        let dice = dice(&logits, &batch.masks, &batch.present)?;

        let whole = clip.embed_image(&scenes.hidden_states[num_blocks])?;
        let whole = log_probabilities(&whole, &names)?;
        let whole = ((whole * &batch.shares)?.sum_all()? * (-1.0 / scenes_count as f64))?;

        let dense = clip.dense_features(&scenes.hidden_states[num_blocks - 1])?.flatten_to(1)?; // [B·G·G, P]
        let (places, owners) = &batch.class_patches;
        let of = |places: &Tensor| log_probabilities(&dense.index_select(places, 0)?, &names);
        let zero = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        let patches = match places.elem_count() {
            0 => zero.clone(),
            _ => cross_entropy(&of(places)?, owners)?,
        };
        // The distance from the uniform distribution: a patch without an object should match no name.
        let nothing = match batch.nothing_patches.elem_count() {
            0 => zero.clone(),
            _ => of(&batch.nothing_patches)?.mean_all()?.affine(-1.0, -(self.num_classes as f64).ln())?,
        };

        let cut_outs = clip.vision_model.forward(&batch.cut_outs)?;
        let cut_outs = clip.embed_image(&cut_outs.hidden_states[num_blocks])?;
        let cut_outs = log_probabilities(&cut_outs, &names)?;
        let guesses = cut_outs.argmax(D::Minus1)?.to_vec1::<u32>()?;
        let right = guesses.iter().zip(batch.cut_out_objects.to_vec1::<u32>()?).filter(|(a, b)| **a == *b).count();
        let cut_out = cross_entropy(&cut_outs, &batch.cut_out_objects)?;

        let terms = [
            ("mask", MASK, mask),
            ("dice", DICE, dice),
            ("cut_out", CUT_OUT, cut_out),
            ("patches", PATCHES, patches),
            ("nothing", NOTHING, nothing),
            ("whole", WHOLE, whole),
        ];
        let mut loss = zero;
        let mut metrics = Metrics::new();
        for (name, weight, term) in &terms {
            loss = (loss + (term * *weight)?)?;
            metrics.push(((*name).to_string(), f64::from(term.to_scalar::<f32>()?)));
        }
        metrics.push(("named".to_string(), right as f64 / guesses.len().max(1) as f64));
        Ok(StepOutput { loss, metrics })
    }

    fn validate(&self, _: &mut ChaCha8Rng) -> Result<Validation> {
        let values = values(&self.vars);
        let values = candle_nn::VarBuilder::from_tensors(values, DType::F32, &Device::Cpu);
        let clipseg = ClipSeg::new(self.clipseg.config(), values)?;
        let metrics = self.scoreboard.naming(&clipseg, self.vocabulary)?;
        Ok(Validation { metrics, pictures: Vec::new() })
    }

    fn export(&self, folder: &Path) -> Result<()> {
        let tensors = values(&self.vars);
        save_safetensors(folder.join("clipseg.safetensors"), &tensors, &BTreeMap::new())
    }
}
