//! Every intermediate tensor agrees with PyTorch, at small size, for two models with opposite settings.
//!
//! The fixtures come from `benches/peers/fixtures.py`. `benches/peers/parity.py` checks the same at full size.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use common::{assert_close, builder, device, fixture, tensors};
use soundsight::acl::{Acl, ModelConfig};
use soundsight::nn::{Interpolation, resize};

const TOLERANCE: f32 = 1e-4;

struct Fixture {
    acl: Acl,
    expected: HashMap<String, Tensor>,
    hidden: HashMap<String, Tensor>,
    /// The message of a failed comparison.
    name: &'static str,
}

impl Fixture {
    fn open(name: &'static str) -> Self {
        let config = std::fs::read_to_string(fixture(&format!("{name}/config.json"))).unwrap();
        let config: ModelConfig = serde_json::from_str(&config).unwrap();
        let prompt = config.acl.known_prompt_ids().unwrap();
        let weights = |part: &str| builder(&format!("{name}/{part}.safetensors"));
        Self {
            acl: Acl::new(&config, &prompt, weights("beats"), weights("clipseg"), weights("acl")).unwrap(),
            expected: tensors(&format!("{name}/expected.safetensors")),
            hidden: tensors(&format!("{name}/hidden.safetensors")),
            name,
        }
    }

    fn assert(&self, what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
        assert_close(&format!("{}: {what}", self.name), found, expected, tolerance);
    }

    fn assert_states(&self, name: &str, states: &[Tensor]) {
        for (i, state) in states.iter().enumerate() {
            self.assert(&format!("{name}.{i}"), state, &self.hidden[&format!("{name}.{i}")], TOLERANCE);
        }
        assert!(!self.hidden.contains_key(&format!("{name}.{}", states.len())), "{name}: states left uncompared");
    }
}

/// Both models: the published settings in miniature, and the opposite settings.
fn both(check: impl Fn(&Fixture)) {
    for name in ["mini", "alt"] {
        check(&Fixture::open(name));
    }
}

#[test]
fn every_hidden_state_of_beats_and_its_tags() {
    both(|f| {
        let beats = f.acl.audio_encoder.beats().unwrap();
        let output = beats.forward(&f.expected["fbank"]).unwrap();
        f.assert_states("beats", &output.hidden_states);
        f.assert("tags", &beats.tag(&output).unwrap(), &f.hidden["beats.tags"], TOLERANCE);
    });
}

#[test]
fn every_hidden_state_of_the_vision_tower() {
    both(|f| {
        let output = f.acl.clipseg.clip.vision_model.forward(&f.expected["image"]).unwrap();
        f.assert_states("vision", &output.hidden_states);
    });
}

#[test]
fn every_hidden_state_of_the_text_tower_and_its_mask() {
    both(|f| {
        // Candle's CUDA backend has no conversion from 32-bit signed integers.
        let ids = f.hidden["text.ids"].to_device(&Device::Cpu).unwrap().to_dtype(DType::U32).unwrap();
        let (clip, ids) = (&f.acl.clipseg.clip, &ids.to_device(device()).unwrap());
        let output = clip.text_model.forward(ids).unwrap();
        f.assert_states("text", &output.hidden_states);
        f.assert("text", &output.last_hidden_state, &f.hidden["text.last_hidden_state"], TOLERANCE);
        let embedding = clip.embed_text(ids, &[ids.dim(1).unwrap() - 1]).unwrap();
        f.assert("text embedding", &embedding, &f.hidden["text.embedding"], TOLERANCE);
        let image = f.acl.image_features(&f.expected["image"]).unwrap();
        let logits = f.acl.logits(&image, &embedding).unwrap().unsqueeze(1).unwrap();
        f.assert("logits of a text", &logits, &f.hidden["text.logits"], TOLERANCE);
    });
}

