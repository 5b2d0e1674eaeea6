//! Watching frames and samples that are fed by hand: the moments do not depend on the portions, come in time, and are
//! what a localization of the frame and its window says.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::OnceLock;

use common::fixture;
use soundsight::watch::{Gate, Moment, Smoothing, WatchOptions, Watcher};
use soundsight::{Error, Localizer, Picture, Waveform};

/// The sample rate of the sounds here.
const RATE: u32 = 16_000;

/// A model of random weights.
fn localizer() -> &'static Localizer {
    static LOCALIZER: OnceLock<Localizer> = OnceLock::new();
    LOCALIZER.get_or_init(|| Localizer::load(fixture("alt")).unwrap())
}

/// Three seconds of clicks and a tone that rises.
fn sound() -> Vec<f32> {
    let sample = |n: u32| {
        let time = n as f32 / RATE as f32;
        0.4 * (time * (400.0 + 300.0 * time)).sin() * if n % 5000 < 3000 { 1.0 } else { 0.3 }
    };
    (0..3 * RATE).map(sample).collect()
}

/// A bright square on a dark ground, as far to the right as time has passed.
fn scene(time: f64) -> Picture {
    let left = (time * 10.0) as usize;
    let pixel = |at: usize| match ((left..left + 12).contains(&(at % 48)), (10..22).contains(&(at / 48))) {
        (true, true) => [240, 200, 60],
        _ => [(at % 48) as u8, 40 + (at / 48) as u8, 70],
    };
    Picture::from_rgb8(48, 32, (0..48 * 32).flat_map(pixel).collect()).unwrap()
}

/// A bright plain.
fn plain() -> Picture {
    Picture::from_rgb8(48, 32, [250, 120, 240].repeat(48 * 32)).unwrap()
}

/// Frames at 25 Hz and their times: the scene, and from 1.6 s on a plain.
fn frames() -> Vec<(f64, Picture)> {
    let times = (0..75).map(|n| f64::from(n) / 25.0);
    times.map(|time| (time, if time < 1.59 { scene(time) } else { plain() })).collect()
}

fn watcher(options: &WatchOptions) -> Watcher<'static> {
    Watcher::new(localizer(), RATE, options.clone()).unwrap()
}

/// The moments when each frame is fed together with the sound up to it, in chunks of `chunk` samples.
fn in_step(options: &WatchOptions, frames: &[(f64, Picture)], sound: &[f32], chunk: usize) -> Vec<Moment> {
    let mut watcher = watcher(options);
    let (mut moments, mut chunks) = (Vec::new(), sound.chunks(chunk));
    let mut heard = 0;
    for (time, picture) in frames {
        moments.extend(watcher.push_frame(*time, picture.clone()).unwrap());
        while (heard as f64) < time * f64::from(RATE) {
            let Some(samples) = chunks.next() else { break };
            moments.extend(watcher.push_sound(samples).unwrap());
            heard += samples.len();
        }
    }
    for samples in chunks {
        moments.extend(watcher.push_sound(samples).unwrap());
    }
    moments.extend(watcher.finish().unwrap());
    moments
}

