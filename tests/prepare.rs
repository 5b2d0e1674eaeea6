//! `prepare`: which pictures and sounds are taken, which films are flawed, and what archives may contain.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

#[path = "common/films.rs"]
mod films;
mod prepare_films;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use films::{H264, beeps, flashes, make, pictures, tone};
use prepare_films::{
    FLAWED, assert_same, flawed_films, good_films, gzip, lossless, number, numbered, results, tar, tree, zip,
};
use soundsight::data::{PairList, Shard};
use soundsight::prepare::{FilmList, FlawKind, Layout, Outcome, Pictures, Preparation, Recipe, SAMPLE_RATE, Summary};
use soundsight::video::{Ffmpeg, Film};
use soundsight::{Error, Picture, Waveform};

/// Short spans, and pictures without loss.
fn recipe() -> Recipe {
    Recipe { seconds: 2.0, min_seconds: 1.0, png: true, ..Recipe::default() }
}

fn prepared(sources: &[&Path], list: Option<&FilmList>, out: &Path, recipe: &Recipe) -> soundsight::Result<Outcome> {
    let sources: Vec<PathBuf> = sources.iter().map(|path| path.to_path_buf()).collect();
    Preparation::new(&sources, list, out, recipe.clone(), Shard::WHOLE, Ffmpeg::default())?.run(
        2,
        &AtomicBool::new(false),
        &|| (),
    )
}

#[track_caller]
fn finished(sources: &[&Path], list: Option<&FilmList>, out: &Path, recipe: &Recipe) -> Summary {
    match prepared(sources, list, out, recipe).unwrap() {
        Outcome::Finished(summary) => summary,
        other => panic!("{other:?}"),
    }
}

fn list(folder: &Path, text: &str) -> FilmList {
    let path = folder.join("list.csv");
    std::fs::write(&path, text).unwrap();
    FilmList::read(&path).unwrap()
}

/// The rows of `flaws.csv` without the header: id, flaw, used, film, reason.
fn flaws(out: &Path) -> Vec<[String; 5]> {
    let mut reader = csv::Reader::from_path(out.join("flaws.csv")).unwrap();
    assert_eq!(reader.headers().unwrap(), vec!["id", "flaw", "used", "film", "reason"]);
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn pictures_are_chosen_by_number_time_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let films = folder.path().join("films");
    std::fs::create_dir(&films).unwrap();
    make(&films, "a25.mkv", &lossless(&numbered(25.0, 3.9), 3.9));
    make(&films, "b50.mkv", &lossless(&numbered(50.0, 1.9), 1.9));
    make(&films, "c30.mkv", &lossless(&numbered(30.0, 3.0), 3.0));
    // The pictures begin 0.3 s after the sound; they are counted from the first one.
    make(&films, "d_late.mkv", &lossless(&format!("-itsoffset 0.3 {}", numbered(25.0, 3.0)), 3.3));
    let number_at = |number, rate| Pictures::Number { number, rate };
    // For each film, the numbers of its pictures.
    let cases: [(Recipe, [&[u32]; 4]); 5] = [
        (Recipe { pictures: number_at(30, 25.0), ..recipe() }, [&[30], &[60], &[36], &[30]]),
        (Recipe { pictures: number_at(0, 25.0), ..recipe() }, [&[0], &[0], &[0], &[0]]),
        (
            Recipe { pictures: number_at(3, 10.0), from: 0.4, seconds: 1.4, ..recipe() },
            [&[17, 18], &[35], &[21], &[9, 10]],
        ),
        (Recipe { seconds: 1.2, ..recipe() }, [&[15], &[30], &[18], &[15]]),
        (Recipe { seconds: 1.2, pictures: Pictures::Several(2), ..recipe() }, [&[7, 8], &[15], &[9], &[7, 8]]),
    ];
    for (k, (recipe, expected)) in cases.into_iter().enumerate() {
        let out = folder.path().join(format!("out{k}"));
        let summary = finished(&[&films], None, &out, &recipe);
        assert_eq!((summary.wanted, summary.used, summary.flaws.len()), (4, 4, 0), "{:?}", flaws(&out));
        for (id, expected) in ["a25", "b50", "c30", "d_late"].into_iter().zip(expected) {
            let single = recipe.pictures.is_single();
            let name = if single { format!("frames/{id}.png") } else { format!("frames/{id}_1.png") };
            let found = number(&Picture::open(out.join(name)).unwrap());
            // Between two frames either is right.
            assert!(expected.contains(&found), "case {k}, {id}: frame {found}, expected {expected:?}");
            let sound = Waveform::open(out.join(format!("audio/{id}.wav"))).unwrap();
            let there =
                (Film::open(films.join(format!("{id}.mkv"))).unwrap().info().seconds - recipe.from).min(recipe.seconds);
            assert_eq!((sound.sample_rate(), sound.channels()), (SAMPLE_RATE, 1));
            assert!((sound.seconds() - there).abs() < 0.01, "{id}: {} s of {there}", sound.seconds());
        }
    }
    // Several pictures are listed with their sound.
    let pairs = PairList::csv(&folder.path().join("out4/train.csv")).unwrap();
    assert_eq!(pairs.num_pairs(), 8);
    pairs.pairs().iter().for_each(|pair| pair.exists().unwrap());
    let second = number(&Picture::open(folder.path().join("out4/frames/b50_2.png")).unwrap());
    assert_eq!(second, 45);
}

