//! Pictures in files.
//!
//! Use these functions rather than `image::open` and `save`, which compile every decoder and encoder of `image` anew in each
//! test program (clippy.toml forbids them).
#![allow(dead_code, clippy::unwrap_used)] // each test program uses only a part

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use image::DynamicImage;
use image::codecs::png::PngEncoder;

/// The picture in a file.
#[track_caller]
pub fn read(path: impl AsRef<Path>) -> DynamicImage {
    image::load_from_memory(&std::fs::read(path).unwrap()).unwrap()
}

/// The width and the height of the picture in a file.
#[track_caller]
pub fn size(path: impl AsRef<Path>) -> (u32, u32) {
    let picture = read(path);
    (picture.width(), picture.height())
}

/// Writes a picture to a PNG file.
#[track_caller]
pub fn write_png(picture: impl Into<DynamicImage>, path: impl AsRef<Path>) {
    let file = BufWriter::new(File::create(path).unwrap());
    picture.into().write_with_encoder(PngEncoder::new(file)).unwrap();
}