#[test]
fn portions_do_not_matter() {
    let (frames, sound) = (frames(), sound());
    let short = WatchOptions { window: 0.05, hop: Some(0.07), ..Default::default() };
    let wide = Smoothing { radius: 0.25, ..Default::default() };
    for options in [
        WatchOptions::default(),
        short,
        WatchOptions { rate: 3.0, smoothing: Some(wide), ..Default::default() },
        WatchOptions { smoothing: None, repeat: false, ..Default::default() },
    ] {
        let moments = in_step(&options, &frames, &sound, 500);
        assert_eq!(moments.len(), (3.0 * options.rate) as usize);
        assert!(moments.windows(2).all(|pair| pair[0].time < pair[1].time));
        // Under one sound, the plain after the cut has one heatmap.
        assert!(moments.windows(2).filter(|pair| pair[0].heatmap != pair[1].heatmap).count() > moments.len() / 2);
        assert!(moments == in_step(&options, &frames, &sound, 7777), "other chunks: {options:?}");

        let mut sound_first = watcher(&options);
        let mut found = sound_first.push_sound(&sound).unwrap();
        assert!(found.is_empty());
        for (time, picture) in &frames {
            found.extend(sound_first.push_frame(*time, picture.clone()).unwrap());
        }
        found.extend(sound_first.finish().unwrap());
        assert!(moments == found, "all sound first: {options:?}");

        // Frames that are no moments need not be fed.
        let mut frames_first = watcher(&options);
        let mut found = Vec::new();
        for (time, picture) in frames.iter().filter(|frame| moments.iter().any(|moment| moment.time == frame.0)) {
            found.extend(frames_first.push_frame(*time, picture.clone()).unwrap());
        }
        assert!(found.is_empty());
        found.extend(frames_first.push_sound(&sound).unwrap());
        found.extend(frames_first.finish().unwrap());
        assert!(moments == found, "the frames at the rate first: {options:?}");
    }
}

#[test]
fn moments_come_within_the_latency() {
    let sound = sound();
    let sparse = Smoothing { radius: 0.1, ..Default::default() };
    for (options, latency) in [
        (WatchOptions::default(), 1.25),
        (WatchOptions { smoothing: None, ..Default::default() }, 0.85),
        (WatchOptions { rate: 1.0, window: 0.4, hop: Some(0.2), smoothing: Some(sparse), ..Default::default() }, 0.4),
        (WatchOptions { window: 0.05, smoothing: None, ..Default::default() }, 0.2),
    ] {
        assert!((options.latency() - latency).abs() < 1e-9, "{}", options.latency());
        let mut watcher = watcher(&options);
        let (mut fed, mut known) = (Vec::new(), 0);
        for (time, picture) in frames() {
            let mut moments = watcher.push_frame(time, picture).unwrap();
            let end = (time + 0.04) * f64::from(RATE);
            let start = (time * f64::from(RATE)) as usize;
            moments.extend(watcher.push_sound(&sound[start..end.round() as usize]).unwrap());
            if (time * options.rate + 1e-6).fract() < options.rate / 25.0 - 1e-6 {
                fed.push(time);
            }
            known += moments.len();
            // The sound is known up to the end of the frame.
            let due = fed.iter().filter(|moment| *moment + latency <= time + 0.04).count();
            assert!(known >= due, "{known} of {due} moments at {time} s: {options:?}");
        }
        assert!(known > 0);
    }
}

#[test]
fn without_smoothing_a_moment_is_a_localization() {
    let (frames, sound) = (frames(), sound());
    for repeat in [true, false] {
        let options = WatchOptions { repeat, smoothing: None, window: 1.0, sound_changes: false, ..Default::default() };
        let moments = in_step(&options, &frames, &sound, 1000);
        for moment in &moments {
            let (time, picture) = frames.iter().find(|frame| frame.0 == moment.time).unwrap();
            let middle = (time * f64::from(RATE)).round() as usize;
            let half = RATE as usize / 2;
            let window = &sound[middle.saturating_sub(half)..(middle + half).min(sound.len())];
            let length = (localizer().audio_seconds() * f64::from(RATE)) as usize;
            let samples: Vec<f32> = match repeat {
                true => window.iter().copied().cycle().take(length).collect(),
                false => window.to_vec(),
            };
            let window = Waveform::from_samples(samples, RATE).unwrap();
            let expected = localizer().localize_pair(&window, picture).unwrap();
            assert_eq!(moment.heatmap.logits, expected.logits, "{time} s");
            assert_eq!(moment.heatmap.confidence, expected.confidence, "{time} s");
            let close = moment.heatmap.scores.iter().zip(&expected.scores).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(close && moment.size == (48, 32));
            let findings = moment.findings(0.5).unwrap();
            assert!(findings.peak.x < 48 && findings.peak.y < 32);
        }
    }
}

