//! Training ACL on files: the inputs, the trained and frozen parts, and the outputs.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

mod common;
mod train_media;
mod train_toy;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use common::{fixture, max_difference};
use soundsight::acl::AclConfig;
use soundsight::data::random::{Purpose, stream};
use soundsight::data::{
    AudioInput, Augmentation, BadPairs, EpochSampler, FeatureCache, Loader, MediaReader, PairBatch, PairDataset,
    PairList, PairReader,
};
use soundsight::train::losses::LossWeights;
use soundsight::train::{
    AclObjective, BestMetric, Goal, Length, Metrics, Objective, Outcome, TrainConfig, Trainable, Trainer,
    audio_features_identity,
};
use soundsight::weights::ModelFiles;
use soundsight::{Error, Localizer, Picture, Waveform};
use train_media::write_pairs;
use train_toy::files_of;

type PairLoader = Loader<PairDataset<MediaReader>>;

/// The mini model and a folder with pairs.
struct Fixture {
    files: ModelFiles,
    localizer: Localizer,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new(num_pairs: usize) -> Self {
        Self::of(&fixture("mini"), num_pairs)
    }

    /// With the model in this directory.
    fn of(model: &Path, num_pairs: usize) -> Self {
        let files = ModelFiles::from_directory(model).unwrap();
        let localizer = Localizer::from_files(&files, Device::Cpu, DType::F32).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_pairs(folder.path(), num_pairs);
        Self { files, localizer, folder }
    }

    fn acl_config(&self) -> &AclConfig {
        &self.localizer.acl().config().acl
    }

    fn list(&self) -> PairList {
        PairList::csv(&self.folder.path().join("pairs.csv")).unwrap()
    }

    fn cache(&self, name: &str) -> FeatureCache {
        let identity = audio_features_identity(&self.files, self.localizer.acl().config(), DType::F32).unwrap();
        FeatureCache::open(&self.folder.path().join(name), &identity).unwrap()
    }

    fn loader(&self, list: PairList, sampler: EpochSampler, augment: bool, cache: Option<FeatureCache>) -> PairLoader {
        let bad = BadPairs::open(&self.folder.path().join("bad.csv"), 1, 0.0).unwrap();
        let reader = MediaReader::new(self.acl_config(), cache).unwrap();
        Loader::new(Arc::new(PairDataset::new(list, reader, augment)), sampler, 0, 2, Arc::new(bad), 2).unwrap()
    }

    fn objective(&self, trainable: Trainable, cache: Option<FeatureCache>) -> AclObjective<'_> {
        let (acl, weights) = (self.localizer.acl(), LossWeights::default());
        let objective = AclObjective::new(&self.files, acl, trainable, weights, Device::Cpu, DType::F32).unwrap();
        match cache {
            Some(cache) => objective.with_cache(cache),
            None => objective,
        }
    }

    fn published(&self) -> Trainable {
        Trainable::from_checkpoint(self.localizer.acl().config(), &self.files.acl, &Device::Cpu).unwrap()
    }

    /// Trains in the subfolder `run` with four held-out pairs, and returns the trained values.
    fn train(
        &self,
        run: &str,
        trainable: Trainable,
        cache: Option<&str>,
        config: TrainConfig,
    ) -> Vec<(String, Tensor)> {
        let cache = cache.map(|name| self.cache(name));
        let (training, validation) = self.list().hold_out(0.3, 0).unwrap();
        let sampler = EpochSampler::training(training.num_pairs(), 3, 0).unwrap();
        let source = self.loader(training, sampler, true, cache.clone());
        let sampler = EpochSampler::validation(validation.num_pairs(), 3).unwrap();
        let validation = self.loader(validation, sampler, false, cache.clone());
        let objective = self.objective(trainable, cache).with_validation(validation);
        let (settings, folder) = (objective.settings().unwrap(), self.folder.path().join(run));
        let mut trainer = Trainer::start(config, settings, &objective, &source, &folder).unwrap();
        assert_eq!(trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap(), Outcome::Finished);
        objective.trainable().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect()
    }
}

