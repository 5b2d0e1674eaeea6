//! Films and archives for the tests of `prepare`.
#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each test program uses its part

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::films::{H264, make, pictures, tone};

/// The input: frame N is a grey of which [`number`] finds N again, for N up to 99.
pub fn numbered(rate: f64, seconds: f64) -> String {
    format!("-f lavfi -i color=black:size=64x48:rate={rate}:duration={seconds},geq=lum='16+2*mod(N,100)':cb=128:cr=128")
}

/// The number of a frame of [`numbered`], from its grey.
pub fn number(picture: &soundsight::Picture) -> u32 {
    let sum: f64 = picture.pixels().iter().map(|&pixel| f64::from(pixel)).sum();
    (sum / picture.pixels().len() as f64 * 219.0 / 255.0 / 2.0).round() as u32
}

/// Arguments for a film without loss, with these pictures and a tone.
pub fn lossless(pictures: &str, seconds: f64) -> String {
    format!("{pictures} {} -c:v ffv1 -c:a pcm_s16le", tone(seconds))
}

/// `count` films of two seconds in `folder/films`, in three versions, `f00.mp4` …; every fourth in a folder of its own.
pub fn good_films(folder: &Path, count: usize) -> PathBuf {
    let films = folder.join("films");
    std::fs::create_dir_all(films.join("more")).unwrap();
    let versions: Vec<PathBuf> = (0..3)
        .map(|k| {
            let size = ["64x48", "48x64", "80x48"][k];
            let pitch = tone(2.0).replace("440", &format!("{}", 300 + 100 * k));
            make(folder, &format!("version{k}.mp4"), &format!("{} {pitch} {H264} -c:a aac", pictures(size, 25.0, 2.0)))
        })
        .collect();
    for k in 0..count {
        let place = if k % 4 == 3 { films.join("more") } else { films.clone() };
        std::fs::copy(&versions[k % 3], place.join(format!("f{k:02}.mp4"))).unwrap();
    }
    films
}

/// The kinds of flaws of [`flawed_films`], by id.
pub const FLAWED: [(&str, &str); 13] = [
    ("bytes", "broken"),
    ("cut", "broken"),
    ("damaged", "broken"),
    ("empty", "broken"),
    ("f00", "duplicate"),
    ("image", "still"),
    ("mute", "no-sound"),
    ("quiet", "silent"),
    ("radio", "no-picture"),
    ("short", "short"),
    ("still", "still"),
    ("text", "broken"),
    ("uneven", "short"),
];

/// Films with different flaws in the folder `films`, which has `f00.mp4` already.
pub fn flawed_films(folder: &Path, films: &Path) {
    let moving = |seconds| pictures("64x48", 25.0, seconds);
    let in_films = |name: &str, arguments: String| make(films, name, &arguments);
    in_films("short.mp4", format!("{} {} {H264} -c:a aac", moving(0.4), tone(0.4)));
    in_films("uneven.mkv", format!("{} {} {H264} -c:a aac", moving(0.4), tone(3.0)));
    in_films("mute.mp4", format!("{} {H264}", moving(2.0)));
    in_films("radio.mp4", format!("{} -c:a aac", tone(2.0)));
    let silence = "-f lavfi -i anullsrc=sample_rate=48000 -t 2";
    in_films("quiet.mp4", format!("{} {silence} {H264} -c:a aac", moving(2.0)));
    let same = "-f lavfi -i color=teal:size=64x48:rate=25:duration=2";
    in_films("still.mp4", format!("{same} {} {H264} -c:a aac", tone(2.0)));
    make(folder, "image.png", &format!("{} -frames:v 1", moving(0.1)));
    std::fs::rename(folder.join("image.png"), films.join("image.mp4")).unwrap();
    std::fs::write(films.join("empty.mp4"), "").unwrap();
    std::fs::write(films.join("text.mp4"), "this is no film\n".repeat(50)).unwrap();
    std::fs::write(films.join("bytes.webm"), (0..20_000_u32).map(|n| ((n * n) >> 7) as u8).collect::<Vec<_>>())
        .unwrap();
    let whole = std::fs::read(films.join("f00.mp4")).unwrap();
    // The index is at the end.
    std::fs::write(films.join("cut.mp4"), &whole[..whole.len() / 2]).unwrap();
    let large = make(folder, "large.mkv", &format!("{} {} {H264} -c:a aac", pictures("320x240", 25.0, 2.0), tone(2.0)));
    let whole = std::fs::read(large).unwrap();
    std::fs::write(films.join("damaged.mkv"), &whole[..whole.len() / 3]).unwrap();
    std::fs::create_dir_all(films.join("other")).unwrap();
    std::fs::copy(films.join("f01.mp4"), films.join("other/f00.mp4")).unwrap();
    std::fs::write(films.join("readme.txt"), "no film").unwrap();
}

/// All files below `folder`, by their paths in it; an empty text for folders.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    add_tree(folder, "", &mut files);
    files
}

fn add_tree(folder: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, name) = {
            let e = entry.unwrap();
            (e.path(), format!("{prefix}{}", e.file_name().to_str().unwrap()))
        };
        if path.is_dir() {
            files.insert(format!("{name}/"), Vec::new());
            add_tree(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// The files of [`tree`] without the notes of what was done.
pub fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    tree(folder).into_iter().filter(|(name, _)| !name.starts_with(".prepare")).collect()
}

/// Asserts that two folders have the same files, byte for byte.
#[track_caller]
pub fn assert_same(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let different: Vec<&String> = a.iter().filter(|(name, bytes)| b[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(different.is_empty(), "{different:?} differ");
}

/// The files of a folder as a zip archive, half of them compressed.
pub fn zip(folder: &Path, archive: &Path) {
    let mut writer = zip::ZipWriter::new(std::fs::File::create(archive).unwrap());
    for (place, (name, bytes)) in tree(folder).into_iter().enumerate() {
        if let Some(folder) = name.strip_suffix('/') {
            writer.add_directory(folder, zip::write::SimpleFileOptions::default()).unwrap();
            continue;
        }
        let methods = [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated];
        let options = zip::write::SimpleFileOptions::default().compression_method(methods[place % 2]);
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
}

/// The files of a folder as a tar archive, with names as `tar -C folder .` gives them.
pub fn tar(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
