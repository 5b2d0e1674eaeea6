//! Watching films: the same moments as by hand, also in parts, and of films that are damaged or silent.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/films.rs"]
mod films;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use common::fixture;
use films::{H264, make, pictures, small, tone};
use soundsight::video::{Film, Frame, FrameOptions};
use soundsight::watch::{Moment, WatchOptions, Watcher};
use soundsight::{Error, Localizer};

/// A model of random weights.
fn localizer() -> &'static Localizer {
    static LOCALIZER: OnceLock<Localizer> = OnceLock::new();
    LOCALIZER.get_or_init(|| Localizer::load(fixture("alt")).unwrap())
}

/// A film of four seconds without losses: a test pattern, and after two seconds another one; clicks and tones.
fn lossless(folder: &Path) -> PathBuf {
    let sound = "-f lavfi -i aevalsrc='0.4*sin(500*t*(1+t))*(0.2+mod(t,0.3))':s=44100:d=4";
    let second = "-f lavfi -i color=red:size=64x48:rate=25:duration=2";
    let joined = "-filter_complex [0][1]concat=n=2:v=1:a=0,format=gbrp[v] -map [v] -map 2";
    let codecs = "-c:v ffv1 -c:a pcm_s16le";
    make(folder, "film.mkv", &format!("{} {second} {sound} {joined} {codecs}", pictures("64x48", 25.0, 2.0)))
}

#[track_caller]
fn watch(film: &Film, from: f64, to: Option<f64>, options: &WatchOptions) -> Vec<Moment> {
    localizer().watch_span(film, from, to, options).unwrap().map(|moment| moment.unwrap()).collect()
}

#[test]
fn a_film_and_what_is_fed_by_hand_give_the_same_moments() {
    let folder = tempfile::tempdir().unwrap();
    let film = Film::open(lossless(folder.path())).unwrap();
    let rate = film.info().sound.as_ref().unwrap().sample_rate;
    let frames = films::frames(&film, &FrameOptions::default());
    let samples = films::samples(&film, 0.0, None);
    for options in [
        WatchOptions::default(),
        WatchOptions { rate: 7.0, window: 0.1, hop: Some(0.1), ..Default::default() },
        WatchOptions { smoothing: None, repeat: false, ..Default::default() },
    ] {
        let watched: Vec<Moment> = localizer().watch(&film, &options).unwrap().map(|moment| moment.unwrap()).collect();
        assert_eq!(watched.len(), (4.0 * options.rate) as usize);
        // The first frame at or after 2 s.
        let cuts: Vec<f64> = watched.iter().filter(|moment| moment.cut).map(|moment| moment.time).collect();
        assert!(cuts.len() == 1 && (2.0..2.05).contains(&cuts[0]), "{cuts:?}");

        let mut watcher = Watcher::new(localizer(), rate, options.clone()).unwrap();
        let mut fed = Vec::new();
        let mut chunks = samples.chunks(rate as usize / 25);
        for Frame { time, picture, .. } in &frames {
            fed.extend(watcher.push_frame(*time, picture.clone()).unwrap());
            if let Some(samples) = chunks.next() {
                fed.extend(watcher.push_sound(samples).unwrap());
            }
        }
        fed.extend(watcher.finish().unwrap());
        assert!(watched == fed, "in step: {options:?}");

        let mut watcher = Watcher::new(localizer(), rate, options.clone()).unwrap();
        let mut fed = watcher.push_sound(&samples).unwrap();
        for Frame { time, picture, .. } in &frames {
            fed.extend(watcher.push_frame(*time, picture.clone()).unwrap());
        }
        fed.extend(watcher.finish().unwrap());
        assert!(watched == fed, "all sound first: {options:?}");
    }
}