#[test]
fn the_sound_of_a_span_is_that_of_its_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let film = make(folder.path(), "whole.mp4", &format!("{} {} {H264} -c:a aac", flashes(6.0), beeps(6.0)));
    let wanted = list(folder.path(), "whole,2,a beep,train\nwhole,3,a beep,test\nwhole,30,never,train\n");
    let out = folder.path().join("out");
    // A flash and a beep begin at every full second and last 80 ms.
    let recipe = Recipe { pictures: Pictures::Number { number: 26, rate: 25.0 }, ..recipe() };
    let summary = finished(&[&film], Some(&wanted), &out, &recipe);
    // The spans of a member of an archive share its copy.
    let (inside, archive) = (folder.path().join("inside"), folder.path().join("whole.tar"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(&film, inside.join("whole.mp4")).unwrap();
    std::fs::write(&archive, tar(&inside)).unwrap();
    let other = folder.path().join("other");
    assert_eq!(finished(&[&archive], Some(&wanted), &other, &recipe), summary);
    assert_same(&tree(&other), &tree(&out));
    assert_eq!((summary.wanted, summary.used), (3, 2));
    assert_eq!(
        summary.splits.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
        [("test", 1), ("train", 1)]
    );
    for id in ["whole_000002", "whole_000003"] {
        let sound = Waveform::open(out.join(format!("audio/{id}.wav"))).unwrap();
        let onset = |from: usize| from + sound.samples()[from..].iter().position(|sample| sample.abs() > 0.1).unwrap();
        assert!(onset(0) < 800, "{}", onset(0));
        assert!(onset(8000).abs_diff(16_000) < 800, "{}", onset(8000));
        assert!(Picture::open(out.join(format!("frames/{id}.png"))).unwrap().pixels()[0] > 200);
    }
    let flaws = flaws(&out);
    assert_eq!(flaws.len(), 1);
    assert_eq!(flaws[0][..4], ["whole_000030", "short", "no", "whole.mp4"].map(String::from));
    assert_eq!(std::fs::read_to_string(out.join("train.csv")).unwrap(), "id,label\nwhole_000002,a beep\n");
}

#[test]
fn flawed_films_are_listed_with_their_reasons_and_a_folder_is_as_good_as_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 5);
    flawed_films(folder.path(), &films);
    let out = folder.path().join("out");
    let summary = finished(&[&films], None, &out, &recipe());
    let flaws = flaws(&out);
    let kinds: Vec<(&str, &str)> = flaws.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(kinds, FLAWED, "{flaws:#?}");
    for [id, _, used, film, reason] in &flaws {
        assert_eq!(used, "no");
        assert!(
            film.contains(id.as_str()) && reason.contains("expected") && reason.contains("found"),
            "{id}: {reason}"
        );
        assert!(!reason.contains(folder.path().to_str().unwrap()), "{reason}");
    }
    assert_eq!((summary.wanted, summary.used, summary.ignored), (17, 5, 1));
    assert_eq!(summary.flaws[&FlawKind::Broken], 5);
    let pairs = PairList::published(&out, &out.join("train.csv")).unwrap();
    assert_eq!(
        pairs.pairs().iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(),
        ["f00", "f01", "f02", "f03", "f04"]
    );
    pairs.pairs().iter().for_each(|pair| pair.exists().unwrap());
    let sheet = Picture::open(out.join("contact.png")).unwrap();
    assert_eq!(sheet.width(), 5 * 248 + 8);
    assert_eq!(results(&out).keys().filter(|name| name.ends_with(".wav") || name.ends_with(".png")).count(), 5 + 5 + 1);

    let expected = tree(&out);
    let archive = tar(&films);
    std::fs::write(folder.path().join("films.tar"), &archive).unwrap();
    std::fs::write(folder.path().join("films.tar.gz"), gzip(&archive)).unwrap();
    zip(&films, &folder.path().join("films.zip"));
    for name in ["films.tar", "films.tar.gz", "films.zip"] {
        let out = folder.path().join(format!("out.{name}"));
        assert_eq!(finished(&[&folder.path().join(name)], None, &out, &recipe()), summary, "{name}");
        assert_same(&tree(&out), &expected);
    }

    // Kept: the same films are listed as flawed, and used.
    let kept = Recipe { keep_silent: true, keep_still: true, ..recipe() };
    let out = folder.path().join("kept");
    let summary = finished(&[&films], None, &out, &kept);
    assert_eq!((summary.used, summary.tolerated), (7, 2));
    let used: Vec<String> =
        self::flaws(&out).into_iter().filter(|row| row[2] == "yes").map(|row| row[0].clone()).collect();
    assert_eq!(used, ["quiet", "still"]);
}

