//! Pictures in tiles: small objects in large pictures.
#![allow(clippy::unwrap_used)]

mod common;

use common::fixture;
use soundsight::localizer::MAX_ACROSS;
use soundsight::{Embedding, Error, Heatmap, Localizer, Picture, Waveform};

fn alt() -> Localizer {
    Localizer::load(fixture("alt").to_str().unwrap()).unwrap()
}

fn sound(localizer: &Localizer) -> Embedding {
    localizer.embed_audio(&Waveform::open(fixture("alt/clip.wav")).unwrap()).unwrap()
}

fn frame() -> Picture {
    Picture::open(fixture("alt/frame.png")).unwrap()
}

/// The picture without detail.
fn grey(width: usize, height: usize) -> Picture {
    Picture::from_rgb8(width, height, vec![120; width * height * 3]).unwrap()
}

/// The heatmap of the fixture's sound in a picture.
fn tiled(localizer: &Localizer, picture: &Picture, across: usize) -> Heatmap {
    localizer.localize_tiles(&sound(localizer), &localizer.encode_tiles(picture, across).unwrap()).unwrap()
}

#[test]
fn a_single_tile_is_the_whole() {
    let localizer = alt();
    // A picture that is not quite square is one tile too.
    for picture in [frame(), frame().crop(0, 0, 96, 90).unwrap()] {
        let image = localizer.encode_tiles(&picture, 1).unwrap();
        assert_eq!(image.num_encoded(), 1);
        let whole = localizer.localize(&sound(&localizer), &localizer.encode_image(&picture).unwrap()).unwrap();
        assert_eq!(localizer.localize_tiles(&sound(&localizer), &image).unwrap(), whole);
    }
}

#[test]
fn tiles_are_square_and_as_many_as_fit() {
    let localizer = alt();
    let num_tiles =
        |width, height, across| localizer.encode_tiles(&grey(width, height), across).unwrap().num_encoded() - 1;
    assert_eq!(num_tiles(96, 96, 2), 3 * 3);
    // Larger ones too, except where one of them is the whole.
    assert_eq!(num_tiles(96, 96, 3), 5 * 5 + 3 * 3);
    assert_eq!(num_tiles(128, 96, 1), 2);
    assert_eq!(num_tiles(160, 90, 1), 3);
    assert_eq!(num_tiles(90, 180, 2), 3 * 7 + 3);
    // Fewer pixels than tiles.
    assert_eq!(num_tiles(2, 2, 4), 7 * 7 + 3 * 3);
}

#[test]
fn where_nothing_is_there_are_no_seams() {
    let localizer = alt();
    let sound = sound(&localizer);
    let picture = grey(160, 96);
    let image = localizer.encode_tiles(&picture, 2).unwrap();
    let found = localizer.localize_tiles(&sound, &image).unwrap();
    let whole = localizer.localize(&sound, image.whole()).unwrap();
    assert_eq!(found.logits.len(), found.size * found.size);
    // All tiles are alike, so that between two of them nothing may be lower or higher than within one.
    let range = |values: &[f32]| {
        values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
    };
    let ((low, high), (least, most)) = (range(&found.logits), range(&whole.logits));
    assert!(low >= least - 1e-3 && high <= most + 1e-3, "{low} to {high}, not {least} to {most}");
}

#[test]
fn tiles_look_closer() {
    let localizer = alt();
    let whole = localizer.localize(&sound(&localizer), &localizer.encode_image(&frame()).unwrap()).unwrap();
    let found = tiled(&localizer, &frame(), 2);
    assert_eq!(found.size, 2 * whole.size);
    assert_eq!(found.scores.len(), found.size * found.size);
    assert!((-1.0..=1.0).contains(&found.confidence));
    // Every sound is answered as if it were alone, from the same encoding or another one.
    let image = localizer.encode_tiles(&frame(), 2).unwrap();
    let hum = (0..16_000).map(|i| (i as f32 * 0.03).sin()).collect();
    let hum = localizer.embed_audio(&Waveform::from_samples(hum, 16_000).unwrap()).unwrap();
    assert_ne!(localizer.localize_tiles(&hum, &image).unwrap().logits, found.logits);
    assert_eq!(localizer.localize_tiles(&sound(&localizer), &image).unwrap(), found);
    let map = found.score_map(96, 96).unwrap();
    assert_eq!(map.rows(0..96).unwrap().len(), 96 * 96);
}

#[test]
fn too_many_tiles_are_refused() {
    let localizer = alt();
    for across in [0, MAX_ACROSS + 1] {
        let error = localizer.encode_tiles(&frame(), across).unwrap_err();
        assert!(matches!(&error, Error::Argument { what, .. } if what == "tiles across"), "{error}");
    }
    let error = localizer.encode_tiles(&grey(2000, 10), 2).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "number of tiles"), "{error}");
    assert!(error.to_string().contains("2000 × 10"), "{error}");
}
