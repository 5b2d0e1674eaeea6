//! Loading in parallel, unreadable samples in the middle of an epoch, augmentation, and the feature cache.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use soundsight::data::{
    AudioInput, Augmentation, BadPairs, BatchSource, EpochSampler, FeatureCache, Loaded, Loader, Pair, PairBatch,
    PairDataset, PairList, PairReader, random,
};
use soundsight::{Error, Result};

/// Reads "sounds" that are numbers and "pictures" that encode their augmentation. Sound `broken` is corrupt, sound
/// `bug` fails with a programming error, and sound `panic` makes its decoder panic.
struct Numbers;

impl PairReader for Numbers {
    fn audio(&self, pair: &Pair) -> Result<AudioInput> {
        let origin = pair.audio.display().to_string();
        match pair.id.as_str() {
            "broken" => Err(Error::Audio { origin, expected: "samples".to_string(), found: "noise".to_string() }),
            "bug" => Err(Error::shape("fbank", "[T, 128]", &[1])),
            "panic" => panic!("a decoder's mistake"),
            number => Ok(AudioInput::Fbank(Tensor::new(&[number.parse::<f32>().unwrap()], &Device::Cpu)?, None)),
        }
    }

    fn image(&self, _: &Pair, augmentation: Option<Augmentation>) -> Result<Tensor> {
        let values = augmentation.map_or([-1.0; 3], |a| [a.x as f32, a.y as f32, f32::from(u8::from(a.flip))]);
        Ok(Tensor::new(&values, &Device::Cpu)?)
    }

    fn image_size(&self) -> u32 {
        352
    }
}

fn list(special: &[(usize, &str)]) -> PairList {
    let mut ids: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    for (index, id) in special {
        ids[*index] = id.to_string();
    }
    let pair = |id: String| Pair { audio: format!("{id}.wav").into(), image: "x.png".into(), label: None, id };
    PairList::new(Path::new("list"), ids.into_iter().map(pair).collect()).unwrap()
}

struct Source {
    loader: Loader<PairDataset<Numbers>>,
    folder: tempfile::TempDir,
}

/// Batches of four of twenty pairs.
fn source(special: &[(usize, &str)], augment: bool, max_bad: f64, num_threads: usize) -> Source {
    let folder = tempfile::tempdir().unwrap();
    let bad = BadPairs::open(&folder.path().join("bad_pairs.csv"), 20, max_bad).unwrap();
    let sampler = EpochSampler::training(20, 4, 3).unwrap();
    let dataset = PairDataset::new(list(special), Numbers, augment);
    let loader = Loader::new(Arc::new(dataset), sampler, 3, 2, Arc::new(bad), num_threads).unwrap();
    Source { loader, folder }
}

/// A batch as numbers: its index, ids, sounds and augmentations.
type Numbered = (usize, Vec<String>, Vec<f32>, Vec<Vec<f32>>);

fn numbers(loaded: Loaded<PairBatch>) -> Option<Numbered> {
    let batch = loaded.batch?;
    let sounds = batch.audio.iter().map(|audio| match audio {
        AudioInput::Fbank(fbank, None) => fbank.to_vec1::<f32>().unwrap()[0],
        other => panic!("{other:?}"),
    });
    Some((loaded.index, loaded.ids, sounds.collect(), batch.images.to_vec2().unwrap()))
}

fn epoch(source: &Source, epoch: usize, first: usize) -> Vec<Numbered> {
    source.loader.epoch(epoch, first).unwrap().filter_map(|loaded| numbers(loaded.unwrap())).collect()
}