#[test]
fn smoothing_leaves_a_still_picture_with_a_steady_sound_alone() {
    // 500 Hz: every window has the same samples.
    let steady: Vec<f32> =
        (0..3 * RATE).map(|n| 0.3 * ((n % 32) as f32 * std::f32::consts::TAU / 32.0).sin()).collect();
    let still: Vec<_> = (0..15).map(|n| (f64::from(n) / 5.0, scene(0.5))).collect();
    let alone = in_step(&WatchOptions { smoothing: None, ..Default::default() }, &still, &steady, 1000);
    let smooth = in_step(&WatchOptions::default(), &still, &steady, 1000);
    // At the ends the windows are shorter.
    for (alone, smooth) in alone.iter().zip(&smooth).filter(|(alone, _)| (1.2..1.8).contains(&alone.time)) {
        for (a, b) in alone.heatmap.logits.iter().zip(&smooth.heatmap.logits) {
            assert!((a - b).abs() < 1e-3, "{a} and {b} at {} s", alone.time);
        }
        assert!((alone.heatmap.confidence - smooth.heatmap.confidence).abs() < 1e-4);
    }
}

#[test]
fn nothing_is_combined_across_a_cut() {
    let (frames, sound) = (frames(), sound());
    let moments = in_step(&WatchOptions::default(), &frames, &sound, 1000);
    let cuts: Vec<f64> = moments.iter().filter(|moment| moment.cut).map(|moment| moment.time).collect();
    assert_eq!(cuts, [1.6]);
    // Other pictures after the cut change nothing before it, and the other way round.
    let mut others = frames.clone();
    others.iter_mut().filter(|frame| frame.0 < 1.59).for_each(|frame| frame.1 = scene(3.0 - frame.0));
    let after = in_step(&WatchOptions::default(), &others, &sound, 1000);
    assert!(moments[8..] == after[8..] && moments[7].heatmap != after[7].heatmap);
    let mut others = frames.clone();
    others.iter_mut().filter(|frame| frame.0 > 1.61).for_each(|frame| frame.1 = plain().flip_horizontal());
    let before = in_step(&WatchOptions::default(), &others, &sound, 1000);
    assert!(moments[..8] == before[..8]);
}