fn short() -> TrainConfig {
    let best = Some(BestMetric { name: "loss".to_string(), goal: Goal::Minimize });
    TrainConfig { length: Length::Epochs(2), learning_rate: 1e-3, accumulation: 2, best, ..TrainConfig::default() }
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn pictures_are_resized_cut_and_mirrored_as_drawn() {
    let f = Fixture::new(3);
    let (reader, list) = (MediaReader::new(f.acl_config(), None).unwrap(), f.list());
    let (pair, normalize) = (&list.pairs()[2], f.acl_config().normalize());
    let picture = Picture::open(&pair.image).unwrap();
    let plain = reader.image(pair, None).unwrap();
    assert_eq!(bits(&plain), bits(&f.localizer.pixels(std::slice::from_ref(&picture)).unwrap()));

    let resized = picture.resize(105, 105).unwrap().to_tensor(&normalize, &Device::Cpu).unwrap().to_vec3::<f32>();
    let resized = resized.unwrap();
    for flip in [false, true] {
        let cut = reader.image(pair, Some(Augmentation { x: 3, y: 9, flip })).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!((cut.len(), cut[0].len(), cut[0][0].len()), (3, 96, 96));
        for (c, i, j) in [(0, 0, 0), (1, 95, 95), (2, 40, 7), (0, 31, 60), (1, 3, 80)] {
            let column = if flip { 95 - j } else { j };
            assert_eq!(cut[c][i][j], resized[c][9 + i][3 + column], "({c}, {i}, {j}), mirrored: {flip}");
        }
    }
}

#[test]
fn a_sound_is_read_as_for_inference_and_its_features_come_from_the_cache_once_they_are_there() {
    let f = Fixture::new(4);
    let (cache, list) = (f.cache("cache"), f.list());
    let reader = MediaReader::new(f.acl_config(), Some(cache.clone())).unwrap();
    for pair in list.pairs() {
        let waveform = Waveform::open(&pair.audio).unwrap();
        let expected = f.localizer.fbank(&[waveform]).unwrap().squeeze(0).unwrap();
        let Ok(AudioInput::Fbank(fbank, Some(key))) = reader.audio(pair) else { panic!("cached before its time") };
        assert_eq!(bits(&fbank), bits(&expected));
        let features = f.localizer.acl().audio_features(&fbank.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
        let stored = cache.store(&key, &features).unwrap();
        let Ok(AudioInput::Features(found)) = reader.audio(pair) else { panic!("not in the cache") };
        assert_eq!(bits(&found), bits(&stored));
        assert!(
            max_difference(&found, &features)
                < 2e-3 * features.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
        );
    }
    // Another model has its own cache entries.
    let other = FeatureCache::open(&f.folder.path().join("cache"), "another model").unwrap();
    let reader = MediaReader::new(f.acl_config(), Some(other)).unwrap();
    assert!(matches!(reader.audio(&list.pairs()[0]), Ok(AudioInput::Fbank(_, Some(_)))));
}

#[test]
fn what_is_frozen_stays_and_all_else_moves() {
    let f = Fixture::new(12);
    let acl = f.localizer.acl();
    let picture = f.localizer.pixels(&[Picture::open(fixture("mini/frame.png")).unwrap()]).unwrap();
    let fbank = f.localizer.fbank(&[Waveform::open(fixture("mini/clip.wav")).unwrap()]).unwrap();
    let token = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    // The outputs of the frozen parts for a sound, a picture and a token, which depend on every frozen tensor.
    let frozen = || -> Vec<Vec<u32>> {
        let beats = acl.audio_encoder.beats().unwrap().forward(&fbank).unwrap();
        let embedding = acl.audio_embedding(&token).unwrap();
        let image = acl.image_features(&picture).unwrap();
        let logits = acl.logits(&image, &embedding).unwrap();
        let image = acl.image_embedding(&image).unwrap();
        let mut all: Vec<Vec<u32>> = beats.hidden_states.iter().map(bits).collect();
        all.extend([bits(&embedding), bits(&logits), bits(&image)]);
        all
    };
    let (before, start) = (frozen(), f.published().into_parts().1);
    let trained = f.train("run", f.published(), None, short());
    assert!(frozen() == before, "a frozen tensor changed");
    assert_eq!(trained.len(), 15);
    for ((name, trained), (_, start)) in trained.iter().zip(&start) {
        assert!(max_difference(trained, start) > 1e-5, "{name} did not move");
    }

    // The output is a complete model with the trained weights and the unchanged frozen files.
    for folder in ["last", "best"] {
        let folder = f.folder.path().join("run").join(folder);
        for part in ["beats.safetensors", "clipseg.safetensors"] {
            let same = std::fs::read(folder.join(part)).unwrap() == std::fs::read(fixture("mini").join(part)).unwrap();
            assert!(same, "{part}");
        }
        let model = Localizer::load(folder.to_str().unwrap()).unwrap();
        assert_eq!(model.acl().config(), acl.config());
        let written = candle_core::safetensors::load(folder.join("acl.safetensors"), &Device::Cpu).unwrap();
        if folder.ends_with("last") {
            for (name, trained) in &trained {
                assert_eq!(bits(&written[name]), bits(trained), "{name}");
            }
        }
        let clip = Waveform::open(fixture("mini/clip.wav")).unwrap();
        let picture = Picture::open(fixture("mini/frame.png")).unwrap();
        let before = f.localizer.localize_pair(&clip, &picture).unwrap();
        assert_ne!(model.localize_pair(&clip, &picture).unwrap().logits, before.logits);
    }
}

#[test]
fn an_empty_and_a_full_cache_give_the_same_run_and_none_nearly_the_same() {
    let f = Fixture::new(12);
    let values = |run: &str, cache: Option<&str>| f.train(run, f.published(), cache, short());
    let (empty, full, none) = (values("empty", Some("cache")), values("full", Some("cache")), values("none", None));
    let (of_empty, of_full) = (files_of(&f.folder.path().join("empty")), files_of(&f.folder.path().join("full")));
    assert!(of_empty == of_full, "a run depends on what the cache held");
    for (((name, empty), (_, full)), (_, none)) in empty.iter().zip(&full).zip(&none) {
        assert_eq!(bits(empty), bits(full), "{name}");
        // Features in f16 differ slightly: four steps of 1e-3 must give nearly the same result. (The
        // bias that no loss depends on follows rounding errors.)
        if name != "audio_proj.fga.un_models.0.feature_reduce.bias" {
            let mean = (empty - none).unwrap().abs().unwrap().mean_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(mean < 5e-4, "{name}: {mean}");
        }
    }
    assert!(empty.iter().zip(&none).any(|((_, empty), (_, none))| bits(empty) != bits(none)), "not cached in f16");
}

#[test]
fn features_without_their_cache_are_an_error() {
    let f = Fixture::new(2);
    let features = Tensor::zeros((496, 144), DType::F32, &Device::Cpu).unwrap();
    let images = Tensor::zeros((2, 3, 96, 96), DType::F32, &Device::Cpu).unwrap();
    let audio = vec![AudioInput::Features(features.clone()), AudioInput::Features(features)];
    let batch = PairBatch { audio, images, labels: vec![None, None] };
    let objective: AclObjective<'_> = f.objective(f.published(), None);
    match objective.loss(&batch, &mut stream(0, Purpose::Training, 0, 0)).unwrap_err() {
        Error::Config { what, found, .. } => assert_eq!((what.as_str(), found.as_str()), ("feature cache", "none")),
        other => panic!("{other:?}"),
    }
}

/// Validates on all pairs in batches of three, with the masker's scalars replaced.
fn validate(f: &Fixture, masker: [f32; 2]) -> (HashMap<String, f64>, Vec<(String, Picture)>) {
    let trainable = f.published();
    let sampler = EpochSampler::validation(f.list().num_pairs(), 3).unwrap();
    let source = f.loader(f.list(), sampler, false, None);
    let objective = f.objective(trainable, None).with_validation(source);
    for (name, var) in objective.trainable() {
        match name.as_str() {
            "masker_i.w" => var.set(&Tensor::new(masker[0], &Device::Cpu).unwrap()).unwrap(),
            "masker_i.b" => var.set(&Tensor::new(masker[1], &Device::Cpu).unwrap()).unwrap(),
            _ => {}
        }
    }
    let run = || -> (Metrics, Vec<(String, Picture)>) {
        let validation = objective.validate(&mut stream(0, Purpose::Validation, 0, 0)).unwrap();
        (validation.metrics, validation.pictures)
    };
    let (metrics, pictures) = run();
    assert_eq!(run().0, metrics, "two validations of the same weights differ");
    (metrics.into_iter().collect(), pictures)
}

#[test]
fn a_validation_measures_losses_retrieval_and_the_signs_of_failure() {
    let f = Fixture::new(7);
    let (metrics, pictures) = validate(&f, [3.1, 0.4]);
    for name in ["loss", "acl_i", "acl_f", "area", "positive_area", "negative_area", "retrieval_i", "retrieval_f"] {
        assert!(metrics[name].is_finite(), "{name}");
    }
    assert!((metrics["loss"] - metrics["acl_i"] - metrics["acl_f"] - metrics["area"]).abs() < 1e-5);
    // Two batches of three; the seventh pair is alone and has no negatives.
    assert!((metrics["retrieval_chance"] - 2.0 / 6.0).abs() < 1e-12);
    for name in ["retrieval_i", "retrieval_f"] {
        let rights = metrics[name] * 6.0;
        assert!((rights - rights.round()).abs() < 1e-9 && rights <= 6.0, "{name}: {rights}");
    }
    assert!(metrics["mask_area"] > 0.05 && metrics["mask_area"] < 0.95, "{metrics:?}");
    assert_eq!((metrics["masks_full"], metrics["masks_empty"]), (0.0, 0.0));
    assert!(metrics["masks_alike"] > 0.5 && metrics["masks_alike"] < 1.0, "{metrics:?}");
    let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["audio/p0.wav", "audio/p1.wav", "audio/p2.wav", "audio/p3.wav", "audio/p4.wav", "audio/p5.wav"]);
    assert!(pictures.iter().all(|(_, picture)| picture.size() == (96, 96)));

    let (full, drawn_full) = validate(&f, [1.0, 1e4]);
    assert_eq!((full["mask_area"], full["masks_full"], full["masks_empty"], full["masks_alike"]), (1.0, 1.0, 0.0, 1.0));
    let (empty, drawn_empty) = validate(&f, [1.0, -1e4]);
    assert_eq!((empty["mask_area"], empty["masks_full"], empty["masks_empty"]), (0.0, 0.0, 1.0));
    assert_eq!(empty["masks_alike"], 1.0, "two empty masks are alike");
    // With an empty heatmap, the drawing is the picture as the network sees it.
    let seen = Picture::open(f.list().pairs()[0].image.clone()).unwrap().resize(96, 96).unwrap();
    assert_eq!(drawn_empty[0].1.pixels(), seen.pixels());
    assert_ne!(drawn_full[0].1.pixels(), seen.pixels());
}

#[test]
fn a_validation_equals_inference() {
    validation_equals_inference(&Fixture::new(3));
    let model = tempfile::tempdir().unwrap();
    common::write_model_with_learned_prompt(model.path(), &common::head_with_learned_prompt(), &[]);
    validation_equals_inference(&Fixture::of(model.path(), 3));
}

fn validation_equals_inference(f: &Fixture) {
    let (metrics, _) = validate(f, [3.1, 0.4]);
    let mut right = 0.0;
    let mut area = 0.0;
    let images: Vec<_> =
        f.list().pairs().iter().map(|p| f.localizer.encode_image(&Picture::open(&p.image).unwrap()).unwrap()).collect();
    for (own, pair) in f.list().pairs().iter().enumerate() {
        let sound = f.localizer.embed_audio(&Waveform::open(&pair.audio).unwrap()).unwrap();
        let heatmaps =
            f.localizer.localize_batch(&images.iter().map(|image| (&sound, image)).collect::<Vec<_>>()).unwrap();
        let best =
            heatmaps.iter().enumerate().max_by(|(_, a), (_, b)| a.confidence.total_cmp(&b.confidence)).unwrap().0;
        right += f64::from(u8::from(best == own));
        area += heatmaps[own].scores.iter().filter(|score| **score >= 0.5).count() as f64 / (96.0 * 96.0);
    }
    assert!((metrics["retrieval_f"] - right / 3.0).abs() < 1e-9);
    assert!((metrics["mask_area"] - area / 3.0).abs() < 1e-3, "{} {area}", metrics["mask_area"]);
}

#[test]
fn fresh_weights_train_too_and_are_published_under_the_same_names() {
    let f = Fixture::new(12);
    let fresh = || Trainable::from_scratch(f.localizer.acl().config(), 7, &Device::Cpu).unwrap();
    f.train("fresh", fresh(), None, TrainConfig { length: Length::Steps(1), ..short() });
    let written = candle_core::safetensors::load(f.folder.path().join("fresh/last/acl.safetensors"), &Device::Cpu);
    let (written, published) = (written.unwrap(), common::tensors("mini/acl.safetensors"));
    assert_eq!(written.len(), published.len());
    for (name, published) in &published {
        assert_eq!(written[name].dims(), published.dims(), "{name}");
    }
    let w = written["masker_i.w"].to_scalar::<f32>().unwrap();
    assert!((w - 10.0).abs() < 0.01, "{w}");
}

#[test]
fn held_out_pairs_share_no_sound_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    // Three pictures of each of ten sounds.
    let rows: String = (0..30).map(|k| format!("s{}.wav,p{k}.png\n", k % 10)).collect();
    let path = folder.path().join("pairs.csv");
    std::fs::write(&path, format!("audio,image\n{rows}")).unwrap();
    let split = |fraction, seed| PairList::csv(&path).unwrap().hold_out(fraction, seed);
    let (training, validation) = split(0.25, 1).unwrap();
    assert_eq!((training.num_pairs(), validation.num_pairs()), (21, 9));
    let sounds = |list: &PairList| -> Vec<_> { list.pairs().iter().map(|pair| pair.audio.clone()).collect() };
    assert!(sounds(&validation).iter().all(|sound| !sounds(&training).contains(sound)));
    assert_eq!(sounds(&split(0.25, 1).unwrap().1), sounds(&validation));
    assert_ne!(sounds(&split(0.25, 2).unwrap().1), sounds(&validation));
    assert_eq!(split(0.01, 1).unwrap().1.num_pairs(), 6, "at least two sounds");
    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        assert!(matches!(split(fraction, 1), Err(Error::Argument { what, .. }) if what == "validation fraction"));
    }
    assert!(matches!(split(0.95, 1), Err(Error::Format { path: named, .. }) if named == path));
}

/// Links are created where possible, and existing files are not modified.
#[test]
fn linking_makes_a_model_directory_without_acl() {
    let f = Fixture::new(2);
    let folder = f.folder.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    f.files.link_frozen(&folder).unwrap();
    assert!(
        matches!(ModelFiles::from_directory(&folder), Err(Error::Format { found, .. }) if found.contains("acl.safetensors"))
    );
    std::fs::write(folder.join("config.json"), "mine").unwrap();
    f.files.link_frozen(&folder).unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("config.json")).unwrap(), "mine");
    match f.files.link_frozen(&Path::new("/nonexistent").join("model")).unwrap_err() {
        Error::Io { path, action: "write", .. } => assert!(path.starts_with("/nonexistent/model"), "{path:?}"),
        other => panic!("{other:?}"),
    }
}
