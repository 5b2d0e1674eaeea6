//! Models whose prompt is learned, and depends on the picture.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::{fixture, head_with_learned_prompt, max_difference, write_model_with_learned_prompt};
use serde_json::json;
use soundsight::localizer::Separation;
use soundsight::{Embedding, Error, Heatmap, Localizer, Picture, Waveform};

fn learned() -> Localizer {
    let folder = tempfile::tempdir().unwrap();
    write_model_with_learned_prompt(folder.path(), &head_with_learned_prompt(), &[]);
    Localizer::load(folder.path()).unwrap()
}

fn sounds() -> Vec<Waveform> {
    let tone = |i: usize| (0..16_000).map(|t| (t as f32 * 0.02 * (i + 1) as f32).sin() * 0.3).collect();
    let tones = (0..2).map(|i| Waveform::from_samples(tone(i), 16_000).unwrap());
    std::iter::once(Waveform::open(fixture("mini/clip.wav")).unwrap()).chain(tones).collect()
}

fn pictures() -> Vec<Picture> {
    let picture = Picture::open(fixture("mini/frame.png")).unwrap();
    let shade = (0..48 * 32 * 3).map(|p| (p * 7 % 251) as u8).collect();
    vec![picture.flip_horizontal(), Picture::from_rgb8(48, 32, shade).unwrap(), picture]
}

fn assert_same(a: &Heatmap, b: &Heatmap) {
    assert!((a.confidence - b.confidence).abs() < 1e-5, "{} and {}", a.confidence, b.confidence);
    assert_close(&a.logits, &b.logits);
}

fn assert_close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-4, "logits are off by {difference}");
}

#[test]
fn a_sound_is_embedded_anew_in_each_picture_and_batches_change_nothing() {
    let localizer = learned();
    let (acl, sounds, pictures) = (localizer.acl(), sounds(), pictures());
    let embeddings = localizer.embed_audio_batch(&sounds).unwrap();
    assert!(embeddings.iter().all(Embedding::depends_on_picture));
    let images = localizer.encode_image_batch(&pictures).unwrap();
    let pairs: Vec<_> = images.iter().flat_map(|image| embeddings.iter().map(move |sound| (sound, image))).collect();
    let together = localizer.localize_batch(&pairs).unwrap();
    let mut in_pictures = Vec::new();
    for ((i, picture), found) in pictures.iter().enumerate().zip(together.chunks_exact(3)) {
        for (sound, found) in sounds.iter().zip(found) {
            assert_same(found, &localizer.localize_pair(sound, picture).unwrap());
        }
        // Stage by stage.
        let image = acl.image_features(&localizer.pixels(&pictures[i..=i]).unwrap()).unwrap();
        let token = acl.audio_token(&acl.audio_features(&localizer.fbank(&sounds[..1]).unwrap()).unwrap()).unwrap();
        let embedding = acl.audio_embedding_in(&token, &image).unwrap();
        let logits = acl.logits(&image, &embedding).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_close(&found[0].logits, &logits);
        in_pictures.push(embedding);
    }
    assert!(max_difference(&in_pictures[0], &in_pictures[1]) > 1e-3, "the prompt does not depend on the picture");
    let trace = localizer.trace(&sounds[0], &pictures[1]).unwrap();
    let (_, traced) = trace.iter().find(|(name, _)| *name == "audio_embedding").unwrap();
    assert!(max_difference(traced, &in_pictures[1]) < 1e-5);
}

#[test]
fn other_embeddings_and_closer_looks_work_beside_it() {
    let localizer = learned();
    let (sound, picture) = (sounds().swap_remove(0), pictures().swap_remove(1));
    let (embedding, image) = (localizer.embed_audio(&sound).unwrap(), localizer.encode_image(&picture).unwrap());
    // What does not depend on the picture, such as a text, in the same batch.
    let fixed = Embedding::from_tensor(Tensor::randn(0f32, 1.0, (1, 24), &Device::Cpu).unwrap()).unwrap();
    assert!(!fixed.depends_on_picture());
    let both = localizer.localize_batch(&[(&fixed, &image), (&embedding, &image)]).unwrap();
    assert_same(&both[0], &localizer.localize(&fixed, &image).unwrap());
    assert_same(&both[1], &localizer.localize(&embedding, &image).unwrap());
    let tiles = localizer.encode_tiles(&picture, 2).unwrap();
    assert!(localizer.localize_tiles(&embedding, &tiles).unwrap().size > both[1].size);
    let sources = localizer.sources_by(Separation::Windows, &sound, 2).unwrap();
    assert!(sources.iter().all(|source| source.embedding.depends_on_picture()));
}

#[test]
fn without_a_picture_there_is_no_embedding() {
    let localizer = learned();
    let acl = localizer.acl();
    let (token, vectors) = (zeros(&[2, 8]), zeros(&[2, 4, 8]));
    assert_config(acl.audio_embedding(&token).unwrap_err(), "acl.prompt_vectors", "4");
    assert_eq!(acl.audio_embedding_with(&token, Some(&vectors)).unwrap().dims(), [2, 24]);
    for shape in [[1, 4, 8], [2, 3, 8], [2, 4, 7]] {
        let error = acl.audio_embedding_with(&token, Some(&zeros(&shape))).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    let published = Localizer::load(fixture("mini")).unwrap();
    let image = published.acl().image_features(&published.pixels(&pictures()[..1]).unwrap()).unwrap();
    assert!(published.acl().prompt_vectors(&image).unwrap().is_none());
    assert_config(published.acl().audio_embedding_with(&token, Some(&vectors)).unwrap_err(), "acl.prompt_vectors", "0");
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[track_caller]
fn assert_config(error: Error, setting: &str, value: &str) {
    match &error {
        Error::Config { what, found, .. } => assert_eq!((what.as_str(), found.as_str()), (setting, value), "{error}"),
        _ => panic!("{error}"),
    }
}

#[test]
fn directories_that_contradict_themselves_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str, head: &_, settings: &[_]| {
        let folder: &Path = &folder.path().join(name);
        write_model_with_learned_prompt(folder, head, settings);
        Localizer::load(folder).unwrap_err()
    };
    let head = head_with_learned_prompt();
    let mut incomplete = head.clone();
    incomplete.remove("prompt_net.2.bias");
    for (name, head, vectors, missing) in [
        ("none", &common::tensors("mini/acl.safetensors"), 4, "prompt_net.0.weight"),
        ("incomplete", &incomplete, 4, "prompt_net.2.bias"),
        ("other", &head, 3, "prompt_net.2.weight"),
        ("unused", &head, 0, "prompt_net.0.weight"),
    ] {
        let error = load(name, head, &[("prompt_vectors", vectors.into())]);
        let Error::Weights { path, problems } = &error else { panic!("{name}: {error}") };
        assert!(path.ends_with("acl.safetensors") && problems.iter().any(|p| p.contains(missing)), "{problems:?}");
    }
    assert_config(load("direct", &head, &[("text_tower", json!(false))]), "acl.prompt_vectors", "4");
    // The text tower has 77 positions; three are for the start, the sound and the end.
    assert_config(load("long", &head, &[("prompt_vectors", 75.into())]), "acl.prompt_vectors", "75");
}
