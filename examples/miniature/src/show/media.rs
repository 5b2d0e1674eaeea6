//! The files of `examples/media`: larger scenes in front of painted landscapes, and the sounds of their objects.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::codecs::jpeg::JpegEncoder;
use soundsight::Waveform;
use soundsight::data::random::{Purpose, stream};

use super::landscape::{Landscape, MEADOW, SAVANNA, SHORE, shade};
use crate::world::{Canvas, CutOut, Pose, Recording, SAMPLE_RATE, Tint, Variation, read_picture, wav};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const QUALITY: u8 = 88;
const SECONDS: f32 = 3.0;

/// A stamp (by its path without extension) in a scene.
struct Actor {
    stamp: &'static str,
    /// The position of the middle of its lower edge, as fractions of the picture's width and height.
    feet: (f32, f32),
    /// The longer side, in pixels.
    extent: f32,
    flip: bool,
}

fn actor(stamp: &'static str, feet: (f32, f32), extent: f32, flip: bool) -> Actor {
    Actor { stamp, feet, extent, flip }
}

fn scenes() -> Vec<(&'static str, Landscape, Vec<Actor>)> {
    vec![
        (
            "farm",
            MEADOW,
            vec![
                actor("animals/mammals/equines/horse", (0.74, 0.72), 290.0, false),
                actor("animals/mammals/bovines/goat", (0.51, 0.95), 180.0, true),
                actor("animals/mammals/dogs/dog", (0.22, 0.92), 240.0, false),
            ],
        ),
        (
            "savanna",
            SAVANNA,
            vec![
                actor("animals/mammals/elephant", (0.30, 0.82), 290.0, false),
                actor("animals/mammals/cats/lion", (0.74, 0.90), 260.0, false),
            ],
        ),
        (
            "shore",
            SHORE,
            vec![
                actor("animals/birds/duck", (0.30, 0.80), 230.0, false),
                actor("animals/amphibians/frog", (0.74, 0.92), 210.0, false),
            ],
        ),
    ]
}

/// Writes every scene as `<scene>.jpg`, and `<class>.wav` for each of their objects, to the folder `out`.
pub fn write(stamps: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (number, (name, landscape, actors)) in scenes().into_iter().enumerate() {
        let mut canvas = landscape.paint(number as u64, (WIDTH, HEIGHT));
        for actor in &actors {
            let stamp = stamps.join(actor.stamp);
            actor.draw(&cut_out(&stamp)?, &mut canvas);
            let class = stamp.file_name().unwrap_or_default();
            save(&out.join(class).with_extension("wav"), &wav(&repeated(&stamp, SECONDS)?)?)?;
        }
        let mut jpeg = Cursor::new(Vec::new());
        canvas.to_picture().write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))?;
        save(&out.join(format!("{name}.jpg")), jpeg.get_ref())?;
    }
    Ok(())
}

pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}

/// The picture of `stamp`, a path without extension.
pub fn cut_out(stamp: &Path) -> Result<CutOut> {
    let file = stamp.with_extension("png");
    let picture = read_picture(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(CutOut::new(&picture.into_rgba8(), WIDTH))
}

/// `seconds` of the recording of `stamp`, a path without extension: repeated with short pauses and otherwise unchanged.
pub fn repeated(stamp: &Path, seconds: f32) -> Result<Vec<f32>> {
    let file = stamp.with_extension("ogg");
    let recording = Recording::new(&Waveform::open(&file)?)?;
    ensure!(recording.is_some(), "{}: expected a sound, found silence", file.display());
    let plain = Variation {
        speed: 1.0,
        offset: 0.0,
        gain_db: 6.0,
        looped: true,
        pause: 0.3,
        snr_db: f32::INFINITY,
        pink: false,
        tilt: 0.0,
        echoes: Vec::new(),
    };
    let length = (seconds * SAMPLE_RATE as f32) as usize;
    let mut rng = stream(0, Purpose::Augmentation, 0, 0);
    Ok(recording.iter().flat_map(|recording| recording.varied(&plain, length, &mut rng)).collect())
}

impl Actor {
    /// Draws the actor, and its shadow on the ground.
    fn draw(&self, picture: &CutOut, canvas: &mut Canvas) {
        let pose = Pose { extent: self.extent, flip: self.flip, angle: 0.0 };
        let patch = picture.draw(&pose, &Tint::NONE);
        let feet = (self.feet.0 * WIDTH as f32, self.feet.1 * HEIGHT as f32);
        shade(canvas, feet, (patch.width, patch.height));
        let place = ((feet.0 - patch.width as f32 / 2.0) as i32, (feet.1 - patch.height as f32) as i32);
        canvas.blend(&patch, place);
    }
}
