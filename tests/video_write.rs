//! Writing films: the times of the pictures, sound that stays in step, and what happens when writing fails. The films
//! are made by the `ffmpeg` that is installed.
#![allow(clippy::unwrap_used)]

#[path = "common/films.rs"]
mod films;
#[path = "common/program.rs"]
#[allow(dead_code)]
mod program;

use std::path::Path;
use std::process::Command;

use films::{H264, assert_in_step, assert_times, beeps, ffprobe, flashes, frames, make, pictures, times, true_times};
use soundsight::video::{Ffmpeg, Film, FilmWriter, FrameOptions, WriterOptions};
use soundsight::{Error, Picture};

/// Writes the pictures of `film` again, with its sound.
fn rewrite(film: &Film, path: &Path, from: f64, to: Option<f64>) -> Film {
    let mut writer = FilmWriter::create(path, WriterOptions { from, to, ..WriterOptions::like(film) }).unwrap();
    for frame in film.frames(&FrameOptions { from, to, ..FrameOptions::default() }).unwrap() {
        let frame = frame.unwrap();
        writer.write(frame.time, &frame.picture).unwrap();
    }
    writer.finish().unwrap();
    Film::open(path).unwrap()
}

/// A picture that no encoder makes small.
fn noise(seed: u32) -> Picture {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Picture::from_rgb8(320, 240, (0..320 * 240 * 3).map(|_| byte()).collect()).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    program::names_in(folder)
}

#[test]
fn pictures_keep_their_times_and_their_looks() {
    let folder = tempfile::tempdir().unwrap();
    let vary = "-vf select='lt(n,20)+not(mod(n,3))*not(mod(n,7))+eq(n,90)' -fps_mode vfr";
    for (name, rate, more) in [("plain", 25.0, ""), ("ntsc", 30000.0 / 1001.0, ""), ("varying", 30.0, vary)] {
        let arguments = format!("{} {more} {H264}", pictures("64x48", rate, 4.0));
        let film = Film::open(make(folder.path(), &format!("{name}.mkv"), &arguments)).unwrap();
        let path = folder.path().join(format!("{name}.written.mp4"));
        let written = rewrite(&film, &path, 0.0, None);
        assert_times(&true_times(&path), &times(&frames(&film, &FrameOptions::default())));
        let (a, b) = (frames(&film, &FrameOptions::default()), frames(&written, &FrameOptions::default()));
        for (a, b) in a.iter().zip(&b) {
            let pairs = a.picture.pixels().iter().zip(b.picture.pixels());
            let difference: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
            assert!(difference < 4 * 64 * 48 * 3, "{name}: other pictures at {} s", a.time);
        }
    }
    assert_eq!(names(folder.path()).len(), 6, "{:?}", names(folder.path()));
    let written = folder.path().join("plain.written.mp4");
    let entries = "stream=codec_name,pix_fmt,color_range,color_space,color_transfer,color_primaries";
    assert_eq!(ffprobe(&written, entries), ["h264,yuv420p,tv,bt709,bt709,bt709"]);
}

#[test]
fn sound_stays_in_step() {
    let folder = tempfile::tempdir().unwrap();
    let seconds = [0.0, 1.0, 2.0, 3.0, 4.0];
    for (name, more) in [
        ("aac.mp4", "-c:a aac"),
        ("aac.ts", "-c:a aac"),
        ("mp3.mp4", "-c:a mp3"),
        ("ac3.mkv", "-c:a ac3"),
        ("opus.mkv", "-c:a libopus"),
        ("flac.mkv", "-c:a flac"),
        ("vorbis.mkv", "-c:a libvorbis"),
        ("pcm.mkv", "-c:a pcm_s16le -ac 2"),
        ("begins_at_100.mkv", "-c:a aac -output_ts_offset 100"),
    ] {
        let film = make(folder.path(), name, &format!("{} {} {H264} {more}", flashes(4.5), beeps(4.5)));
        let film = Film::open(film).unwrap();
        let copied = !matches!(name, "vorbis.mkv" | "pcm.mkv");
        let whole = rewrite(&film, &folder.path().join("whole.mp4"), 0.0, None);
        assert_in_step(&whole, &seconds);
        let codec = |film: &Film| film.info().sound.as_ref().unwrap().codec.clone();
        assert_eq!(codec(&whole), if copied { codec(&film) } else { "aac".into() }, "{name}");
        let part = rewrite(&film, &folder.path().join("part.mp4"), 0.73, Some(3.41));
        assert_in_step(&part, &[0.27, 1.27, 2.27]);
        assert!((part.info().seconds - 2.68).abs() < 0.05, "{name}: {:?}", part.info());
    }
}