#[test]
fn every_stage_of_a_localization() {
    both(|f| {
        let (acl, expected) = (&f.acl, &f.expected);
        let features = acl.audio_features(&expected["fbank"]).unwrap();
        f.assert("BEATs features", &features, &expected["beats_features"], TOLERANCE);
        let token = acl.audio_token(&features).unwrap();
        f.assert("audio token", &token, &expected["audio_token"], TOLERANCE);
        let embedding = acl.audio_embedding(&token).unwrap();
        f.assert("audio embedding", &embedding, &expected["audio_embedding"], TOLERANCE);
        let image = acl.image_features(&expected["image"]).unwrap();
        let logits = acl.logits(&image, &embedding).unwrap().unsqueeze(1).unwrap();
        f.assert("logits", &logits, &expected["logits"], TOLERANCE);
        f.assert("heatmap", &acl.masker.heatmap(&logits).unwrap(), &expected["heatmap"], 1e-5);
        let resized = resize(&logits, 224, 224, Interpolation::Bicubic).unwrap();
        f.assert("heatmap224", &acl.masker.heatmap(&resized).unwrap(), &expected["heatmap224"], 1e-5);
        let pooled = acl.image_embedding(&image).unwrap();
        f.assert("image embedding", &pooled, &expected["image_embedding"], TOLERANCE);
        let dense = acl.dense_features(&image).unwrap().transpose(1, 2).unwrap();
        let dense = dense.reshape(expected["dense_features"].shape()).unwrap();
        f.assert("dense features", &dense, &expected["dense_features"], TOLERANCE);
    });
}

/// At the size where the position table needs no interpolation.
#[test]
fn the_vision_tower_agrees_at_its_own_size() {
    let f = Fixture::open("mini");
    let clip = &f.acl.clipseg.clip;
    let ours = clip.vision_model.forward(&f.hidden["small.image"]).unwrap();
    let ours = clip.vision_model.pooled(ours.hidden_states.last().unwrap()).unwrap();
    f.assert("vision tower, torch", &ours, &f.hidden["small.pooled"], TOLERANCE);
}

#[test]
fn a_batch_equals_its_samples() {
    both(|f| {
        let (acl, expected) = (&f.acl, &f.expected);
        let louder = (&expected["fbank"] * 0.7).unwrap();
        let mirrored = expected["image"].flip(&[3]).unwrap();
        let single = |fbank: &Tensor, image: &Tensor| {
            let token = acl.audio_token(&acl.audio_features(fbank).unwrap()).unwrap();
            let image = acl.image_features(image).unwrap();
            acl.logits(&image, &acl.audio_embedding(&token).unwrap()).unwrap()
        };
        let first = single(&expected["fbank"], &expected["image"]);
        let second = single(&louder, &mirrored);
        let pair = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0).unwrap();
        let both = single(&pair(&expected["fbank"], &louder), &pair(&expected["image"], &mirrored));
        f.assert("batch", &both, &pair(&first, &second), 1e-5);
    });
}

/// Half precision on the CPU uses the composed operations, like GPUs: the results must agree.
#[test]
fn half_precision_agrees_to_its_precision() {
    let f = Fixture::open("mini");
    let config = f.acl.config().clone();
    let weights = |part: &str| {
        let tensors = tensors(&format!("mini/{part}.safetensors"));
        candle_nn::VarBuilder::from_tensors(tensors, DType::BF16, device())
    };
    let prompt = config.acl.known_prompt_ids().unwrap();
    let acl = Acl::new(&config, &prompt, weights("beats"), weights("clipseg"), weights("acl")).unwrap();
    let half = |name: &str| f.expected[name].to_dtype(DType::BF16).unwrap();
    let token = acl.audio_token(&acl.audio_features(&half("fbank")).unwrap()).unwrap();
    let image = acl.image_features(&half("image")).unwrap();
    let logits = acl.logits(&image, &acl.audio_embedding(&token).unwrap()).unwrap();
    let heatmap = acl.masker.heatmap(&logits).unwrap().unsqueeze(1).unwrap();
    let mean = |t: &Tensor| t.abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
    let difference = mean(&(heatmap - &f.expected["heatmap"]).unwrap());
    assert!(difference < 0.05, "mean difference {difference}");
}
