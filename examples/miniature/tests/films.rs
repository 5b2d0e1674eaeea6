//! Synthetic films: that what they promise about pictures, sounds and truth holds, on stamps made here and on real ones.
#![allow(clippy::unwrap_used)]

#[path = "../src/films/mod.rs"]
#[allow(dead_code, unused_imports)] // each program uses its part
mod films;
#[path = "common/stamps.rs"]
#[allow(dead_code)]
mod stamps;
#[path = "../src/world/mod.rs"]
#[allow(dead_code, unused_imports)]
mod world;

use std::path::Path;
use std::sync::LazyLock;

use films::{FilmSettings, Kind, Rendered, Span, SyntheticFilm};
use soundsight::data::random::{Purpose, stream};
use stamps::stamps;
use world::{SAMPLE_RATE, Split, World, WorldConfig};

const SIDE: usize = 64;
const CONFIG: WorldConfig = WorldConfig { side: SIDE, seconds: 1.5, seed: 3, num_unheard: 2, photographs: Vec::new() };
const SETTINGS: FilmSettings = FilmSettings { side: SIDE, frame_rate: 10.0, seconds: 13.0 };
const SPLITS: [Split; 2] = [Split::Train, Split::HeldOut];

/// The world that most tests look at.
fn open() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| World::open(stamps().path(), &CONFIG).unwrap());
    &WORLD
}

fn film_of(split: Split, kind: Kind, settings: &FilmSettings, number: u64) -> SyntheticFilm<'static> {
    open().film(split, kind, settings, &mut stream(number, Purpose::Validation, 2, kind as u64))
}

fn film(kind: Kind, number: u64) -> SyntheticFilm<'static> {
    film_of(Split::HeldOut, kind, &SETTINGS, number)
}

/// Films of both splits and of every kind.
fn films(of_each: u64) -> impl Iterator<Item = (Split, SyntheticFilm<'static>)> {
    let kinds = SPLITS.into_iter().flat_map(|split| Kind::ALL.map(|kind| (split, kind)));
    kinds
        .flat_map(move |(split, kind)| (0..of_each).map(move |number| (split, film_of(split, kind, &SETTINGS, number))))
}

fn level(samples: &[f32]) -> f64 {
    let power: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    10.0 * (power / samples.len() as f64).log10()
}

fn heard<'a>(film: &'a SyntheticFilm<'_>, span: &Span) -> &'a [f32] {
    let [start, end] = [span.start, span.end].map(|time| (time * f64::from(SAMPLE_RATE)).round() as usize);
    &film.sound()[start..end]
}

fn silent(span: &Span) -> bool {
    span.sounding.is_empty() && span.off_screen.is_none()
}

#[test]
fn everything_repeats_from_the_random_numbers() {
    for kind in [Kind::Pan, Kind::Cuts] {
        let (first, again) = (film(kind, 1), film(kind, 1));
        assert!(first.script() == again.script() && first.sound() == again.sound());
        for frame in [129, 3, 77] {
            let (first, again) = (first.frame(frame), again.frame(frame));
            assert!(first.picture == again.picture && first.masks == again.masks);
        }
        assert!(first.sound() != film(kind, 2).sound() && first.frame(3).picture != film(kind, 2).frame(3).picture);
    }
}

#[test]
fn size_and_frame_rate_change_nothing_else() {
    for kind in Kind::ALL {
        let small = film(kind, 3);
        let large = film_of(Split::HeldOut, kind, &FilmSettings { side: 2 * SIDE, frame_rate: 25.0, ..SETTINGS }, 3);
        assert_eq!((small.num_frames(), large.num_frames()), (130, 325));
        assert!(small.script() == large.script() && small.sound() == large.sound());
        assert!(small.things() == large.things() && small.cuts() == large.cuts());
        for (frame, same) in [(0, 0), (50, 125), (110, 275)] {
            assert_eq!(small.time(frame), large.time(same));
            let (small, large) = (small.frame(frame), large.frame(same));
            for ((_, small), (_, large)) in small.masks.iter().zip(&large.masks) {
                let differ = |at: &usize| small[*at] != large[at / SIDE * 4 * SIDE + at % SIDE * 2];
                let differing = (0..SIDE * SIDE).filter(differ).count();
                assert!(differing * 100 < SIDE * SIDE * 4, "{kind:?}: {differing}");
            }
        }
    }
}