#[test]
fn late_long_and_short_sounds_stay_in_step() {
    let folder = tempfile::tempdir().unwrap();
    for codec in ["aac", "pcm_s16le"] {
        let late = format!("{} -itsoffset 2 {} {H264} -c:a {codec}", flashes(5.5), beeps(3.0));
        let film = Film::open(make(folder.path(), "late.mkv", &late)).unwrap();
        let written = rewrite(&film, &folder.path().join("late.mp4"), 0.0, None);
        let beeps_at = films::beep_times(&written);
        assert!(beeps_at.iter().zip([2.0, 3.0, 4.0]).all(|(a, b)| (a - b).abs() <= 0.02), "{codec}: {beeps_at:?}");
        assert_eq!(films::flash_times(&written).len(), 6);
        let written = rewrite(&film, &folder.path().join("late.mp4"), 1.5, None);
        let beeps_at = films::beep_times(&written);
        assert!(beeps_at.iter().zip([0.5, 1.5, 2.5]).all(|(a, b)| (a - b).abs() <= 0.02), "{codec}: {beeps_at:?}");
    }
    for (pictures_last, sound_lasts) in [(1.5, 3.5), (3.5, 1.5)] {
        let arguments = format!("{} {} {H264} -c:a aac", flashes(pictures_last), beeps(sound_lasts));
        let film = Film::open(make(folder.path(), "film.mp4", &arguments)).unwrap();
        let written = rewrite(&film, &folder.path().join("written.mp4"), 0.0, None);
        assert_eq!(films::flash_times(&written).len(), pictures_last.ceil() as usize);
        assert_eq!(films::beep_times(&written).len(), sound_lasts.ceil() as usize);
        assert!((written.info().seconds - 3.5).abs() < 0.06, "{:?}", written.info());
    }
}

#[test]
fn pictures_that_begin_late_or_are_odd() {
    let folder = tempfile::tempdir().unwrap();
    let film = make(folder.path(), "film.mp4", &format!("{} {} {H264} -c:a aac", flashes(4.5), beeps(4.5)));
    let film = Film::open(film).unwrap();
    let path = folder.path().join("late.mp4");
    let mut writer = FilmWriter::create(&path, WriterOptions::like(&film)).unwrap();
    for frame in film.frames(&FrameOptions { from: 1.6, ..FrameOptions::default() }).unwrap() {
        let frame = frame.unwrap();
        // 63 × 47 pixels: an odd number of both.
        writer.write(frame.time, &frame.picture.crop(0, 0, 63, 47).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    let written = Film::open(&path).unwrap();
    assert_eq!((written.info().width, written.info().height), (64, 48));
    let flashes_at = films::flash_times(&written);
    assert!(flashes_at.iter().zip([2.0, 3.0, 4.0]).all(|(a, b)| (a - b).abs() <= 0.02), "{flashes_at:?}");
    assert_eq!(films::beep_times(&written).len(), 5);
}

#[test]
fn an_interrupted_film_is_playable_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for codec in ["aac", "pcm_s16le"] {
        let film = make(folder.path(), "film.mkv", &format!("{} {} {H264} -c:a {codec}", flashes(8.5), beeps(8.5)));
        let film = Film::open(film).unwrap();
        let path = folder.path().join("written.mp4");
        let mut writer = FilmWriter::create(&path, WriterOptions::like(&film)).unwrap();
        for frame in film.frames(&FrameOptions { to: Some(2.5), ..FrameOptions::default() }).unwrap() {
            let frame = frame.unwrap();
            writer.write(frame.time, &frame.picture).unwrap();
        }
        assert!(!path.exists() || codec != "aac");
        writer.finish_unfinished().unwrap();
        let written = Film::open(&path).unwrap();
        assert!((written.info().seconds - 2.5).abs() < 0.05, "{:?}", written.info());
        assert_in_step(&written, &[0.0, 1.0, 2.0]);
        assert!(ffprobe(&path, "format_tags=comment")[0].contains("unfinished"));
    }
    assert_eq!(names(folder.path()), ["film.mkv", "written.mp4"]);
}

#[test]
fn a_silent_film_with_a_strange_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a%03d.mp4", "http:a.mp4", "two\nlines.mp4", "no extension", "-y.mp4"] {
        let path = folder.path().join(name);
        let mut writer = FilmWriter::create(&path, WriterOptions::default()).unwrap();
        for n in 0..5 {
            writer.write(f64::from(n) / 10.0, &noise(n as u32)).unwrap();
        }
        writer.finish().unwrap();
        let written = Film::open(&path).unwrap();
        assert_times(&times(&frames(&written, &FrameOptions::default())), &[0.0, 0.1, 0.2, 0.3, 0.4]);
        assert_eq!(written.info().sound, None);
    }
}