#[test]
fn nothing_is_combined_across_a_change_of_the_sound() {
    let still: Vec<_> = (0..15).map(|n| (f64::from(n) / 5.0, scene(0.5))).collect();
    // A hum with overtones, then noise.
    let sound = |pitch: f32| -> Vec<f32> {
        let sample = |n: u32| {
            let phase = n as f32 / RATE as f32 * pitch * std::f32::consts::TAU;
            let hash = (n ^ n >> 3).wrapping_mul(2_654_435_761);
            let noise = (hash ^ hash >> 15).wrapping_mul(2_246_822_519);
            if n < RATE * 3 / 2 {
                0.2 * (1..20).map(|k| (k as f32 * phase).sin() / k as f32).sum::<f32>()
            } else {
                noise as f32 / u32::MAX as f32 * 0.4 - 0.2
            }
        };
        (0..3 * RATE).map(sample).collect()
    };
    // By how much the moments under the noise depend on the hum before it.
    let dependence = |sound_changes| {
        let options = WatchOptions { sound_changes, ..Default::default() };
        let [one, other] = [140.0, 230.0].map(|pitch| in_step(&options, &still, &sound(pitch), 1000));
        let pairs = one.iter().zip(&other).filter(|(moment, _)| moment.time > 1.5);
        let difference = |(a, b): (&Moment, &Moment)| {
            a.heatmap.logits.iter().zip(&b.heatmap.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        pairs.map(difference).fold(0.0, f32::max)
    };
    let (apart, across) = (dependence(true), dependence(false));
    assert!(apart < 0.5 * across, "{apart}, and {across} across the change");
}

#[test]
fn silence_does_not_sound() {
    let always = Gate { open: -1.0, close: -1.0, ..Default::default() };
    let options = WatchOptions { gate: always, ..Default::default() };
    let frames = frames();
    let mut half = sound();
    half[RATE as usize..].fill(0.0);
    let moments = in_step(&options, &frames, &half, 1000);
    for moment in &moments {
        // The level is that of 0.2 s.
        match moment.time {
            time if time < 0.95 => assert!(moment.sounding && moment.level > -45.0, "{time} s"),
            time if time > 1.11 => assert!(!moment.sounding && moment.level <= -100.0, "{time} s"),
            _ => {}
        }
    }
    // No sound at all, neither.
    let moments = in_step(&options, &frames, &[], 1000);
    assert!(moments.len() == 15 && moments.iter().all(|moment| !moment.sounding && moment.level <= -100.0));
}

#[test]
fn options_out_of_range_are_named() {
    let smoothing = |radius, trust| Some(Smoothing { radius, trust, ..Default::default() });
    let gate = |open, close, level| Gate { open, close, level, ..Default::default() };
    let ok = WatchOptions::default;
    for (name, options) in [
        ("rate", WatchOptions { rate: 0.0, ..ok() }),
        ("rate", WatchOptions { rate: f64::NAN, ..ok() }),
        ("rate", WatchOptions { rate: 1e4, ..ok() }),
        ("window", WatchOptions { window: -1.0, ..ok() }),
        ("window", WatchOptions { window: f64::INFINITY, ..ok() }),
        ("hop", WatchOptions { hop: Some(0.0), ..ok() }),
        ("radius", WatchOptions { smoothing: smoothing(0.0, 0.2), ..ok() }),
        ("radius", WatchOptions { smoothing: smoothing(f64::NAN, 0.2), ..ok() }),
        ("trust", WatchOptions { smoothing: smoothing(0.6, 0.0), ..ok() }),
        ("trust", WatchOptions { smoothing: smoothing(0.6, f32::NAN), ..ok() }),
        ("gate", WatchOptions { gate: gate(0.1, 0.2, -45.0), ..ok() }),
        ("gate", WatchOptions { gate: gate(f32::NAN, 0.0, -45.0), ..ok() }),
        ("gate", WatchOptions { gate: gate(0.2, 0.1, f32::NAN), ..ok() }),
    ] {
        match Watcher::new(localizer(), RATE, options.clone()).err() {
            Some(Error::Argument { what, .. }) => assert_eq!(what, name, "{options:?}"),
            other => panic!("{options:?}: {other:?}"),
        }
    }
    for rate in [0, u32::MAX] {
        assert!(matches!(Watcher::new(localizer(), rate, ok()).err(), Some(Error::Argument { .. })));
    }
    let free = WatchOptions { smoothing: smoothing(0.6, f32::INFINITY), ..ok() };
    assert!(Watcher::new(localizer(), RATE, free).is_ok());
}

#[test]
fn frames_and_samples_that_cannot_be() {
    let mut watcher = watcher(&WatchOptions::default());
    watcher.push_frame(1.0, plain()).unwrap();
    for time in [1.0, 0.9, -1.0, f64::NAN, f64::INFINITY] {
        match watcher.push_frame(time, plain()) {
            Err(Error::Argument { what, .. }) => assert_eq!(what, "time"),
            other => panic!("{time}: {other:?}"),
        }
    }
    for sample in [f32::NAN, f32::INFINITY] {
        assert!(matches!(watcher.push_sound(&[0.0, sample]), Err(Error::NonFinite { .. })));
    }
    // It goes on after an error.
    watcher.push_frame(1.3, plain()).unwrap();
    assert_eq!(watcher.finish().unwrap().iter().map(|moment| moment.time).collect::<Vec<_>>(), [1.0, 1.3]);
}

#[test]
fn a_watcher_without_frames_has_no_moments() {
    let mut watcher = watcher(&WatchOptions::default());
    assert!(watcher.push_sound(&sound()).unwrap().is_empty());
    assert!(watcher.finish().unwrap().is_empty());
}
