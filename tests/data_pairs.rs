//! Lists of pairs: the published layout, CSV files, and invalid lists.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use soundsight::Error;
use soundsight::data::{BadPairs, Pair, PairList};
use tempfile::TempDir;

/// A folder with these files, each containing one byte.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    folder
}

fn published(folder: &TempDir, split: &str) -> Result<PairList, Error> {
    let path = folder.path().join("split.csv");
    std::fs::write(&path, split).unwrap();
    PairList::published(folder.path(), &path)
}

fn csv(folder: &TempDir, text: &str) -> Result<PairList, Error> {
    let path = folder.path().join("pairs.csv");
    std::fs::write(&path, text).unwrap();
    PairList::csv(&path)
}

/// The `expected` and `found` of an error that must be about the list at `file`.
#[track_caller]
fn format_error(result: Result<PairList, Error>, file: &Path) -> (String, String) {
    match result.unwrap_err() {
        Error::Format { path, expected, found, .. } => {
            assert_eq!(path, file);
            (expected, found)
        }
        other => panic!("{other:?}"),
    }
}

const DOGS: [&str; 5] =
    ["audio/dog_000.wav", "audio/cat.1_002.ogg", "frames/dog_000.jpg", "frames/cat.1_002.png", "frames/bird.jpg"];

#[test]
fn the_published_layout_is_read_with_and_without_a_header() {
    let folder = folder(&DOGS);
    let lines = "dog_000,dog barking\ncat.1_002,\"cat, meowing\"\ndog_000,dog barking\n";
    let plain = published(&folder, lines).unwrap();
    let expected = Pair {
        id: "cat.1_002".to_string(),
        audio: folder.path().join("audio/cat.1_002.ogg"),
        image: folder.path().join("frames/cat.1_002.png"),
        label: Some("cat, meowing".to_string()),
    };
    assert_eq!(plain.num_pairs(), 2, "an id listed twice counts once");
    assert_eq!(plain.pairs()[1], expected);
    let with_header = published(&folder, &format!("\u{feff}id,label\r\n{lines}\n")).unwrap();
    assert_eq!(with_header.pairs(), plain.pairs());
    let ids_only = published(&folder, "id\ndog_000\n").unwrap();
    assert_eq!((ids_only.num_pairs(), &ids_only.pairs()[0].label), (1, &None));
}

#[test]
fn a_split_with_other_columns_is_refused() {
    let folder = folder(&DOGS);
    let split = folder.path().join("split.csv");
    let (expected, found) = format_error(published(&folder, "id,class\ndog_000,dog\n"), &split);
    assert!(expected.contains("id[,label]") && found.contains("`class`"), "{expected} {found}");
    let (_, found) = format_error(published(&folder, "dog_000,dog\ncat.1_002,cat,train\n"), &split);
    assert!(found.contains("line 2") && found.contains("cat.1_002,cat,train"), "{found}");
    let (expected, found) = format_error(published(&folder, "id,label\n"), &split);
    assert_eq!((expected.as_str(), found.as_str()), ("at least one pair", "none"));
}

