//! What the moments of a film cost beside their parts: hearing each window, seeing each frame, and finding the one in the
//! other. Embedded model, everything in memory; an element of the throughput is a moment.
//!
//! `parts/single` calls the model once for each window and each frame; `parts/batch` gives it all of them at once.
//! `watch` are the moments with the default options, and `watch/alone` without smoothing.
#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros write undocumented functions

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use soundsight::watch::{WatchOptions, Watcher};
use soundsight::{Localizer, Picture, Waveform};

const SECONDS: usize = 8;
const SAMPLE_RATE: u32 = 16_000;
const FRAME: (usize, usize) = (640, 360);

/// A chirp that is repeated every two seconds.
fn sound() -> Vec<f32> {
    let sample = |i: usize| {
        let time = (i % (2 * SAMPLE_RATE as usize)) as f64;
        (1e-6 * time * time).sin() as f32 * 0.5
    };
    (0..SECONDS * SAMPLE_RATE as usize).map(sample).collect()
}

/// Smooth colours that move with `time`.
fn frame(time: f64) -> Picture {
    let (width, height) = FRAME;
    let value = |x: usize, y: usize, channel: usize| {
        let phase = (x as f64 / 40.0 + time + channel as f64).sin() * (y as f64 / 30.0 - 0.5 * time).cos();
        (127.0 + 127.0 * phase) as u8
    };
    let pixels =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |channel| value(x, y, channel))));
    Picture::from_rgb8(width, height, pixels.collect()).unwrap()
}

fn moments(c: &mut Criterion) {
    let localizer = Localizer::load("embedded").unwrap();
    let default = WatchOptions::default();
    let alone = WatchOptions { smoothing: None, ..default.clone() };
    let times: Vec<f64> = (0..SECONDS * 5).map(|slot| slot as f64 / default.rate).collect();
    let frames: Vec<Picture> = times.iter().map(|time| frame(*time)).collect();
    let sound = sound();
    let whole = Waveform::from_samples(sound.clone(), SAMPLE_RATE).unwrap();
    let seconds = localizer.audio_seconds();
    // As long as what the model reads: this is what it costs to hear a window, however short it was before.
    let windows: Vec<Waveform> =
        times.iter().map(|time| whole.window(time.min(SECONDS as f64 - seconds), seconds).unwrap()).collect();

    let mut group = c.benchmark_group("films");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(times.len() as u64));
    group.bench_function("parts/single", |b| {
        b.iter(|| {
            for (window, frame) in windows.iter().zip(&frames) {
                let (heard, seen) = (localizer.embed_audio(window).unwrap(), localizer.encode_image(frame).unwrap());
                black_box(localizer.localize(&heard, &seen).unwrap());
            }
        });
    });
    group.bench_function("parts/batch", |b| b.iter(|| black_box(localizer.localize_pairs(&windows, &frames).unwrap())));
    for (name, options) in [("watch", &default), ("watch/alone", &alone)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut watcher = Watcher::new(&localizer, SAMPLE_RATE, options.clone()).unwrap();
                let mut known = 0;
                // A second at a time: the frames, then their sound.
                for (second, samples) in sound.chunks(SAMPLE_RATE as usize).enumerate() {
                    for (time, frame) in times.iter().zip(&frames).skip(5 * second).take(5) {
                        known += watcher.push_frame(*time, frame.clone()).unwrap().len();
                    }
                    known += watcher.push_sound(samples).unwrap().len();
                }
                known += watcher.finish().unwrap().len();
                assert_eq!(known, times.len());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, moments);
criterion_main!(benches);
