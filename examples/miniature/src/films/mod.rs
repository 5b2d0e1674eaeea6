//! Films of which everything is known: what is seen where in every frame, and what sounds when.
//!
//! [`World::film`] composes them from the things and recordings of the [`World`], with the same splits: a held-out film
//! shows held-out pairs of classes in front of held-out backgrounds, with held-out variations of the recordings. A film
//! is a pure function of the world, the split, the kind, the settings and the random numbers that are handed in. Frame
//! rate and size change nothing but the frame rate and the size.

mod motion;
mod script;
mod shot;
mod track;

use anyhow::{Result, ensure};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::Picture;

use crate::world::{SAMPLE_RATE, Split, World};
use script::{Event, Voice};
use shot::Shot;

/// How often something of a shot is also in the next one.
const SHARED: f64 = 0.4;

/// What films are made to.
#[derive(Clone, Debug)]
pub struct FilmSettings {
    /// The side of a frame, in pixels (32 to 512); the world should be opened for no fewer.
    pub side: usize,
    /// Frames per second, 0.1 to 1000.
    pub frame_rate: f64,
    /// 9 to 3600, so that everything has its place.
    pub seconds: f64,
}

impl Default for FilmSettings {
    fn default() -> Self {
        Self { side: 64, frame_rate: 25.0, seconds: 14.0 }
    }
}

impl FilmSettings {
    /// # Errors
    /// A setting is out of its range.
    pub fn check(&self) -> Result<()> {
        let Self { side, frame_rate, seconds } = *self;
        ensure!((32..=512).contains(&side), "side: expected 32 to 512 pixels, found {side}");
        ensure!(
            (0.1..=1000.0).contains(&frame_rate),
            "frame_rate: expected 0.1 to 1000 per second, found {frame_rate}"
        );
        ensure!((9.0..=3600.0).contains(&seconds), "seconds: expected 9 to 3600 s, found {seconds}");
        Ok(())
    }
}

/// What happens in the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing.
    Still,
    /// Things drift along lines and are reflected at the borders.
    Drift,
    /// Things turn to and fro, and grow and shrink.
    TurnAndGrow,
    /// Two things change places, one behind the other, and back.
    Cross,
    /// The camera pans to and fro.
    Pan,
    /// Two or three shots of the kinds above, except crossing, with other things and backgrounds.
    Cuts,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [Self::Still, Self::Drift, Self::TurnAndGrow, Self::Cross, Self::Pan, Self::Cuts];

    /// In one or a few words, with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::Drift => "drift",
            Self::TurnAndGrow => "turn-and-grow",
            Self::Cross => "cross",
            Self::Pan => "pan",
            Self::Cuts => "cuts",
        }
    }
}

/// A thing in the picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thing {
    /// Which.
    pub class: usize,
    /// The shot in which it is seen, counted from 0.
    pub shot: usize,
}

/// A part of a film during which the same is heard and the picture is not cut.
#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    /// In seconds.
    pub start: f64,
    /// In seconds; where the next one starts.
    pub end: f64,
    /// The things in the picture that sound: none, one or two.
    pub sounding: Vec<usize>,
    /// The class of a sound whose thing is not in the picture.
    pub off_screen: Option<usize>,
}

/// A frame.
pub struct Rendered {
    /// `side` × `side` pixels.
    pub picture: Picture,
    /// Each thing of the shot and where it is seen: side · side pixels, row after row. What is hidden behind another
    /// thing has an empty mask.
    pub masks: Vec<(usize, Vec<bool>)>,
}

/// A film and everything about it.
///
/// Two things are in each shot. They take turns in sounding: one follows the other at once at least twice. There is at
/// least one silence (only a low noise), and in about half of the films a sound of something that is never seen, and in
/// as many both things at once. Each lasts 1.5 to 4 s, a silence 1 to 2.5 s. Cuts are independent of that: a sound goes on
/// over a cut, and is then off screen unless its thing is also in the next shot.
///
/// At least half of each thing is visible at all times, except while two things cross.
pub struct SyntheticFilm<'w> {
    settings: FilmSettings,
    shots: Vec<Shot<'w>>,
    things: Vec<Thing>,
    cuts: Vec<f64>,
    script: Vec<Span>,
    sound: Vec<f32>,
}

impl World {
    /// A film of `split`. No class that is kept silent in training takes part, unless there are no others.
    ///
    /// # Panics
    /// When [`FilmSettings::check`] finds an error.
    pub fn film(&self, split: Split, kind: Kind, settings: &FilmSettings, rng: &mut ChaCha8Rng) -> SyntheticFilm<'_> {
        settings.check().expect("checked settings");
        let FilmSettings { side, seconds, .. } = *settings;
        let (events, cuts) = script::draw(seconds, kind == Kind::Cuts, rng);
        let pairs = self.cast(split, &events, &cuts, rng);
        let classes: Vec<Vec<usize>> = events.iter().map(|event| self.voiced(event, &cuts, &pairs, rng)).collect();
        let things: Vec<Thing> =
            (0..pairs.len()).flat_map(|shot| pairs[shot].map(|class| Thing { class, shot })).collect();
        let script = spans(&events, &classes, &cuts, &things);

        let parts: Vec<_> = events.into_iter().map(|event| event.range).zip(classes).collect();
        let length = parts.last().map_or(0, |(range, _)| range.end);
        let sound = track::draw(self, split, &parts, length, rng);

