//! Files that are no films, films that are damaged, and an `ffmpeg` that is missing or dies: each is an error that says
//! what and why, and no process is left behind.
#![allow(clippy::unwrap_used)]

#[path = "common/films.rs"]
mod films;

use std::path::{Path, PathBuf};

use films::{H264, frames, make, pictures, small, tone};
use soundsight::Error;
use soundsight::video::{Ffmpeg, Film, FrameOptions};

/// Asserts an [`Error::Film`] about `path` whose two sides contain these words.
#[track_caller]
fn assert_film<T: std::fmt::Debug>(result: Result<T, Error>, path: &Path, expects: &str, finds: &str) {
    match result {
        Err(Error::Film { origin, expected, found }) => {
            assert_eq!(origin, path.display().to_string());
            assert!(expected.contains(expects), "expected {expected:?} lacks {expects:?}");
            assert!(found.contains(finds), "found {found:?} lacks {finds:?}");
        }
        other => panic!("{}: not an error about a film: {other:?}", path.display()),
    }
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn no_file_and_no_film() {
    let folder = tempfile::tempdir().unwrap();
    for (path, kind) in [
        (folder.path().join("missing.mp4"), std::io::ErrorKind::NotFound),
        (folder.path().to_path_buf(), std::io::ErrorKind::IsADirectory),
    ] {
        match Film::open(&path) {
            Err(Error::Io { path: at, source, .. }) => assert_eq!((at, source.kind()), (path, kind)),
            other => panic!("{other:?}"),
        }
    }
    let empty = file(folder.path(), "empty.mp4", b"");
    assert_film(Film::open(&empty), &empty, "a film", "an empty file");
    let text = file(folder.path(), "text.mp4", &b"Once upon a time there was a dog. ".repeat(200));
    assert_film(Film::open(&text), &text, "a complete film", "Invalid data");
    if cfg!(unix) {
        assert_film(Film::open("/dev/null"), Path::new("/dev/null"), "a film", "something else than a file");
    }
}

#[test]
fn no_picture_track() {
    let folder = tempfile::tempdir().unwrap();
    let sound = make(folder.path(), "sound.m4a", &tone(1.0));
    assert_film(Film::open(&sound), &sound, "a picture track", "none (tracks: audio)");
    let cover = format!("{} {} -map 0 -map 1 -frames:v 1 -c:v png", tone(1.0), pictures("64x48", 1.0, 1.0));
    let cover = make(folder.path(), "cover.mp3", &format!("{cover} -disposition:v attached_pic"));
    assert_film(Film::open(&cover), &cover, "a picture track", "only a cover picture");
}

#[test]
fn a_still_picture_is_no_film() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["still.png", "still.jpg", "still.gif", "still.bmp", "still%03d.png"] {
        let arguments = format!("{} -frames:v 1", pictures("64x48", 1.0, 1.0));
        let path = match name.contains('%') {
            false => make(folder.path(), name, &arguments),
            true => {
                std::fs::copy(folder.path().join("still.png"), folder.path().join(name)).unwrap();
                std::fs::copy(folder.path().join("still.png"), folder.path().join("still001.png")).unwrap();
                folder.path().join(name)
            }
        };
        assert_film(Film::open(&path), &path, "localize SOUND PICTURE", "a still picture");
    }
    let moving = make(folder.path(), "moving.gif", &pictures("64x48", 10.0, 1.0));
    assert_eq!(frames(&Film::open(moving).unwrap(), &FrameOptions::default()).len(), 10);
}

#[test]
fn lists_of_files_are_refused_and_nothing_reaches_the_network() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path(), "film.mp4");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = format!("http://{}/film.ts", server.local_addr().unwrap());
    let list = file(folder.path(), "list.mp4", b"ffconcat version 1.0\nfile film.mp4\n");
    assert_film(Film::open(&list), &list, "", "");
    for (name, content) in [
        ("list.m3u8", format!("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{address}\n#EXT-X-ENDLIST\n")),
        ("list.ffconcat", format!("ffconcat version 1.0\nfile {address}\n")),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n".into()),
    ] {
        let list = file(folder.path(), name, content.as_bytes());
        assert_film(Film::open(&list), &list, "", "");
    }
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody asked the network");
}

#[test]
fn truncated_films() {
    let folder = tempfile::tempdir().unwrap();
    // The table of contents is at the end.
    let film = small(folder.path(), "film.mp4");
    let bytes = std::fs::read(&film).unwrap();
    let cut = file(folder.path(), "cut.mp4", &bytes[..bytes.len() / 2]);
    assert_film(Film::open(&cut), &cut, "a complete film", "moov atom not found");

    for (name, more) in [("whole.mp4", "-movflags +faststart"), ("whole.mkv", "")] {
        let arguments = format!("{} {} {H264} -c:a aac {more}", pictures("320x240", 25.0, 6.0), tone(6.0));
        let whole = std::fs::read(make(folder.path(), name, &arguments)).unwrap();
        let cut = file(folder.path(), &format!("cut.{}", &name[6..]), &whole[..whole.len() * 6 / 10]);
        let film = Film::open(&cut).unwrap();
        let mut decoded: Vec<_> = film.frames(&FrameOptions::default()).unwrap().collect();
        let last = decoded.pop().unwrap();
        assert!(decoded.len() > 50 && decoded.len() < 130, "{name}: {}", decoded.len());
        assert!(decoded.iter().all(Result::is_ok));
        assert_film(last, &cut, "a track of 6.0", "after");
        let last = film.sound(0.0, None).unwrap().last().unwrap();
        assert_film(last, &cut, "a track of 6.0", "truncated");
        // What is asked for is all there.
        assert_eq!(frames(&film, &FrameOptions { to: Some(1.0), ..FrameOptions::default() }).len(), 25);
    }
}

