//! AST agrees with Hugging Face's transformers: the fbank, every hidden state, and every stage of a localization.
//!
//! The fixtures come from `benches/peers/fixtures_ast.py`. `benches/peers/parity.py` checks the same at full size.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::{assert_close, device, fixture, max_difference, tensors};
use soundsight::acl::{AclConfig, AudioEncoder, ModelConfig};
use soundsight::ast::{Ast, AstConfig};
use soundsight::audio::{AudioFrontend, AudioFrontendConfig};
use soundsight::weights::{AudioEncoderKind, Checkpoint, ModelFiles, WeightFormat};
use soundsight::{Error, Localizer, Picture, Waveform};

const TOLERANCE: f32 = 1e-5;

/// A model directory with AST and the other parts of the fixture `alt`.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (from, name) in
        [("ast", "config.json"), ("ast", "ast.safetensors"), ("ast", "acl.safetensors"), ("alt", "clipseg.safetensors")]
    {
        std::fs::copy(fixture(from).join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<Localizer, Error> {
    Localizer::from_files(&ModelFiles::from_directory(folder)?, device().clone(), DType::F32)
}

fn assert_states(ast: &Ast, fbank: &Tensor, expected: &HashMap<String, Tensor>, prefix: &str) {
    let output = ast.forward(fbank).unwrap();
    for (i, state) in output.hidden_states.iter().enumerate() {
        let name = format!("{prefix}hidden.{i}");
        assert_close(&name, state, &expected[&name], TOLERANCE);
    }
    assert!(!expected.contains_key(&format!("{prefix}hidden.{}", output.hidden_states.len())));
    let last = ast.last_hidden_state(&output).unwrap();
    assert_close("last hidden state", &last, &expected[&format!("{prefix}last_hidden_state")], TOLERANCE);
    let pooled = ast.pooled(&output).unwrap();
    assert_close("pooled output", &pooled, &expected[&format!("{prefix}pooled")], TOLERANCE);
    // Fewer blocks: the same states, as far as they go.
    let first = ast.forward_blocks(fbank, 1).unwrap();
    assert_eq!(first.hidden_states.len(), 2);
    assert_eq!(max_difference(&first.hidden_states[1], &output.hidden_states[1]), 0.0);
    assert!(matches!(ast.pooled(&first), Err(Error::Argument { .. })));
    let short = fbank.narrow(1, 1, fbank.dim(1).unwrap() - 1).unwrap();
    assert!(matches!(ast.forward(&short), Err(Error::Shape { .. })));
}

#[test]
fn every_hidden_state_of_a_classifiers_encoder_and_of_a_plain_one() {
    let expected = tensors("ast/expected.safetensors");
    for (file, config, ignored, prefix) in [
        ("ast.safetensors", "config.json", &["classifier.*"][..], ""), // names with the prefix of a classifier
        ("plain.bin", "plain.json", &[], "plain."),                    // names without it, no biases, a pickle
    ] {
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(fixture("ast").join(config)).unwrap()).unwrap();
        let config: AstConfig = serde_json::from_value(config.get("ast").unwrap_or(&config).clone()).unwrap();
        let checkpoint = Checkpoint::open(fixture("ast").join(file)).unwrap();
        let ast = checkpoint.load(device(), DType::F32, ignored, |vb| Ast::new(&config, vb)).unwrap();
        let fbank = &expected[&format!("{prefix}fbank")];
        assert_states(&ast, fbank, &expected, prefix);
        // What the fixture's fbank was made of.
        let frontend = AudioFrontend::new(config.frontend()).unwrap();
        let sound = Waveform::open(fixture("alt/clip.wav")).unwrap();
        assert_close("fbank", &frontend.forward(&sound, device()).unwrap(), fbank, TOLERANCE);
    }
}

#[test]
fn the_fbank_is_that_of_the_feature_extractor() {
    // In double precision, torchaudio's fbank of this recording differs from that in single precision by 1.5e-5.
    const TOLERANCE: f32 = 2e-5;
    let expected = &tensors("ast/expected.safetensors")["horse"];
    let horse = Waveform::open(fixture("audio/horse.wav")).unwrap();
    let frontend = |frames: usize| {
        let config = AstConfig { max_length: frames, ..AstConfig::default() }.frontend();
        AudioFrontend::new(config).unwrap()
    };
    let (frames, found) = (expected.dim(0).unwrap(), frontend(120).forward(&horse, device()).unwrap());
    assert_eq!(frames, 120);
    assert_close("fbank", &found.squeeze(0).unwrap(), expected, TOLERANCE);
    // A second has 98 frames; the others are zeros, normalised.
    let padding = found.narrow(1, 98, 22).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(padding.iter().all(|x| (x - 4.2677393 / (2.0 * 4.5689974)).abs() < 1e-6), "{padding:?}");
    let cut = frontend(40).forward(&horse, device()).unwrap();
    assert_close("cut fbank", &cut.squeeze(0).unwrap(), &expected.narrow(0, 0, 40).unwrap(), TOLERANCE);
    // A sound that fills no frame is all padding.
    let click = Waveform::from_samples(vec![0.5; 399], 16_000).unwrap();
    let click = frontend(20).forward(&click, device()).unwrap();
    assert_eq!(max_difference(&click, &found.narrow(1, 100, 20).unwrap()), 0.0);
    // The published size.
    let published = AudioFrontend::new(AudioFrontendConfig::ast()).unwrap();
    assert_eq!((published.num_frames(), published.num_mel_bins()), (1024, 128));
    assert_eq!(*published.config(), AstConfig::default().frontend());
    assert_eq!(*published.config(), AclConfig::ast().frontend());
}

#[test]
fn every_stage_of_a_localization_from_a_model_directory() {
    let (folder, expected) = (model(), tensors("ast/expected.safetensors"));
    let localizer = load(folder.path()).unwrap();
    let acl = localizer.acl();
    assert!(matches!(acl.audio_encoder, AudioEncoder::Ast(_)));
    let sound = Waveform::open(fixture("alt/clip.wav")).unwrap();
    let picture = Picture::open(fixture("alt/frame.png")).unwrap();
    let found: HashMap<_, _> = localizer.trace(&sound, &picture).unwrap().into_iter().collect();
    for name in ["fbank", "ast_features", "audio_token", "audio_embedding", "logits"] {
        let expected = expected[name].to_device(&Device::Cpu).unwrap();
        assert_close(name, &found[name], &expected, if name == "logits" { 1e-4 } else { TOLERANCE });
    }
    let heatmap = localizer.localize_pair(&sound, &picture).unwrap();
    let expected = acl.masker.heatmap(&expected["logits"]).unwrap().flatten_all().unwrap();
    let expected = expected.to_vec1::<f32>().unwrap();
    let worst = heatmap.scores.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < common::allowed(TOLERANCE), "heatmap: off by {worst}");
    // Without a tagging head, sources are told apart by windows.
    assert!(matches!(localizer.tag(&sound), Err(Error::Config { what, .. }) if what == "acl.audio_encoder"));
    assert!(localizer.sources(&sound, 2).unwrap().iter().all(|source| source.name.is_none()));
    // With 8-bit weights it says about the same.
    let small = Localizer::builder(folder.path()).weights(WeightFormat::Q8_0).load().unwrap();
    let small = small.localize_pair(&sound, &picture).unwrap();
    let mean = small.scores.iter().zip(&expected).map(|(a, b)| (a - b).abs()).sum::<f32>() / expected.len() as f32;
    assert!(mean > 0.0 && mean < 2e-2, "8 bits: {mean} on average");
}