#[test]
fn a_missing_folder_is_named() {
    let folder = folder(&["audio/dog.wav"]);
    match published(&folder, "dog\n").unwrap_err() {
        Error::Io { path, action: "read", .. } => assert_eq!(path, folder.path().join("frames")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_csv_file_is_read_relative_to_its_folder() {
    let folder = folder(&[]);
    let list = csv(&folder, "image, label ,audio\npics/a.png,, sounds/a.wav \n/abs/b.png,bell,/abs/b.wav\n").unwrap();
    let [first, second] = list.pairs() else { panic!("{list:?}") };
    assert_eq!((first.id.as_str(), &first.label), ("sounds/a.wav", &None));
    assert_eq!(first.audio, folder.path().join("sounds/a.wav"));
    assert_eq!(first.image, folder.path().join("pics/a.png"));
    assert_eq!((second.audio.as_path(), second.label.as_deref()), (Path::new("/abs/b.wav"), Some("bell")));
}

#[test]
fn a_csv_file_that_is_not_as_expected_is_refused_with_the_reason() {
    let folder = folder(&[]);
    let path = folder.path().join("pairs.csv");
    for (text, reason) in [
        ("", "an empty file"),
        ("audio,image\n", "none"),
        ("audio,image,start\na,b,0\n", "an unknown column `start`"),
        ("audio,label\na,b\n", "no column `image`"),
        ("audio,image,audio\na,b,c\n", "`audio` twice"),
        ("audio,image\na.wav\n", "`a.wav` in line 2"),
        ("audio,image\na.wav,a.png\n,b.png\n", "`,b.png` in line 3"),
    ] {
        let (_, found) = format_error(csv(&folder, text), &path);
        assert_eq!(found, reason, "{text:?}");
    }
    std::fs::write(&path, b"audio,image\n\xff\xfe,b\n").unwrap();
    let (expected, _) = format_error(PairList::csv(&path), &path);
    assert!(expected.contains("UTF-8"), "{expected}");
    match PairList::csv(&folder.path().join("nowhere.csv")).unwrap_err() {
        Error::Io { path, .. } => assert_eq!(path, folder.path().join("nowhere.csv")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_pairs_what_shares_a_name() {
    let files = [
        "owl.ogg",
        "owl.PNG",
        "cat.1.wav",
        "cat.1.jpg",
        "cat.1.mp3",
        "dog.wav",
        "cow.png",
        "owl.txt",
        "README",
        "owl_.ogg",
    ];
    let folder = folder(&files);
    let list = PairList::folder(folder.path()).unwrap();
    let names = list.pairs().iter().map(|p| (p.id.clone(), p.audio.clone(), p.image.clone())).collect::<Vec<_>>();
    let path = |name: &str| folder.path().join(name);
    assert_eq!(
        names,
        [
            ("cat.1".to_string(), path("cat.1.mp3"), path("cat.1.jpg")),
            ("owl".to_string(), path("owl.ogg"), path("owl.PNG"))
        ]
    );
    std::fs::remove_file(path("owl.PNG")).unwrap();
    std::fs::remove_file(path("cat.1.jpg")).unwrap();
    let (expected, found) = format_error(PairList::folder(folder.path()), folder.path());
    assert!(expected.contains("at least one pair") && found == "none", "{expected} {found}");
    assert!(matches!(PairList::folder(&path("absent")), Err(Error::Io { .. })));
}

#[test]
fn one_pair_has_no_negatives() {
    let folder = folder(&DOGS);
    let one = published(&folder, "dog_000\n").unwrap();
    let (expected, found) =
        format_error(one.require_negatives().map(|()| one.clone()), &folder.path().join("split.csv"));
    assert!(expected.contains("at least two pairs") && found == "1", "{expected} {found}");
    published(&folder, "dog_000\ncat.1_002\n").unwrap().require_negatives().unwrap();
}

/// A hundred pairs, without the frames of those in `missing`.
fn hundred(missing: &[usize]) -> (TempDir, PairList, PathBuf) {
    let names: Vec<String> = (0..100)
        .flat_map(|i| {
            let frame = (!missing.contains(&i)).then(|| format!("frames/{i}.jpg"));
            std::iter::once(format!("audio/{i}.wav")).chain(frame)
        })
        .collect();
    let others = ["frames/another.jpg"];
    let folder = folder(&names.iter().map(String::as_str).chain(others).collect::<Vec<_>>());
    let list = published(&folder, &(0..100).map(|i| format!("{i}\n")).collect::<String>()).unwrap();
    let bad = folder.path().join("bad_pairs.csv");
    (folder, list, bad)
}

#[test]
fn a_missing_frame_is_listed_and_left_out() {
    let (folder, list, path) = hundred(&[42]);
    let bad = BadPairs::open(&path, list.num_pairs(), 0.01).unwrap();
    let good = list.check(Pair::exists, &bad).unwrap();
    assert_eq!((good.num_pairs(), bad.count()), (99, 1));
    assert!(good.pairs().iter().all(|pair| pair.id != "42"));
    let text = std::fs::read_to_string(&path).unwrap();
    let missing = folder.path().join("frames/42.*");
    assert!(text.lines().count() == 2 && text.contains("42,") && text.contains(missing.to_str().unwrap()), "{text}");

    // The resumed run reads the list, finds the same pair again, and counts it once.
    let bad = BadPairs::open(&path, 100, 0.01).unwrap();
    bad.record("42", &Error::config("again", "", "")).unwrap();
    assert_eq!((bad.count(), std::fs::read_to_string(&path).unwrap()), (1, text));
}

#[test]
fn too_many_missing_frames_end_the_run() {
    let (_folder, list, path) = hundred(&[1, 42]);
    let bad = BadPairs::open(&path, list.num_pairs(), 0.01).unwrap();
    match list.check(Pair::exists, &bad).unwrap_err() {
        error @ Error::TooManyBadPairs { num_bad: 2, num_pairs: 100, .. } => {
            let (message, path) = (error.to_string(), path.to_str().unwrap());
            assert!(
                message.starts_with("max_bad: expected at most 1 % of 100 pairs unreadable, found 2, "),
                "{message}"
            );
            assert!(message.contains(path), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3, "all of them are listed");
}

#[test]
fn nothing_readable_is_an_error_even_if_tolerated() {
    let (folder, list, path) = hundred(&(0..100).collect::<Vec<_>>());
    let bad = BadPairs::open(&path, list.num_pairs(), 1.0).unwrap();
    format_error(list.check(Pair::exists, &bad), &folder.path().join("split.csv"));
}

#[test]
fn a_tolerance_beyond_everything_is_refused() {
    match BadPairs::open(Path::new("x"), 10, 1.5).unwrap_err() {
        Error::Argument { what, found, .. } => assert_eq!((what.as_str(), found.as_str()), ("max_bad", "1.5")),
        other => panic!("{other:?}"),
    }
}
