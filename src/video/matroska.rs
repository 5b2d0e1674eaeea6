//! As much of Matroska as it takes to exchange uncompressed frames with `ffmpeg` together with their times.
//!
//! A file is a sequence of elements: an identifier, a size, a payload. Numbers of variable length begin with as many
//! zero bits as bytes follow. See RFC 8794 (EBML) and RFC 9559 (Matroska).

use std::io::{self, ErrorKind, Read};

const EBML: u64 = 0x1A45_DFA3;
const EBML_VERSION: u64 = 0x4286;
const EBML_READ_VERSION: u64 = 0x42F7;
const EBML_MAX_ID_LENGTH: u64 = 0x42F2;
const EBML_MAX_SIZE_LENGTH: u64 = 0x42F3;
const DOC_TYPE: u64 = 0x4282;
const DOC_TYPE_VERSION: u64 = 0x4287;
const DOC_TYPE_READ_VERSION: u64 = 0x4285;
const SEGMENT: u64 = 0x1853_8067;
const INFO: u64 = 0x1549_A966;
const TIMESTAMP_SCALE: u64 = 0x2A_D7B1;
const MUXING_APP: u64 = 0x4D80;
const WRITING_APP: u64 = 0x5741;
const TRACKS: u64 = 0x1654_AE6B;
const TRACK_ENTRY: u64 = 0xAE;
const TRACK_NUMBER: u64 = 0xD7;
const TRACK_UID: u64 = 0x73C5;
const TRACK_TYPE: u64 = 0x83;
const FLAG_LACING: u64 = 0x9C;
const CODEC_ID: u64 = 0x86;
const DEFAULT_DURATION: u64 = 0x23_E383;
const VIDEO: u64 = 0xE0;
const PIXEL_WIDTH: u64 = 0xB0;
const PIXEL_HEIGHT: u64 = 0xBA;
const UNCOMPRESSED_FOUR_CC: u64 = 0x2E_B524;
const CLUSTER: u64 = 0x1F43_B675;
const TIMESTAMP: u64 = 0xE7;
const SIMPLE_BLOCK: u64 = 0xA3;
const BLOCK_GROUP: u64 = 0xA0;
const BLOCK: u64 = 0xA1;

/// The bytes of a block before the frame: track number (one byte), time (two), flags.
const BLOCK_HEADER: usize = 4;

/// Reads the frames of a stream with one track.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    input: R,
    /// The time of the present cluster, in ticks.
    cluster: i64,
}

impl<R: Read> FrameReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, cluster: 0 }
    }

    /// The next frame, which must have `length` bytes, with its time in ticks; `None` at the end.
    pub(super) fn next_frame(&mut self, length: usize) -> io::Result<Option<(i64, Vec<u8>)>> {
        while let Some(id) = self.id()? {
            let size = self.size()?;
            match (id, size) {
                // Their contents are read as if they followed: nothing depends on where they end.
                (SEGMENT | CLUSTER | BLOCK_GROUP, _) => {}
                (TIMESTAMP, Some(size @ 0..=8)) => {
                    let time = self.bytes(size)?;
                    self.cluster = i64::try_from(time).map_err(|_| damaged(format!("a cluster at {time}")))?;
                }
                (SIMPLE_BLOCK | BLOCK, Some(size)) => {
                    let mut header = [0; BLOCK_HEADER];
                    self.input.read_exact(&mut header)?;
                    if size != (length + BLOCK_HEADER) as u64 {
                        return Err(damaged(format!("a block of {size} bytes for a frame of {length}")));
                    }
                    let mut frame = vec![0; length];
                    self.input.read_exact(&mut frame)?;
                    let time = i64::from(i16::from_be_bytes([header[1], header[2]]));
                    return Ok(Some((self.cluster.saturating_add(time), frame)));
                }
                (_, Some(size)) => {
                    if io::copy(&mut (&mut self.input).take(size), &mut io::sink())? < size {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                (_, None) => return Err(damaged(format!("element {id:X} without a size"))),
            }
        }
        Ok(None)
    }

    /// The next identifier; `None` at the end of the stream.
    fn id(&mut self) -> io::Result<Option<u64>> {
        let mut first = [0];
        loop {
            match self.input.read(&mut first) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let more = first[0].leading_zeros();
        if more > 3 {
            return Err(damaged(format!("an identifier that begins with {:X}", first[0])));
        }
        let rest = self.bytes(more.into())?;
        Ok(Some(u64::from(first[0]) << (8 * more) | rest))
    }

    /// The next size; `None` for an element of unknown size.
    fn size(&mut self) -> io::Result<Option<u64>> {
        let first = self.bytes(1)?;
        let more = first.leading_zeros() - 56;
        if more > 7 {
            return Err(damaged("a size of more than 8 bytes".into()));
        }
        let mask = (1 << (7 * (more + 1))) - 1;
        let size = (first << (8 * more) | self.bytes(more.into())?) & mask;
        Ok((size != mask).then_some(size))
    }

    /// The next `count` bytes, at most 8, as a number.
    fn bytes(&mut self, count: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes[8 - count as usize..])?;
        Ok(u64::from_be_bytes(bytes))
    }
}

fn damaged(found: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, found)
}

