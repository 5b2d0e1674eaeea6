//! The training objective agrees with PyTorch: every term, the gradient of every trainable tensor, and the result of
//! five optimizer steps.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

mod common;
mod processes;

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;
use common::{allowed, assert_close, builder, device, fixture, head_with_learned_prompt, max_difference, tensors};
use soundsight::Waveform;
use soundsight::acl::{Acl, AclConfig, ModelConfig};
use soundsight::audio::AudioFrontend;
use soundsight::train::losses::LossWeights;
use soundsight::train::step::{Activations, StepNegatives, StepNoise, StepTerms, step, step_of_part};
use soundsight::train::{Gradients, Optimizer, OptimizerConfig, Part, agree};

/// The mini model with a trainable tokenizer and masker, and their variables by name.
fn trainable() -> (Acl, HashMap<String, Var>) {
    trainable_with(|_| (), tensors("mini/acl.safetensors"))
}

/// The mini model with a learned prompt.
fn trainable_prompt() -> (Acl, HashMap<String, Var>) {
    trainable_with(|acl| acl.prompt_vectors = 4, head_with_learned_prompt())
}

/// The mini model with other settings, whose trained parts have these values.
fn trainable_with(set: fn(&mut AclConfig), head: HashMap<String, Tensor>) -> (Acl, HashMap<String, Var>) {
    let config = std::fs::read_to_string(fixture("mini/config.json")).unwrap();
    let mut config: ModelConfig = serde_json::from_str(&config).unwrap();
    set(&mut config.acl);
    let vars: HashMap<String, Var> = head.into_iter().map(|(n, t)| (n, Var::from_tensor(&t).unwrap())).collect();
    let named = vars.iter().map(|(n, v)| (n.clone(), v.as_tensor().clone())).collect();
    let acl = VarBuilder::from_tensors(named, DType::F32, device());
    let prompt = config.acl.known_prompt_ids().unwrap();
    let (beats, clipseg) = (builder("mini/beats.safetensors"), builder("mini/clipseg.safetensors"));
    (Acl::new(&config, &prompt, beats, clipseg, acl).unwrap(), vars)
}

/// BEATs features of sounds `[B, samples]` at 16 kHz.
fn features(acl: &Acl, audio: &Tensor) -> Tensor {
    let sounds = audio.to_vec2::<f32>().unwrap().into_iter();
    let sounds: Vec<Waveform> = sounds.map(|samples| Waveform::from_samples(samples, 16_000).unwrap()).collect();
    let frontend = AudioFrontend::new(acl.config().acl.frontend()).unwrap();
    acl.audio_features(&frontend.forward_batch(&sounds, device()).unwrap()).unwrap()
}

#[test]
fn every_term_and_every_gradient() {
    every_term(Activations::Store);
}

#[test]
fn every_term_and_every_gradient_from_recomputed_activations() {
    every_term(Activations::Recompute);
}

fn every_term(activations: Activations) {
    let (acl, vars) = trainable();
    let expected = tensors("mini/training.safetensors");
    let features = features(&acl, &expected["audio"]);
    let noise = StepNoise {
        all_pairs: expected["noise_all_pairs"].clone(),
        positive: expected["noise_positive"].clone(),
        dropout: None,
        negatives: None,
    };
    let terms = step(&acl, &features, &expected["image"], &noise, &LossWeights::default(), activations).unwrap();
    assert_terms(&terms, &vars, &expected);
}