#[test]
fn a_film_without_frames() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!("{} {} -vf select=0 -c:v ffv1", pictures("64x48", 25.0, 1.0), tone(1.0));
    let path = make(folder.path(), "film.mkv", &arguments);
    let mut frames = Film::open(&path).unwrap().frames(&FrameOptions::default()).unwrap();
    assert_film(frames.next().unwrap(), &path, "at least one picture", "");
    assert!(frames.next().is_none());
}

#[test]
fn programs_that_are_not_installed() {
    let folder = tempfile::tempdir().unwrap();
    let film = small(folder.path(), "film.mp4");
    let missing = PathBuf::from("/nonexistent/program");
    let check = |result: Result<(), Error>| match result {
        Err(error @ Error::MissingProgram { .. }) => {
            let message = error.to_string();
            for part in ["/nonexistent/program", "apt-get install ffmpeg", "brew", "winget"] {
                assert!(message.contains(part), "{message}");
            }
        }
        other => panic!("{other:?}"),
    };
    let ffprobe = Ffmpeg { ffprobe: missing.clone(), ..Ffmpeg::default() };
    check(Film::open_with(&film, ffprobe).map(drop));
    let ffmpeg = Ffmpeg { ffmpeg: missing, ..Ffmpeg::default() };
    let film = Film::open_with(&film, ffmpeg).unwrap();
    check(film.frames(&FrameOptions::default()).map(drop));
    check(film.sound(0.0, None).map(drop));
}

#[test]
#[cfg(unix)]
fn names_are_nothing_but_names() {
    use std::os::unix::ffi::OsStringExt;

    let folder = tempfile::tempdir().unwrap();
    let film = small(folder.path(), "film.mp4");
    for name in [
        "-version.mp4",
        "a%03d.mp4",
        "%d",
        "http:film.mp4",
        "pipe:0",
        "concat:a|b.mp4",
        "two\nlines.mp4",
        " 'quoted' \"name\" [v];null,.mp4",
        "not utf-8: \u{1}",
    ] {
        let name = match name.strip_suffix('\u{1}') {
            Some(name) => std::ffi::OsString::from_vec([name.as_bytes(), &[0xFF, 0xFE]].concat()),
            None => name.into(),
        };
        std::fs::copy(&film, folder.path().join(&name)).unwrap();
        // From within the folder, so that nothing is before the name.
        std::env::set_current_dir(folder.path()).unwrap();
        let film = Film::open(&name).unwrap();
        assert_eq!(frames(&film, &FrameOptions::default()).len(), 75, "{name:?}");
        assert!(film.sound(0.0, None).unwrap().all(|chunk| chunk.is_ok()), "{name:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_process_outlives_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "long.mp4", &format!("{} {} {H264}", pictures("320x240", 25.0, 40.0), tone(40.0)));
    let watched = films::Watched::new(folder.path());
    let film = Film::open_with(&path, watched.ffmpeg.clone()).unwrap();
    let mut all = film.frames(&FrameOptions::default()).unwrap();
    let mut sound = film.sound(0.0, None).unwrap();
    assert!(all.next().unwrap().is_ok() && sound.next().unwrap().is_ok());
    assert_eq!((watched.processes().len(), watched.left().len()), (3, 2));
    drop(all);
    drop(sound);
    assert_eq!(watched.left(), [""; 0]);
    // Nor does one that is not dropped but has reached the end of its part.
    let mut part = film.frames(&FrameOptions { to: Some(0.2), ..FrameOptions::default() }).unwrap();
    assert_eq!(part.by_ref().count(), 5);
    assert_eq!(watched.left(), [""; 0]);
    drop(part);
}

#[test]
#[cfg(target_os = "linux")]
fn an_ffmpeg_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "long.mp4", &format!("{} {} {H264}", pictures("320x240", 25.0, 40.0), tone(40.0)));
    let watched = films::Watched::new(folder.path());
    let film = Film::open_with(&path, watched.ffmpeg.clone()).unwrap();
    let mut all = film.frames(&FrameOptions::default()).unwrap();
    assert!(all.next().unwrap().is_ok());
    watched.kill_latest();
    let last = all.by_ref().last().unwrap();
    assert_film(last, &path, "a track of 40.0", "SIGKILL");
    assert!(all.next().is_none());
    let mut sound = film.sound(0.0, None).unwrap();
    assert!(sound.next().unwrap().is_ok());
    watched.kill_latest();
    assert_film(sound.last().unwrap(), &path, "a track of 40.0", "SIGKILL");
    assert_eq!(watched.left(), [""; 0]);
}