#[test]
fn a_tolerated_flaw_does_not_hide_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let sources = "-f lavfi -i color=teal:size=64x48:rate=25:duration=2 -f lavfi -i anullsrc -t 2";
    let film = make(folder.path(), "dead.mp4", &format!("{sources} {H264} -c:a aac"));
    for (keep_silent, keep_still, kind, used) in
        [(true, false, "still", "no"), (false, true, "silent", "no"), (true, true, "silent", "yes")]
    {
        let out = folder.path().join(format!("{keep_silent}{keep_still}"));
        finished(&[&film], None, &out, &Recipe { keep_silent, keep_still, ..recipe() });
        let flaws = flaws(&out);
        assert_eq!(flaws[0][..3], ["dead", kind, used].map(String::from));
        assert_eq!(out.join("frames/dead.png").exists(), used == "yes");
    }
}

#[test]
fn listed_films_are_found_under_each_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let films = folder.path().join("films");
    std::fs::create_dir(&films).unwrap();
    let film = make(folder.path(), "film.mkv", &lossless(&numbered(25.0, 3.9), 3.9));
    for name in ["cut_000007", "short_7", "whole", "both", "both_000001", "-dash_000002", "other"] {
        std::fs::copy(&film, films.join(format!("{name}.mkv"))).unwrap();
    }
    let text = "cut,7,\"a label, with a comma\",test\nshort,7,b,test\nwhole,1,c,test\nwhole,1,c,test\nboth,1,d,test\n\
                -dash,2,e,test\nabsent,3,f,test\nwhole,9,g,train\n";
    let wanted = list(folder.path(), text).select("test").unwrap();
    let out = folder.path().join("out");
    let recipe = Recipe { pictures: Pictures::Number { number: 10, rate: 25.0 }, ..recipe() };
    let summary = finished(&[&films], Some(&wanted), &out, &recipe);
    assert_eq!((summary.wanted, summary.used, summary.unlisted), (6, 5, 2), "{:?}", flaws(&out));
    for (id, expected) in
        [("cut_000007", 10), ("short_000007", 10), ("whole_000001", 35), ("both_000001", 10), ("-dash_000002", 10)]
    {
        assert_eq!(number(&Picture::open(out.join(format!("frames/{id}.png"))).unwrap()), expected, "{id}");
    }
    let listed = std::fs::read_to_string(out.join("test.csv")).unwrap();
    assert!(listed.contains("cut_000007,\"a label, with a comma\"\n") && !listed.contains("absent"), "{listed}");
    let flaws = flaws(&out);
    assert_eq!(flaws[0][..4], ["absent_000003", "missing", "no", ""].map(String::from));
    assert!(flaws[0][4].contains("absent_000003.mp4") && flaws[0][4].contains("absent.mp4"), "{flaws:?}");

    // The film appears: it is no longer missing, and the others are not done again.
    let before = std::fs::metadata(out.join("audio/cut_000007.wav")).unwrap().modified().unwrap();
    std::fs::copy(&film, films.join("absent.mkv")).unwrap();
    // From second 3 on there is less than a second.
    let summary = finished(&[&films], Some(&wanted), &out, &recipe);
    assert_eq!((summary.used, summary.flaws[&FlawKind::Short]), (5, 1));
    assert_eq!(std::fs::metadata(out.join("audio/cut_000007.wav")).unwrap().modified().unwrap(), before);
    // A file that is gone is made again.
    std::fs::remove_file(out.join("audio/cut_000007.wav")).unwrap();
    finished(&[&films], Some(&wanted), &out, &recipe);
    assert!(out.join("audio/cut_000007.wav").is_file());
    // A film that was replaced is prepared again.
    make(&films, "absent.mkv", &lossless(&numbered(25.0, 5.5), 5.5));
    assert_eq!(finished(&[&films], Some(&wanted), &out, &recipe).used, 6);

    // What was made of an earlier film is removed when it is replaced by a flawed one.
    std::fs::write(films.join("absent.mkv"), "no film").unwrap();
    assert_eq!(finished(&[&films], Some(&wanted), &out, &recipe).used, 5);
    assert!(!results(&out).keys().any(|name| name.contains("absent")));

    // Ids with their start, as in the lists for training.
    let wanted = list(folder.path(), "id,label\nwhole_000001,c\ncut_000007,a\n");
    let summary = finished(&[&films], Some(&wanted), &folder.path().join("ids"), &recipe);
    assert_eq!(summary.used, 2);
    assert_eq!(number(&Picture::open(folder.path().join("ids/frames/whole_000001.png")).unwrap()), 35);
}

