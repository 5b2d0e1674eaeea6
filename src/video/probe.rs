//! What a film contains, as `ffprobe` says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::ffmpeg::Ffmpeg;
use super::process::Process;
use crate::audio::MAX_SAMPLE_RATE;
use crate::error::{Error, Result};
use crate::image::{SIZE_LIMITS, fits_limits};

/// The largest report that is read; usual ones have some kilobytes.
const MAX_REPORT: u64 = 1 << 24;
/// The frame rate of a track that names none, in Hz.
const USUAL_FRAME_RATE: f64 = 25.0;
/// The size, either side, from which players assume BT.709 for pictures that name no colour space.
const HIGH_DEFINITION: (usize, usize) = (1280, 720);
/// What is expected of a file without pictures that move.
pub(crate) const PICTURE_TRACK: &str = "a picture track";
/// What is expected of a still picture.
pub(crate) const MOVING_PICTURES: &str = "a film (a sound with a still picture: `soundsight localize SOUND PICTURE`)";
/// The formats that refer to other files, by `ffmpeg`'s names.
const LISTS: [&str; 8] = ["concat", "dash", "hls", "imf", "rtp", "rtsp", "sdp", "webm_dash_manifest"];

/// What a film contains.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FilmInfo {
    /// How long the film is, from the beginning of the track that begins first to the end of the one that ends last.
    pub seconds: f64,
    /// When the first picture is shown, in seconds from the beginning of the film: 0, or the delay of the pictures
    /// behind the sound.
    pub picture_start: f64,
    /// Width in pixels as displayed: upright, with square pixels.
    pub width: usize,
    /// Height in pixels as displayed: upright, with square pixels.
    pub height: usize,
    /// By how many degrees the stored pictures have to be turned clockwise: 0 to 359.
    pub rotation: i32,
    /// The average number of pictures per second; 25 if the film does not say.
    pub frame_rate: f64,
    /// The codec of the picture track, as `ffmpeg` calls it: "h264".
    pub codec: String,
    /// The sound track; `None` in a silent film.
    pub sound: Option<SoundInfo>,
}

/// What a sound track contains.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SoundInfo {
    /// Samples per second, Hz.
    pub sample_rate: u32,
    /// The number of channels, at least 1.
    pub channels: u16,
    /// The codec, as `ffmpeg` calls it: "aac".
    pub codec: String,
    /// When the sound begins, in seconds from the beginning of the film.
    pub start: f64,
    /// How long the sound track is; `None` if the file does not say.
    pub seconds: Option<f64>,
}

/// Which of a file's tracks are the film, and how to read them.
#[derive(Clone, Debug)]
pub(super) struct Tracks {
    /// The index of the picture track.
    pub(super) picture: usize,
    /// When the film begins, in seconds on the file's own clock.
    pub(super) start: f64,
    /// When the last picture ends, in seconds from the beginning of the film, if the file says so.
    pub(super) picture_end: Option<f64>,
    /// Whether the pictures are large and name no colour space.
    pub(super) assume_bt709: bool,
    /// The index of the sound track.
    pub(super) sound: Option<usize>,
    /// Whether the container has an index of its key frames, so that seeking is exact.
    pub(super) indexed: bool,
}

