//! Decoding pictures.

use std::io::{BufReader, ErrorKind};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::film::Film;
use super::matroska::FrameReader;
use super::part::Part;
use super::process::Process;
use crate::error::{Error, Result};
use crate::image::{Picture, SIZE_LIMITS, fits_limits};

/// How many frames are decoded ahead at most.
const MAX_AHEAD: usize = 4;
/// How many bytes of frames are decoded ahead at most, unless a single frame has more.
const MAX_AHEAD_BYTES: usize = 64 << 20;
/// The highest rate that can be asked for, Hz.
pub(crate) const MAX_RATE: f64 = 1000.0;
/// How much earlier than asked for a frame may be, in seconds: half a tick of the clocks that count milliseconds, and a
/// bit.
pub(crate) const CLOCK_TOLERANCE: f64 = 0.0006;
/// What is added to the times of a stream, in µs, because Matroska has no negative ones.
const TIME_OFFSET: i64 = 1_000_000;
/// How far before the wanted frame decoding begins in films that have no index of key frames, in seconds.
const LEAD: f64 = 10.0;

/// A picture of a film.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// When it is shown, in seconds from the beginning of the film.
    pub time: f64,
    /// The picture: upright, with square pixels.
    pub picture: Picture,
}

/// Which pictures of a film to decode. By default all of them at their own size.
///
/// Times are compared with a tolerance of 0.6 ms, because many films count in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameOptions {
    /// How many pictures per second of film, Hz, at most 1000; `None` for every frame. The frames are the first of the
    /// part, and then the first at or after each multiple of 1 / `rate`; no frame is repeated.
    pub rate: Option<f64>,
    /// The time that no frame is before, in seconds from the beginning of the film.
    pub from: f64,
    /// The time that all frames are before; `None` for the end of the film.
    pub to: Option<f64>,
    /// The width and height to scale the pictures to, in pixels; `None` for the size as displayed.
    pub size: Option<(usize, usize)>,
}

/// The pictures of a film, in order. Made by [`Film::frames`].
///
/// After an error there are no more items. Dropping it ends the decoder at once.
#[derive(Debug)]
pub struct Frames {
    film: Film,
    part: Part,
    /// `None` once all frames have come.
    running: Option<Decoder>,
    /// The number of frames so far.
    count: u64,
    /// The end of the last frame so far, in seconds from the beginning of the film.
    reached: f64,
}

/// The process, and the queue that a thread fills with its frames.
#[derive(Debug)]
struct Decoder {
    process: Process,
    frames: Receiver<std::io::Result<Frame>>,
}

impl Film {
    /// Decodes pictures, some of them ahead of their use in a thread.
    ///
    /// # Errors
    /// [`Error::Argument`] for options out of range, also when `from` is not before the end of the film;
    /// [`Error::MissingProgram`] when `ffmpeg` is not installed.
    ///
    /// The iterator ends with an error after the last picture that could be decoded: [`Error::Film`] when the film has
    /// no pictures or is truncated, or `ffmpeg` failed or was killed.
    pub fn frames(&self, options: &FrameOptions) -> Result<Frames> {
        Frames::new(self, options)
    }
}

impl Frames {
    fn new(film: &Film, options: &FrameOptions) -> Result<Self> {
        let part = Part::new(film, options.from, options.to)?;
        if let Some(rate) = options.rate
            && !(rate > 0.0 && rate <= MAX_RATE)
        {
            return Err(Error::argument("rate", format!("more than 0, at most {MAX_RATE} Hz"), rate));
        }
        let (width, height) = options.size.unwrap_or((film.info().width, film.info().height));
        if !fits_limits(width, height) {
            return Err(Error::argument("size", SIZE_LIMITS, format!("{width} × {height} pixels")));
        }

        let mut command = film.ffmpeg().ffmpeg();
        let lead = if film.tracks.indexed { CLOCK_TOLERANCE } else { LEAD };
        Part::add_input_from(film, part.from - lead, &mut command);
        command.arg("-map").arg(format!("0:{}", film.tracks.picture));
        let filters = filters(film, options, width, height);
        command.args(["-vf", &filters]);
        // Matroska gives each frame its time. The filters have turned microseconds into its ticks.
        command.args(["-c:v", "rawvideo", "-pix_fmt", "rgb24", "-enc_time_base", "1:1000"]);
        command.args(["-map_metadata", "-1", "-f", "matroska", "-allow_raw_vfw", "1", "-write_crc32", "0", "pipe:1"]);
        let (process, output) = Process::reader(command)?;

        let ahead = (MAX_AHEAD_BYTES / (width * height * 3)).clamp(1, MAX_AHEAD);
        let (sender, frames) = sync_channel(ahead);
        // It ends when the process does, or when nobody takes its frames any more.
        std::thread::spawn(move || read(output, (width, height), &sender));
        let running = Some(Decoder { process, frames });
        Ok(Self { film: film.clone(), part, running, count: 0, reached: part.from })
    }

