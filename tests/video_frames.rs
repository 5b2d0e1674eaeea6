//! Pictures of films: their times, sizes, parts. The films are made by the `ffmpeg` that is installed.
#![allow(clippy::unwrap_used)]

#[path = "common/films.rs"]
mod films;

use films::{H264, assert_times, ffprobe, frames, make, pictures, small, times, tone, true_times, turned};
use soundsight::Error;
use soundsight::video::{Film, FrameOptions};

#[test]
fn a_film_says_what_it_contains() {
    let folder = tempfile::tempdir().unwrap();
    let film = Film::open(small(folder.path(), "film.mp4")).unwrap();
    let info = film.info();
    assert!((info.seconds - 3.0).abs() < 0.05, "{info:?}");
    assert_eq!((info.width, info.height, info.rotation), (64, 48, 0));
    assert_eq!((info.frame_rate, info.codec.as_str()), (25.0, "h264"));
    let sound = info.sound.as_ref().unwrap();
    assert_eq!((sound.sample_rate, sound.channels, sound.codec.as_str()), (48_000, 1, "aac"));
    assert!(sound.start.abs() < 1e-6 && (sound.seconds.unwrap() - 3.0).abs() < 0.05, "{sound:?}");
}

#[test]
fn frames_have_their_own_times() {
    let folder = tempfile::tempdir().unwrap();
    let film = |name, rate, more: &str| {
        make(folder.path(), name, &format!("{} {} {more}", pictures("64x48", rate, 4.0), tone(3.0)))
    };
    let vary = "-vf select='lt(n,20)+not(mod(n,3))*not(mod(n,7))+eq(n,90)' -fps_mode vfr";
    for path in [
        film("plain.mp4", 25.0, H264),
        film("ntsc.mp4", 30000.0 / 1001.0, H264),
        // Matroska counts milliseconds, transport streams begin at 1.4 s or so, AVI has no times at all.
        film("ntsc.mkv", 30000.0 / 1001.0, H264),
        film("plain.ts", 25.0, H264),
        film("plain.avi", 25.0, "-c:v mpeg4"),
        film("varying.mkv", 30.0, &format!("{vary} {H264}")),
        film("varying.mp4", 30.0, &format!("{vary} {H264}")),
        film("late.mkv", 25.0, &format!("{H264} -output_ts_offset 100")),
    ] {
        let expected = true_times(&path);
        assert!(expected.len() > 25, "{}", path.display());
        let film = Film::open(&path).unwrap();
        assert_times(&times(&frames(&film, &FrameOptions::default())), &expected);
    }
}

#[test]
fn a_part_has_the_frames_that_the_whole_has_there() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["film.mp4", "film.mkv", "film.ts", "film.avi"] {
        let path = make(folder.path(), name, &format!("{} {H264}", pictures("64x48", 25.0, 6.0)));
        let film = Film::open(&path).unwrap();
        let whole = frames(&film, &FrameOptions::default());
        for (from, to) in [(0.0, Some(0.5)), (0.04, Some(0.08)), (2.0, None), (3.333, Some(4.1)), (5.9, Some(9.0))] {
            let part = frames(&film, &FrameOptions { from, to, ..FrameOptions::default() });
            let end = to.unwrap_or(f64::INFINITY);
            let expected: Vec<_> =
                whole.iter().filter(|f| f.time >= from - 1e-3 && f.time < end - 1e-3).cloned().collect();
            assert_times(&times(&part), &times(&expected));
            assert!(part == expected, "{name}: other pictures from {from} s on");
        }
    }
}

#[test]
fn a_rate_takes_the_first_frame_at_or_after_each_instant() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rate) in [("film.mp4", 30000.0 / 1001.0), ("film.mkv", 30.0), ("film.ts", 25.0)] {
        let path = make(folder.path(), name, &format!("{} {H264}", pictures("64x48", rate, 5.0)));
        let film = Film::open(&path).unwrap();
        let whole = true_times(&path);
        for wanted in [1.0, 5.0, 7.5, 24.0, 30.0, 100.0] {
            let options = FrameOptions { rate: Some(wanted), ..FrameOptions::default() };
            let mut expected: Vec<f64> = (0..1000)
                .filter_map(|k| whole.iter().copied().find(|time| *time >= f64::from(k) / wanted - 6e-4))
                .collect();
            expected.dedup();
            assert_times(&times(&frames(&film, &options)), &expected);
            // A part begins with its first frame, and then has those of the whole.
            let part = times(&frames(&film, &FrameOptions { from: 2.11, ..options }));
            let first = *whole.iter().find(|time| **time >= 2.11 - 6e-4).unwrap();
            expected.retain(|time| *time > first);
            expected.insert(0, first);
            assert_times(&part, &expected);
        }
    }
}