#[test]
fn what_a_model_directory_lacks_is_named() {
    let folder = model();
    let path = folder.path().join("config.json");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let message = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut config = config.clone();
        change(&mut config);
        std::fs::write(&path, config.to_string()).unwrap();
        load(folder.path()).unwrap_err().to_string()
    };
    for (found, parts) in [
        (message(&|c| c["acl"]["audio_encoder"] = "vggish".into()), ["config.json", "\"beats\" or \"ast\""]),
        (message(&|c| _ = c.as_object_mut().unwrap().remove("ast")), ["config.json", "an \"ast\" part"]),
        (message(&|c| c["acl"]["audio_seconds"] = 10.0.into()), ["acl.audio_seconds", "0.975, which makes"]),
        (message(&|c| c["acl"]["num_mel_bins"] = 128.into()), ["acl.num_mel_bins", "ast.num_mel_bins = 32"]),
        (message(&|c| c["acl"]["audio_blocks"] = vec![3].into()), ["acl.audio_blocks", "below 3"]),
        (message(&|c| c["ast"]["time_stride"] = 5.into()), ["ast.safetensors", "position_embeddings"]),
        (
            message(&|c| _ = c["acl"].as_object_mut().unwrap().remove("audio_encoder")),
            ["beats.safetensors", "found no"],
        ),
    ] {
        assert!(parts.iter().all(|part| found.contains(part)), "{found}");
    }
    std::fs::write(&path, config.to_string()).unwrap();
    std::fs::remove_file(folder.path().join("ast.safetensors")).unwrap();
    let missing = load(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("no ast.safetensors or ast.gguf or ast.bin"), "{missing}");
}

#[test]
fn defaults_follow_the_encoder() {
    let read = |text: &str| serde_json::from_str::<ModelConfig>(text).unwrap();
    let ast = read(r#"{"acl": {"audio_encoder": "ast", "image_size": 96}}"#);
    assert_eq!(ast.acl, AclConfig { image_size: 96, ..AclConfig::ast() });
    assert_eq!(ast.acl.audio_encoder, AudioEncoderKind::Ast);
    ast.validate().unwrap();
    let beats = read(r#"{"acl": {"audio_encoder": "beats"}}"#);
    assert_eq!(beats.acl, AclConfig::default());
    // Settings at their defaults are written as before.
    let written = serde_json::to_value(AclConfig::default()).unwrap();
    assert!(written.get("audio_encoder").is_none() && written.get("text_tower").is_none());
    let frontend = serde_json::to_value(AclConfig::default().frontend()).unwrap();
    assert!(frontend.get("padding").is_none() && frontend.get("scale").is_none());
    let (acl, again) = (AclConfig::ast(), serde_json::to_value(AclConfig::ast()).unwrap());
    assert_eq!(serde_json::from_value::<AclConfig>(again).unwrap(), acl);
}
