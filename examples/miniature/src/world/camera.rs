//! What happens to a scene between the world and the file: shadows, light, focus, compression.

use std::io::Cursor;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::canvas::Canvas;
use super::cutout::Patch;

/// The probability of each disturbance.
const SHADOW: f64 = 0.4;
const CAST: f64 = 0.5;
const BLUR: f64 = 0.25;
const GRAIN: f64 = 0.25;
const COMPRESSION: f64 = 0.4;

/// Draws patches at their places, from back to front; with a `camera`, some of them cast a shadow.
pub(super) fn put(canvas: &mut Canvas, patches: &[Patch], places: &[(i32, i32)], camera: bool, rng: &mut ChaCha8Rng) {
    for (patch, &place) in patches.iter().zip(places) {
        if camera {
            shadow(canvas, patch, place, rng);
        }
        canvas.blend(patch, place);
    }
}

/// The picture of a scene, taken by a `camera` or as it is.
pub(super) fn picture(canvas: Canvas, camera: bool, rng: &mut ChaCha8Rng) -> RgbImage {
    if camera { take(canvas, rng) } else { canvas.to_picture() }
}

/// Darkens the canvas where `patch`, drawn at `place`, casts a soft shadow, now and then.
fn shadow(canvas: &mut Canvas, patch: &Patch, (left, top): (i32, i32), rng: &mut ChaCha8Rng) {
    if !rng.random_bool(SHADOW) {
        return;
    }
    let side = canvas.width as f32;
    let mut offset = || (side * rng.random_range(-0.06_f32..0.06)).round() as i32;
    let (left, top) = (left + offset(), top + offset());
    let strength = rng.random_range(0.2..0.6);
    let mut dark = vec![0.0; canvas.pixels.len()];
    for (at, pixel) in canvas.under(patch, (left, top)) {
        dark[at] = pixel[3];
    }
    let radius = (side * rng.random_range(0.01_f32..0.05)) as usize;
    soften(&mut dark, canvas.width, radius);
    for (pixel, dark) in canvas.pixels.iter_mut().zip(dark) {
        *pixel = pixel.map(|value| value * (1.0 - strength * dark));
    }
}

/// The mean over squares of 2 · `radius` + 1 pixels; beyond the border is nothing.
fn soften(values: &mut [f32], width: usize, radius: usize) {
    let height = values.len() / width.max(1);
    let share = 1.0 / (2 * radius + 1) as f32;
    let line = |values: &mut [f32], first: usize, step: usize, count: usize| {
        let before: Vec<f32> = (0..count).map(|i| values[first + i * step]).collect();
        for i in 0..count {
            let window = &before[i.saturating_sub(radius)..(i + radius + 1).min(count)];
            values[first + i * step] = share * window.iter().sum::<f32>();
        }
    };
    for row in 0..height {
        line(values, row * width, 1, width);
    }
    for column in 0..width {
        line(values, column, width, height);
    }
}

/// Takes the picture: a colour cast and exposure, a little out of focus, with grain, compressed; each now and then.
fn take(mut canvas: Canvas, rng: &mut ChaCha8Rng) -> RgbImage {
    if rng.random_bool(CAST) {
        let exposure = rng.random_range(0.7..1.25);
        let cast: [f32; 3] = std::array::from_fn(|_| exposure * rng.random_range(0.85..1.15));
        for pixel in &mut canvas.pixels {
            *pixel = std::array::from_fn(|c| (pixel[c] * cast[c]).min(1.0));
        }
    }
    if rng.random_bool(BLUR) {
        blur(&mut canvas, rng.random_range(0.2..1.0));
    }
    if rng.random_bool(GRAIN) {
        let amount = rng.random_range(0.01..0.06);
        for pixel in &mut canvas.pixels {
            *pixel = pixel.map(|value| value + amount * (rng.random::<f32>() + rng.random::<f32>() - 1.0));
        }
    }
    let picture = canvas.to_picture();
    if rng.random_bool(COMPRESSION) { compressed(&picture, rng.random_range(25..90)) } else { picture }
}

/// Mixes every pixel with the mean of its eight neighbours.
fn blur(canvas: &mut Canvas, amount: f32) {
    let (width, height) = (canvas.width, canvas.height);
    let before = std::mem::take(&mut canvas.pixels);
    let mean = |x: usize, y: usize| {
        let (columns, rows) = (x.saturating_sub(1)..(x + 2).min(width), y.saturating_sub(1)..(y + 2).min(height));
        let count = (columns.len() * rows.len()) as f32;
        let mut sum = [0.0; 3];
        for pixel in rows.flat_map(|row| &before[row * width..][columns.clone()]) {
            for (sum, value) in sum.iter_mut().zip(pixel) {
                *sum += value / count;
            }
        }
        sum
    };
    canvas.pixels = (0..before.len())
        .map(|at| {
            let mean = mean(at % width, at / width);
            std::array::from_fn(|c| before[at][c] + amount * (mean[c] - before[at][c]))
        })
        .collect();
}

/// The picture as it looks after JPEG compression.
fn compressed(picture: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    let encoded = JpegEncoder::new_with_quality(&mut Cursor::new(&mut bytes), quality).encode_image(picture);
    let decoded = encoded.and_then(|()| image::load_from_memory(&bytes));
    // A picture of these sizes is always encoded.
    decoded.map_or_else(|_| picture.clone(), |decoded| decoded.into_rgb8())
}
