//! The files of `examples/media`: larger scenes in front of painted landscapes, and the sounds of their objects.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::codecs::jpeg::JpegEncoder;
use soundsight::Waveform;
use soundsight::data::random::{Purpose, stream};

use crate::world::{Canvas, Clouds, CutOut, Patch, Pose, Recording, SAMPLE_RATE, Tint, Variation, wav};

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

/// Three colours of the sky (zenith, horizon, clouds) and three of the ground (far, near, blades).
struct Landscape {
    sky: [[f32; 3]; 3],
    ground: [[f32; 3]; 3],
    /// Where the ground begins, as a fraction of the height.
    horizon: f32,
    hills: f32,
    /// How far a lake reaches down from there, in the same unit.
    water: f32,
}

fn actor(stamp: &'static str, feet: (f32, f32), extent: f32, flip: bool) -> Actor {
    Actor { stamp, feet, extent, flip }
}

fn scenes() -> Vec<(&'static str, Landscape, Vec<Actor>)> {
    let meadow = Landscape {
        sky: [[0.30, 0.55, 0.86], [0.80, 0.90, 0.97], [0.98, 0.98, 1.00]],
        ground: [[0.50, 0.66, 0.38], [0.28, 0.47, 0.16], [0.52, 0.68, 0.27]],
        horizon: 0.46,
        hills: 0.10,
        water: 0.0,
    };
    let savanna = Landscape {
        sky: [[0.48, 0.52, 0.72], [0.98, 0.80, 0.56], [0.99, 0.90, 0.78]],
        ground: [[0.80, 0.68, 0.42], [0.62, 0.47, 0.22], [0.86, 0.74, 0.44]],
        horizon: 0.42,
        hills: 0.04,
        water: 0.0,
    };
    let shore = Landscape {
        sky: [[0.55, 0.66, 0.74], [0.84, 0.88, 0.88], [0.93, 0.94, 0.94]],
        ground: [[0.56, 0.58, 0.36], [0.40, 0.46, 0.24], [0.62, 0.66, 0.40]],
        horizon: 0.38,
        hills: 0.0,
        water: 0.16,
    };
    vec![
        (
            "farm",
            meadow,
            vec![
                actor("animals/mammals/equines/horse", (0.74, 0.72), 290.0, false),
                actor("animals/mammals/bovines/goat", (0.51, 0.95), 180.0, true),
                actor("animals/mammals/dogs/dog", (0.22, 0.92), 240.0, false),
            ],
        ),
        (
            "savanna",
            savanna,
            vec![
                actor("animals/mammals/elephant", (0.30, 0.82), 290.0, false),
                actor("animals/mammals/cats/lion", (0.74, 0.90), 260.0, false),
            ],
        ),
        (
            "shore",
            shore,
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
        let mut canvas = landscape.paint(number as u64);
        for actor in &actors {
            let file = stamps.join(actor.stamp).with_extension("png");
            let picture = image::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            actor.draw(&CutOut::new(&picture.into_rgba8(), WIDTH), &mut canvas);

            let file = stamps.join(actor.stamp).with_extension("ogg");
            let sound = repeated(&file)?;
            let class = file.file_stem().unwrap_or_default();
            save(&out.join(class).with_extension("wav"), &wav(&sound)?)?;
        }
        let mut jpeg = Cursor::new(Vec::new());
        canvas.to_picture().write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, QUALITY))?;
        save(&out.join(format!("{name}.jpg")), jpeg.get_ref())?;
    }
    Ok(())
}

fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("{}: cannot write", path.display()))
}

/// The recording in `file`, repeated with short pauses and otherwise unchanged.
fn repeated(file: &Path) -> Result<Vec<f32>> {
    let recording = Recording::new(&Waveform::open(file)?)?;
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
    let length = (SECONDS * SAMPLE_RATE as f32) as usize;
    let mut rng = stream(0, Purpose::Augmentation, 0, 0);
    Ok(recording.iter().flat_map(|recording| recording.varied(&plain, length, &mut rng)).collect())
}

