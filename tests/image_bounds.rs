//! A file that is too short for its picture is rejected before decoding; no valid file is.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;
use std::path::Path;

use image::ImageFormat;
use soundsight::Error;
use soundsight::image::Picture;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/formats").join(name)).unwrap()
}

/// Asserts that `bytes` are rejected as too few for `width` × `height` pixels.
#[track_caller]
fn assert_implausible(bytes: &[u8], format: &str, width: usize, height: usize) {
    let error = Picture::from_bytes(bytes).unwrap_err();
    let Error::Image { expected, found, .. } = &error else { panic!("{error:?}") };
    assert!(expected.contains(&format!("no {format} file of {} bytes holds more", bytes.len())), "{error}");
    assert_eq!(found, &format!("{width} × {height} pixels"));
}

/// The position of the sequence `wanted` in `bytes`.
fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

/// A segment of a JPEG: the marker, the length (including itself) and the data.
fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xFF, marker], &(data.len() as u16 + 2).to_be_bytes()[..], data].concat()
}

/// A grey JPEG with as few bits as the format allows: one for the mean of each block, one for its end.
fn smallest_jpeg(width: u16, height: u16) -> Vec<u8> {
    let blocks = usize::from(width.div_ceil(8)) * usize::from(height.div_ceil(8));
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    // A Huffman table with a single code: the bit 0 for the symbol 0.
    let table = |class: u8| segment(0xC4, &[&[class, 1][..], &[0; 15], &[0]].concat());
    [
        vec![0xFF, 0xD8],
        segment(0xDB, &[&[0][..], &[1; 64]].concat()),
        segment(0xC0, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0]),
        table(0x00),
        table(0x10),
        segment(0xDA, &[1, 1, 0, 0, 63, 0]),
        vec![0; (2 * blocks).div_ceil(8)],
        vec![0xFF, 0xD9],
    ]
    .concat()
}

#[test]
fn a_jpeg_of_a_kilobyte() {
    for name in ["rgb420.jpg", "grey.jpg", "progressive.jpg"] {
        let mut bytes = fixture(name);
        let frame = find(&bytes, if name.starts_with("progressive") { b"\xFF\xC2" } else { b"\xFF\xC0" });
        bytes[frame + 5..frame + 7].copy_from_slice(&17_416_u16.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&9_216_u16.to_be_bytes());
        assert_implausible(&bytes, "JPEG", 9_216, 17_416);
    }
}

#[test]
fn a_png_of_a_kilobyte() {
    let mut bytes = fixture("rgb.png");
    bytes[16..20].copy_from_slice(&16_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&16_000_u32.to_be_bytes());
    let checksum = !bytes[12..29].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert_implausible(&bytes, "PNG", 16_000, 16_000);
}

#[test]
#[cfg(feature = "image-formats")]
fn a_gif_of_a_kilobyte() {
    // The whole picture, then only its first frame: two bytes for each side in both.
    let bytes = fixture("palette.gif");
    let frame = find(&bytes, &[0x2C, 0, 0, 0, 0, 29, 0, 21, 0]);
    for place in [6, frame + 5] {
        let mut bytes = bytes.clone();
        bytes[place..place + 2].copy_from_slice(&16_000_u16.to_le_bytes());
        bytes[place + 2..place + 4].copy_from_slice(&16_000_u16.to_le_bytes());
        assert_implausible(&bytes, "GIF", 16_000, 16_000);
    }
}

#[test]
#[cfg(feature = "image-formats")]
fn a_lossy_webp_of_a_kilobyte() {
    let mut bytes = fixture("lossy.webp");
    // The start code of a frame, then the sides, in 14 bits each.
    let sides = find(&bytes, b"\x9D\x01\x2A") + 3;
    bytes[sides..sides + 2].copy_from_slice(&16_000_u16.to_le_bytes());
    bytes[sides + 2..sides + 4].copy_from_slice(&16_000_u16.to_le_bytes());
    assert_implausible(&bytes, "WebP", 16_000, 16_000);
}

#[test]
fn the_smallest_jpeg_of_its_size_opens() {
    let picture = Picture::from_bytes(&smallest_jpeg(8_000, 8_000)).unwrap();
    assert_eq!(picture.size(), (8_000, 8_000));
    assert!(picture.pixels().iter().all(|&byte| byte == 128));
}

/// The most compressible picture, a single colour, written by this crate's encoders.
#[test]
fn large_white_pictures_open() {
    let white = image::GrayImage::from_pixel(8_000, 8_000, image::Luma([255]));
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        if !format.writing_enabled() {
            continue;
        }
        let mut file = Cursor::new(Vec::new());
        white.write_to(&mut file, format).unwrap();
        let picture = Picture::from_bytes(file.get_ref()).unwrap();
        assert_eq!(picture.size(), (8_000, 8_000), "{format:?}");
        assert!(picture.pixels().iter().all(|&byte| byte == 255), "{format:?}");
    }
}
