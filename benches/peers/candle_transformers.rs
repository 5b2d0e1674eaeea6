//! Our CLIP agrees with that of candle-transformers. The fixtures are those of `tests/parity.rs`.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use soundsight::acl::{Acl, ModelConfig};

const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap()
}

fn builder(name: &str) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(name), DType::F32, &Device::Cpu)
}

struct Fixture {
    acl: Acl,
    hidden: HashMap<String, Tensor>,
}

impl Fixture {
    fn open(name: &str) -> Self {
        let config = std::fs::read_to_string(fixture(&format!("{name}/config.json"))).unwrap();
        let config: ModelConfig = serde_json::from_str(&config).unwrap();
        let prompt = config.acl.known_prompt_ids().unwrap();
        let weights = |part: &str| builder(&format!("{name}/{part}.safetensors"));
        let acl = Acl::new(&config, &prompt, weights("beats"), weights("clipseg"), weights("acl")).unwrap();
        Self { acl, hidden: tensors(&format!("{name}/hidden.safetensors")) }
    }

    fn assert(&self, what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
        assert_eq!(found.dims(), expected.dims(), "{what}: shapes differ");
        let largest = |tensor: &Tensor| tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let difference = largest(&(found - expected).unwrap());
        assert!(difference <= tolerance, "{what}: off by {difference:e}, allowed {tolerance:e}");
        assert!(largest(expected) > 10.0 * tolerance, "{what}: the expected tensor is zero");
    }
}

/// The same weights in candle-transformers' CLIP, at a size that needs no interpolation of the position table.
#[test]
fn clip_agrees_with_candle_transformers() {
    use candle_nn::Module;
    use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig, ClipTextTransformer};
    use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
    let f = Fixture::open("mini");
    let (clip, config) = (&f.acl.clipseg.clip, f.acl.config());
    let weights = builder("mini/clipseg.safetensors").pp("clip");

    let v = &config.clipseg.vision_config;
    let theirs = ClipVisionConfig {
        embed_dim: v.hidden_size,
        activation: Activation::QuickGelu,
        intermediate_size: v.intermediate_size,
        num_hidden_layers: v.num_hidden_layers,
        num_attention_heads: v.num_attention_heads,
        projection_dim: config.clipseg.projection_dim,
        num_channels: v.num_channels,
        image_size: v.image_size,
        patch_size: v.patch_size,
    };
    let theirs = ClipVisionTransformer::new(weights.pp("vision_model"), &theirs).unwrap();
    let pooled = theirs.forward(&f.hidden["small.image"]).unwrap();
    let ours = clip.vision_model.forward(&f.hidden["small.image"]).unwrap();
    let ours = clip.vision_model.pooled(ours.hidden_states.last().unwrap()).unwrap();
    f.assert("vision tower, torch", &ours, &f.hidden["small.pooled"], TOLERANCE);
    f.assert("vision tower, candle-transformers", &ours, &pooled, TOLERANCE);

    let t = &config.clipseg.text_config;
    let theirs = ClipTextConfig {
        vocab_size: t.vocab_size,
        embed_dim: t.hidden_size,
        activation: Activation::QuickGelu,
        intermediate_size: t.intermediate_size,
        max_position_embeddings: t.max_position_embeddings,
        pad_with: None,
        num_hidden_layers: t.num_hidden_layers,
        num_attention_heads: t.num_attention_heads,
        projection_dim: config.clipseg.projection_dim,
    };
    let theirs = ClipTextTransformer::new(weights.pp("text_model"), &theirs).unwrap();
    let ids = f.hidden["text.ids"].to_dtype(DType::U32).unwrap();
    let end = ids.dim(1).unwrap() - 1;
    let ours = clip.text_model.forward(&ids).unwrap().pooled(&[end]).unwrap();
    f.assert("text tower, candle-transformers", &ours, &theirs.forward(&ids).unwrap(), TOLERANCE);
}
