//! Reads one sound track of a file, packet by packet, using symphonia.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SymphoniaError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Time, Timestamp};

use super::framing;
use super::window::Window;
use crate::audio::container::Container;
use crate::audio::errors::{truncated, unusable};
use crate::audio::input::Input;
use crate::error::{Error, Result};

/// How much is decoded and discarded before the start of a window, because block codecs depend on earlier blocks.
pub(super) const PRE_ROLL_SECONDS: f64 = 0.25;
/// The formats, for error messages.
const FORMATS: &str = "a sound in WAV, FLAC, MP3, Ogg Vorbis, AAC or ALAC (MP4, M4A), AIFF, CAF or Matroska";

/// A file in the form that symphonia requires.
struct Source {
    file: Input,
    /// `None` for files without a container. From the length symphonia would estimate their duration, and truncate the
    /// sound to the estimate.
    length: Option<u64>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Source {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

impl MediaSource for Source {
    fn is_seekable(&self) -> bool {
        self.length.is_some()
    }

    fn byte_len(&self) -> Option<u64> {
        self.length
    }
}

/// Where, and how, the packets of a track ended.
#[derive(Default)]
pub(super) struct End {
    /// The end of the last packet; `None` if the end was not searched for.
    pub(super) seconds: Option<f64>,
    /// The longest packet, in seconds.
    longest: f64,
    /// Whether the file ended within a packet.
    within_packet: bool,
    /// The bytes of the last packet.
    last: Box<[u8]>,
}

/// One sound track of a file. Times are in seconds from the beginning of the track.
pub(super) struct Reader<'a> {
    path: &'a Path,
    container: Container,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    pub(super) track: Track,
    /// The file's clock at the beginning of the track; `None` until the first frame has been decoded. Recordings that
    /// were cut from a longer stream do not begin at 0.
    origin: Option<f64>,
}

impl<'a> Reader<'a> {
    pub(super) fn open(path: &'a Path, file: &Input, container: Container) -> Result<Self> {
        let mut file = file.try_clone().map_err(Error::io(path, "read"))?;
        file.rewind().map_err(Error::io(path, "read"))?;
        let bytes = file.len().map_err(Error::io(path, "read"))?;
        let length = (container != Container::Unframed).then_some(bytes);
        let stream = MediaSourceStream::new(Box::new(Source { file, length }), Default::default());
        let format = symphonia::default::get_probe()
            .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| match e {
                SymphoniaError::Unsupported(_) if container == Container::Unframed => {
                    unusable(path.display(), FORMATS, "contents of no such format")
                }
                other => refused(path, other),
            })?;
        let Some(track) = format.default_track(TrackType::Audio).cloned() else {
            let found = format!("none of a known kind (tracks: {})", format.tracks().len());
            return Err(unusable(path.display(), "a sound track", found));
        };
        let Some(CodecParameters::Audio(parameters)) = &track.codec_params else {
            return Err(unusable(path.display(), "a sound track", "one without a description of its codec"));
        };
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|e| refused(path, e))?;
        let starts_at_zero = matches!(container, Container::Unframed | Container::Wav | Container::Mp4);
        Ok(Self { path, container, format, decoder, track, origin: starts_at_zero.then_some(0.0) })
    }

    /// Converts ticks to seconds.
    fn seconds(&self, ticks: i64) -> f64 {
        let time = self.track.time_base.and_then(|base| base.calc_time(Timestamp::new(ticks)));
        time.map_or(0.0, |time| time.as_secs_f64())
    }

    /// The length of the track as the file states it.
    fn announced_seconds(&self) -> Option<f64> {
        let rate = self.track.codec_params.as_ref().and_then(|p| p.audio()).and_then(|audio| audio.sample_rate);
        match (self.track.num_frames, rate) {
            (Some(frames), Some(rate)) if rate > 0 => Some(frames as f64 / f64::from(rate)),
            _ => self.track.duration.and_then(|d| i64::try_from(d.get()).ok()).map(|ticks| self.seconds(ticks)),
        }
        .filter(|&seconds| seconds > 0.0)
    }

    /// The length of the track or, failing that, of the file (Matroska only states this one), if known.
    pub(super) fn clip_seconds(&self) -> Option<f64> {
        let media = self.format.media_info();
        let of_media = || Some(media.time_base?.calc_duration(media.duration?)?.as_secs_f64());
        self.announced_seconds().or_else(of_media).filter(|&seconds| seconds > 0.0)
    }

    /// A reader whose next packet contains the time `seconds` or precedes it. It is always a new reader: symphonia's
    /// readers do not seek reliably after packets were read, and cannot continue after a failed seek.
    pub(super) fn sought(&mut self, file: &Input, seconds: f64) -> Result<Self> {
        if self.origin.is_none() {
            self.fill(&mut Window::of_first_frame(), 0.0)?;
        }
        let again = || Ok(Self { origin: self.origin, ..Self::open(self.path, file, self.container)? });
        let mut reader = again()?;
        let clock = Time::try_from_secs_f64(seconds + self.origin.unwrap_or(0.0));
        let to = clock.map(|time| SeekTo::Time { time, track_id: Some(reader.track.id) });
        match to.map(|to| reader.format.seek(SeekMode::Accurate, to)) {
            Some(Ok(_)) => Ok(reader),
            _ => again(),
        }
    }

    /// The next packet of this track, or `None` at the end; updates `end`.
    fn next_packet(&mut self, end: &mut End) -> Result<Option<Packet>> {
        loop {
            match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track.id => {
                    let ticks = i64::try_from(packet.dur.get()).unwrap_or(0);
                    let clock = self.seconds(packet.pts.get().saturating_add(ticks));
                    end.seconds = Some(clock - self.origin.unwrap_or(clock));
                    end.longest = end.longest.max(self.seconds(ticks));
                    return Ok(Some(packet));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(SymphoniaError::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    end.within_packet = true;
                    return Ok(None);
                }
                Err(e) => return Err(refused(self.path, e)),
            }
        }
    }

    /// Decodes packets into `window` until it is full or there are no more; those that end before `decode_from` are
    /// skipped.
    pub(super) fn fill(&mut self, window: &mut Window, decode_from: f64) -> Result<End> {
        let mut end = End::default();
        let mut interleaved = Vec::new();
        while let Some(packet) = self.next_packet(&mut end)? {
            if self.origin.is_none() || end.seconds.is_some_and(|seconds| seconds > decode_from) {
                let clock = self.seconds(packet.pts.get());
                let decoded = self.decoder.decode(&packet).map_err(|e| refused(self.path, e))?;
                let rate = decoded.spec().rate();
                let channels = u16::try_from(decoded.spec().channels().count()).unwrap_or(u16::MAX);
                decoded.copy_to_vec_interleaved::<f32>(&mut interleaved);
                if !interleaved.is_empty() && rate > 0 && channels > 0 {
                    // The decoder has already removed the samples to be trimmed.
                    let clock = clock + packet.trim_start.get() as f64 / f64::from(rate);
                    let begin = clock - *self.origin.get_or_insert(clock);
                    window.push(self.path, &interleaved, rate, channels, begin)?;
                }
            }
            end.last = packet.data;
            if window.is_full() {
                break;
            }
        }
        // The decoded samples give the end more exactly than the durations of the packets.
        end.seconds = window.end_seconds().or(end.seconds).or(Some(0.0));
        Ok(end)
    }

    /// The end of the track, for a window that did not reach it. The remaining packets are read only if this is the
    /// only way to find out whether the file is complete, or how long it is; otherwise the end stays unknown.
    pub(super) fn find_end(&mut self, file: &Input, mut end: End) -> Result<End> {
        match (self.container, self.announced_seconds()) {
            (Container::Unframed, _) => {}
            (Container::Wav, None) => {
                let rest = self.fill(&mut Window::of_nothing(), 0.0)?;
                return Ok(if rest.seconds > end.seconds { rest } else { end });
            }
            (Container::Flac, Some(seconds)) => *self = self.sought(file, (seconds - PRE_ROLL_SECONDS).max(0.0))?,
            _ => {
                end.seconds = None;
                return Ok(end);
            }
        }
        while let Some(packet) = self.next_packet(&mut end)? {
            end.last = packet.data;
        }
        Ok(end)
    }

    /// Returns an error if the track ended too early.
    pub(super) fn check_end(&self, end: &End, tail: &[u8]) -> Result<()> {
        // Ogg files are already known to end with a complete page, while symphonia also requires an end-of-stream mark.
        // A WAV of unknown length ends with the file; the length of other WAV files was checked.
        let lenient = matches!(self.container, Container::Ogg | Container::Wav);
        if end.within_packet && !lenient {
            return Err(truncated(self.path, "it ends within a packet"));
        }
        if let (Some(reached), Some(announced)) = (end.seconds, self.announced_seconds()) {
            // The last packet of a lossy stream may be longer or shorter than the part that is played.
            let tolerance = if self.container == Container::Flac { 1e-6 } else { end.longest };
            if reached + tolerance < announced {
                return Err(truncated(self.path, format!("{announced:.3} s announced, {reached:.3} s there")));
            }
        }
        if framing::ends_within_mpeg_frame(tail, &end.last) {
            return Err(truncated(self.path, "it ends within a frame"));
        }
        Ok(())
    }
}

/// Converts symphonia's error.
fn refused(path: &Path, error: SymphoniaError) -> Error {
    match error {
        SymphoniaError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            truncated(path, "it ends where more should follow")
        }
        SymphoniaError::IoError(e) => Error::io(path, "read")(e),
        other => unusable(path.display(), FORMATS, other.to_string()),
    }
}
