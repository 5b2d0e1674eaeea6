//! The frames and the sound of `examples/media/savanna.mp4`: animals in front of a painted landscape, which sound in
//! turn.

use std::f32::consts::PI;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use soundsight::data::random::{Purpose, stream};

use super::landscape::{SAVANNA, shade};
use super::media::{cut_out, repeated, save};
use crate::world::{Canvas, CutOut, Pose, SAMPLE_RATE, Tint, effective, fade, noise, png, wav};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
const FRAME_RATE: usize = 25;
const SECONDS: f32 = 10.8;

/// The way of the camera to the right, in pixels: the landscape is wider than a frame by as much.
const PAN: usize = 60;

/// The effective value of the wind, which is always there: about 38 dB below the animals.
const WIND: f32 = 0.003;

/// How long the animals' sounds swell and fade: 30 ms.
const FADE: usize = SAMPLE_RATE as usize * 30 / 1000;

/// An animal, and where it is when the film begins and when it ends. Lengths are in pixels of the landscape.
struct Animal {
    stamp: &'static str,
    /// The middle of the lower edge.
    feet: [(f32, f32); 2],
    /// The longer side.
    extent: [f32; 2],
    flip: bool,
    /// Steps in the whole film.
    steps: f32,
}

/// The farthest first.
const ANIMALS: [Animal; 3] = [
    Animal {
        stamp: "animals/mammals/bovines/bull",
        feet: [(540.0, 256.0), (525.0, 262.0)],
        extent: [195.0, 205.0],
        flip: false,
        steps: 6.0,
    },
    Animal {
        stamp: "animals/mammals/elephant",
        feet: [(120.0, 264.0), (205.0, 306.0)],
        extent: [195.0, 255.0],
        flip: true,
        steps: 12.0,
    },
    Animal {
        stamp: "animals/mammals/cats/lion",
        feet: [(370.0, 346.0); 2],
        extent: [245.0; 2],
        flip: false,
        steps: 0.0,
    },
];

/// What sounds, from when to when (in seconds). The last is not in the picture.
const SOUNDS: [(&str, f32, f32); 4] = [
    ("animals/mammals/elephant", 0.6, 2.5),
    ("animals/mammals/cats/lion", 2.6, 4.4),
    ("animals/mammals/bovines/bull", 6.0, 8.2),
    ("animals/birds/crow", 8.4, 10.3),
];

/// Writes the frames as `frames/00000.png` and so on, and `sound.wav`, to the folder `out`.
pub fn write(stamps: &Path, out: &Path) -> Result<()> {
    let frames = out.join("frames");
    std::fs::create_dir_all(&frames).with_context(|| format!("cannot create {}", frames.display()))?;
    let background = SAVANNA.paint(1, (WIDTH + PAN, HEIGHT));
    let animals = ANIMALS.iter().map(|animal| Ok((animal, cut_out(&stamps.join(animal.stamp))?)));
    let animals: Vec<_> = animals.collect::<Result<_>>()?;
    let num_frames = (SECONDS * FRAME_RATE as f32) as usize;
    (0..num_frames).into_par_iter().try_for_each(|number| {
        let progress = number as f32 / num_frames as f32;
        let camera = PAN as f32 * progress;
        let mut canvas = background.window((camera, 0.0), (WIDTH, HEIGHT));
        for (animal, picture) in &animals {
            animal.draw(picture, progress, camera, &mut canvas);
        }
        let file = frames.join(format!("{number:05}.png"));
        save(&file, &png(&canvas.to_picture())?)
    })?;
    save(&out.join("sound.wav"), &wav(&sound(stamps)?)?)
}

/// The sounds one after the other, and the wind.
fn sound(stamps: &Path) -> Result<Vec<f32>> {
    let samples = |seconds: f32| (seconds * SAMPLE_RATE as f32) as usize;
    let mut track = noise(samples(SECONDS), true, &mut stream(0, Purpose::Augmentation, 2, 0));
    let gain = WIND / effective(&track);
    track.iter_mut().for_each(|sample| *sample *= gain);
    for (stamp, start, end) in SOUNDS {
        let mut sound = repeated(&stamps.join(stamp), end - start)?;
        fade(&mut sound, FADE);
        for (sample, sound) in track[samples(start)..].iter_mut().zip(sound) {
            *sample += sound;
        }
    }
    Ok(track)
}

impl Animal {
    /// Draws the animal and its shadow as they are after `progress` (0..1) of the film, `camera` pixels farther left.
    fn draw(&self, picture: &CutOut, progress: f32, camera: f32, canvas: &mut Canvas) {
        let between = |from: f32, to: f32| from + (to - from) * progress;
        let [from, to] = self.feet;
        let feet = (between(from.0, to.0) - camera, between(from.1, to.1));
        let extent = between(self.extent[0], self.extent[1]);
        // With every step it rises a little, and leans to one side and then to the other.
        let step = (self.steps * progress * PI).sin();
        let pose = Pose { extent, flip: self.flip, angle: 0.015 * step };
        let (width, height) = picture.bounds(&pose);
        shade(canvas, feet, (width as usize, height as usize));
        let rise = 0.012 * extent * step.abs();
        let (patch, place) = picture.draw_at(&pose, &Tint::NONE, (feet.0, feet.1 - height / 2.0 - rise));
        canvas.blend(&patch, place);
    }
}