#[test]
fn lists_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.csv");
    for (text, found) in [
        ("", "none"),
        ("id,label\n", "none"),
        ("a,1,x\nb,1\n", "2 columns in line 2"),
        ("a,1,x,train,more\n", "5 columns in line 1"),
        ("a,soon,x\n", "the start `soon` in line 1"),
        ("a,-1,x\n", "the start `-1` in line 1"),
        ("../a\n", "the id `../a` in line 1"),
        ("a,1,x,../train\n", "the split `../train` in line 1"),
        (".hidden\n", "the id `.hidden` in line 1"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = FilmList::read(&path).unwrap_err();
        assert!(matches!(&error, Error::Format { found: f, .. } if f == found), "{text:?}: {error}");
    }
    let error = list(folder.path(), "a,1,x,train\n").select("test").unwrap_err();
    assert!(matches!(&error, Error::Format { found, .. } if found == "only of train"), "{error}");
    assert!(matches!(FilmList::read(Path::new("absent.csv")), Err(Error::Io { .. })));
}

#[test]
fn layouts_are_those_of_the_benchmarks() {
    let folder = tempfile::tempdir().unwrap();
    let film = make(folder.path(), "film.mkv", &lossless(&numbered(25.0, 3.9), 3.9));
    let out = folder.path().join("avsbench");
    let each = Recipe { layout: Layout::Avsbench, pictures: Pictures::EachSecond, png: false, ..recipe() };
    assert_eq!(finished(&[&film], None, &out, &each).pictures, 2);
    for (name, expected) in [("film_1", 24), ("film_2", 49)] {
        assert_eq!(number(&Picture::open(out.join(format!("visual_frames/{name}.png"))).unwrap()), expected, "{name}");
    }
    let mut wav = hound::WavReader::open(out.join("audio_wav/film.wav")).unwrap();
    assert_eq!((wav.spec().channels, wav.spec().sample_rate, wav.duration()), (2, 16_000, 32_000));
    let samples: Vec<i16> = wav.samples().map(|sample| sample.unwrap()).collect();
    assert!(samples.as_chunks::<2>().0.iter().all(|[left, right]| left == right) && samples.iter().any(|&s| s > 1000));

    let out = folder.path().join("extended");
    finished(&[&film], None, &out, &Recipe { layout: Layout::Extended, png: false, ..recipe() });
    let names: Vec<String> = results(&out).into_keys().filter(|name| name.starts_with("extend")).collect();
    assert_eq!(names, ["extend_audio/", "extend_audio/film.wav", "extend_frames/", "extend_frames/film.jpg"]);
    let picture = Picture::open(out.join("extend_frames/film.jpg")).unwrap();
    assert_eq!((picture.size(), number(&picture)), ((64, 48), 25));
}

