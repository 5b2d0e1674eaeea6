//! The public interface: files or memory, single samples or batches, one or many threads.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use candle_core::{DType, Device};
use common::fixture;
use soundsight::acl::{Acl, ModelConfig};
use soundsight::weights::{ModelFiles, WeightFormat, save_safetensors};
use soundsight::{Embedding, EncodedImage, Error, Heatmap, Localizer, Picture, Waveform};

fn mini() -> Localizer {
    Localizer::load(fixture("mini").to_str().unwrap()).unwrap()
}

fn sounds() -> Vec<Waveform> {
    let whole = Waveform::open(fixture("mini/clip.wav")).unwrap();
    (0..10).map(|i| whole.window(0.1 * f64::from(i), 2.0).unwrap()).collect()
}

fn pictures() -> Vec<Picture> {
    let whole = Picture::open(fixture("mini/frame.png")).unwrap();
    (0..10).map(|i| whole.crop(2 * i, i, 70, 60 + i).unwrap()).collect()
}

fn assert_same(a: &Heatmap, b: &Heatmap) {
    let difference = a.logits.iter().zip(&b.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference < 1e-5, "logits differ by {difference}");
    assert!((a.confidence - b.confidence).abs() < 1e-5);
}

#[test]
fn a_localizer_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Localizer>();
    shared::<Embedding>();
    shared::<EncodedImage>();
    shared::<Heatmap>();
}

#[test]
fn the_heatmap_is_the_peers() {
    let localizer = mini();
    let (sound, picture) =
        (Waveform::open(fixture("mini/clip.wav")).unwrap(), Picture::open(fixture("mini/frame.png")).unwrap());
    let heatmap = localizer.localize_pair(&sound, &picture).unwrap();
    let expected = common::tensors("mini/expected.safetensors");
    let values = |name: &str| expected[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let compare = |found: &[f32], name: &str, tolerance: f32| {
        let expected = values(name);
        assert_eq!(found.len(), expected.len());
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < tolerance, "{name} off by {off}");
    };
    compare(&heatmap.logits, "logits", 1e-4);
    compare(&heatmap.scores, "heatmap", 1e-5);
    compare(&heatmap.resized(224).unwrap(), "heatmap224", 1e-5);
    for (name, tensor) in localizer.trace(&sound, &picture).unwrap() {
        assert_eq!(tensor.dims(), expected[name].dims(), "{name}");
        let tolerance = if name.starts_with("heatmap") { 1e-5 } else { 1e-4 };
        compare(&tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), name, tolerance);
    }
}

#[test]
fn batches_equal_single_samples() {
    let localizer = mini();
    let (sounds, pictures) = (sounds(), pictures());
    let embeddings = localizer.embed_audio_batch(&sounds).unwrap();
    let images = localizer.encode_image_batch(&pictures).unwrap();
    let pairs: Vec<_> = embeddings.iter().zip(&images).collect();
    let batch = localizer.localize_batch(&pairs).unwrap();
    assert_eq!(batch.len(), 10);
    assert_eq!(localizer.localize_pairs(&sounds, &pictures).unwrap(), batch);
    let error = localizer.localize_pairs(&sounds, &pictures[1..]).unwrap_err();
    assert_eq!(error.to_string(), "pictures: expected 10, one for each sound, found 9");
    assert!(localizer.localize_pairs(&[], &[]).unwrap().is_empty());
    for ((heatmap, sound), picture) in batch.iter().zip(&sounds).zip(&pictures) {
        let embedding = localizer.embed_audio(sound).unwrap();
        let image = localizer.encode_image(picture).unwrap();
        assert_same(heatmap, &localizer.localize(&embedding, &image).unwrap());
    }
    assert!(batch[0].logits != batch[9].logits, "different pairs, different heatmaps");
}