    /// The error after the last frame, if there should have been more.
    fn check_end(&self, mut decoder: Decoder) -> Result<()> {
        let ending = decoder.process.wait();
        if self.count == 0 && self.part.from == 0.0 && self.part.to >= self.film.info().seconds {
            let found = if ending.success { format!("none {}", ending.messages) } else { ending.description };
            return Err(self.film.unusable("at least one picture", found.trim_end()));
        }
        let step = 1.0 / self.film.info().frame_rate;
        self.part.check_end(&self.film, &ending, self.reached, self.film.tracks.picture_end, step)
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut decoder = self.running.take()?;
        match decoder.frames.recv() {
            Ok(Ok(frame)) if frame.time >= self.part.to - CLOCK_TOLERANCE => None,
            Ok(Ok(frame)) => {
                self.count += 1;
                self.reached = frame.time + 1.0 / self.film.info().frame_rate;
                self.running = Some(decoder);
                Some(Ok(frame))
            }
            Ok(Err(error)) => {
                decoder.process.kill();
                Some(Err(self.film.unusable("frames from ffmpeg", error.to_string())))
            }
            // The thread has come to the end.
            Err(_) => self.check_end(decoder).err().map(Err),
        }
    }
}

impl std::iter::FusedIterator for Frames {}

/// The filters that choose, scale and time the frames.
fn filters(film: &Film, options: &FrameOptions, width: usize, height: usize) -> String {
    let start = film.tracks.start;
    let mut filters = Vec::new();
    // `t` is the time of a frame, and `prev_selected_t` of the one that was chosen last.
    let mut conditions = Vec::new();
    if options.from > 0.0 {
        conditions.push(format!("gte(t,{})", start + options.from - CLOCK_TOLERANCE));
    }
    if let Some(rate) = options.rate {
        let number = |time: &str| format!("floor(({time}-({}))*{rate})", start - CLOCK_TOLERANCE);
        conditions.push(format!("(isnan(prev_selected_t)+gt({},{}))", number("t"), number("prev_selected_t")));
    }
    if !conditions.is_empty() {
        filters.push(format!("select='{}'", conditions.join("*")));
    }
    let matrix = if film.tracks.assume_bt709 { ":in_color_matrix=bt709" } else { "" };
    filters.push(format!("scale={width}:{height}:flags=bicubic{matrix},setsar=1,format=rgb24"));
    let offset = TIME_OFFSET - (start * 1e6).round() as i64;
    filters.push(format!("settb=1/1000000,setpts='(PTS+({offset}))*1000'"));
    filters.join(",")
}

/// Reads frames of `size` until the stream ends or nobody listens.
fn read(output: ChildStdout, size: (usize, usize), sender: &SyncSender<std::io::Result<Frame>>) {
    let (width, height) = size;
    let mut reader = FrameReader::new(BufReader::new(output));
    loop {
        let frame = match reader.next_frame(width * height * 3) {
            Ok(Some((ticks, pixels))) => {
                let time = ticks.saturating_sub(TIME_OFFSET) as f64 / 1e6;
                Picture::from_rgb8(width, height, pixels)
                    .map(|picture| Frame { time, picture })
                    .map_err(std::io::Error::other)
            }
            Ok(None) => return,
            // The process has ended within a frame. It says why.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            Err(error) => Err(error),
        };
        let last = frame.is_err();
        if sender.send(frame).is_err() || last {
            return;
        }
    }
}