#[test]
fn archives_cannot_write_elsewhere_or_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let film = std::fs::read(films::small(folder.path(), "film.mp4")).unwrap();
    let archive = folder.path().join("bad.zip");
    let mut writer = zip::ZipWriter::new(std::fs::File::create(&archive).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in ["good.mp4", "../../up.mp4", "/etc/absolute.mp4", "a/../b/inner.mp4", "C:/drive.mp4", "._good.mp4"] {
        writer.start_file(name, stored).unwrap();
        writer.write_all(&film).unwrap();
    }
    writer.add_symlink("link.mp4", "/etc/passwd", stored).unwrap();
    let deflated = stored.compression_method(zip::CompressionMethod::Deflated);
    writer.start_file("bomb.mp4", deflated).unwrap();
    (0..40).for_each(|_| writer.write_all(&vec![0; 1 << 20]).unwrap());
    writer.finish().unwrap();

    let mut builder = tar::Builder::new(Vec::new());
    for name in ["good.mp4", "../up.mp4", "/etc/absolute.mp4"] {
        let mut header = tar::Header::new_gnu();
        // `set_path` refuses such names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(film.len() as u64);
        header.set_cksum();
        builder.append(&header, &film[..]).unwrap();
    }
    for (name, kind) in
        [("link.mp4", tar::EntryType::Symlink), ("hard.mp4", tar::EntryType::Link), ("fifo.mp4", tar::EntryType::Fifo)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, "/etc/passwd").unwrap();
    }
    let bad_tar = folder.path().join("bad.tar");
    std::fs::write(&bad_tar, builder.into_inner().unwrap()).unwrap();

    for (archive, expected) in [
        (
            &archive,
            &["absolute unsafe", "bomb too-large", "drive unsafe", "inner unsafe", "link unsafe", "up unsafe"][..],
        ),
        (&bad_tar, &["absolute unsafe", "fifo unsafe", "hard unsafe", "link unsafe", "up unsafe"]),
    ] {
        let out = folder.path().join("deep/down/out");
        let summary = finished(&[archive], None, &out, &recipe());
        assert_eq!(summary.used, 1);
        let found: Vec<String> = flaws(&out).iter().map(|row| format!("{} {}", row[0], row[1])).collect();
        assert_eq!(found, expected);
        assert!(!folder.path().join("deep/up.mp4").exists() && !folder.path().join("deep/down/up.mp4").exists());
        std::fs::remove_dir_all(folder.path().join("deep")).unwrap();
    }
}

