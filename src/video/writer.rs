//! Writing a film.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};

use tempfile::TempPath;

use super::ffmpeg::{Ffmpeg, add_input, file_address};
use super::film::Film;
use super::matroska;
use super::part::Part;
use super::process::{Ending, Process, write_all};
use super::sound::{add_sound_input, on_time};
use crate::error::{Error, Result};
use crate::files::{put_in_place, temporary_beside};
use crate::image::Picture;

/// The encoders of pictures, the best first: the name, the step of its clock, and its options for a quality that is
/// hard to tell from the original.
const ENCODERS: [(&str, &str, &[&str]); 2] = [
    ("libx264", "1:1000000", &["-preset", "superfast", "-crf", "23"]),
    // In builds without libx264. Its clock counts 65,535 steps per second at most; all usual frame rates divide 60,000.
    ("mpeg4", "1:60000", &["-q:v", "3"]),
];
/// The codecs of sound that MP4 files carry, and that are copied.
const COPIED: [&str; 7] = ["aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"];
/// The largest list of encoders that is read.
const MAX_LIST: u64 = 1 << 20;

/// How to write a film.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// The usual number of pictures per second (25), at most 1000. It guides the encoder only: each picture keeps its
    /// own time.
    pub frame_rate: f64,
    /// The film whose sound to take; `None`, and a film without sound, for a silent film.
    pub sound: Option<Film>,
    /// The time of that film at which the written one begins, in seconds (0).
    pub from: f64,
    /// The time of that film at which the sound ends at the latest; `None` for its end.
    pub to: Option<f64>,
    /// The programs to write with.
    pub ffmpeg: Ffmpeg,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { frame_rate: 25.0, sound: None, from: 0.0, to: None, ffmpeg: Ffmpeg::default() }
    }
}

impl WriterOptions {
    /// For other pictures in the place of those of `film`: its frame rate, its sound, its programs.
    pub fn like(film: &Film) -> Self {
        let (frame_rate, ffmpeg) = (film.info().frame_rate.min(MAX_FRAME_RATE), film.ffmpeg().clone());
        Self { frame_rate, sound: Some(film.clone()), ffmpeg, ..Self::default() }
    }
}

/// The highest frame rate, Hz.
const MAX_FRAME_RATE: f64 = 1000.0;

/// Writes a film: MP4 with H.264 (or MPEG-4 where `ffmpeg` comes without libx264), in the colours of BT.709.
///
/// The sound is copied as it is when the whole of it is wanted and MP4 carries its codec; otherwise it is encoded
/// as AAC with 192 kbit/s. Pictures of odd width or height get another column or row at the edge, like the last one.
///
/// The film appears under its name when it is complete: until then it is a temporary file beside it. Dropping the
/// writer ends the encoder and removes the temporary file.
#[derive(Debug)]
pub struct FilmWriter {
    // Dropped first: it writes the file.
    encoder: Option<Encoder>,
    /// The encoded pictures.
    pictures: TempPath,
    path: PathBuf,
    options: WriterOptions,
    /// The index of the chosen one in [`ENCODERS`].
    codec: usize,
}

/// The process that encodes the pictures.
#[derive(Debug)]
struct Encoder {
    process: Process,
    input: ChildStdin,
    size: (usize, usize),
    /// The times of the first and of the last picture, in seconds.
    first: f64,
    last: f64,
}

impl FilmWriter {
    /// Prepares a film at `path`, which is replaced once the film is complete. The first picture determines the size.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is missing or not writable; [`Error::MissingProgram`] when `ffmpeg` is not
    /// installed; [`Error::Argument`] for a frame rate out of range, or a part that is not one of the film whose sound
    /// is taken.
    pub fn create(path: impl AsRef<Path>, options: WriterOptions) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let rate = options.frame_rate;
        if !(rate > 0.0 && rate <= MAX_FRAME_RATE) {
            return Err(Error::argument("frame_rate", format!("more than 0, at most {MAX_FRAME_RATE} Hz"), rate));
        }
        match &options.sound {
            Some(film) => drop(Part::new(film, options.from, options.to)?),
            None if options.from.is_finite() => {}
            None => return Err(Error::argument("from", "a number of seconds", options.from)),
        }
        let pictures = temporary_beside(&path)?.into_temp_path();