#[test]
fn batches_depend_on_seed_and_epoch_alone() {
    let inline = source(&[], true, 0.0, 0);
    let all = epoch(&inline, 1, 0);
    assert_eq!(all.iter().map(|batch| batch.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for (_, ids, sounds, _) in &all {
        assert_eq!(*ids, sounds.iter().map(|sound| sound.to_string()).collect::<Vec<_>>());
    }
    let augmentations: std::collections::BTreeSet<String> =
        all.iter().flat_map(|batch| &batch.3).map(|values| format!("{values:?}")).collect();
    assert!(augmentations.len() > 15, "samples share their random numbers: {augmentations:?}");

    for num_threads in [1, 4] {
        assert_eq!(epoch(&source(&[], true, 0.0, num_threads), 1, 0), all);
    }
    assert_eq!(epoch(&inline, 1, 3), all[3..], "begun in the middle");
    assert_ne!(epoch(&inline, 2, 0), all);
    let plain = epoch(&source(&[], false, 0.0, 2), 1, 0);
    assert!(plain.iter().flat_map(|batch| &batch.3).all(|values| values == &[-1.0; 3]));
    assert_eq!(plain[0].1, all[0].1);
}

#[test]
fn a_corrupt_sound_is_listed_and_left_out_of_its_batch() {
    for num_threads in [0, 3] {
        let whole = epoch(&source(&[], true, 0.0, 0), 0, 0);
        let source = source(&[(7, "broken")], true, 0.05, num_threads);
        for _ in 0..2 {
            let with_broken = epoch(&source, 0, 0);
            assert_eq!(with_broken.len(), 5);
            for (whole, found) in whole.iter().zip(&with_broken) {
                let mut expected = whole.clone();
                if let Some(place) = expected.1.iter().position(|id| id == "7") {
                    expected.1.remove(place);
                    expected.2.remove(place);
                    expected.3.remove(place);
                }
                assert_eq!(*found, expected, "the other samples and batches stay where they are");
            }
        }
        assert_eq!(source.loader.bad_pairs().count(), 1);
        let text = std::fs::read_to_string(source.folder.path().join("bad_pairs.csv")).unwrap();
        assert!(text.contains("broken.wav: unusable sound: expected samples, found noise"), "{text}");
    }
}

#[test]
fn a_batch_without_negatives_is_left_out() {
    let broken: Vec<(usize, &str)> = {
        let batches = EpochSampler::training(20, 4, 3).unwrap().batches(0);
        batches[2][..3].iter().map(|index| (*index, "broken")).collect()
    };
    let indices: Vec<usize> = epoch(&source(&broken, true, 1.0, 2), 0, 0).into_iter().map(|batch| batch.0).collect();
    assert_eq!(indices, [0, 1, 3, 4]);
}

#[test]
fn too_many_corrupt_sounds_end_the_epoch() {
    let source = source(&[(7, "broken")], true, 0.04, 2);
    match source.loader.epoch(0, 0).unwrap().find_map(Result::err) {
        Some(Error::TooManyBadPairs { num_bad: 1, num_pairs: 20, example, .. }) => {
            assert!(example.contains("broken.wav"), "{example}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mistake_of_the_program_is_no_bad_pair() {
    let source = source(&[(7, "bug")], true, 1.0, 2);
    let error = source.loader.epoch(0, 0).unwrap().find_map(Result::err);
    assert!(matches!(error, Some(Error::Shape { what: "fbank", .. })), "{error:?}");
    assert_eq!(source.loader.bad_pairs().count(), 0);
}

#[test]
fn a_decoder_that_crashes_costs_its_sample_only() {
    let source = source(&[(7, "panic")], true, 0.05, 2);
    assert_eq!(epoch(&source, 0, 0).iter().map(|batch| batch.1.len()).sum::<usize>(), 19);
    assert_eq!(source.loader.bad_pairs().count(), 1);
}

#[test]
fn an_epoch_may_be_abandoned() {
    let source = source(&[], true, 0.0, 3);
    for _ in 0..20 {
        source.loader.epoch(0, 0).unwrap().next().unwrap().unwrap();
    }
}

#[test]
fn batches_too_small_for_the_loss_are_refused() {
    let bad = Arc::new(BadPairs::open(Path::new("x"), 20, 0.0).unwrap());
    let dataset = Arc::new(PairDataset::new(list(&[]), Numbers, true));
    let sampler = EpochSampler::training(20, 1, 0).unwrap();
    match Loader::new(dataset, sampler, 0, 2, bad, 0).err() {
        Some(Error::Config { what, expected, found }) => {
            assert_eq!((what.as_str(), expected.as_str(), found.as_str()), ("batch_size", "at least 2", "1"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_description_knows_every_pair() {
    let describe = |special| source(special, true, 0.0, 0).loader.describe();
    assert_eq!(describe(&[]), describe(&[]));
    assert_ne!(describe(&[]), describe(&[(3, "30")]));
    assert_ne!(describe(&[(3, "4"), (4, "3")]), describe(&[]), "the order counts");
    assert_eq!(describe(&[])["batch_size"], 4);
}

fn sound(folder: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn features_come_back_as_they_were_stored() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FeatureCache::open(&folder.path().join("cache"), "model a").unwrap();
    let key = cache.key(&sound(folder.path(), "a.wav", "abc")).unwrap();
    assert!(cache.load(&key, &Device::Cpu).unwrap().is_none());

    // From ½ to 1½, within f16's normal range, where its relative error is bounded.
    let mut rng = random::stream(0, random::Purpose::Training, 0, 0);
    let features = (random::uniform(&mut rng, &[31, 24], &Device::Cpu).unwrap() + 0.5).unwrap();
    let stored = cache.store(&key, &features).unwrap();
    let loaded = cache.load(&key, &Device::Cpu).unwrap().unwrap();
    assert_eq!((loaded.dims(), loaded.dtype()), ([31, 24].as_slice(), DType::F32));
    let same = |a: &Tensor, b: &Tensor| a.to_vec2::<f32>().unwrap() == b.to_vec2::<f32>().unwrap();
    assert!(same(&stored, &loaded), "a full cache must give what an empty one gave");
    // Half precision has eleven significant bits.
    let error = ((&loaded - &features).unwrap().abs().unwrap() / features.abs().unwrap()).unwrap();
    assert!(error.max_all().unwrap().to_scalar::<f32>().unwrap() <= 1.0 / 2048.0);
    assert!(!same(&loaded, &features), "f16 on the disk");
}

#[test]
fn the_key_is_the_model_and_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let cache = |identity: &str| FeatureCache::open(folder.path(), identity).unwrap();
    let (a, b) = (sound(folder.path(), "a", "abc"), sound(folder.path(), "b", "abc"));
    let key = cache("model").key(&a).unwrap();
    assert_eq!(key, cache("model").key(&b).unwrap(), "a moved file is still the same sound");
    assert_ne!(key, cache("other").key(&a).unwrap());
    std::fs::write(&a, "abd").unwrap();
    assert_ne!(key, cache("model").key(&a).unwrap());
    match cache("model").key(&folder.path().join("gone")).unwrap_err() {
        Error::Io { path, action: "read", .. } => assert_eq!(path, folder.path().join("gone")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_damaged_entry_counts_as_absent_and_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FeatureCache::open(&folder.path().join("cache"), "model").unwrap();
    let key = cache.key(&sound(folder.path(), "a.wav", "abc")).unwrap();
    let features = Tensor::ones((4, 3), DType::F32, &Device::Cpu).unwrap();
    cache.store(&key, &features).unwrap();
    let shard = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap().path();
    let entry = std::fs::read_dir(shard).unwrap().next().unwrap().unwrap().path();
    let intact = std::fs::read(&entry).unwrap();
    let mut flipped = intact.clone();
    let middle = flipped.len() - 8;
    flipped[middle] ^= 1;
    for damaged in [&intact[..0], &intact[..3], &intact[..intact.len() / 2], &intact[..intact.len() - 1], &flipped] {
        std::fs::write(&entry, damaged).unwrap();
        assert!(cache.load(&key, &Device::Cpu).unwrap().is_none(), "{} bytes", damaged.len());
        cache.store(&key, &features).unwrap();
        assert!(cache.load(&key, &Device::Cpu).unwrap().is_some());
    }
}

#[test]
fn what_half_precision_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cache = FeatureCache::open(folder.path(), "model").unwrap();
    let key = cache.key(&sound(folder.path(), "a.wav", "abc")).unwrap();
    for value in [1e6f32, f32::NAN] {
        let features = Tensor::new(&[1.0, value], &Device::Cpu).unwrap();
        assert!(matches!(cache.store(&key, &features), Err(Error::NonFinite { .. })));
        assert!(cache.load(&key, &Device::Cpu).unwrap().is_none());
    }
}
