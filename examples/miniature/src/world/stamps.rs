//! The stamps, their names, and the selection of usable ones.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::codecs::png::PngDecoder;
use image::{DynamicImage, Limits};
use soundsight::Waveform;

use super::cutout::{CutOut, Pose, Tint};
use super::sound::Recording;

/// Where to get the stamps; part of every message about missing ones.
pub const ADVICE: &str = "install Debian's package tuxpaint-stamps-default, or unpack it and name its folder \
                          usr/share/tuxpaint/stamps with --stamps DIR";

/// The longer side of a usable picture, in pixels.
const MIN_SIDE: u32 = 32;

/// The fraction of a picture that must be more than half opaque when it is drawn [`SMALL`] pixels long.
const MIN_OPAQUE: f32 = 0.1;
const SMALL: f32 = 24.0;

/// Corrections to what the file's name says.
enum Note {
    /// The name of the class; stamps of the same name are one class with several pictures and recordings.
    Name(&'static str),
    /// The reason why the pair is not used.
    LeftOut(&'static str),
}
use Note::{LeftOut, Name};

/// Checked one by one by eye and ear; identified by the end of the path, without extension.
const NOTES: &[(&str, Note)] = &[
    ("birds/drake", Name("duck")),
    ("birds/heron_greatblue_flying", Name("heron")),
    ("birds/tucan", Name("toucan")),
    ("insects/xanthia", Name("moth")),
    ("apes/chimp", Name("chimpanzee")),
    ("bovines/cow_white", Name("cow")),
    ("bovines/mountaingoat", Name("goat")),
    ("bovines/ram", LeftOut("its recording is the goat's")),
    ("bovines/sheep_lamb", Name("lamb")),
    ("camel/dromedary", Name("camel")),
    ("mammals/pig_golden", Name("pig")),
    ("mammals/pig_golden2", Name("pig")),
    ("rodents/beaver", LeftOut("its recording is the badger's")),
    ("fruit/apple_red", Name("apple")),
    ("hobbies/camera_35mm", Name("camera")),
    ("percussion/cymbal_crash", Name("cymbal")),
    ("percussion/drum_tomtom_floor", Name("drum")),
    ("percussion/drumkit", Name("drum kit")),
    ("arttools/scissors_small_closed", Name("scissors")),
    ("arttools/scissors_small_open", Name("scissors")),
    ("household/rubberduck", Name("rubber duck")),
    ("tools/mallet_metal", Name("mallet")),
    ("military/final-roll-call", Name("soldier memorial")),
    ("christmas/santahat", Name("santa hat")),
    ("halloween/bat_left", Name("bat")),
    ("halloween/blackcat", Name("black cat")),
    ("halloween/ghost", LeftOut("half transparent: it has no mask")),
    ("hanukkah/dreydl-gimmel", LeftOut("the recording is the spoken name of a letter")),
    ("hanukkah/dreydl-hay", LeftOut("the recording is the spoken name of a letter")),
    ("hanukkah/dreydl-nun", LeftOut("the recording is the spoken name of a letter")),
    ("hanukkah/dreydl-shin", LeftOut("the recording is the spoken name of a letter")),
    ("naturalforces/lightningbolt", LeftOut("mostly a glow: it has no mask")),
    ("space/apollo_lander", Name("moon lander")),
    ("flags/checkeredflag", Name("checkered flag")),
    ("roadsigns/no_uturn", Name("turn sign")),
    ("roadsigns/xing_ped", Name("crossing sign")),
    ("roadsigns/xing_school", Name("school sign")),
    ("emergency/firetruck", Name("fire truck")),
    ("cartoon/bathyscape", Name("submarine")),
];

/// A picture with its own recording.
pub struct Pair {
    pub name: String,
    /// Relative to the stamps' folder, without extension.
    pub stem: PathBuf,
    picture: PathBuf,
    recording: PathBuf,
}

/// The contents of a folder of stamps.
pub struct Found {
    /// Ordered by path.
    pub pairs: Vec<Pair>,
    /// Pictures that cannot be mistaken for a sounding object, relative to the folder, ordered by path.
    pub soundless: Vec<PathBuf>,
    pub left_out: Vec<(PathBuf, String)>,
}

/// Finds the stamps below `folder`.
pub fn find(folder: &Path) -> Result<Found> {
    ensure!(folder.is_dir(), "{}: expected a folder of stamps, found {}; {ADVICE}", folder.display(), {
        if folder.exists() { "a file" } else { "nothing" }
    });
    let mut files = BTreeSet::new();
    list(folder, Path::new(""), &mut files)?;
    // Letters, numerals and faces are drawn symbols, and their sounds are spoken.
    files.retain(|file| !file.starts_with("symbols"));

    let mut found = Found { pairs: Vec::new(), soundless: Vec::new(), left_out: Vec::new() };
    let mut sounding = BTreeSet::new();
    let mut alone = Vec::new();
    for picture in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "png")) {
        let recording = ["ogg", "wav"].map(|extension| picture.with_extension(extension));
        let Some(recording) = recording.into_iter().find(|file| files.contains(file)) else {
            alone.push(picture.clone());
            continue;
        };
        let stem = picture.with_extension("");
        sounding.insert(stem.parent().unwrap_or(Path::new("")).to_path_buf());
        match NOTES.iter().find(|(end, _)| stem.ends_with(end)) {
            Some((_, LeftOut(reason))) => found.left_out.push((stem, (*reason).to_string())),
            note => {
                let name = match note {
                    Some((_, Name(name))) => (*name).to_string(),
                    _ => spoken(&stem),
                };
                let (picture, recording) = (folder.join(picture), folder.join(recording));
                found.pairs.push(Pair { name, stem, picture, recording });
            }
        }
    }
    if found.pairs.is_empty() {
        let found = format!("{} pictures (PNG), none of them with a recording", alone.len());
        bail!(
            "{}: expected pictures with a recording of the same name (name.png, name.ogg or name.wav), found {found}; \
             {ADVICE}",
            folder.display()
        );
    }
    found.soundless = alone.into_iter().filter(|picture| !confusable(picture, &sounding)).collect();
    Ok(found)
}

