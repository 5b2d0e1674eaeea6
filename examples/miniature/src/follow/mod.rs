//! How well films are followed: today's frame-by-frame way, each ingredient of the smoothing, and baselines.
#![allow(clippy::print_stdout)] // a program talks

mod measure;

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use soundsight::watch::{Gate, Smoothing, WatchOptions};
use soundsight::{Localizer, ModelSource};

use crate::docs::{percent, table};
use crate::films::FilmSettings;
use crate::model::{own_or_embedded, write_json};
use crate::world::{Split, World};
use measure::{Method, Outcome, films, measure};

/// Moments per second.
const RATE: f64 = 5.0;
const SECONDS: f64 = 14.0;

/// Measures on `count` held-out films; the figures go to `out/films.json`, the tables to standard output.
pub fn follow(world: &World, out: &Path, count: usize, seed: u64) -> Result<()> {
    let source = own_or_embedded(out);
    if source == ModelSource::Embedded {
        println!("{}: no finished model; measuring the embedded one", out.join("model").display());
    }
    let localizer = Localizer::load(source)?;
    let settings = FilmSettings { side: world.side(), frame_rate: RATE, seconds: SECONDS };
    let all = films(world, count, &settings, Split::HeldOut, seed);
    println!("{count} held-out films of {SECONDS} s, {RATE} moments per second");
    let mut figures: Vec<(String, Value)> = Vec::new();
    let (mut peaks, mut decisions) = (Vec::new(), Vec::new());
    for (name, method) in methods() {
        let outcome = measure(&localizer, world, &all, &method)?;
        println!("{name}: {}", outcome.json());
        peaks.push(peak_row(&name, &outcome));
        if let Method::Watch(_) = method {
            decisions.push(decision_row(&name, &outcome));
        }
        figures.push((name, outcome.json()));
    }
    let head = ["", "peak", "which", "cIoU@0.5", "both", "switched within 1 s", "median switch", "jitter"];
    println!("\n{}", table(&head, &peaks));
    let head = ["", "AUROC", "against silence", "against absent things", "F1", "cuts found", "false", "missed"];
    println!("{}", table(&head, &decisions));
    write_json(&out.join("films.json"), &json!({ "films": count, "seed": seed, "methods": figures }))
}

/// What is compared, from the simplest to the defaults, then other windows and gates.
fn methods() -> Vec<(String, Method)> {
    let default = WatchOptions::default();
    let unsmoothed = WatchOptions { smoothing: None, ..default.clone() };
    let longer = WatchOptions { sound_changes: false, ..unsmoothed.clone() };
    let repeated = WatchOptions { window: 1.0, ..longer.clone() };
    let plain = WatchOptions { repeat: false, ..repeated.clone() };
    let smoothed = |smoothing| WatchOptions { smoothing: Some(smoothing), ..default.clone() };
    let only_time = Smoothing { trust: f32::INFINITY, follow_motion: false, ..Default::default() };
    let motion = Smoothing { follow_motion: true, ..only_time.clone() };
    let watch = |name: &str, options: WatchOptions| (name.to_string(), Method::Watch(options));
    let mut methods = vec![
        ("as stills, with 4 s of the sound".to_string(), Method::Still),
        ("centre".to_string(), Method::Centre),
        ("first frame, held".to_string(), Method::First(plain.clone())),
        watch("frame by frame", plain),
        watch("+ the window repeated", repeated),
        watch("+ windows of 1.5 s", longer),
        watch("+ as far as the sound stays the same", unsmoothed),
        watch("+ smoothed over time", smoothed(only_time)),
        watch("+ along the motion", smoothed(motion)),
        watch("+ by confidence (the default)", default.clone()),
    ];
    methods
        .push(watch("default, across changes of the sound", WatchOptions { sound_changes: false, ..default.clone() }));
    for (window, radius) in [(1.0, 0.4), (2.0, 0.4), (1.5, 0.6), (2.0, 0.6)] {
        let name = format!("default, windows of {window} s, smoothed over {radius} s");
        let smoothing = Some(Smoothing { radius, ..Default::default() });
        methods.push(watch(&name, WatchOptions { window, smoothing, ..default.clone() }));
    }
    for open_presence in [0.5, 0.7, 0.84] {
        let gate = Gate { open_presence, close_presence: open_presence / 2.0, ..Gate::default() };
        let name = format!("default, decided at a presence of {open_presence}");
        methods.push(watch(&name, WatchOptions { gate, ..default.clone() }));
    }
    let gate = Gate::default();
    let no_hysteresis = Gate { close: gate.open, close_presence: gate.open_presence, ..gate };
    methods.push(watch("default, no hysteresis", WatchOptions { gate: no_hysteresis, ..default.clone() }));
    let by_confidence = Gate { by_presence: false, ..Gate::default() };
    methods.push(watch("default, decided by confidence", WatchOptions { gate: by_confidence, ..default.clone() }));
    let no_level = Gate { level: f32::NEG_INFINITY, ..Gate::default() };
    methods.push(watch("default, no level", WatchOptions { gate: no_level, ..default }));
    methods
}

fn peak_row(name: &str, outcome: &Outcome) -> Vec<String> {
    let shares = [outcome.peak, outcome.which, outcome.ciou, outcome.both, outcome.switched].map(percent);
    let median =
        if outcome.switch_seconds.is_finite() { format!("{:.2} s", outcome.switch_seconds) } else { "—".into() };
    let rest = [median, format!("{:.1} %", outcome.jitter)];
    std::iter::once(name.to_string()).chain(shares).chain(rest).collect()
}

fn decision_row(name: &str, outcome: &Outcome) -> Vec<String> {
    let areas = [outcome.auroc, outcome.auroc_silent, outcome.auroc_absent, outcome.f1].map(|v| format!("{v:.3}"));
    let cuts = outcome.cuts.map(|count| count.to_string());
    std::iter::once(name.to_string()).chain(areas).chain(cuts).collect()
}
