//! Unusable pictures: each gives an error with the file, what was expected and what was found.
#![allow(clippy::unwrap_used)]

#[path = "common/image_formats.rs"]
mod image_formats;

use std::path::{Path, PathBuf};

use soundsight::Error;
use soundsight::image::{MAX_SIDE, Picture};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/image/formats").join(name)
}

/// Writes `bytes` to a file `name`, opens it, and returns the error, which must be an [`Error::Image`] naming the file.
#[track_caller]
fn refused(name: &str, bytes: &[u8]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let error = Picture::open(&path).unwrap_err();
    let message = error.to_string();
    let Error::Image { origin, expected, found } = error else { panic!("{name}: {error:?}") };
    assert_eq!(origin, path.display().to_string());
    assert!(message.contains(name) && message.contains(&expected) && message.contains(&found), "{message}");
    (expected, found)
}

/// A PNG that claims `width` × `height` grey pixels.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8], data: &[u8]| {
        let body = [kind, data].concat();
        let checksum = !body.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
        });
        [&(data.len() as u32).to_be_bytes()[..], &body, &checksum.to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    // The data: a zlib stream with a valid beginning.
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[0x78, 0x9C]), chunk(b"IEND", b"")]
        .concat()
}

#[test]
fn no_file_and_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.png");
    for path in [missing.as_path(), folder.path()] {
        let error = Picture::open(path).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(matches!(&error, Error::Io { path: named, action: "read", .. } if named == path), "{error:?}");
    }
}

#[test]
fn an_empty_file() {
    let (expected, found) = refused("empty.jpg", b"");
    assert!(expected.contains("PNG") && found.contains("empty"), "{expected}; {found}");
}

#[test]
fn a_text_named_png() {
    let (expected, found) = refused("notes.png", b"Dear diary,\ntoday");
    assert!(expected.contains("PNG") && found.contains("Dear diary"), "{expected}; {found}");
}

#[test]
fn bytes_are_named_so() {
    let error = Picture::from_bytes(b"not a picture").unwrap_err();
    assert!(matches!(&error, Error::Image { origin, .. } if origin == "bytes"), "{error}");
}

#[test]
fn truncated_files_of_every_format() {
    let names = [
        "rgb.png",
        "palette.png",
        "rgba16.png",
        "rgb444.jpg",
        "rgb420.jpg",
        "progressive.jpg",
        "orientation6.jpg",
        "grey.jpg",
        "lossless.webp",
        "lossy.webp",
        "palette.gif",
        "rgb.bmp",
        "lzw.tiff",
        "binary.ppm",
        "rle.tga",
        "rgba.ico",
    ];
    for name in names.into_iter().filter(|name| image_formats::missing_feature(name).is_none()) {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for percent in [10, 40, 70, 90] {
            refused(name, &bytes[..bytes.len() * percent / 100]);
        }
    }
}

#[test]
fn a_jpeg_is_refused_wherever_it_is_cut() {
    for name in ["rgb420.jpg", "progressive.jpg", "orientation6.jpg"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for length in 3..bytes.len() {
            let error = Picture::from_bytes(&bytes[..length]).unwrap_err();
            assert!(matches!(error, Error::Image { .. }), "{name} cut to {length}: {error}");
        }
    }
}

#[test]
fn a_png_is_refused_wherever_its_pixels_are_cut() {
    let bytes = std::fs::read(fixture("rgb.png")).unwrap();
    // The last twelve bytes, the chunk IEND, contain no data.
    for length in 8..bytes.len() - 12 {
        let error = Picture::from_bytes(&bytes[..length]).unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "cut to {length}: {error}");
    }
}

#[test]
fn what_follows_a_jpeg_does_not_matter() {
    for name in ["rgb420.jpg", "progressive.jpg"] {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        let whole = Picture::from_bytes(&bytes).unwrap();
        bytes.extend_from_slice(b"\0\0\0\x18ftypmp42 the video of a moving photograph");
        assert_eq!(Picture::from_bytes(&bytes).unwrap(), whole);
    }
}