        let cuts: Vec<f64> = cuts.into_iter().map(in_seconds).collect();
        let shots = pairs.iter().enumerate().map(|(number, &pair)| {
            let start = if number == 0 { 0.0 } else { cuts[number - 1] };
            let time = start..cuts.get(number).copied().unwrap_or(seconds);
            let kind = match kind {
                Kind::Cuts => [Kind::Still, Kind::Drift, Kind::TurnAndGrow, Kind::Pan][rng.random_range(0..4)],
                kind => kind,
            };
            Shot::draw(self, (split, kind), pair, time, side, rng)
        });
        SyntheticFilm { shots: shots.collect(), settings: settings.clone(), things, cuts, script, sound }
    }

    /// The two classes of each shot.
    fn cast(&self, split: Split, events: &[Event], cuts: &[usize], rng: &mut ChaCha8Rng) -> Vec<[usize; 2]> {
        let number = self.classes.len();
        let mut all: Vec<[usize; 2]> = (0..number)
            .flat_map(|a| (0..number).map(move |b| [a, b]))
            .filter(|&[a, b]| a != b && self.combinations.is_held_out(a, b) == (split == Split::HeldOut))
            .collect();
        let heard = |pair: &[usize; 2]| pair.iter().all(|&class| !self.classes[class].unheard);
        if all.iter().any(heard) {
            all.retain(heard);
        }
        let mut cast: Vec<[usize; 2]> = vec![all[rng.random_range(0..all.len())]];
        for &cut in cuts {
            let last = cast[cast.len() - 1];
            let over = events.iter().find(|event| event.range.contains(&cut));
            let over = match over.map(|event| (event.voice, shot_at(event.range.start, cuts))) {
                Some((Voice::Thing(thing), shot)) => cast[shot][thing],
                _ => last[0],
            };
            let shared = rng.random_bool(SHARED);
            // What sounds over the cut and something new, or other things.
            let fits = |pair: &&[usize; 2]| {
                pair.iter().all(|class| if shared && *class == over { true } else { !last.contains(class) })
                    && shared == pair.contains(&over)
            };
            let fitting: Vec<_> = all.iter().filter(fits).collect();
            // A very small world has no other things.
            cast.push(if fitting.is_empty() { last } else { *fitting[rng.random_range(0..fitting.len())] });
        }
        cast
    }

    /// The classes that sound during `event`.
    fn voiced(&self, event: &Event, cuts: &[usize], cast: &[[usize; 2]], rng: &mut ChaCha8Rng) -> Vec<usize> {
        let pair = cast[shot_at(event.range.start, cuts)];
        match event.voice {
            Voice::Silence => Vec::new(),
            Voice::Thing(thing) => vec![pair[thing]],
            Voice::Both => pair.to_vec(),
            Voice::Outside => {
                let outside = |class: &usize| !cast.as_flattened().contains(class);
                let outside: Vec<usize> = (0..self.classes.len()).filter(outside).collect();
                let heard: Vec<usize> = outside.iter().copied().filter(|&class| !self.classes[class].unheard).collect();
                let classes = if heard.is_empty() { outside } else { heard };
                // A very small world has nothing else, and the film another silence.
                if classes.is_empty() { classes } else { vec![classes[rng.random_range(0..classes.len())]] }
            }
        }
    }
}

/// The shot to which the sample `at` belongs.
fn shot_at(at: usize, cuts: &[usize]) -> usize {
    cuts.iter().filter(|&&cut| cut <= at).count()
}

fn in_seconds(samples: usize) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE)
}

/// What is heard and seen, for each event and shot.
fn spans(events: &[Event], classes: &[Vec<usize>], cuts: &[usize], things: &[Thing]) -> Vec<Span> {
    let mut spans = Vec::new();
    for (event, classes) in events.iter().zip(classes) {
        let mut start = event.range.start;
        let within = cuts.iter().copied().filter(|&cut| event.range.start < cut && cut < event.range.end);
        for end in within.chain([event.range.end]) {
            let shot = shot_at(start, cuts);
            let seen = |class: usize| things.iter().position(|thing| *thing == Thing { class, shot });
            spans.push(Span {
                start: in_seconds(start),
                end: in_seconds(end),
                sounding: classes.iter().filter_map(|&class| seen(class)).collect(),
                off_screen: classes.iter().copied().find(|&class| seen(class).is_none()),
            });
            start = end;
        }
    }
    spans
}

impl SyntheticFilm<'_> {
    /// How many frames there are, at least 1.
    pub fn num_frames(&self) -> usize {
        ((self.settings.seconds * self.settings.frame_rate).round() as usize).max(1)
    }

    /// When `frame` is shown, in seconds.
    pub fn time(&self, frame: usize) -> f64 {
        frame as f64 / self.settings.frame_rate
    }

    /// The picture of `frame`, and where its things are seen.
    pub fn frame(&self, frame: usize) -> Rendered {
        let time = self.time(frame);
        let shot = self.cuts.iter().filter(|&&cut| cut <= time).count();
        let (canvas, masks) = self.shots[shot].paint(time);
        let side = self.settings.side;
        let picture = Picture::from_rgb8(side, side, canvas.to_picture().into_raw());
        let first = self.things.iter().position(|thing| thing.shot == shot).unwrap_or_default();
        Rendered {
            picture: picture.expect("as many pixels as its sides say"),
            masks: masks.into_iter().enumerate().map(|(number, mask)| (first + number, mask)).collect(),
        }
    }

    /// The whole sound track: mono, [`SAMPLE_RATE`], in [-1, 1].
    pub fn sound(&self) -> &[f32] {
        &self.sound
    }

    /// What is heard, from the beginning of the film to its end.
    pub fn script(&self) -> &[Span] {
        &self.script
    }

    /// When the picture is cut, in seconds: the new shot begins with the first frame at or after that.
    pub fn cuts(&self) -> &[f64] {
        &self.cuts
    }

    /// The things in the picture, two for each shot.
    pub fn things(&self) -> &[Thing] {
        &self.things
    }
}