#[test]
fn arguments_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let refused = |result: Result<(), Error>, name: &str| match result {
        Err(Error::Argument { what, .. }) => assert_eq!(what, name),
        other => panic!("{name}: {other:?}"),
    };
    let options = WriterOptions::default;
    for frame_rate in [0.0, -1.0, f64::NAN, 1e9] {
        refused(FilmWriter::create(&path, WriterOptions { frame_rate, ..options() }).map(drop), "frame_rate");
    }
    refused(FilmWriter::create(&path, WriterOptions { from: f64::NAN, ..options() }).map(drop), "from");
    refused(FilmWriter::create(&path, options()).unwrap().finish(), "pictures");
    let mut writer = FilmWriter::create(&path, WriterOptions { from: 1.0, ..options() }).unwrap();
    refused(writer.write(0.5, &noise(0)), "time");
    refused(writer.write(f64::NAN, &noise(0)), "time");
    writer.write(1.5, &noise(0)).unwrap();
    refused(writer.write(1.5, &noise(1)), "time");
    refused(writer.write(2.0, &noise(1).crop(0, 0, 20, 20).unwrap()), "picture");
    drop(writer);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    for parent in ["file", "missing"] {
        let path = folder.path().join(parent).join("film.mp4");
        match FilmWriter::create(&path, WriterOptions::default()) {
            Err(Error::Io { path: at, action: "write", .. }) => assert_eq!(at, path),
            other => panic!("{other:?}"),
        }
    }
    let ffmpeg = Ffmpeg { ffmpeg: "/nonexistent/ffmpeg".into(), ..Ffmpeg::default() };
    let options = WriterOptions { ffmpeg, ..WriterOptions::default() };
    let result = FilmWriter::create(folder.path().join("film.mp4"), options);
    assert!(matches!(result, Err(Error::MissingProgram { .. })), "{result:?}");
    assert_eq!(names(folder.path()), ["file"]);
}

/// Writes noise until it fails or there are 500 pictures; the error.
fn write_until_it_fails(mut writer: FilmWriter) -> Option<Error> {
    for n in 0..500 {
        if let Err(error) = writer.write(f64::from(n) / 25.0, &noise(n as u32)) {
            return Some(error);
        }
    }
    writer.finish().err()
}

#[test]
#[cfg(unix)]
fn a_full_disk() {
    /// The environment variable with the folder that the test's child process writes to.
    const FOLDER: &str = "SOUNDSIGHT_TEST_FULL_DISK";
    if let Some(folder) = std::env::var_os(FOLDER) {
        let path = Path::new(&folder).join("film.mp4");
        let writer = FilmWriter::create(&path, WriterOptions::default()).unwrap();
        let error = write_until_it_fails(writer).expect("there was room for the film");
        let message = soundsight::error::chain(&error);
        assert!(message.contains("film.mp4: cannot write: ") && message.contains("File too large"), "{message}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film.mp4"), "what was there before").unwrap();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "a_full_disk", "--nocapture"]).env(FOLDER, folder.path());
    let output = program::with_full_disk(&test, 2000).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(folder.path().join("film.mp4")).unwrap(), "what was there before");
    assert_eq!(names(folder.path()), ["film.mp4"]);
}

#[test]
#[cfg(target_os = "linux")]
fn an_encoder_that_is_killed_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    let watched = films::Watched::new(programs.path());
    let path = folder.path().join("film.mp4");
    let create = || {
        let options = WriterOptions { ffmpeg: watched.ffmpeg.clone(), ..WriterOptions::default() };
        let mut writer = FilmWriter::create(&path, options).unwrap();
        writer.write(0.0, &noise(500)).unwrap();
        assert_eq!(watched.left().len(), 1);
        writer
    };
    drop(create());
    assert_eq!((watched.left().len(), names(folder.path()).len()), (0, 0));
    let mut writer = create();
    watched.kill_latest();
    let error = (1..500).find_map(|n| writer.write(f64::from(n) / 25.0, &noise(n as u32)).err()).unwrap();
    let message = soundsight::error::chain(&error);
    assert!(message.contains("cannot write: ") && message.contains("SIGKILL"), "{message}");
    assert!(writer.finish().is_err());
    assert_eq!((watched.left().len(), names(folder.path()).len()), (0, 0));
}

#[test]
#[cfg(unix)]
fn an_ffmpeg_without_x264() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "case \"$*\" in *-encoders*) ffmpeg \"$@\" | grep -v libx264 ;; *) exec ffmpeg \"$@\" ;; esac";
    let ffmpeg = Ffmpeg { ffmpeg: films::script(folder.path(), "ffmpeg", lines), ..Ffmpeg::default() };
    let path = folder.path().join("film.mp4");
    let mut writer = FilmWriter::create(&path, WriterOptions { ffmpeg, ..WriterOptions::default() }).unwrap();
    for n in 0..30 {
        writer.write(f64::from(n) * 1001.0 / 30000.0, &noise(1)).unwrap();
    }
    writer.finish().unwrap();
    let written = Film::open(&path).unwrap();
    assert_eq!(written.info().codec, "mpeg4");
    let times = times(&frames(&written, &FrameOptions::default()));
    let expected: Vec<f64> = (0..30).map(|n| f64::from(n) * 1001.0 / 30000.0).collect();
    assert_times(&times, &expected);
}
