//! Several sources in one sound.
#![cfg(all(feature = "embedded", feature = "text"))]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::fixture;
use soundsight::localizer::Separation;
use soundsight::{Error, Localizer, Picture, Waveform};

fn media(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/media").join(name)
}

fn open(name: &str) -> Waveform {
    Waveform::open(media(name)).unwrap()
}

/// Two sounds at the same time, as long as the shorter one.
fn mixture(first: &Waveform, second: &Waveform) -> Waveform {
    let samples = first.samples().iter().zip(second.samples()).map(|(a, b)| (a + b) / 2.0).collect();
    Waveform::from_samples(samples, first.sample_rate()).unwrap()
}

#[test]
fn a_model_that_knows_its_classes_names_what_it_hears() {
    let localizer = Localizer::load("embedded").unwrap();
    let sources = localizer.sources(&open("frog.wav"), 3).unwrap();
    assert_eq!(sources.len(), 3);
    assert_eq!(sources[0].name.as_deref(), Some("frog"));
    assert!(sources[0].share > 0.5 && sources[0].share > sources[1].share, "{sources:?}");
    // The probabilities of all classes, in their order.
    let tags = localizer.tag(&open("frog.wav")).unwrap();
    let frog = localizer.classes().unwrap().iter().position(|class| class == "frog").unwrap();
    assert_eq!(tags.len(), localizer.classes().unwrap().len());
    assert_eq!(tags[frog], sources[0].share);
    // A source is localized by its name.
    let picture = Picture::open(media("shore.jpg")).unwrap();
    let image = localizer.encode_image(&picture).unwrap();
    let named = localizer.embed_text("a photo of frog").unwrap();
    let found = localizer.localize(&sources[0].embedding, &image).unwrap();
    assert_eq!(found, localizer.localize(&named, &image).unwrap());
    let sources = localizer.localize_sources(&open("frog.wav"), &image, 2).unwrap();
    assert_eq!(sources.len(), 2);
    assert_eq!((sources[0].0.name.as_deref(), &sources[0].1), (Some("frog"), &found));
    assert!(localizer.localize_sources(&open("frog.wav"), &image, 0).is_err());
}

#[test]
fn windows_tell_sounds_apart_that_alternate() {
    let localizer = Localizer::load("embedded").unwrap();
    let (first, second) = (open("frog.wav"), open("horse.wav"));
    assert_eq!(first.sample_rate(), second.sample_rate());
    let half = (2.0 * f64::from(first.sample_rate())) as usize;
    let part = |sound: &Waveform| sound.samples().iter().copied().cycle().take(half).collect::<Vec<f32>>();
    let both = Waveform::from_samples([part(&first), part(&second)].concat(), first.sample_rate()).unwrap();
    let sources = localizer.sources_by(Separation::Windows, &both, 2).unwrap();
    assert_eq!(sources.len(), 2);
    assert!((sources.iter().map(|source| source.share).sum::<f32>() - 1.0).abs() < 1e-6);
    assert!(sources[0].share >= sources[1].share && sources.iter().all(|source| source.name.is_none()));
    // One source is more like the one sound, the other more like the other.
    let direction = |tensor: &candle_core::Tensor| {
        let vector = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.into_iter().map(|x| x / length).collect::<Vec<f32>>()
    };
    let like = |source: usize, sound: &Waveform| {
        let alone = direction(localizer.embed_audio(sound).unwrap().tensor());
        direction(sources[source].embedding.tensor()).iter().zip(alone).map(|(a, b)| a * b).sum::<f32>()
    };
    let straight = like(0, &first) - like(1, &first);
    let crossed = like(0, &second) - like(1, &second);
    assert!((straight - crossed).abs() > 0.3, "{straight} {crossed}");
}

#[test]
fn a_model_without_names_clusters_windows() {
    let localizer = Localizer::load(fixture("alt")).unwrap();
    let sound = mixture(&open("frog.wav"), &open("horse.wav"));
    let sources = localizer.sources(&sound, 2).unwrap();
    assert!(!sources.is_empty() && sources.iter().all(|source| source.name.is_none()));
    match localizer.sources_by(Separation::Tags, &sound, 2).unwrap_err() {
        Error::Argument { what, found, .. } => {
            assert!(what.contains("tags") && found.contains("alt"), "{what} {found}")
        }
        other => panic!("{other:?}"),
    }
    for count in [0, 17] {
        let error = localizer.sources(&sound, count).unwrap_err();
        assert!(matches!(&error, Error::Argument { what, .. } if what == "number of sources"), "{error:?}");
    }
    // A sound shorter than a window is a single one.
    let short = Waveform::from_samples(vec![0.1; 100], 16_000).unwrap();
    assert_eq!(localizer.sources(&short, 3).unwrap().len(), 1);
}

#[test]
fn sources_are_found_in_tiles_too() {
    let localizer = Localizer::load("embedded").unwrap();
    let image = localizer.encode_tiles(&Picture::open(media("shore.jpg")).unwrap(), 2).unwrap();
    let sources = localizer.localize_sources_in_tiles(&open("frog.wav"), &image, 2).unwrap();
    assert_eq!((sources.len(), sources[0].0.name.as_deref()), (2, Some("frog")));
    let alone = localizer.localize_tiles(&sources[1].0.embedding, &image).unwrap();
    assert_eq!(sources[1].1, alone);
}