#[test]
fn a_damaged_png() {
    let mut bytes = std::fs::read(fixture("rgb.png")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    let (expected, _) = refused("damaged.png", &bytes);
    assert!(expected.contains("png"), "{expected}");
}

#[test]
fn no_damaged_byte_brings_the_reader_down() {
    let names = [
        "rgb.png",
        "palette_transparent.png",
        "rgb420.jpg",
        "progressive.jpg",
        "orientation6.webp",
        "lossy.webp",
        "animated.gif",
        "palette.bmp",
        "orientation6.tiff",
        "rgba.ico",
    ];
    for name in names.into_iter().filter(|name| image_formats::missing_feature(name).is_none()) {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for (index, flip) in (0..bytes.len()).flat_map(|index| [(index, 0x80), (index, 0xFF)]) {
            let mut damaged = bytes.clone();
            damaged[index] ^= flip;
            // Some damage goes undetected; detected damage is an error, never a panic.
            match Picture::from_bytes(&damaged) {
                Ok(picture) => assert!(picture.width() * picture.height() > 0),
                Err(error) => assert!(matches!(error, Error::Image { .. }), "{name}, byte {index}: {error}"),
            }
        }
    }
}

#[test]
fn decompression_bombs() {
    // 32,768² pixels, a side that is too long, and a GIF that only claims to be huge.
    let (expected, found) = refused("bomb.png", &bomb(32_768, 32_768));
    assert!(expected.contains("268435456") && found.contains("32768 × 32768"), "{expected}; {found}");
    let (_, found) = refused("long.png", &bomb(MAX_SIDE as u32 + 1, 1));
    assert!(found.contains("32769 × 1"), "{found}");
    if cfg!(feature = "image-formats") {
        let (_, found) = refused("huge.gif", b"GIF89a\xFF\xFF\xFF\xFF\0\0\0,\0\0\0\0\xFF\xFF\xFF\xFF\0\x02\0;");
        assert!(found.contains("65535 × 65535"), "{found}");
    }
    if cfg!(feature = "all-image-formats") {
        // Within the limit on pixels but not on bytes: 16,384² pixels in four channels of 16 bits take 2 GiB.
        let mut farbfeld = b"farbfeld".to_vec();
        farbfeld.extend([16_384_u32.to_be_bytes(); 2].concat());
        let (expected, _) = refused("deep.ff", &farbfeld);
        assert!(expected.contains("1073741824"), "{expected}");
    }
}

#[test]
fn avif_is_said_to_be_unsupported() {
    let (expected, found) = refused("photo.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf");
    assert!(expected.contains("PNG") && found.to_lowercase().contains("avif"), "{expected}; {found}");
}

/// Without the feature for a format, the error names it, whether the format is detected from the contents or the name.
#[test]
fn formats_that_are_not_compiled_in() {
    let folder = tempfile::tempdir().unwrap();
    for (name, kind, bytes) in [
        ("picture.dds", "a DDS file", &b"DDS \x7C\0\0\0"[..]),
        ("picture.qoi", "a QOI file", b"qoif"),
        ("picture.tga", "a TGA file", b"\0\0\x02"),
        ("picture.gif", "a GIF file", b"GIF89a"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = Picture::open(&path).unwrap_err();
        match (image_formats::missing_feature(name), &error) {
            (None, Error::Image { .. }) => {}
            (Some(missing), Error::MissingFeature { what, feature }) => {
                assert_eq!((what, *feature), (&format!("{}: {kind}", path.display()), missing));
            }
            _ => panic!("{name}: {error:?}"),
        }
    }
}

#[test]
fn pixels_that_do_not_fit_their_size() {
    for (width, height, bytes) in [(2, 2, 11), (0, 4, 0), (4, 0, 0), (MAX_SIDE + 1, 1, 98_307), (usize::MAX, 2, 6)] {
        let error = Picture::from_rgb8(width, height, vec![0; bytes]).unwrap_err();
        let Error::Image { origin, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!(origin, "pixels");
        assert!(found.contains(&format!("{width} × {height}")) || found.contains("11 bytes"), "{error}");
    }
    let error = Picture::from_rgb8(0, 5, Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::Image { found, .. } if found == "0 × 5 pixels"), "{error}");
}

#[test]
fn sizes_and_crops_out_of_range() {
    let picture = Picture::from_rgb8(4, 3, vec![0; 36]).unwrap();
    for (width, height) in [(0, 5), (5, 0), (MAX_SIDE + 1, 1), (MAX_SIDE, MAX_SIDE)] {
        let error = picture.resize(width, height).unwrap_err();
        let Error::Argument { what, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!((what.as_str(), found), ("resize", &format!("{width} × {height} pixels")));
    }
    for (x, y, width, height) in [(0, 0, 5, 3), (2, 0, 3, 1), (0, 3, 1, 1), (0, 0, 0, 1), (usize::MAX, 0, 2, 1)] {
        let error = picture.crop(x, y, width, height).unwrap_err();
        let Error::Argument { what, expected, .. } = &error else { panic!("{error:?}") };
        assert_eq!(what, "crop");
        assert!(expected.contains("4 × 3"), "{expected}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_not_written_to() {
    let picture = Picture::from_rgb8(1, 1, vec![0; 3]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/picture.png");
    let error = picture.write_png(&path).unwrap_err();
    assert!(matches!(&error, Error::Io { path: named, action: "write", .. } if *named == path), "{error}");
}