#[test]
fn the_script_covers_the_film_and_holds_what_it_should() {
    let (mut all, mut outside, mut both, mut over_cuts) = (0, 0, 0, 0);
    for (split, film) in films(6) {
        let script = film.script();
        assert_eq!((script[0].start, script[script.len() - 1].end), (0.0, SETTINGS.seconds));
        assert_eq!(film.sound().len(), (SETTINGS.seconds * f64::from(SAMPLE_RATE)) as usize);
        assert!(script.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].start < pair[0].end));

        let shots = film.cuts().len() + 1;
        let classes = |shot: usize| {
            film.things().iter().filter(move |thing| thing.shot == shot).map(|thing| thing.class).collect::<Vec<_>>()
        };
        for shot in 0..shots {
            let [a, b] = classes(shot)[..] else { panic!("{:?}", film.things()) };
            assert!(a != b && open().combinations.is_held_out(a, b) == (split == Split::HeldOut));
            assert!([a, b].iter().all(|&class| !open().classes[class].unheard));
        }
        assert_eq!(film.things().len(), 2 * shots);

        for span in script {
            let shot = film.cuts().iter().filter(|&&cut| cut <= span.start).count();
            assert!(film.cuts().iter().all(|&cut| cut <= span.start || cut >= span.end), "{span:?}");
            assert!(span.sounding.iter().all(|&thing| film.things()[thing].shot == shot));
            assert!(span.off_screen.is_none_or(|class| !classes(shot).contains(&class)));
            let cut = film.cuts().contains(&span.start) || film.cuts().contains(&span.end);
            let least = if cut {
                0.39
            } else if silent(span) {
                0.99
            } else {
                1.49
            };
            assert!((least..4.01).contains(&(span.end - span.start)), "{span:?}");
            over_cuts += usize::from(cut && span.off_screen.is_some());
        }
        let change = |pair: &&[Span]| {
            let ([a], [b]) = (&pair[0].sounding[..], &pair[1].sounding[..]) else { return false };
            a != b && film.things()[*a].shot == film.things()[*b].shot
        };
        assert!(script.windows(2).filter(change).count() >= 2, "{script:?}");
        assert!(script.iter().any(silent));
        let seen: Vec<usize> = film.things().iter().map(|thing| thing.class).collect();
        all += 1;
        outside += usize::from(script.iter().filter_map(|span| span.off_screen).any(|class| !seen.contains(&class)));
        both += usize::from(script.iter().any(|span| span.sounding.len() == 2));
    }
    for number in [outside, both] {
        assert!((all / 3..all * 2 / 3).contains(&number), "{number} of {all}");
    }
    assert!(over_cuts > 5, "{over_cuts}");
}

/// Silence is 20 dB below every sound, and no sound pauses for long.
fn check_sound(film: &SyntheticFilm, name: &str) {
    const FRAME: usize = SAMPLE_RATE as usize / 50;
    let (quiet, loud): (Vec<&Span>, Vec<&Span>) = film.script().iter().partition(|span| silent(span));
    let levels = |spans: &[&Span]| spans.iter().map(|span| level(heard(film, span))).collect::<Vec<_>>();
    let quiet = levels(&quiet).into_iter().fold(f64::NEG_INFINITY, f64::max);
    let softest = levels(&loud).into_iter().fold(f64::INFINITY, f64::min);
    assert!(quiet < softest - 20.0 && quiet > -90.0, "{name}: {quiet} dB, {softest} dB");
    assert!(film.sound().iter().all(|sample| sample.abs() <= 0.981));
    for span in loud {
        let audible = |samples: &[f32]| level(samples) > quiet + 10.0;
        let pauses: Vec<bool> = heard(film, span).chunks(FRAME).map(audible).collect();
        let longest = pauses.split(|&audible| audible).map(<[bool]>::len).max().unwrap();
        assert!(longest <= 20, "{name}: {longest} frames of 20 ms in {span:?}");
    }
}

#[test]
fn what_sounds_is_heard_and_silence_is_silent() {
    for (split, film) in films(3) {
        check_sound(&film, &format!("{split:?}"));
    }
}

fn area(mask: &[bool]) -> f64 {
    mask.iter().filter(|&&on| on).count() as f64
}

fn middle(mask: &[bool]) -> [f64; 2] {
    let along = |place: fn(usize) -> usize| {
        (0..mask.len()).filter(|&at| mask[at]).map(|at| place(at) as f64).sum::<f64>() / area(mask)
    };
    [along(|at| at % SIDE), along(|at| at / SIDE)]
}