/// Without a text tower, the AudioTokenizer's output is the embedding.
#[test]
fn every_term_and_every_gradient_without_a_text_tower() {
    let (batch, expected) = (tensors("mini/training.safetensors"), tensors("train/direct.safetensors"));
    let head = expected.iter().filter(|(name, _)| name.starts_with("audio_proj.") || name.starts_with("masker_i."));
    let (acl, vars) = trainable_with(
        |acl| acl.text_tower = false,
        head.map(|(name, tensor)| (name.clone(), tensor.clone())).collect(),
    );
    let features = features(&acl, &batch["audio"]);
    let embedding = acl.audio_embedding(&acl.audio_token(&features).unwrap()).unwrap();
    assert!(max_difference(&embedding, &expected["audio_embedding"]) < allowed(1e-4));
    let noise = StepNoise {
        all_pairs: noise(&[3, 3, 96, 96], 0),
        positive: noise(&[3, 1, 96, 96], 1),
        dropout: None,
        negatives: None,
    };
    let terms = step(&acl, &features, &batch["image"], &noise, &LossWeights::default(), Activations::Store).unwrap();
    assert_terms(&terms, &vars, &expected);
}

/// Silence and noise as further sounds, which belong to no picture.
#[test]
fn every_term_and_every_gradient_with_sounds_that_belong_to_no_picture() {
    with_sounds_that_belong_to_no_picture(&trainable(), "train/nothing.safetensors", Activations::Store);
}

/// A learned prompt gives each sound another embedding in each picture, silence and noise too.
#[test]
fn every_term_and_every_gradient_with_a_learned_prompt() {
    let (acl, vars) = trainable_prompt();
    let (batch, expected) = (tensors("mini/training.safetensors"), tensors("train/prompt.safetensors"));
    let image = acl.image_features(&batch["image"]).unwrap();
    let vectors = acl.prompt_vectors(&image).unwrap().unwrap();
    assert_close("vectors", &vectors, &expected["vectors"], 1e-5);
    let tokens = acl.audio_token(&features(&acl, &batch["audio"])).unwrap();
    let embeddings = acl.audio_embedding_of_pairs(&tokens, &vectors).unwrap();
    assert_close("embeddings", &embeddings, &expected["audio_embedding"], 1e-4);
    let own = acl.audio_embedding_in(&tokens, &image).unwrap();
    for pair in 0..3 {
        let expected = expected["audio_embedding"].get(pair).unwrap().get(pair).unwrap();
        assert_close("embedding of a pair", &own.get(pair).unwrap(), &expected, 1e-4);
    }
    for activations in [Activations::Store, Activations::Recompute] {
        with_sounds_that_belong_to_no_picture(&(acl.clone(), vars.clone()), "train/prompt.safetensors", activations);
    }
}

fn with_sounds_that_belong_to_no_picture(
    (acl, vars): &(Acl, HashMap<String, Var>),
    expected: &str,
    activations: Activations,
) {
    let (batch, expected) = (tensors("mini/training.safetensors"), tensors(expected));
    let noise = StepNoise {
        all_pairs: noise(&[3, 3, 96, 96], 0),
        positive: noise(&[3, 1, 96, 96], 1),
        dropout: None,
        negatives: Some(silence_and_noise(acl, &batch["audio"])),
    };
    let features = features(acl, &batch["audio"]);
    let terms = step(acl, &features, &batch["image"], &noise, &LossWeights::default(), activations).unwrap();
    let empty_area = terms.empty_area.as_ref().unwrap().reshape(1).unwrap();
    assert!(max_difference(&empty_area, &expected["empty_area"]) < allowed(1e-4));
    assert_terms(&terms, vars, &expected);
}

/// Silence and noise as long as `audio` `[B, samples]`, for three pictures.
fn silence_and_noise(acl: &Acl, audio: &Tensor) -> StepNegatives {
    let samples = audio.dim(1).unwrap();
    let silence = Tensor::zeros(samples, DType::F32, device()).unwrap();
    let sounds = Tensor::stack(&[silence, noise(&[samples], 9).affine(0.2, -0.1).unwrap()], 0).unwrap();
    StepNegatives { features: features(acl, &sounds), masks: noise(&[3, 2, 96, 96], 2), dropout: None }
}