/// Asks `ffprobe` about the file at `path`, which exists and is not empty.
pub(super) fn probe(path: &Path, ffmpeg: &Ffmpeg) -> Result<(FilmInfo, Tracks)> {
    let unusable = |expected: &str, found: String| Error::Film {
        origin: path.display().to_string(),
        expected: expected.into(),
        found,
    };
    let mut command = ffmpeg.ffprobe(path, "json");
    command.args(["-show_format", "-show_streams"]);
    let (report, ending) = Process::output(command, MAX_REPORT)?;
    if !ending.success {
        // The error begins with the name already.
        let found = ending.description.replace(&format!("file:{}: ", path.display()), "");
        return Err(unusable("a complete film that ffmpeg can read", found));
    }
    // Names in a film may be in any encoding.
    let report: Report = serde_json::from_str(&String::from_utf8_lossy(&report))
        .map_err(|error| unusable("a report of ffprobe", error.to_string()))?;

    let format = report.format.format_name.as_str();
    if LISTS.iter().any(|list| format.split(',').any(|name| name == *list)) {
        return Err(unusable("a single film", format!("a list of files ({format})")));
    }
    let still =
        |codec: Option<&str>| unusable(MOVING_PICTURES, format!("a still picture ({})", codec.unwrap_or(format)));
    let Some(picture) = choose(&report.streams, |stream| stream.is("video") && !stream.is_cover()) else {
        let found = match report.streams.iter().any(|stream| stream.is("video")) {
            true => "only a cover picture",
            false => "none",
        };
        let others: Vec<&str> = report.streams.iter().filter_map(|stream| stream.codec_type.as_deref()).collect();
        return Err(unusable(PICTURE_TRACK, format!("{found} (tracks: {})", others.join(", "))));
    };
    if format == "image2" || format.ends_with("_pipe") {
        return Err(still(picture.codec_name.as_deref()));
    }

    let start = report.format.start_time.unwrap_or(0.0);
    let length = |stream: &Stream| stream.duration.or_else(|| clock(stream.tags.get("DURATION")?));
    let end = |stream: &Stream| Some(stream.start_time.unwrap_or(start) - start + length(stream)?);
    let mut seconds = report.format.duration.or_else(|| report.streams.iter().filter_map(end).reduce(f64::max));
    let animation = matches!(format, "gif" | "apng");
    if seconds.is_none() || animation {
        // Films that a browser has recorded do not say how long they are.
        let packets = scan(path, ffmpeg, picture.index)?;
        if animation && packets.count <= 1 {
            return Err(still(picture.codec_name.as_deref()));
        }
        seconds = seconds.or(packets.end.map(|end| end - start));
    }

    let (width, height, rotation) = picture.displayed();
    if !fits_limits(width, height) {
        return Err(unusable(SIZE_LIMITS, format!("pictures of {width} × {height} pixels")));
    }
    let sound = choose(&report.streams, |stream| stream.is("audio") && stream.channels > 0).and_then(|stream| {
        let info = SoundInfo {
            sample_rate: stream
                .sample_rate
                .map(|rate| rate as u32)
                .filter(|rate| (1..=MAX_SAMPLE_RATE).contains(rate))?,
            channels: stream.channels,
            codec: stream.codec(),
            start: stream.start_time.unwrap_or(start) - start,
            seconds: length(stream),
        };
        Some((stream.index, info))
    });
    let tracks = Tracks {
        picture: picture.index,
        start,
        picture_end: end(picture),
        assume_bt709: picture.color_space.as_deref().is_none_or(|space| space == "unknown")
            && (picture.width >= HIGH_DEFINITION.0 || picture.height >= HIGH_DEFINITION.1),
        sound: sound.as_ref().map(|(index, _)| *index),
        indexed: format.contains("mp4") || format.contains("matroska"),
    };
    let info = FilmInfo {
        seconds: seconds.unwrap_or(0.0).max(0.0),
        picture_start: (picture.start_time.unwrap_or(start) - start).max(0.0),
        width,
        height,
        rotation,
        frame_rate: picture.frame_rate(),
        codec: picture.codec(),
        sound: sound.map(|(_, info)| info),
    };
    Ok((info, tracks))
}

/// The report of `ffprobe`.
#[derive(Debug, Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Format,
}

#[derive(Debug, Deserialize)]
struct Format {
    format_name: String,
    #[serde(default, deserialize_with = "parsed")]
    start_time: Option<f64>,
    #[serde(default, deserialize_with = "parsed")]
    duration: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    index: usize,
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: usize,
    height: usize,
    sample_aspect_ratio: Option<String>,
    color_space: Option<String>,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    #[serde(deserialize_with = "parsed")]
    start_time: Option<f64>,
    #[serde(deserialize_with = "parsed")]
    duration: Option<f64>,
    #[serde(deserialize_with = "parsed")]
    sample_rate: Option<f64>,
    channels: u16,
    disposition: HashMap<String, u8>,
    tags: HashMap<String, String>,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Deserialize)]
struct SideData {
    /// Degrees counterclockwise.
    rotation: Option<f64>,
}

impl Stream {
    fn is(&self, kind: &str) -> bool {
        self.codec_type.as_deref() == Some(kind)
    }

    fn has(&self, disposition: &str) -> bool {
        self.disposition.get(disposition).is_some_and(|&flag| flag != 0)
    }

    /// Whether this is the picture on the cover of a record, or thumbnails.
    fn is_cover(&self) -> bool {
        self.has("attached_pic") || self.has("timed_thumbnails") || self.has("still_image")
    }

    fn codec(&self) -> String {
        self.codec_name.clone().unwrap_or_else(|| "unknown".into())
    }