/// What comes before the first frame: a stream of uncompressed RGB frames of `width` by `height` pixels, whose ticks are
/// microseconds. `frame_rate` (Hz) is only what the stream says of itself.
pub(super) fn header(width: usize, height: usize, frame_rate: f64) -> Vec<u8> {
    let ebml = [
        number(EBML_VERSION, 1),
        number(EBML_READ_VERSION, 1),
        number(EBML_MAX_ID_LENGTH, 4),
        number(EBML_MAX_SIZE_LENGTH, 8),
        element(DOC_TYPE, b"matroska"),
        number(DOC_TYPE_VERSION, 4),
        number(DOC_TYPE_READ_VERSION, 2),
    ];
    let info = [number(TIMESTAMP_SCALE, 1000), element(MUXING_APP, b"soundsight"), element(WRITING_APP, b"soundsight")];
    let video = [
        number(PIXEL_WIDTH, width as u64),
        number(PIXEL_HEIGHT, height as u64),
        // ffmpeg's name of packed RGB with 24 bits per pixel.
        element(UNCOMPRESSED_FOUR_CC, b"RGB\x18"),
    ];
    let track = [
        number(TRACK_NUMBER, 1),
        number(TRACK_UID, 1),
        number(TRACK_TYPE, 1), // video
        number(FLAG_LACING, 0),
        element(CODEC_ID, b"V_UNCOMPRESSED"),
        number(DEFAULT_DURATION, (1e9 / frame_rate).round() as u64), // ns
        element(VIDEO, &video.concat()),
    ];
    let mut segment = id(SEGMENT);
    segment.extend([0xFF]); // of unknown size: up to the end
    [
        element(EBML, &ebml.concat()),
        segment,
        element(INFO, &info.concat()),
        element(TRACKS, &element(TRACK_ENTRY, &track.concat())),
    ]
    .concat()
}

/// What comes before a frame of `length` bytes at `time`, in µs.
pub(super) fn frame_header(time: u64, length: usize) -> Vec<u8> {
    // Each frame has a cluster of its own: times within a cluster have 16 bits only.
    let time = number(TIMESTAMP, time);
    let mut block = id(SIMPLE_BLOCK);
    block.extend(size(BLOCK_HEADER + length));
    block.extend([0x81, 0, 0, 0x80]); // track 1, the cluster's time, a key frame
    let mut cluster = id(CLUSTER);
    cluster.extend(size(time.len() + block.len() + length));
    [cluster, time, block].concat()
}

fn element(name: u64, payload: &[u8]) -> Vec<u8> {
    [&id(name)[..], &size(payload.len()), payload].concat()
}

fn number(name: u64, value: u64) -> Vec<u8> {
    element(name, &value.to_be_bytes())
}

/// An identifier's bytes; it contains its own length.
fn id(name: u64) -> Vec<u8> {
    name.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect()
}

/// A size in eight bytes.
fn size(length: usize) -> [u8; 8] {
    (1 << 56 | length as u64).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_with_their_times() {
        let mut stream = header(2, 1, 25.0);
        let frames = [(0, [1, 2, 3, 4, 5, 6]), (40_000, [7; 6]), (9_000_000_000, [8; 6])];
        for (time, pixels) in frames {
            stream.extend(frame_header(time, pixels.len()));
            stream.extend(pixels);
        }
        let mut reader = FrameReader::new(&stream[..]);
        for (time, pixels) in frames {
            assert_eq!(reader.next_frame(6).unwrap(), Some((time as i64, pixels.to_vec())));
        }
        assert_eq!(reader.next_frame(6).unwrap(), None);
        assert_eq!(FrameReader::new(&stream[..]).next_frame(5).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn no_cut_or_damaged_stream_is_read_as_whole() {
        let mut stream = header(2, 1, 25.0);
        let start = stream.len();
        stream.extend(frame_header(0, 6));
        stream.extend([7; 6]);
        for length in start + 1..stream.len() {
            // The cut between two elements is an end like any other.
            let read = FrameReader::new(&stream[..length]).next_frame(6);
            assert!(!matches!(read, Ok(Some(_))), "{length} bytes: {read:?}");
        }
        for position in 0..stream.len() - 6 {
            for value in [0, 1, 0x80, 0xFF] {
                let mut damaged = stream.clone();
                damaged[position] = value;
                // Anything but a panic, or a frame of another size.
                if let Ok(Some((_, frame))) = FrameReader::new(&damaged[..]).next_frame(6) {
                    assert_eq!(frame.len(), 6);
                }
            }
        }
    }
}