#[test]
fn pictures_are_upright_with_square_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let halves = "-f lavfi -i color=red:size=32x48:rate=5:duration=1,pad=64:48:0:0:blue";
    let path = make(folder.path(), "stored.mp4", &format!("{halves} {H264}"));
    let stored = Film::open(&path).unwrap();
    let red_and_blue = |film: &Film, red: (usize, usize), blue: (usize, usize)| {
        let frame = frames(film, &FrameOptions::default()).remove(0);
        let pixel = |(x, y)| &frame.picture.pixels()[(y * frame.picture.width() + x) * 3..][..3];
        let (red, blue) = (pixel(red), pixel(blue));
        assert!(red[0] > 200 && red[2] < 60 && blue[2] > 200 && blue[0] < 60, "{red:?} {blue:?}");
    };
    red_and_blue(&stored, (5, 24), (58, 24));

    // What was on the left is at the top.
    let turned = Film::open(turned(folder.path(), &path)).unwrap();
    assert_eq!((turned.info().width, turned.info().height, turned.info().rotation), (48, 64, 90));
    red_and_blue(&turned, (24, 5), (24, 58));
    let small = frames(&turned, &FrameOptions { size: Some((12, 20)), ..FrameOptions::default() });
    assert_eq!(small[0].picture.size(), (12, 20));

    let wide = make(folder.path(), "wide.mp4", &format!("{} -vf setsar=4/3 {H264}", pictures("64x48", 5.0, 1.0)));
    let wide = Film::open(wide).unwrap();
    assert_eq!((wide.info().width, wide.info().height), (85, 48));
    assert_eq!(frames(&wide, &FrameOptions::default())[0].picture.size(), (85, 48));
}

#[test]
fn odd_sizes_ten_bits_and_large_pictures() {
    let folder = tempfile::tempdir().unwrap();
    for (size, width, height, more) in [
        ("853x480", 853, 480, "-c:v libx264 -preset ultrafast -pix_fmt yuv444p"),
        ("64x48", 64, 48, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p10le"),
        ("3840x2160", 3840, 2160, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"),
    ] {
        let path = make(folder.path(), "film.mp4", &format!("{} {more}", pictures(size, 10.0, 0.3)));
        let film = Film::open(&path).unwrap();
        assert_eq!((film.info().width, film.info().height), (width, height));
        let frames = frames(&film, &FrameOptions::default());
        assert_eq!(frames.len(), 3, "{size}");
        assert_eq!(frames[0].picture.size(), (width, height));
        // The test pattern has bars of all saturated colours: red is one of them.
        let red = |pixel: &[u8]| pixel[0] > 200 && pixel[1] < 60 && pixel[2] < 60;
        assert!(frames[0].picture.pixels().chunks_exact(3).any(red), "{size}: no red");
    }
}

#[test]
fn a_film_that_does_not_say_how_long_it_is() {
    let folder = tempfile::tempdir().unwrap();
    // As a browser records: written to a pipe, without going back to note the length.
    let path = make(folder.path(), "film.mkv", &format!("{} {H264} -f matroska -live 1", pictures("64x48", 25.0, 2.0)));
    assert_eq!(ffprobe(&path, "format=duration"), ["N/A"]);
    let film = Film::open(&path).unwrap();
    assert!((film.info().seconds - 2.0).abs() < 0.05, "{:?}", film.info());
    assert_eq!(frames(&film, &FrameOptions::default()).len(), 50);
    assert_eq!(frames(&film, &FrameOptions { from: 1.0, ..FrameOptions::default() }).len(), 25);
}

#[test]
fn options_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let film = Film::open(small(folder.path(), "film.mp4")).unwrap();
    let all = FrameOptions::default;
    for (name, options) in [
        ("from", FrameOptions { from: -0.1, ..all() }),
        ("from", FrameOptions { from: f64::NAN, ..all() }),
        ("from", FrameOptions { from: 3.5, ..all() }),
        ("to", FrameOptions { from: 1.0, to: Some(1.0), ..all() }),
        ("to", FrameOptions { to: Some(f64::INFINITY), ..all() }),
        ("rate", FrameOptions { rate: Some(0.0), ..all() }),
        ("rate", FrameOptions { rate: Some(f64::NAN), ..all() }),
        ("rate", FrameOptions { rate: Some(1e9), ..all() }),
        ("size", FrameOptions { size: Some((0, 10)), ..all() }),
        ("size", FrameOptions { size: Some((1 << 20, 10)), ..all() }),
    ] {
        match film.frames(&options) {
            Err(Error::Argument { what, .. }) => assert_eq!(what, name),
            other => panic!("{options:?}: {other:?}"),
        }
    }
    assert!(matches!(film.sound(9.0, None), Err(Error::Argument { .. })));
    // A part between two frames is empty, and that is all.
    assert!(frames(&film, &FrameOptions { from: 1.01, to: Some(1.02), ..all() }).is_empty());
}
