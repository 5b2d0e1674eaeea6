//! The small model: its sizes, its vocabulary, its directory.
//!
//! # Differences from the published model
//!
//! | | published | here | because |
//! |---|---|---|---|
//! | pictures | 352 × 352, positions of 224 × 224, patches of 16 | 96 × 96, positions of 64 × 64, patches of 8 | thousands of steps on two cores; an object still covers several patches |
//! | sounds | 10 s, 128 mel bins | 4 s, 64 mel bins | the recordings are short; half the bins are half the patches |
//! | width of text, vision, BEATs | 512, 768, 768 | 128 | some eighty names, no sentences |
//! | blocks of text, vision, BEATs | 12, 12, 12 | 3, 6, 5 | as above |
//! | vocabulary | 49,408 pieces of words | a token for each name | the audio token stands in for one token, so a name is one |
//! | prompt | "A photo of {}" in CLIP's tokens | "a photo of {}" in its own | as above |
//! | fbank mean, deviation | AudioSet's | measured on training sounds | another front end, other sounds |
//! | masker w, b | 10, 14 | 1, measured: [`crate::masker_start`] | they depend on the frozen decoder's logits |
//! | expected area | 0.4 | measured, about 0.07 | it depends on the objects' true sizes |
//! | learning rate | 1e-4, constant | 5e-4, warm-up, cosine | a few thousand steps in place of 20 epochs of VGG-Sound |
//! | optimizer | Adam, L2 1e-4 | AdamW, β₂ 0.98, decay 0.01, norms clipped to 1 | the same for all stages; towers trained from scratch need it |
//! | batch | 8, gradients of two averaged | 16 | as many pairs per step, with more negatives |
//! | pairs | recorded together | scenes of one object for a quarter of the steps, then of one to three | one object teaches what sounds; several teach where |

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde_json::json;
use soundsight::ModelSource;
use soundsight::acl::{AclConfig, ModelConfig, PromptIds};
use soundsight::ast::AstConfig;
use soundsight::audio::AudioFrontend;
use soundsight::beats::BeatsConfig;
use soundsight::clip::{ClipTextConfig, ClipVisionConfig};
use soundsight::clipseg::ClipSegConfig;
use soundsight::weights::{AudioEncoderKind, Download, Hub, ModelFiles, save_safetensors};

/// Side in pixels of the pictures that a model learns from first. Its positions are those of such a picture; for larger ones
/// they are interpolated, like the published model's.
pub const SMALL_SIDE: usize = 64;
/// Side of the larger pictures, from which it learns last.
pub const SIDE: usize = 96;
/// Side of a patch.
pub const PATCH: usize = 8;
/// Seconds of a sound.
pub const SECONDS: f64 = 4.0;
/// Width of all three transformers, and of the space that text and pictures share.
const WIDTH: usize = 128;
/// Tokens of the longest prompt.
const MAX_TOKENS: usize = 8;

/// The words that surround names.
const WORDS: [&str; 5] = ["a", "an", "the", "photo", "of"];
const BOS: &str = "<|startoftext|>";
const EOS: &str = "<|endoftext|>";

/// The id of every word. A name is one token even if it has several words, because the audio token replaces one token.
#[derive(Clone)]
pub struct Vocabulary {
    entries: Vec<String>,
    names: Vec<u32>,
}

impl Vocabulary {
    /// Start, the common words, all names, end.
    pub fn new(names: &[&str]) -> Self {
        let before = std::iter::once(BOS).chain(WORDS);
        let entries: Vec<String> = before.chain(names.iter().copied()).chain([EOS]).map(str::to_string).collect();
        let first = 1 + WORDS.len();
        Self { entries, names: (0..names.len()).map(|i| (first + i) as u32).collect() }
    }

    pub fn size(&self) -> usize {
        self.entries.len()
    }

    /// The id of the name of class `class`.
    pub fn name(&self, class: usize) -> u32 {
        self.names.get(class).copied().unwrap_or(0)
    }

    /// The names of all classes, in their order.
    fn names(&self) -> &[String] {
        let first = 1 + WORDS.len();
        &self.entries[first..first + self.names.len()]
    }

    fn id(&self, word: &str) -> u32 {
        self.entries.iter().position(|entry| entry == word).unwrap_or(0) as u32
    }

    pub fn end(&self) -> u32 {
        self.id(EOS)
    }

    /// The prompt "before {} after" with a placeholder for one token.
    pub fn prompt(&self, before: &[&str]) -> PromptIds {
        let before = std::iter::once(BOS).chain(before.iter().copied()).map(|word| self.id(word)).collect();
        PromptIds { before, after: vec![self.end()] }
    }

    /// `tokenizer.json`: a vocabulary of whole words.
    fn json(&self) -> serde_json::Value {
        let vocab: BTreeMap<&str, usize> = self.entries.iter().map(String::as_str).zip(0..).collect();
        json!({ "version": "1.0", "model": { "type": "WordLevel", "vocab": vocab } })
    }
}

