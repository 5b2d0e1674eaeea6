//! Pictures compared with Pillow and torch. The fixtures come from `benches/peers/fixtures_image.py`.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/image_formats.rs"]
mod image_formats;
#[path = "common/pictures.rs"]
mod pictures;

use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::Deserialize;
use soundsight::Error;
use soundsight::image::{NormalizeOptions, Picture};

/// The photographs that come with Debian's `tuxpaint-stamps-default`.
const STAMPS: &str = "/usr/share/tuxpaint/stamps";

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image").join(path)
}

fn json<T: serde::de::DeserializeOwned>(path: &str) -> T {
    serde_json::from_slice(&std::fs::read(fixture(path)).unwrap()).unwrap()
}

/// The largest difference between the bytes of two pictures.
fn difference(one: &[u8], other: &[u8]) -> u8 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).max().unwrap()
}

/// A picture in which every byte encodes its position.
fn counted(width: usize, height: usize) -> Picture {
    Picture::from_rgb8(width, height, (0..width * height * 3).map(|i| i as u8).collect()).unwrap()
}

#[derive(Deserialize)]
struct FormatCase {
    file: String,
    width: usize,
    height: usize,
    tolerance: u8,
}

#[test]
fn every_format_reads_as_pillow_reads_it() {
    let cases: Vec<FormatCase> = json("formats/cases.json");
    assert!(cases.len() >= 37);
    let mut failures = Vec::new();
    for case in cases {
        let picture = Picture::open(fixture("formats").join(&case.file));
        if let Some(feature) = image_formats::missing_feature(&case.file) {
            let error = picture.unwrap_err();
            assert!(matches!(&error, Error::MissingFeature { feature: named, .. } if *named == feature), "{error}");
            assert!(error.to_string().contains(&case.file), "{error}");
            continue;
        }
        let picture = picture.unwrap();
        let expected = std::fs::read(fixture("formats").join(format!("{}.rgb", case.file))).unwrap();
        assert_eq!(picture.size(), (case.width, case.height), "{}", case.file);
        let difference = difference(picture.pixels(), &expected);
        if difference > case.tolerance {
            failures.push(format!("{}: {difference} > {}", case.file, case.tolerance));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[derive(Deserialize)]
struct ResizeCase {
    source: String,
    file: String,
    width: usize,
    height: usize,
}

#[test]
fn photographs_resize_to_pillows_very_bytes() {
    let cases: Vec<ResizeCase> = json("resize/cases.json");
    assert!(cases.len() >= 11);
    for case in cases {
        let source = Picture::open(fixture("resize").join(&case.source)).unwrap();
        let expected = Picture::open(fixture("resize").join(&case.file)).unwrap();
        let resized = source.resize(case.width, case.height).unwrap();
        assert_eq!(resized.size(), expected.size());
        assert_eq!(difference(resized.pixels(), expected.pixels()), 0, "{}", case.file);
    }
}

#[test]
fn resizing_to_the_same_size_changes_nothing() {
    let picture = counted(9, 7);
    assert_eq!(picture.resize(9, 7).unwrap(), picture);
}

#[test]
fn one_pixel_and_twenty_thousand_pixels_wide() {
    let dot = Picture::from_rgb8(1, 1, vec![10, 200, 30]).unwrap();
    let grown = dot.resize(352, 352).unwrap();
    assert!(grown.pixels().chunks(3).all(|pixel| pixel == [10, 200, 30]));

    // The thumbnail of a ramp is a ramp.
    let ramp = (0..20_000_usize).flat_map(|x| [(x * 255 / 19_999) as u8; 3]).collect::<Vec<_>>().repeat(3);
    let wide = Picture::from_rgb8(20_000, 3, ramp).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.png");
    wide.write_png(&path).unwrap();
    let wide = Picture::open(&path).unwrap();
    assert_eq!(wide.size(), (20_000, 3));
    let small = wide.resize(352, 352).unwrap();
    for (x, pixel) in small.pixels()[..352 * 3].chunks(3).enumerate() {
        let expected = (x as f32 + 0.5) / 352.0 * 255.0;
        assert!((f32::from(pixel[0]) - expected).abs() <= 1.5, "{x}: {} for {expected}", pixel[0]);
    }
}

#[test]
fn normalisation_is_torchs_to_the_last_bits() {
    let expected: Vec<Vec<f32>> = json("normalized.json");
    let picture = Picture::from_rgb8(16, 16, (0..=255).flat_map(|byte| [byte; 3]).collect()).unwrap();
    let tensor = picture.to_tensor(&NormalizeOptions::default(), &Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [3, 16, 16]);
    let found = tensor.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= 3e-7, "{found} for {expected}");
    }
}

#[test]
fn tensors_are_planes_of_rows() {
    let tensor = counted(4, 2)
        .to_tensor(&NormalizeOptions { mean: [0.0; 3], std: [1.0 / 255.0; 3] }, &Device::Cpu)
        .unwrap()
        .to_vec3::<f32>()
        .unwrap();
    for (channel, plane) in tensor.iter().enumerate() {
        for (y, row) in plane.iter().enumerate() {
            for (x, value) in row.iter().enumerate() {
                assert_eq!(value.round() as usize, (y * 4 + x) * 3 + channel);
            }
        }
    }
}

#[test]
fn normalisation_refuses_what_cannot_be_divided_by() {
    let picture = counted(2, 2);
    for std in [[1.0, 0.0, 1.0], [1.0, f32::NAN, 1.0], [-1.0, 1.0, 1.0]] {
        let options = NormalizeOptions { std, ..NormalizeOptions::default() };
        let error = picture.to_tensor(&options, &Device::Cpu).unwrap_err();
        assert!(matches!(&error, Error::Config { what, .. } if what == "normalize.std"), "{error}");
    }
    let options = NormalizeOptions { mean: [f32::INFINITY; 3], ..NormalizeOptions::default() };
    let error = picture.to_tensor(&options, &Device::Cpu).unwrap_err();
    assert!(matches!(&error, Error::Config { what, .. } if what == "normalize.mean"), "{error}");
}

#[test]
fn crops_and_mirrors() {
    let picture = counted(5, 4);
    let pixel = |x: usize, y: usize| &picture.pixels()[(y * 5 + x) * 3..][..3];
    let part = picture.crop(1, 2, 3, 2).unwrap();
    assert_eq!(part.size(), (3, 2));
    let mirrored = picture.flip_horizontal();
    assert_eq!(mirrored.size(), (5, 4));
    for y in 0..4 {
        for x in 0..5 {
            assert_eq!(&mirrored.pixels()[(y * 5 + x) * 3..][..3], pixel(4 - x, y));
            if x < 3 && y < 2 {
                assert_eq!(&part.pixels()[(y * 3 + x) * 3..][..3], pixel(x + 1, y + 2));
            }
        }
    }
    assert_eq!(mirrored.flip_horizontal(), picture);
    assert_eq!(picture.crop(0, 0, 5, 4).unwrap(), picture);
}

#[test]
fn written_pictures_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let picture = counted(17, 9);
    picture.write_png(&path).unwrap();
    assert_eq!(Picture::open(&path).unwrap(), picture);
    assert_eq!(Picture::from_bytes(&std::fs::read(&path).unwrap()).unwrap(), picture);
    let image::DynamicImage::ImageRgb8(rgb) = pictures::read(&path) else { panic!("not 8-bit RGB") };
    assert_eq!(Picture::from_rgb8(17, 9, rgb.into_raw()).unwrap(), picture);
    assert_eq!(picture.clone().into_pixels(), picture.pixels());
}

#[test]
fn the_content_decides_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really_a_png.jpg");
    std::fs::copy(fixture("formats/rgb.png"), &path).unwrap();
    assert_eq!(Picture::open(&path).unwrap(), Picture::open(fixture("formats/rgb.png")).unwrap());
}

#[test]
fn every_stamp_of_debian_opens() {
    let mut folders = vec![PathBuf::from(STAMPS)];
    if !folders[0].is_dir() {
        assert!(std::env::var_os("CI").is_none(), "CI must install tuxpaint-stamps-default");
        eprintln!("skipped: no {STAMPS} (install tuxpaint-stamps-default)");
        return;
    }
    let mut opened = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "png") {
                let picture = Picture::open(&path).unwrap();
                assert_eq!(pictures::size(&path), (picture.width() as u32, picture.height() as u32));
                opened += 1;
            }
        }
    }
    assert!(opened > 80, "{opened} stamps");
}