/// Mean absolute difference of two pictures, in 0..255.
fn difference(a: &Rendered, b: &Rendered) -> f64 {
    let (a, b) = (a.picture.pixels(), b.picture.pixels());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn things_move_smoothly_and_stay_in_sight() {
    for (kind, number) in Kind::ALL.into_iter().flat_map(|kind| (0..3).map(move |number| (kind, number))) {
        let film = film(kind, number);
        let frames: Vec<Rendered> = (0..film.num_frames()).map(|frame| film.frame(frame)).collect();
        for pair in frames.windows(2).filter(|pair| pair[0].masks[0].0 == pair[1].masks[0].0) {
            for ((_, before), (_, after)) in pair[0].masks.iter().zip(&pair[1].masks) {
                let changed = before.iter().zip(after).filter(|(a, b)| a != b).count() as f64;
                // At most 0.3 of the side in a second: two pixels a frame, along the outline.
                assert!(changed <= 2.0 * 2.0 * SIDE as f64, "{kind:?}: {changed}");
                if kind != Kind::Cross {
                    let step = [0, 1].map(|axis| (middle(before)[axis] - middle(after)[axis]).abs());
                    assert!(step[0].max(step[1]) < 2.5, "{kind:?}: {step:?}");
                }
            }
        }
        for thing in 0..film.things().len() {
            let masks: Vec<&Vec<bool>> =
                frames.iter().flat_map(|f| &f.masks).filter(|mask| mask.0 == thing).map(|mask| &mask.1).collect();
            let areas: Vec<f64> = masks.iter().map(|mask| area(mask)).collect();
            let (least, most) = areas.iter().fold((f64::MAX, 0.0_f64), |(a, b), &area| (a.min(area), b.max(area)));
            assert!(most > 60.0, "{kind:?}: {most}");
            if matches!(kind, Kind::Drift | Kind::Pan) {
                assert!(least >= 0.5 * most, "{kind:?}: from {least} to {most} pixels");
            }
            if !matches!(kind, Kind::Still | Kind::Cuts) {
                let changes = masks.iter().map(|mask| mask.iter().zip(masks[0]).filter(|(a, b)| a != b).count());
                assert!(changes.max().unwrap() as f64 > 0.2 * most, "{kind:?}");
            }
        }
        // Later things cover earlier ones: no pixel belongs to two.
        let disjoint = |frame: &Rendered| frame.masks[0].1.iter().zip(&frame.masks[1].1).all(|(a, b)| !(a & b));
        assert!(frames.iter().all(disjoint));
    }
}

#[test]
fn things_that_cross_hide_each_other_now_and_then() {
    let least: Vec<f64> = (0..4)
        .map(|number| {
            let film = film(Kind::Cross, number);
            let areas = (0..film.num_frames()).map(|frame| area(&film.frame(frame).masks[0].1));
            let (least, most) = areas.fold((f64::MAX, 0.0_f64), |(a, b), area| (a.min(area), b.max(area)));
            least / most
        })
        .collect();
    // The one in front may be much smaller.
    assert!(least.iter().all(|&least| least < 0.9) && least.iter().any(|&least| least < 0.3), "{least:?}");
}

#[test]
fn where_nothing_moves_all_frames_are_the_same() {
    for number in 0..3 {
        let film = film(Kind::Still, number);
        let first = film.frame(0);
        for frame in [1, 40, 129] {
            let later = film.frame(frame);
            assert!(later.picture == first.picture && later.masks == first.masks);
        }
    }
}

#[test]
fn cuts_change_the_picture() {
    let mut numbers = Vec::new();
    for number in 0..8 {
        let film = film(Kind::Cuts, number);
        numbers.push(film.cuts().len());
        for &cut in film.cuts() {
            let first = (0..film.num_frames()).find(|&frame| film.time(frame) >= cut).unwrap();
            let frames = [first - 2, first - 1, first, first + 1].map(|frame| film.frame(frame));
            let across = difference(&frames[1], &frames[2]);
            let within = difference(&frames[0], &frames[1]).max(difference(&frames[2], &frames[3]));
            assert!(across > 10.0 && across > 3.0 * within, "{across}, {within}");
            assert_eq!(frames[1].masks[0].0 + 2, frames[2].masks[0].0);
        }
    }
    assert!(numbers.iter().all(|number| (1..=2).contains(number)));
    assert!(numbers.contains(&1) && numbers.contains(&2), "{numbers:?}");
}

#[test]
fn real_recordings_sound_and_pause_as_they_should() {
    const STAMPS: &str = "/usr/share/tuxpaint/stamps";
    let found = Path::new(STAMPS).is_dir();
    assert!(found, "no stamps in {STAMPS}: install Debian's package tuxpaint-stamps-default");
    let world = World::open(Path::new(STAMPS), &WorldConfig { num_unheard: 8, ..CONFIG }).unwrap();
    for number in 0..24 {
        let mut rng = stream(number, Purpose::Validation, 2, 9);
        let kind = Kind::ALL[number as usize % Kind::ALL.len()];
        let film = world.film(Split::HeldOut, kind, &SETTINGS, &mut rng);
        let name = |class: usize| world.classes[class].name.as_str();
        let sounds: Vec<_> = film
            .script()
            .iter()
            .map(|span| {
                (
                    span.sounding.iter().map(|&thing| name(film.things()[thing].class)).collect::<Vec<_>>(),
                    span.off_screen.map(name),
                )
            })
            .collect();
        check_sound(&film, &format!("{number}: {sounds:?}"));
    }
}