        let mut command = Command::new(&options.ffmpeg.ffmpeg);
        command.args(["-hide_banner", "-loglevel", "error", "-encoders"]);
        let (list, ending) = Process::output(command, MAX_LIST)?;
        let list = String::from_utf8_lossy(&list);
        let is_listed = |name: &str| list.split_whitespace().any(|word| word == name);
        let Some(codec) = ENCODERS.iter().position(|(name, ..)| is_listed(name)) else {
            let found = format!("ffmpeg has neither encoder, libx264 nor mpeg4 ({})", ending.description);
            return Err(Error::io(path, "write")(std::io::Error::other(found)));
        };
        Ok(Self { encoder: None, pictures, path, options, codec })
    }

    /// Adds a picture that is shown from `time` on, in seconds from the beginning of the film whose sound is taken.
    ///
    /// # Errors
    /// [`Error::Argument`] when `time` is before [`WriterOptions::from`] or not after the last picture's, or the size
    /// is another than the first picture's; [`Error::Io`] when the encoder failed (a full disk) or was killed, with its
    /// last message.
    pub fn write(&mut self, time: f64, picture: &Picture) -> Result<()> {
        if !(time.is_finite() && time >= self.options.from) {
            return Err(Error::argument("time", format!("{} s or later", self.options.from), time));
        }
        let encoder = match &mut self.encoder {
            Some(encoder) if encoder.ticks(time) <= encoder.ticks(encoder.last) => {
                return Err(Error::argument("time", format!("a time after {} s", encoder.last), time));
            }
            Some(encoder) if picture.size() != encoder.size => {
                let ((width, height), found) = (encoder.size, picture.size());
                let expected = format!("{width} × {height} pixels, as the first");
                return Err(Error::argument("picture", expected, format!("{} × {}", found.0, found.1)));
            }
            Some(encoder) => encoder,
            None => {
                let encoder = self.start(time, picture.size())?;
                self.encoder.insert(encoder)
            }
        };
        let pixels = even(picture);
        let header = matroska::frame_header(encoder.ticks(time), pixels.len());
        if write_all(&mut encoder.input, &[&header, &pixels]).is_err() {
            // The process has ended, or is about to: it has closed its input.
            let ending = encoder.process.wait();
            return Err(failed(&self.path, &ending));
        }
        encoder.last = time;
        Ok(())
    }

    /// Completes the film and puts it in its place.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no picture; [`Error::Io`] as [`write`](Self::write), and when the film cannot
    /// be put in its place.
    pub fn finish(self) -> Result<()> {
        self.complete(true)
    }

    /// Completes a film that was interrupted: the sound ends with the last picture, and the comment in the film's
    /// metadata says "unfinished".
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_unfinished(self) -> Result<()> {
        self.complete(false)
    }

    /// Starts the encoder for pictures of this size, the first of which is at `time`.
    fn start(&self, time: f64, size: (usize, usize)) -> Result<Encoder> {
        let (name, clock, quality) = ENCODERS[self.codec];
        let mut command = self.options.ffmpeg.ffmpeg();
        // There is nothing to find out about the input: its header says everything.
        command.args(["-probesize", "32", "-analyzeduration", "0", "-f", "matroska", "-i", "pipe:0"]);
        command.args(["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]);
        command.args(["-c:v", name]).args(quality).args(["-pix_fmt", "yuv420p", "-enc_time_base", clock]);
        command.args(["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"]);
        // NUT keeps the encoder's clock, to the microsecond. The first picture stays at 0.
        command
            .args(["-color_range", "tv", "-avoid_negative_ts", "disabled", "-f", "nut", "-y"])
            .arg(file_address(&self.pictures));
        let (process, input) = Process::writer(command)?;
        let mut encoder = Encoder { process, input, size, first: time, last: time };
        let (width, height) = (size.0.next_multiple_of(2), size.1.next_multiple_of(2));
        let header = matroska::header(width, height, self.options.frame_rate);
        if write_all(&mut encoder.input, &[&header]).is_err() {
            return Err(failed(&self.path, &encoder.process.wait()));
        }
        Ok(encoder)
    }

    /// Ends the encoder, puts pictures and sound together, and puts the film in its place.
    fn complete(mut self, finished: bool) -> Result<()> {
        let Some(Encoder { mut process, input, first, last, .. }) = self.encoder.take() else {
            return Err(Error::argument("pictures", "at least one", 0));
        };
        drop(input); // the end of the stream
        let ending = process.wait();
        if !is_written(&ending) {
            return Err(failed(&self.path, &ending));
        }

        let complete = temporary_beside(&self.path)?;
        let mut command = self.options.ffmpeg.ffmpeg();
        command.arg("-itsoffset").arg(format!("{:.6}", first - self.options.from));
        add_input(&mut command, &self.pictures);
        let end = match finished {
            true => self.options.to,
            false => Some(last + 1.0 / self.options.frame_rate),
        };
        self.add_sound(&mut command, end);
        command.args(["-map", "0:v", "-c:v", "copy", "-map_metadata", "-1"]);
        if !finished {
            command.args(["-metadata", "comment=unfinished: writing this film was interrupted"]);
        }
        // So that it can be played while it is downloaded.
        command.args(["-movflags", "+faststart", "-f", "mp4", "-y"]).arg(file_address(complete.path()));
        let (mut process, _no_input) = Process::writer(command)?;
        let ending = process.wait();
        if !is_written(&ending) {
            return Err(failed(&self.path, &ending));
        }
        put_in_place(&self.path, complete)
    }

    /// Adds the sound up to `end`, in seconds of the film that it is taken from, as the second input.
    fn add_sound(&self, command: &mut Command, end: Option<f64>) {
        let Some((film, info, track)) =
            self.options.sound.as_ref().and_then(|film| Some((film, film.info().sound.as_ref()?, film.tracks.sound?)))
        else {
            return;
        };
        let from = self.options.from;
        if from == 0.0 && self.options.to.is_none() && COPIED.contains(&info.codec.as_str()) {
            command.arg("-itsoffset").arg(format!("{:.6}", -film.tracks.start));
            Part::add_input_from(film, 0.0, command);
            // Versions before 5 call FLAC and Opus in MP4 experimental.
            command.args(["-c:a", "copy", "-strict", "experimental"]);
        } else {
            add_sound_input(film, from, command);
            let filter = format!("{},asetpts=PTS-STARTPTS", on_time(film, info, from));
            command.args(["-af", &filter, "-c:a", "aac", "-b:a", "192k"]);
        }
        command.arg("-map").arg(format!("1:{track}"));
        if let Some(end) = end {
            command.arg("-t").arg(format!("{:.6}", end - from));
        }
    }
}

impl Encoder {
    /// The time since the first picture, in µs.
    fn ticks(&self, time: f64) -> u64 {
        // Float casts saturate.
        ((time - self.first) * 1e6).round() as u64
    }
}

/// The picture's pixels, with the last column and the last row repeated where their number is odd.
fn even(picture: &Picture) -> Cow<'_, [u8]> {
    let (width, height) = picture.size();
    let pixels = picture.pixels();
    if width.is_multiple_of(2) && height.is_multiple_of(2) {
        return pixels.into();
    }
    let mut padded = Vec::with_capacity((width + 1) * (height + 1) * 3);
    let mut row_start = 0;
    for row in pixels.chunks_exact(width * 3) {
        row_start = padded.len();
        padded.extend_from_slice(row);
        if !width.is_multiple_of(2) {
            padded.extend_from_slice(&row[(width - 1) * 3..]);
        }
    }
    if !height.is_multiple_of(2) {
        padded.extend_from_within(row_start..);
    }
    padded.into()
}