/// The sizes, for pictures of `side` pixels. `fbank` are mean and standard deviation of the sounds' log mel energies.
pub fn config(vocabulary: &Vocabulary, num_classes: usize, fbank: (f32, f32), side: usize) -> ModelConfig {
    let text_config = ClipTextConfig {
        vocab_size: vocabulary.size(),
        hidden_size: WIDTH,
        intermediate_size: 4 * WIDTH,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        max_position_embeddings: MAX_TOKENS,
        ..ClipTextConfig::default()
    };
    let vision_config = ClipVisionConfig {
        hidden_size: WIDTH,
        intermediate_size: 4 * WIDTH,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        image_size: SMALL_SIDE,
        patch_size: PATCH,
        ..ClipVisionConfig::default()
    };
    let clipseg = ClipSegConfig {
        text_config,
        vision_config,
        projection_dim: WIDTH,
        // The last block is left out, because dense features bypass its attention.
        extract_layers: vec![1, 3, 4],
        reduce_dim: 64,
        decoder_num_attention_heads: 4,
        decoder_intermediate_size: 128,
        conditional_layer: 0,
        use_complex_transposed_convolution: false,
    };
    let beats = BeatsConfig {
        embed_dim: WIDTH,
        encoder_layers: 5,
        encoder_embed_dim: WIDTH,
        encoder_ffn_embed_dim: 4 * WIDTH,
        encoder_attention_heads: 4,
        conv_pos: 32,
        // Distances in 4 s do not exceed this.
        num_buckets: 64,
        max_distance: 128,
        predictor_class: num_classes,
        ..BeatsConfig::iter3_plus()
    };
    let acl = AclConfig {
        image_size: side,
        audio_seconds: SECONDS,
        num_mel_bins: 64,
        fbank_mean: fbank.0,
        fbank_std: fbank.1,
        prompt: "a photo of {}".to_string(),
        prompt_ids: Some(vocabulary.prompt(&["a", "photo", "of"])),
        audio_blocks: vec![2, 3, 4],
        ..AclConfig::default()
    };
    ModelConfig { beats, clipseg, acl, ..ModelConfig::default() }
}

/// `config` with AST in place of BEATs: as wide and as deep, with patches that overlap as in the published AST. `fbank` as in
/// [`config`], for AST's front end.
pub fn with_ast(config: &ModelConfig, fbank: (f32, f32)) -> Result<ModelConfig> {
    let (audio_encoder, (fbank_mean, fbank_std)) = (AudioEncoderKind::Ast, fbank);
    let acl = AclConfig { audio_encoder, fbank_mean, fbank_std, ..config.acl.clone() };
    let ast = AstConfig {
        hidden_size: WIDTH,
        num_hidden_layers: config.beats.encoder_layers,
        num_attention_heads: config.beats.encoder_attention_heads,
        intermediate_size: 4 * WIDTH,
        max_length: AudioFrontend::new(acl.frontend())?.num_frames(),
        num_mel_bins: acl.num_mel_bins,
        ..AstConfig::default()
    };
    Ok(ModelConfig { acl, ast, ..config.clone() })
}

/// The weights of a model by part.
pub struct Weights {
    pub beats: Vec<(String, Tensor)>,
    pub clipseg: Vec<(String, Tensor)>,
    pub acl: Vec<(String, Tensor)>,
}

/// The model of the finished run in `out`, or else the embedded one.
pub fn own_or_embedded(out: &Path) -> ModelSource {
    let own = out.join("model");
    if own.is_dir() { ModelSource::Directory(own) } else { ModelSource::Embedded }
}

/// The side of the pictures that this model was trained with last.
pub fn side_of(model: ModelSource) -> Result<usize> {
    let files = ModelFiles::resolve(model, &Hub::from_env(), Download::Never)?;
    let config = files.acl_config.map(serde_json::from_value::<AclConfig>).transpose();
    Ok(config.context("config.json: not that of an ACL model")?.unwrap_or_default().image_size)
}

/// Reads the tensors of a safetensors file, by name.
pub fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu);
    let tensors = tensors.with_context(|| format!("{}: cannot read the weights", path.display()))?;
    let sorted: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    Ok(sorted.into_iter().collect())
}

/// The tensors of a safetensors file, for building a module that is not trained.
pub fn frozen_weights(path: &Path) -> Result<VarBuilder<'static>> {
    Ok(VarBuilder::from_tensors(read_tensors(path)?.into_iter().collect(), DType::F32, &Device::Cpu))
}

/// Makes `folder` a model directory with these weights in f16 and the list of the model's classes.
pub fn write_model(folder: &Path, config: &ModelConfig, vocabulary: &Vocabulary, weights: &Weights) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
    for (name, tensors) in [("beats", &weights.beats), ("clipseg", &weights.clipseg), ("acl", &weights.acl)] {
        let half = tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F16)?)));
        save_safetensors(folder.join(format!("{name}.safetensors")), &half.collect::<Result<_>>()?, &BTreeMap::new())?;
    }
    write_json(&folder.join("tokenizer.json"), &vocabulary.json())?;
    let ModelConfig { beats, clipseg, acl, .. } = config;
    let classes = vocabulary.names();
    let config = json!({ "beats": beats, "clipseg": clipseg, "acl": acl, "classes": classes });
    write_json(&folder.join("config.json"), &config)
}

pub fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    crate::write::write(path, format!("{value:#}\n").as_bytes())
}