#[test]
fn a_part_has_the_times_of_the_film() {
    let folder = tempfile::tempdir().unwrap();
    let film = Film::open(lossless(folder.path())).unwrap();
    let options = WatchOptions { smoothing: None, ..Default::default() };
    let whole = watch(&film, 0.0, None, &options);
    let part = watch(&film, 1.0, Some(3.0), &options);
    let times: Vec<f64> = part.iter().map(|moment| moment.time).collect();
    let expected: Vec<f64> = (5..15).map(|n| f64::from(n) / 5.0).collect();
    assert!(times.len() == 10 && times.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "{times:?}");
    // Where the window lies within the part, nothing is different.
    let half = options.window / 2.0;
    for moment in part.iter().filter(|moment| (1.0 + half..=3.0 - half).contains(&moment.time)) {
        let same = whole.iter().find(|other| other.time == moment.time).unwrap();
        // Whether it sounds depends on what was before.
        let mut same = same.clone();
        same.sounding = moment.sounding;
        assert!(*moment == same, "{} s", moment.time);
    }
    // The sound outside is not heard.
    assert!(part[0].heatmap != whole[5].heatmap);
    // The first frame of a part is a moment.
    let times: Vec<f64> = watch(&film, 1.1, Some(1.5), &options).iter().map(|moment| moment.time).collect();
    assert_eq!(times, [1.12, 1.2, 1.4]);
    for (from, to) in [(-1.0, None), (9.0, None), (1.0, Some(0.5))] {
        assert!(matches!(localizer().watch_span(&film, from, to, &options), Err(Error::Argument { .. })));
    }
}

#[test]
fn a_film_without_sound_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "silent.mp4", &format!("{} {H264}", pictures("64x48", 25.0, 1.0)));
    match localizer().watch(&Film::open(&path).unwrap(), &WatchOptions::default()).err() {
        Some(Error::Film { origin, expected, .. }) => {
            assert_eq!((origin, expected), (path.display().to_string(), "a sound track".into()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let film = Film::open(small(folder.path(), "film.mp4")).unwrap();
    let options = WatchOptions { rate: -1.0, ..Default::default() };
    assert!(matches!(localizer().watch(&film, &options).err(), Some(Error::Argument { what, .. }) if what == "rate"));
}

#[test]
fn sound_and_picture_of_different_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let options = WatchOptions::default();
    let count = |name: &str, picture: f64, sound: f64| {
        let path = make(folder.path(), name, &format!("{} {} {H264}", pictures("64x48", 25.0, picture), tone(sound)));
        watch(&Film::open(path).unwrap(), 0.0, None, &options)
    };
    // Silence follows a sound that ends before the pictures.
    let moments = count("short.mkv", 3.0, 1.0);
    assert_eq!(moments.len(), 15);
    assert!(moments.iter().filter(|moment| moment.time > 1.2).all(|moment| moment.level <= -100.0 && !moment.sounding));
    assert_eq!(count("long.mkv", 1.0, 3.0).len(), 5);
}

#[test]
fn moments_before_the_damage_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("{} {} {H264} -c:a aac", pictures("320x240", 25.0, 6.0), tone(6.0));
    let whole = make(folder.path(), "whole.mkv", &arguments);
    let bytes = std::fs::read(&whole).unwrap();
    let damaged = folder.path().join("damaged.mkv");
    std::fs::write(&damaged, &bytes[..bytes.len() * 6 / 10]).unwrap();
    let film = Film::open(&damaged).unwrap();
    let (options, mut heard) = (WatchOptions::default(), 0);
    film.sound(0.0, None).unwrap().map_while(Result::ok).for_each(|samples| heard += samples.len());
    let heard = heard as f64 / 44_100.0_f64.max(f64::from(film.info().sound.as_ref().unwrap().sample_rate));
    let seen = film.frames(&FrameOptions::default()).unwrap().map_while(Result::ok).last().unwrap().time;

    let mut moments = localizer().watch(&film, &options).unwrap();
    let mut found = Vec::new();
    let error = loop {
        match moments.next() {
            Some(Ok(moment)) => found.push(moment),
            Some(Err(error)) => break error,
            None => panic!("no error"),
        }
    };
    assert!(matches!(error, Error::Film { .. }), "{error}");
    assert!(moments.next().is_none() && moments.next().is_none());
    // All of them, up to where either track ends.
    let last = found.last().unwrap().time;
    let damage = heard.min(seen);
    assert!(last < heard && last > damage - 0.25, "{last} s, sound to {heard} s, pictures to {seen} s");
    // Where the damage is out of reach, nothing is different.
    let whole = watch(&Film::open(&whole).unwrap(), 0.0, None, &options);
    for (moment, same) in found.iter().zip(&whole).filter(|(moment, _)| moment.time < damage - options.latency() - 0.2)
    {
        assert!(moment == same, "{} s", moment.time);
    }
}