#[test]
fn eight_threads_find_what_one_finds() {
    let localizer = Arc::new(mini());
    let (sounds, pictures) = (sounds(), pictures());
    let alone: Vec<Heatmap> = (0..8).map(|i| localizer.localize_pair(&sounds[i], &pictures[i]).unwrap()).collect();
    let together: Vec<Heatmap> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let (localizer, sound, picture) = (localizer.clone(), &sounds[i], &pictures[i]);
                scope.spawn(move || localizer.localize_pair(sound, picture).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Not just close, but identical.
    assert_eq!(alone, together);
}

#[test]
fn pickles_and_safetensors_are_the_same_model() {
    let pickles = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("mini/config.json"), pickles.path().join("config.json")).unwrap();
    for file in ["beats.pt", "clipseg.bin", "acl.pth"] {
        std::fs::copy(fixture("mini/original").join(file), pickles.path().join(file)).unwrap();
    }
    let other = Localizer::load(pickles.path().to_str().unwrap()).unwrap();
    let (sound, picture) = (&sounds()[0], &pictures()[0]);
    let a = mini().localize_pair(sound, picture).unwrap();
    assert_eq!(a, other.localize_pair(sound, picture).unwrap());
}

#[test]
fn samples_and_pixels_from_memory_are_files_without_a_disk() {
    let localizer = mini();
    let (sound, picture) =
        (Waveform::open(fixture("mini/clip.wav")).unwrap(), Picture::open(fixture("mini/frame.png")).unwrap());
    let samples = Waveform::from_samples(sound.samples().to_vec(), sound.sample_rate()).unwrap();
    let pixels = Picture::from_rgb8(picture.width(), picture.height(), picture.pixels().to_vec()).unwrap();
    let a = localizer.localize_pair(&sound, &picture).unwrap();
    assert_eq!(a, localizer.localize_pair(&samples, &pixels).unwrap());
}

#[test]
fn silence_and_a_single_pixel_are_no_trouble() {
    let localizer = mini();
    let silence = Waveform::from_samples(vec![0.0; 16_000], 16_000).unwrap();
    let pixel = Picture::from_rgb8(1, 1, vec![200, 10, 90]).unwrap();
    let heatmap = localizer.localize_pair(&silence, &pixel).unwrap();
    assert!(heatmap.scores.iter().all(|score| (0.0..=1.0).contains(score)));
    assert!((-1.0..=1.0).contains(&heatmap.confidence));
    assert_eq!(heatmap.score_map(1, 1).unwrap().findings(0.5).unwrap().peak.x, 0);
}

#[cfg(feature = "text")]
#[test]
fn a_text_without_a_tokenizer_is_an_error_that_says_so() {
    let error = mini().embed_text("a photo of a dog").unwrap_err();
    assert!(matches!(&error, Error::NoTokenizer { .. }));
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}

/// A model of 60 words with the fixtures' tokenizer: texts take the same path as sounds.
#[cfg(feature = "text")]
#[test]
fn a_text_takes_the_place_of_a_sound() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["beats.safetensors", "clipseg.safetensors", "acl.safetensors", "config.json"] {
        std::fs::copy(fixture("alt").join(file), folder.path().join(file)).unwrap();
    }
    let words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "dog</w>"];
    let vocab: serde_json::Map<String, serde_json::Value> =
        words.iter().zip([50, 51, 3, 11]).map(|(word, id)| (word.to_string(), id.into())).collect();
    let letters = ["a", "d", "o", "g", "g</w>", "do"];
    let vocab = vocab.into_iter().chain(letters.iter().zip(20..).map(|(l, id)| (l.to_string(), id.into())));
    let vocab: serde_json::Map<_, _> = vocab.collect();
    std::fs::write(folder.path().join("vocab.json"), serde_json::to_vec(&vocab).unwrap()).unwrap();
    std::fs::write(folder.path().join("merges.txt"), "#version: 0.2\nd o\ndo g</w>\n").unwrap();
    let localizer = Localizer::load(folder.path()).unwrap();
    assert_eq!(localizer.source(), Some(&soundsight::ModelSource::Directory(folder.path().into())));
    // The fixture's text has the ids 50 3 11 51.
    let embedding = localizer.embed_text("A dog").unwrap();
    let expected = &common::tensors("alt/hidden.safetensors")["text.embedding"];
    common::assert_close("text embedding", embedding.tensor(), expected, 1e-4);
    let image = localizer.encode_image(&Picture::open(fixture("alt/frame.png")).unwrap()).unwrap();
    let heatmap = localizer.localize(&embedding, &image).unwrap();
    assert_eq!(heatmap.size, 96);
}

