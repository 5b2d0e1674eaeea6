//! `miniature scenes`: shows what the model is trained on.
//!
//! ```text
//! cargo run --release -p miniature -- scenes --out scenes
//! cargo run --release -p miniature -- scenes --what questions --out questions # a benchmark for `soundsight evaluate`
//! cargo run --release -p miniature -- scenes --what media --out examples/media # pictures and sounds of that folder
//! cargo run --release -p miniature -- scenes --what film --out film # frames and sound of its film
//! ```
#![allow(clippy::print_stdout)] // command-line output

pub mod films;
mod landscape;
mod media;
mod savanna;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use image::{Rgb, RgbImage};
use soundsight::Picture;
use soundsight::data::random::{Purpose, stream};

use crate::model;
use crate::world::{self, Backgrounds, Scene, Split, World, WorldConfig};

/// The numbers of scenes per row and of rows on a sheet.
const COLUMNS: usize = 8;
const ROWS: usize = 8;

/// The gap between pictures, in pixels.
const GAP: usize = 2;

/// Write scenes and sounds of the world that the model is trained on.
#[derive(Args)]
pub struct Options {
    /// What to write.
    #[arg(long, value_enum, default_value_t = What::Sheets)]
    what: What,
    /// Folder of Tux Paint's stamps.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/tuxpaint/stamps")]
    stamps: PathBuf,
    /// Folder of photographs (JPEG or PNG) for backgrounds; may be given several times. Questions then have only these.
    #[arg(long, value_name = "DIR")]
    photographs: Vec<PathBuf>,
    /// Folder to write to; made if missing.
    #[arg(long, value_name = "DIR", default_value = "scenes")]
    out: PathBuf,
    /// The side of a scene, in pixels.
    #[arg(long, value_name = "N", default_value_t = model::SIDE)]
    side: usize,
    /// The length of a sound.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// Seed of the world.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Number of questions.
    #[arg(long, value_name = "N", default_value_t = 512)]
    count: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// A sheet of scenes, each next to its masks, and a variation of every sound, for both splits.
    Sheets,
    /// Held-out scenes of two objects, one of which sounds, as a benchmark for `soundsight evaluate`.
    Questions,
    /// A few larger scenes, and the sounds of their objects.
    Media,
    /// The frames and the sound of a film in which animals sound in turn.
    Film,
}

/// Runs the subcommand.
pub fn show(options: Options) -> Result<()> {
    let out = &options.out;
    match options.what {
        What::Media => media::write(&options.stamps, out)?,
        What::Film => savanna::write(&options.stamps, out)?,
        What::Questions => {
            let world = open(&options)?.with_backgrounds(Backgrounds::Photographs);
            let heard = (0..world.classes.len()).filter(|&class| !world.classes[class].unheard);
            let questions = heard.cycle().take(options.count).enumerate();
            world.export(out, questions.map(|(number, class)| world.question(class, number, options.seed)))?;
        }
        What::Sheets => {
            let world = open(&options)?;
            list(&world);
            sheets(&world, out, options.seed)?;
        }
    }
    println!("wrote {}", out.display());
    Ok(())
}

fn open(options: &Options) -> Result<World> {
    let (side, seconds, seed) = (options.side, options.seconds, options.seed);
    let config = WorldConfig { side, seconds, seed, num_unheard: 8, photographs: options.photographs.clone() };
    World::open(&options.stamps, &config)
}

fn list(world: &World) {
    for class in world.classes.iter() {
        let sources: Vec<_> = class.sources.iter().map(|source| source.display().to_string()).collect();
        println!("{}{}: {}", class.name, if class.unheard { " (unheard)" } else { "" }, sources.join(", "));
    }
    for (stamp, reason) in &world.left_out {
        println!("left out: {}: {reason}", stamp.display());
    }
    let num_soundless = [Split::Train, Split::HeldOut].map(|split| world.soundless(split).len());
    println!("{} classes, {num_soundless:?} soundless pictures", world.classes.len());
    for split in [Split::Train, Split::HeldOut] {
        if let Some(photographs) = world.photographs(split) {
            println!("{split:?}: {:?} photographs", photographs.counts());
        }
    }
}

fn sheets(world: &World, out: &Path, seed: u64) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (split, name) in [(Split::Train, "train"), (Split::HeldOut, "held_out")] {
        let mut rng = stream(seed, Purpose::Validation, split as u64, 0);
        let started = Instant::now();
        let scenes: Vec<Scene> =
            (0..COLUMNS * ROWS).map(|number| world.scene(split, 1 + number % 3, None, &mut rng)).collect();
        println!("{name}: {:.2} ms a scene", milliseconds(started) / scenes.len() as f64);
        sheet(&scenes, world.side())?.write_png(out.join(format!("{name}.png")))?;
        let started = Instant::now();
        let sounds: Vec<_> = (0..world.classes.len()).map(|class| world.sound(class, split, &mut rng)).collect();
        println!("{name}: {:.2} ms a sound", milliseconds(started) / sounds.len() as f64);
        for (class, sound) in world.classes.iter().zip(&sounds) {
            let path = out.join(format!("{} {name}.wav", class.name));
            std::fs::write(&path, world::wav(sound)?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Every scene, with its masks to the right: one colour for each object, on black.
fn sheet(scenes: &[Scene], side: usize) -> Result<Picture> {
    const COLOURS: [[u8; 3]; 3] = [[255, 80, 80], [80, 255, 80], [80, 120, 255]];
    let step = side + GAP;
    let mut sheet = RgbImage::from_pixel((COLUMNS * 2 * step) as u32, (ROWS * step) as u32, Rgb([255; 3]));
    for (number, scene) in scenes.iter().enumerate() {
        let (left, top) = (number % COLUMNS * 2 * step, number / COLUMNS * step);
        for (x, y, pixel) in scene.picture.enumerate_pixels() {
            let at = y as usize * side + x as usize;
            let shown = scene.placed.iter().position(|placed| placed.mask[at]);
            let (x, y) = (left as u32 + x, top as u32 + y);
            sheet.put_pixel(x, y, *pixel);
            sheet.put_pixel(x + side as u32, y, Rgb(shown.map_or([0; 3], |object| COLOURS[object % COLOURS.len()])));
        }
    }
    let size = (sheet.width() as usize, sheet.height() as usize);
    Ok(Picture::from_rgb8(size.0, size.1, sheet.into_raw())?)
}