#[test]
fn damaged_archives_are_refused_and_damaged_members_are_not_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 3);
    let out = folder.path().join("out");
    let archive = tar(&films);
    // The last film ends too early; nothing else is wrong.
    let cut = folder.path().join("cut.tar");
    let name = archive.windows(7).rposition(|window| window == b"f02.mp4").unwrap();
    let last = ["f00.mp4", "f01.mp4", "f02.mp4"]
        .into_iter()
        .max_by_key(|name| archive.windows(7).rposition(|window| window == name.as_bytes()))
        .unwrap();
    let header = archive.windows(7).rposition(|window| window == last.as_bytes()).unwrap().max(name);
    std::fs::write(&cut, &archive[..header + 2000]).unwrap();
    let summary = finished(&[&cut], None, &out, &recipe());
    assert_eq!((summary.used, summary.flaws[&FlawKind::Broken]), (2, 1));
    assert!(flaws(&out)[0][4].contains("truncated"), "{:?}", flaws(&out));

    // A member whose checksum is wrong.
    let path = folder.path().join("films.zip");
    zip(&films, &path);
    let mut bytes = std::fs::read(&path).unwrap();
    let data = bytes.windows(7).position(|window| window == b"f01.mp4").unwrap() + 500;
    bytes[data] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    let out = folder.path().join("out.zip");
    let summary = finished(&[&path], None, &out, &recipe());
    assert_eq!((summary.used, flaws(&out)[0][0].as_str()), (2, "f01"), "{:?}", flaws(&out));

    let (gz, truncated) = (folder.path().join("films.tar.gz"), folder.path().join("half.zip"));
    let whole = gzip(&archive);
    std::fs::write(&gz, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    let text = folder.path().join("list.txt");
    std::fs::write(&text, "films").unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let out = folder.path().join("never");
    for (source, parts) in [
        (&gz, &["films.tar.gz", "unusable archive", "complete"][..]),
        (&truncated, &["half.zip", "unusable archive"]),
        (&text, &["list.txt", "a folder, a .zip, .tar or .tar.gz archive, or a film"]),
        (&empty, &["films", "at least one", "empty"]),
        (&folder.path().join("absent"), &["absent", "cannot read"]),
    ] {
        let error = prepared(&[source], None, &out, &recipe()).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!out.exists());
    }
}

#[test]
fn another_recipe_is_refused_and_so_is_a_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 1);
    let out = folder.path().join("out");
    finished(&[&films], None, &out, &recipe());
    let before = tree(&out);
    let other = Recipe { seconds: 1.5, ..recipe() };
    let error = prepared(&[&films], None, &out, &other).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, found, .. } if what == "seconds" && found == "1.5"), "{error}");
    assert_same(&tree(&out), &before);

    let sources = [films];
    let open = || Preparation::new(&sources, None, &out, recipe(), Shard::WHOLE, Ffmpeg::default());
    let first = open().unwrap();
    let error = soundsight::error::chain(&open().unwrap_err());
    assert!(error.contains("another process is preparing this"), "{error}");
    drop(first);
    open().unwrap();
}

#[test]
fn without_ffmpeg_the_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let film = make(folder.path(), "film.mp4", &format!("{} {} {H264}", pictures("64x48", 25.0, 2.0), tone(2.0)));
    let none = Ffmpeg { ffmpeg: "/nonexistent/ffmpeg".into(), ffprobe: "/nonexistent/ffprobe".into() };
    let out = folder.path().join("out");
    let preparation = Preparation::new(&[film], None, &out, recipe(), Shard::WHOLE, none).unwrap();
    let error = preparation.run(2, &AtomicBool::new(false), &|| ()).unwrap_err();
    assert!(matches!(&error, Error::MissingProgram { program } if program.ends_with("ffprobe")), "{error}");
}

#[cfg(unix)]
#[test]
fn a_decoder_that_is_killed_says_nothing_about_the_film() {
    let folder = tempfile::tempdir().unwrap();
    let films = good_films(folder.path(), 2);
    let out = folder.path().join("out");
    // The last one is how ffmpeg itself ends when it is asked to.
    for (number, end) in ["kill -KILL $$", "kill -TERM $$", "exit 255"].into_iter().enumerate() {
        let ffmpeg = films::script(folder.path(), &format!("ffmpeg{number}"), end);
        let killed = Ffmpeg { ffmpeg, ..Ffmpeg::default() };
        let sources = [films.clone()];
        let preparation = Preparation::new(&sources, None, &out, recipe(), Shard::WHOLE, killed).unwrap();
        let error = preparation.run(1, &AtomicBool::new(false), &|| ()).unwrap_err();
        assert!(matches!(&error, Error::Film { origin, .. } if origin.ends_with("f00.mp4")), "{error:?}");
        assert_eq!(std::fs::read(out.join(".prepare/1-of-1.jsonl")).unwrap(), b"");
    }
    assert_eq!(finished(&[&films], None, &out, &recipe()).used, 2);
}