/// Without this check, a heatmap would be NaN or constant.
#[test]
fn a_masker_that_makes_no_heatmap_is_refused_by_tensor_and_file() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["beats.safetensors", "clipseg.safetensors", "config.json"] {
        std::fs::copy(fixture("mini").join(file), folder.path().join(file)).unwrap();
    }
    let good = candle_core::safetensors::load(fixture("mini/acl.safetensors"), &candle_core::Device::Cpu).unwrap();
    for (tensor, value, named) in [
        ("masker_i.w", 0.0, "masker_i.b / masker_i.w"),
        ("masker_i.w", f32::NAN, "`masker_i.w`"),
        ("masker_i.b", f32::INFINITY, "`masker_i.b`"),
    ] {
        let mut tensors = good.clone();
        let broken = candle_core::Tensor::full(value, tensors[tensor].shape(), &candle_core::Device::Cpu).unwrap();
        tensors.insert(tensor.to_string(), broken);
        candle_core::safetensors::save(&tensors, folder.path().join("acl.safetensors")).unwrap();
        let error = Localizer::load(folder.path().to_str().unwrap()).unwrap_err();
        assert!(matches!(&error, Error::NonFinite { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(named) && message.contains("acl.safetensors"), "{message}");
    }
}

#[test]
fn a_config_that_lies_names_the_tensor_and_both_shapes() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["beats.safetensors", "clipseg.safetensors", "acl.safetensors"] {
        std::fs::copy(fixture("mini").join(file), folder.path().join(file)).unwrap();
    }
    let config = std::fs::read_to_string(fixture("mini/config.json")).unwrap();
    let lie = config.replace("\"encoder_ffn_embed_dim\": 96", "\"encoder_ffn_embed_dim\": 80");
    assert_ne!(config, lie);
    std::fs::write(folder.path().join("config.json"), lie).unwrap();
    let error = Localizer::load(folder.path().to_str().unwrap()).unwrap_err();
    let Error::Weights { path, problems } = &error else { panic!("{error}") };
    assert!(path.ends_with("beats.safetensors"));
    assert!(problems[0].contains("fc1") && problems[0].contains("80") && problems[0].contains("96"), "{problems:?}");
}

#[test]
fn a_tensor_too_many_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["beats.safetensors", "clipseg.safetensors", "config.json"] {
        std::fs::copy(fixture("mini").join(file), folder.path().join(file)).unwrap();
    }
    let mut tensors: std::collections::BTreeMap<_, _> = common::tensors("mini/acl.safetensors").into_iter().collect();
    tensors.insert("surprise".into(), candle_core::Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
    save_safetensors(folder.path().join("acl.safetensors"), &tensors, &Default::default()).unwrap();
    let error = Localizer::load(folder.path().to_str().unwrap()).unwrap_err();
    assert!(
        matches!(&error, Error::Weights { problems, .. } if problems.iter().any(|p| p.contains("surprise"))),
        "{error}"
    );
}

#[test]
fn half_precision_runs_through_the_same_door() {
    let files = ModelFiles::from_directory(fixture("mini")).unwrap();
    let (sound, picture) = (&sounds()[0], &pictures()[0]);
    let single = mini().localize_pair(sound, picture).unwrap();
    for (dtype, format) in [(DType::F16, WeightFormat::F16), (DType::BF16, WeightFormat::Bf16)] {
        // On the CPU, this is the format of the weights.
        let builder = || Localizer::builder(&files.source);
        let [asked, stored] = [builder().dtype(dtype), builder().weights(format)].map(|builder| {
            let localizer = builder.load_files(&files).unwrap();
            assert_eq!(localizer.dtype(), DType::F32);
            localizer.localize_pair(sound, picture).unwrap()
        });
        assert_eq!(asked.scores, stored.scores);

        // As on other devices.
        let config = ModelConfig::from_files(&files).unwrap();
        let prompt = config.acl.known_prompt_ids().unwrap();
        let acl = Acl::load(&config, &prompt, &files, &Device::Cpu, dtype, WeightFormat::AsStored).unwrap();
        let localizer = Localizer::from_parts("half", acl, Device::Cpu, dtype).unwrap();
        let half = localizer.localize_pair(sound, picture).unwrap();
        let mean: f32 = single.scores.iter().zip(&half.scores).map(|(a, b)| (a - b).abs()).sum::<f32>()
            / single.scores.len() as f32;
        assert!(mean < 0.05, "{dtype:?}: mean difference {mean}");
    }
    let error = Localizer::from_files(&files, Device::Cpu, DType::U8).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }));
}