impl Actor {
    /// Draws the actor, and its shadow on the ground.
    fn draw(&self, picture: &CutOut, canvas: &mut Canvas) {
        let pose = Pose { extent: self.extent, flip: self.flip, angle: 0.0 };
        let patch = picture.draw(&pose, &Tint::NONE);
        let feet = (self.feet.0 * WIDTH as f32, self.feet.1 * HEIGHT as f32);
        let place = |patch: &Patch, lower: f32| {
            ((feet.0 - patch.width as f32 / 2.0) as i32, (feet.1 - lower * patch.height as f32) as i32)
        };
        let shadow = shadow(patch.width as f32 * 0.95, patch.height as f32 * 0.12);
        canvas.blend(&shadow, place(&shadow, 0.6));
        canvas.blend(&patch, place(&patch, 1.0));
    }
}

/// A soft dark ellipse.
fn shadow(width: f32, height: f32) -> Patch {
    let (width, height) = (width.ceil() as usize, height.ceil() as usize);
    let from_middle = |at: usize, length: usize| (at as f32 + 0.5) / length as f32 * 2.0 - 1.0;
    let pixel = |at: usize| {
        let distance = from_middle(at % width, width).hypot(from_middle(at / width, height));
        [0.0, 0.0, 0.0, 0.55 * (1.0 - distance).clamp(0.0, 1.0).powf(0.7)]
    };
    Patch { width, height, pixels: (0..width * height).map(pixel).collect() }
}

fn mix(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|c| from[c] + (to[c] - from[c]) * share.clamp(0.0, 1.0))
}

impl Landscape {
    fn paint(&self, number: u64) -> Canvas {
        let mut rng = stream(number, Purpose::Augmentation, 1, 0);
        let [clouds, hills, patches, blades] = [0.3, 0.4, 0.12, 0.008].map(|period| Clouds::new(period, &mut rng));
        let sky = |x: f32, y: f32| {
            let [zenith, horizon, cloud] = self.sky;
            let sky = mix(zenith, horizon, (y / self.horizon).powf(1.5));
            // Clouds are wider than high, and thin out towards the horizon.
            let cover = (clouds.at(x, (y * 1.8).min(1.0)) - 0.5).max(0.0) * 3.0 * (1.0 - y / self.horizon * 0.6);
            mix(sky, cloud, cover)
        };
        let land = |x: f32, y: f32, depth: f32| {
            let [far, near, blade] = self.ground;
            let ground = mix(far, near, depth + 0.5 * (patches.at(x, y * y) - 0.5));
            // Grass is fine horizontally, longer vertically, and fades with distance.
            mix(ground, blade, 0.9 * depth * (blades.at(x, y * 0.35) - 0.25))
        };
        let water = |x: f32, y: f32, depth: f32| {
            let [zenith, horizon, _] = self.sky;
            let surface = mix(horizon, zenith, 0.3 + depth);
            mix(surface, [0.12, 0.22, 0.26], 0.5 * (blades.at(x * 0.12, y) - 0.2))
        };
        Canvas::new(WIDTH, HEIGHT, |x, y| {
            let (x, y) = ((x as f32 + 0.5) / WIDTH as f32, (y as f32 + 0.5) / HEIGHT as f32);
            let ridge = self.horizon - self.hills * (hills.at(x, 0.3) - 0.3);
            let bank = self.horizon + self.water * (0.8 + 0.4 * hills.at(x, 0.8));
            let depth = ((y - ridge) / (1.0 - ridge)).max(0.0).sqrt();
            // Edges are a pixel wide.
            let beyond = |edge: f32| ((y - edge) * HEIGHT as f32 + 0.5).clamp(0.0, 1.0);
            let below = if self.water > 0.0 {
                mix(water(x, y, depth), land(x, y, depth), beyond(bank))
            } else {
                land(x, y, depth)
            };
            mix(sky(x, y.min(self.horizon)), below, beyond(ridge))
        })
    }
}
