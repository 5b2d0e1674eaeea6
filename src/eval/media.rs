//! Finds and reads the media files of a benchmark.

use std::path::{Path, PathBuf};

use crate::audio::Waveform;
use crate::error::Result;

use super::avsbench::read_avsbench_sound;
use super::benchmark::Benchmark;
use super::sample::Sample;

/// Extensions of pictures, in the order in which they are tried.
const PICTURES: [&str; 3] = ["jpg", "png", "jpeg"];
/// Extensions of sounds, in the order in which they are tried.
const SOUNDS: [&str; 5] = ["wav", "flac", "ogg", "mp3", "m4a"];

/// The media files of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// The picture, if it was found.
    pub picture: Option<PathBuf>,
    /// The sound, if it was found.
    pub sound: Option<PathBuf>,
}

/// Looks for the media files of a sample below `data`, where the published loaders expect them.
///
/// | benchmark | pictures | sounds |
/// |---|---|---|
/// | VGG-SS, SoundNet-Flickr | `frames/<id>.jpg` | `audio/<id>.wav` |
/// | Extended | `extend_frames/<video>.jpg`, else `frames/` | `extend_audio/<audio>.wav`, else `audio/` |
/// | AVSBench | `visual_frames/<id>.png` | `audio_wav/<video>.wav` |
///
/// Pictures may also have the extension `jpg`, `png` or `jpeg`, and sounds `wav`, `flac`, `ogg`, `mp3` or `m4a`.
pub fn locate_media(benchmark: Benchmark, data: &Path, sample: &Sample) -> Media {
    let (frames, sounds): (&[_], &[_]) = if benchmark.is_segmentation() {
        (&["visual_frames"], &["audio_wav"])
    } else if benchmark.is_extended() {
        (&["extend_frames", "frames"], &["extend_audio", "audio"])
    } else {
        (&["frames"], &["audio"])
    };
    let first = |folders: &[&str], name: &str, extensions: &[&str]| {
        let in_folder = |folder: &&str| {
            let folder = data.join(folder);
            extensions.iter().map(|ext| folder.join(format!("{name}.{ext}"))).find(|path| path.is_file())
        };
        folders.iter().find_map(in_folder)
    };
    Media { picture: first(frames, &sample.picture, &PICTURES), sound: first(sounds, &sample.sound, &SOUNDS) }
}

/// Reads a sound as the published code of the benchmark does: for AVSBench, a stereo WAV file's left channel followed
/// by its right channel; otherwise, the mean of all channels.
///
/// # Errors
/// The same as [`Waveform::open`].
pub fn read_sound(benchmark: Benchmark, path: &Path) -> Result<Waveform> {
    if benchmark.is_segmentation() { read_avsbench_sound(path) } else { Waveform::open(path) }
}
