//! `miniature films`: writes synthetic films, and everything that is known about them.
//!
//! ```text
//! cargo run --release -p miniature -- films --out films --side 256
//! ffmpeg -framerate 25 -i films/00-still/frames/%05d.png -i films/00-still/sound.wav film.mp4
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};
use soundsight::data::random::{Purpose, stream};

use crate::films::{FilmSettings, Kind, SyntheticFilm};
use crate::model;
use crate::world::{Split, World, WorldConfig, wav};

/// Write synthetic films of known truth, each as a folder of frames, a sound track and `truth.json`.
#[derive(Args)]
pub struct Options {
    /// Folder to write to; a film that is already there is not replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of Tux Paint's stamps.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/tuxpaint/stamps")]
    stamps: PathBuf,
    /// How many films; they are of each kind in turn.
    #[arg(long, value_name = "N", default_value_t = Kind::ALL.len())]
    count: usize,
    /// The side of a frame, in pixels.
    #[arg(long, value_name = "N", default_value_t = 256)]
    side: usize,
    /// Frames per second.
    #[arg(long, value_name = "F", default_value_t = FilmSettings::default().frame_rate)]
    fps: f64,
    /// The length of a film.
    #[arg(long, value_name = "S", default_value_t = FilmSettings::default().seconds)]
    seconds: f64,
    /// Seed of the world and the films.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// Runs the subcommand.
pub fn show(options: &Options) -> Result<()> {
    let settings = FilmSettings { side: options.side, frame_rate: options.fps, seconds: options.seconds };
    settings.check()?;
    let (side, seed, seconds) = (options.side, options.seed, model::SECONDS);
    let config = WorldConfig { side, num_unheard: 8, seed, seconds, photographs: Vec::new() };
    let world = World::open(&options.stamps, &config)?;
    for number in 0..options.count {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let mut rng = stream(options.seed, Purpose::Validation, 2, number as u64);
        let film = world.film(Split::HeldOut, kind, &settings, &mut rng);
        let folder = options.out.join(format!("{number:02}-{}", kind.name()));
        ensure!(!folder.exists(), "{}: expected a new folder, found one that exists", folder.display());
        write(&film, &world, &folder).with_context(|| format!("cannot write {}", folder.display()))?;
        println!("wrote {}", folder.display());
    }
    Ok(())
}

fn write(film: &SyntheticFilm, world: &World, folder: &Path) -> Result<()> {
    let frames = folder.join("frames");
    std::fs::create_dir_all(&frames)?;
    let frame = |number| film.frame(number).picture.write_png(frames.join(format!("{number:05}.png")));
    (0..film.num_frames()).into_par_iter().try_for_each(frame)?;
    std::fs::write(folder.join("sound.wav"), wav(film.sound())?)?;
    std::fs::write(folder.join("truth.json"), serde_json::to_vec_pretty(&truth(film, world))?)?;
    Ok(())
}

/// The script in words; `sounding` counts the things from 0.
fn truth(film: &SyntheticFilm, world: &World) -> Value {
    let name = |class: usize| &world.classes[class].name;
    let things = film.things().iter().map(|thing| json!({ "name": name(thing.class), "shot": thing.shot }));
    let script = film.script().iter().map(|span| {
        let off_screen = span.off_screen.map(name);
        json!({ "start": span.start, "end": span.end, "sounding": span.sounding, "off_screen": off_screen })
    });
    json!({
        "things": things.collect::<Vec<_>>(),
        "cuts": film.cuts(),
        "script": script.collect::<Vec<_>>(),
    })
}
