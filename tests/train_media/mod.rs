//! Small pairs of sounds and pictures on disk.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses only a part

use std::path::Path;

use crate::common::pictures;

/// Writes `num_pairs` pairs in the published layout, `audio/p<k>.wav` and `frames/p<k>.png`, with the split `train.csv`
/// and the list `pairs.csv` of them all. Sounds are tones of different pitch, rate and length, pictures coloured
/// squares on grey.
pub fn write_pairs(folder: &Path, num_pairs: usize) {
    for subfolder in ["audio", "frames"] {
        std::fs::create_dir_all(folder.join(subfolder)).unwrap();
    }
    let (mut split, mut list) = ("id,label\n".to_string(), "image,audio\n".to_string());
    for k in 0..num_pairs {
        write_pair(folder, k);
        split += &format!("p{k},tone {}\n", k % 3);
        list += &format!("frames/p{k}.png,audio/p{k}.wav\n");
    }
    std::fs::write(folder.join("train.csv"), split).unwrap();
    std::fs::write(folder.join("pairs.csv"), list).unwrap();
}

fn write_pair(folder: &Path, k: usize) {
    let sample_rate = [16_000, 8_000, 22_050, 44_100][k % 4];
    let spec =
        hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut wav = hound::WavWriter::create(folder.join(format!("audio/p{k}.wav")), spec).unwrap();
    let pitch = 150.0 * 1.3f32.powi(k as i32 % 12);
    for i in 0..sample_rate as usize / 10 * (4 + k % 5) {
        let t = i as f32 / sample_rate as f32;
        let sample = (std::f32::consts::TAU * pitch * t).sin() * (-2.0 * t).exp() * 0.7;
        wav.write_sample((sample * 32767.0) as i16).unwrap();
    }
    wav.finalize().unwrap();

    let (width, height) = (80 + 7 * (k as u32 % 6), 100 - 5 * (k as u32 % 7));
    let (left, top) = (10 + 5 * (k as u32 % 4), 20 + 6 * (k as u32 % 3));
    let color = [(40 * k % 256) as u8, (90 * k % 256) as u8, (200 * k % 256) as u8];
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        let inside = (left..left + 40).contains(&x) && (top..top + 40).contains(&y);
        image::Rgb(if inside { color } else { [(120 + x / 4) as u8, 128, (120 + y / 4) as u8] })
    });
    pictures::write_png(picture, folder.join(format!("frames/p{k}.png")));
}