fn assert_terms(terms: &StepTerms, vars: &HashMap<String, Var>, expected: &HashMap<String, Tensor>) {
    let scalars = [
        ("loss", &terms.loss),
        ("acl_i", terms.acl_i.as_ref().unwrap()),
        ("acl_f", terms.acl_f.as_ref().unwrap()),
        ("area", terms.area.as_ref().unwrap()),
        ("p_area", &terms.positive_area),
        ("n_area", &terms.negative_area),
    ];
    for (name, found) in scalars {
        let difference = max_difference(&found.reshape(1).unwrap(), &expected[name]);
        assert!(difference < allowed(1e-4), "{name}: off by {difference}");
    }
    assert!(max_difference(terms.masked_features.as_ref().unwrap(), &expected["v_f"]) < allowed(1e-4));
    assert!(max_difference(terms.masked_images.as_ref().unwrap(), &expected["v_i"]) < allowed(1e-4));

    let grads = terms.loss.backward().unwrap();
    for (name, var) in vars {
        let wanted = &expected[&format!("grad.{name}")];
        let found = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let found = found.reshape(wanted.shape()).unwrap();
        let largest: f32 = wanted.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        let difference = max_difference(&found, wanted);
        assert!(
            difference <= allowed((1e-3 * largest).max(1e-6)),
            "gradient of {name}: off by {difference}, largest {largest}"
        );
    }
}

/// The noise of `benches/peers/fixtures_train.py`: a hash of the position, identical in any language.
fn noise(shape: &[usize], draw: u32) -> Tensor {
    let hash = |position: u32| {
        let mut x = position.wrapping_mul(2_654_435_761).wrapping_add(draw.wrapping_mul(374_761_393));
        x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
        x = (x ^ (x >> 13)).wrapping_mul(3_266_489_917);
        ((x ^ (x >> 16)) >> 8) as f32 / (1 << 24) as f32
    };
    let values: Vec<f32> = (0..shape.iter().product::<usize>() as u32).map(hash).collect();
    Tensor::from_vec(values, shape, device()).unwrap().clamp(1e-4f32, 1.0 - 1e-4).unwrap()
}

#[test]
fn five_steps_of_adam() {
    let (acl, vars) = trainable();
    let (batch, expected) = (tensors("mini/training.safetensors"), tensors("train/steps.safetensors"));
    let features = features(&acl, &batch["audio"]);
    let mut vars: Vec<(String, Var)> = vars.into_iter().collect();
    vars.sort_by(|(a, _), (b, _)| a.cmp(b));
    let start: Vec<Tensor> = vars.iter().map(|(_, var)| var.as_tensor().copy().unwrap()).collect();
    let mut optimizer = Optimizer::new(OptimizerConfig::default(), vars.clone()).unwrap();
    for (number, wanted) in expected["loss"].to_vec1::<f32>().unwrap().into_iter().enumerate() {
        let draw = 2 * number as u32;
        let noise = StepNoise {
            all_pairs: noise(&[3, 3, 96, 96], draw),
            positive: noise(&[3, 1, 96, 96], draw + 1),
            dropout: None,
            negatives: None,
        };
        let terms =
            step(&acl, &features, &batch["image"], &noise, &LossWeights::default(), Activations::Store).unwrap();
        let loss: f32 = terms.loss.to_scalar().unwrap();
        assert!((loss - wanted).abs() < allowed(1e-4) * wanted, "step {number}: loss {loss}, {wanted} in PyTorch");
        let mut gradients = Gradients::new(optimizer.names());
        gradients.add(&optimizer.vars(), terms.loss.backward().unwrap()).unwrap();
        optimizer.step(&gradients, 1e-3).unwrap();
    }
    for ((name, var), start) in vars.iter().zip(&start) {
        let wanted = expected[name].reshape(var.shape()).unwrap();
        assert!(max_difference(start, &wanted) > 2e-3, "{name}: PyTorch did not move it");
        // A constant added to every potential has no effect: this gradient is zero except for rounding, which Adam
        // turns into steps of full length.
        if name != "audio_proj.fga.un_models.0.feature_reduce.bias" {
            let difference = max_difference(var, &wanted);
            assert!(difference < allowed(1e-4), "{name}: off by {difference} after five steps");
        }
    }
}