/// Whether an encoder has written all of its file. Versions before 6 report success where the disk was full at the end.
fn is_written(ending: &Ending) -> bool {
    let incomplete = ["Error writing trailer", "Error closing file"];
    ending.success && !incomplete.iter().any(|message| ending.messages.contains(message))
}

/// The error for an encoder that has not written all of its file.
fn failed(path: &Path, ending: &Ending) -> Error {
    let kind = match ending.messages.contains("No space left on device") {
        true => std::io::ErrorKind::StorageFull,
        false => std::io::ErrorKind::Other,
    };
    Error::io(path, "write")(std::io::Error::new(kind, ending.description.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sides_get_another_row_and_column() {
        let picture = |width, height, pixels: &[[u8; 3]]| Picture::from_rgb8(width, height, pixels.concat()).unwrap();
        let [a, b, c] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]];
        assert_eq!(*even(&picture(1, 1, &[a])), [a, a, a, a].concat());
        assert_eq!(*even(&picture(3, 1, &[a, b, c])), [a, b, c, c, a, b, c, c].concat());
        assert_eq!(*even(&picture(2, 1, &[a, b])), [a, b, a, b].concat());
        assert_eq!(*even(&picture(1, 2, &[a, b])), [a, a, b, b].concat());
        assert_eq!(*even(&picture(2, 2, &[a, b, c, a])), [a, b, c, a].concat());
    }
}