/// Whether a picture may show the same kind of object as a class, such as a second bird. Each kind has its own folder,
/// from the second level on.
fn confusable(picture: &Path, sounding: &BTreeSet<PathBuf>) -> bool {
    let mut kinds = picture.ancestors().skip(1);
    sounding.contains(kinds.next().unwrap_or(Path::new("")))
        || kinds.any(|kind| kind.components().count() >= 2 && sounding.contains(kind))
}

/// Adds the files below `root`/`within`, relative to `root`.
pub(super) fn list(root: &Path, within: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let folder = root.join(within);
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        let path = within.join(entry.file_name());
        if entry.file_type().with_context(|| format!("cannot read {}", root.join(&path).display()))?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

/// `polar_bear2` → "polar bear".
fn spoken(stem: &Path) -> String {
    let name = stem.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let words = name.split(['_', '-', ' ']).map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()));
    words.filter(|word| !word.is_empty()).take(3).collect::<Vec<_>>().join(" ")
}

impl Pair {
    /// The picture, prepared for scenes of `side` pixels, and the recording; or the reason why they are unusable.
    pub fn load(&self, side: usize) -> Result<Result<(CutOut, Recording), String>> {
        let picture = match load_picture(&self.picture, side)? {
            Ok(picture) => picture,
            Err(reason) => return Ok(Err(reason)),
        };
        let waveform = Waveform::open(&self.recording)
            .with_context(|| format!("cannot use the recording of \"{}\"", self.name))?;
        Ok(match Recording::new(&waveform)? {
            Some(recording) => Ok((picture, recording)),
            None => Err("the recording is silent".to_string()),
        })
    }
}

/// The picture in the file `path`, prepared to be drawn up to `longest` pixels; or the reason why it is unusable.
pub fn load_picture(path: &Path, longest: usize) -> Result<Result<CutOut, String>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let decoded = PngDecoder::with_limits(Cursor::new(&bytes), Limits::default())
        .and_then(DynamicImage::from_decoder)
        .with_context(|| format!("{}: expected a whole PNG picture", path.display()))?;
    if decoded.width().max(decoded.height()) < MIN_SIDE {
        return Ok(Err(format!("{} × {} pixels are too few", decoded.width(), decoded.height())));
    }
    let picture = CutOut::new(&decoded.into_rgba8(), longest);
    let small = picture.draw(&Pose { extent: SMALL, flip: false, angle: 0.0 }, &Tint::NONE);
    let opaque = small.num_opaque() as f32 / small.pixels.len() as f32;
    Ok(if opaque < MIN_OPAQUE { Err("too thin or too transparent to have a mask".to_string()) } else { Ok(picture) })
}