/// The three pairs in parts of 2 + 1, and of 1 + 1 + 1 + none, in threads that play the roles of processes.
#[test]
fn every_gradient_of_a_batch_in_parts() {
    let batch = tensors("mini/training.safetensors");
    let noise = [batch["noise_all_pairs"].clone(), batch["noise_positive"].clone()];
    in_parts(trainable, &noise, |_| None, &batch);
}

/// The same with a learned prompt, and silence and noise.
#[test]
fn every_gradient_of_a_batch_in_parts_with_a_learned_prompt() {
    let noise = [noise(&[3, 3, 96, 96], 0), noise(&[3, 1, 96, 96], 1)];
    let negatives = |acl: &Acl| Some(silence_and_noise(acl, &tensors("mini/training.safetensors")["audio"]));
    in_parts(trainable_prompt, &noise, negatives, &tensors("train/prompt.safetensors"));
}

fn in_parts(
    model: fn() -> (Acl, HashMap<String, Var>),
    [all_pairs, positive]: &[Tensor; 2],
    negatives: fn(&Acl) -> Option<StepNegatives>,
    expected: &HashMap<String, Tensor>,
) {
    let batch = tensors("mini/training.safetensors");
    for lens in [&[2, 1][..], &[1, 1, 1, 0]] {
        let results = processes::among(lens.len(), |group| {
            let (acl, vars) = model();
            let (first, len) = (lens[..group.rank()].iter().sum(), lens[group.rank()]);
            let own = |tensor: &Tensor| tensor.narrow(0, first, len).unwrap();
            let features = match len {
                0 => Tensor::zeros((0, 1, 1), DType::F32, device()).unwrap(),
                _ => features(&acl, &own(&batch["audio"])),
            };
            let negatives = negatives(&acl).map(|all| StepNegatives { masks: own(&all.masks), ..all });
            let noise = StepNoise { all_pairs: own(all_pairs), positive: own(positive), dropout: None, negatives };
            let part = Part::of(&group, len).unwrap();
            let (weights, activations) = (LossWeights::default(), Activations::Store);
            let pixels = own(&batch["image"]);
            let terms = step_of_part(&part, &acl, &features, &pixels, &noise, &weights, activations).unwrap();
            let (names, vars): (Vec<_>, Vec<_>) = {
                let mut vars: Vec<_> = vars.into_iter().collect();
                vars.sort_by(|(a, _), (b, _)| a.cmp(b));
                vars.into_iter().unzip()
            };
            let mut gradients = Gradients::new(names.clone());
            gradients.add(&vars, terms.loss.backward().unwrap()).unwrap();
            let (mut gradients, summaries) = agree(&*group, Ok(gradients), Gradients::summary).unwrap();
            gradients.all_reduce(&*group, &vars, &summaries).unwrap();
            gradients.mean().unwrap();
            (terms.loss, names, gradients.values().to_vec())
        });
        for (loss, names, gradients) in results {
            let difference = max_difference(&loss.reshape(1).unwrap(), &expected["loss"]);
            assert!(difference < allowed(1e-4), "{lens:?}: loss off by {difference}");
            for (name, found) in names.iter().zip(gradients) {
                let wanted = &expected[&format!("grad.{name}")];
                let largest: f32 = wanted.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
                let difference = max_difference(&found.unwrap().reshape(wanted.shape()).unwrap(), wanted);
                let tolerance = allowed((1e-3 * largest).max(1e-6));
                assert!(difference <= tolerance, "{lens:?}, {name}: off by {difference}, largest {largest}");
            }
        }
    }
}