    fn frame_rate(&self) -> f64 {
        let rate = |text: &Option<String>| ratio(text.as_deref()?, '/');
        rate(&self.avg_frame_rate).or_else(|| rate(&self.r_frame_rate)).unwrap_or(USUAL_FRAME_RATE)
    }

    /// Width and height in square pixels after turning, and the degrees to turn by, clockwise.
    fn displayed(&self) -> (usize, usize, i32) {
        let aspect = self.sample_aspect_ratio.as_deref().and_then(|text| ratio(text, ':')).unwrap_or(1.0);
        let width = (self.width as f64 * aspect).round().max(1.0) as usize;
        let counterclockwise = self.side_data_list.iter().find_map(|data| data.rotation);
        // The tag is what versions before 5 report.
        let tag = || self.tags.get("rotate").and_then(|text| text.parse::<f64>().ok());
        let clockwise = counterclockwise.map(|degrees| -degrees).or_else(tag).unwrap_or(0.0);
        // A float cast of NaN is 0.
        let rotation = (clockwise.round() as i32).rem_euclid(360);
        match rotation {
            90 | 270 => (self.height, width, rotation),
            _ => (width, self.height, rotation),
        }
    }
}

/// The track that is marked as the default one, or else the first, among those that are `suitable`.
fn choose(streams: &[Stream], suitable: impl Fn(&Stream) -> bool) -> Option<&Stream> {
    let mut streams = streams.iter().filter(|stream| suitable(stream));
    let first = streams.next()?;
    if first.has("default") {
        return Some(first);
    }
    Some(streams.find(|stream| stream.has("default")).unwrap_or(first))
}

/// What can only be known by reading a file as a whole.
#[derive(Debug, Default)]
struct Packets {
    count: u64,
    /// When the last picture ends, on the file's own clock.
    end: Option<f64>,
}

/// Reads all packets of the track `index`, without decoding them.
fn scan(path: &Path, ffmpeg: &Ffmpeg, index: usize) -> Result<Packets> {
    let mut command = ffmpeg.ffprobe(path, "csv=p=0");
    command.args(["-select_streams", &index.to_string(), "-show_entries", "packet=pts_time,duration_time"]);
    let (_process, output) = Process::reader(command)?;
    let mut packets = Packets::default();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(Error::io(path, "read"))?;
        let mut fields = line.split(',').map(|field| field.parse::<f64>().ok());
        if let Some(Some(time)) = fields.next() {
            packets.count += 1;
            let end = time + fields.next().flatten().unwrap_or(0.0);
            packets.end = Some(packets.end.map_or(end, |latest| latest.max(end)));
        }
    }
    Ok(packets)
}

/// A number that `ffprobe` writes as text; `None` for what is no number ("N/A").
fn parsed<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<f64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()).filter(|number: &f64| number.is_finite()))
}

/// The value of "30000/1001" or "4:3"; `None` unless it is positive.
fn ratio(text: &str, separator: char) -> Option<f64> {
    let (above, below) = text.split_once(separator)?;
    let ratio = above.parse::<f64>().ok()? / below.parse::<f64>().ok()?;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// The seconds of "01:02:03.5".
fn clock(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |seconds, part| Some(60.0 * seconds + part.parse::<f64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_ffprobe_writes_them() {
        assert_eq!(ratio("30000/1001", '/'), Some(30000.0 / 1001.0));
        assert_eq!([ratio("0/0", '/'), ratio("0:1", ':'), ratio("N/A", ':')], [None; 3]);
        assert_eq!(clock("01:02:03.500000000"), Some(3723.5));
        assert_eq!(clock("N/A"), None);
    }

    #[test]
    fn the_displayed_size_is_upright_with_square_pixels() {
        let stream = |rotation: Option<f64>, aspect: &str| Stream {
            width: 720,
            height: 576,
            sample_aspect_ratio: Some(aspect.into()),
            side_data_list: vec![SideData { rotation: None }, SideData { rotation }],
            ..Stream::default()
        };
        assert_eq!(stream(None, "0:1").displayed(), (720, 576, 0));
        assert_eq!(stream(None, "16:15").displayed(), (768, 576, 0));
        assert_eq!(stream(Some(-90.0), "16:15").displayed(), (576, 768, 90));
        assert_eq!(stream(Some(90.0), "1:1").displayed(), (576, 720, 270));
        assert_eq!(stream(Some(-180.0), "1:1").displayed(), (720, 576, 180));
        let old = Stream { tags: HashMap::from([("rotate".into(), "90".into())]), ..stream(None, "1:1") };
        assert_eq!(old.displayed(), (576, 720, 90));
    }
}
