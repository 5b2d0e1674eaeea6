//! Shows where in a film it sounds, from moment to moment.
//!
//! ```text
//! cargo run --release --example film -- film.mp4 [MODEL]
//! ```
//!
//! Prints a line for each second and writes out/NAME.timeline.jsonl, a line of JSON for each of five moments per second.
//! Needs `ffmpeg`. The command `soundsight localize FILM` also writes the film with the heatmaps over it.
#![allow(clippy::print_stdout)]

use std::path::Path;

use anyhow::Context;
use soundsight::Localizer;
use soundsight::video::Film;
use soundsight::watch::{TimelineWriter, WatchOptions};

/// Pixels with at least this score belong to the mask.
const THRESHOLD: f32 = 0.5;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().context("usage: film FILM [MODEL]")?;
    let localizer = Localizer::load(args.next().unwrap_or("auto".to_string()))?;

    let film = Film::open(&path)?;
    let info = film.info();
    println!("{:.1} s of {} × {} pixels, model {}", info.seconds, info.width, info.height, localizer.name());

    let out = Path::new("out");
    std::fs::create_dir_all(out)?;
    let name = Path::new(&path).file_stem().unwrap_or_default().display();
    let mut timeline = TimelineWriter::create(out.join(format!("{name}.timeline.jsonl")))?;

    // The film is decoded while it is analysed: nothing waits for its end.
    let mut second = None;
    for moment in localizer.watch(&film, &WatchOptions::default())? {
        let moment = moment?;
        timeline.write(&moment.to_json(THRESHOLD)?)?;
        let here = moment.time as u64;
        if second.replace(here) != Some(here) {
            let peak = moment.findings(THRESHOLD)?.peak;
            let where_it_sounds = match moment.sounding {
                true => format!("({}, {}), confidence {:.2}", peak.x, peak.y, moment.heatmap.confidence),
                false => "nothing in the picture sounds".to_string(),
            };
            println!("{here:>4} s  {where_it_sounds}");
        }
    }
    timeline.finish()?;
    println!("written: out/{name}.timeline.jsonl");
    Ok(())
}
