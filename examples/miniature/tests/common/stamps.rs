//! Stamps made here: ellipses that sound as tones.

#[path = "../../../../tests/common/pictures.rs"]
pub mod pictures;

use std::path::Path;

use image::{Rgba, RgbaImage};

use crate::world::SAMPLE_RATE;

/// The colour of the `number`-th class of [`stamps`]: bright red, or dark blue.
pub fn colour(number: usize) -> [u8; 3] {
    if number.is_multiple_of(2) { [230, 30, 30] } else { [20, 20, 110] }
}

/// A filled ellipse with a transparent margin.
pub fn ellipse(path: &Path, width: u32, height: u32, [red, green, blue]: [u8; 3]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let inside = |at: u32, length: u32| ((at as f32 + 0.5) / length as f32 * 2.0 - 1.0) * 1.1;
    let pixel = |x, y| {
        let distance = inside(x, width).hypot(inside(y, height));
        Rgba([red, green, blue, if distance < 1.0 { 255 } else { 0 }])
    };
    pictures::write_png(RgbaImage::from_fn(width, height, pixel), path);
}

pub fn tone(path: &Path, hz: f32, seconds: f32) {
    let length = (seconds * SAMPLE_RATE as f32) as usize;
    let wave = |at: usize| (at as f32 * hz * std::f32::consts::TAU / SAMPLE_RATE as f32).sin() * 0.5;
    wav(path, (0..length).map(wave));
}

/// As the examples' own, but without waiting for the disk.
pub fn wav(path: &Path, samples: impl Iterator<Item = f32>) {
    let (bits_per_sample, sample_format) = (16, hound::SampleFormat::Int);
    let spec = hound::WavSpec { channels: 1, sample_rate: SAMPLE_RATE, bits_per_sample, sample_format };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.for_each(|sample| writer.write_sample((sample * 32767.0) as i16).unwrap());
    writer.finalize().unwrap();
}

/// Twelve classes and ten soundless pictures.
pub fn stamps() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..12_usize {
        let stem = folder.path().join(format!("kind{}/CLASS_{}1", number % 3, char::from(b'a' + number as u8)));
        ellipse(&stem.with_extension("png"), 60 + 8 * number as u32, 90, colour(number));
        tone(&stem.with_extension("wav"), 200.0 + 90.0 * number as f32, 0.2 + 0.3 * number as f32);
        // Spoken descriptions are no recordings of the class.
        tone(&folder.path().join(format!("kind0/described{number}_desc.wav")), 300.0, 0.5);
        ellipse(&folder.path().join(format!("kind0/described{number}.png")), 50, 50, [9, 9, 9]);
    }
    for number in 0..10 {
        ellipse(&folder.path().join(format!("plants/tree{number}.png")), 80, 60, [20, 120 + 10 * number, 30]);
    }
    folder
}
