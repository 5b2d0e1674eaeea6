//! Decodes a file's bytes to upright 8-bit RGB.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::limits::{MAX_DECODED_BYTES, check_size};
use super::picture::Picture;
use super::{formats, jpeg, plausible};
use crate::error::{Error, Result};

impl Picture {
    /// Reads a picture from a file: JPEG or PNG; with the feature `image-formats` (on by default) BMP, GIF, ICO, PNM,
    /// TGA or WebP; with `all-image-formats` DDS, farbfeld, HDR, OpenEXR, QOI or TIFF.
    ///
    /// The format is recognised by the content and not by the name, except for TGA, which has no signature and is
    /// recognised by its extension. [`Picture::from_bytes`] describes how pixels are converted.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read (missing, a directory, no permission); [`Error::Image`] and
    /// [`Error::MissingFeature`] as [`Picture::from_bytes`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let is_tga = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tga"));
        decode(&bytes, is_tga.then_some(ImageFormat::Tga), &path.display().to_string())
    }

    /// Reads a picture from the bytes of a file, in any format of [`Picture::open`] except TGA, which has no signature.
    ///
    /// - The orientation in the EXIF data (or in the TIFF directory) is applied.
    /// - Grey becomes three equal channels. Only the first frame of an animation is read.
    /// - Transparency is dropped: a transparent pixel keeps its colour in the file or the palette, as with Pillow's
    ///   `convert("RGB")`.
    /// - 16-bit samples keep their high byte, as Pillow does with 16-bit RGB. (Pillow clips 16-bit *grey* at 255, which
    ///   turns most such pictures white; here grey is treated like colour.)
    /// - Floating-point samples are linear light; they are clipped to 0..1 and converted to sRGB.
    /// - Colour profiles are ignored, as Pillow ignores them.
    ///
    /// # Errors
    /// - [`Error::Image`] for content that is empty, of no known format, truncated or damaged, for more than
    ///   [`MAX_SIDE`](super::MAX_SIDE), [`MAX_PIXELS`](super::MAX_PIXELS) or [`MAX_DECODED_BYTES`], or more pixels than
    ///   a file of this length can hold (a decompression bomb).
    /// - [`Error::MissingFeature`] for a format that this build does not read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        decode(bytes, None, "bytes")
    }
}

/// Decodes `bytes`, the content of `origin`; `fallback` is the format if the content has no known signature.
fn decode(bytes: &[u8], fallback: Option<ImageFormat>, origin: &str) -> Result<Picture> {
    let unusable =
        |expected: &str, found: String| Error::Image { origin: origin.into(), expected: expected.into(), found };
    let Some(format) = image::guess_format(bytes).ok().or(fallback) else {
        return Err(unusable(&formats::expected(), describe(bytes)));
    };
    if let Some(feature) = formats::missing_feature(format) {
        return Err(Error::MissingFeature { what: format!("{origin}: a {} file", formats::name(format)), feature });
    }
    let whole = format!("a whole, sound {} file", format.extensions_str().first().unwrap_or(&"picture"));
    if format == ImageFormat::Jpeg && !jpeg::is_complete(bytes) {
        return Err(unusable(&whole, "a truncated one: the end-of-image marker is missing".into()));
    }
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(error) => unusable(&formats::expected(), error.to_string()),
        ImageError::Limits(error) => {
            unusable(&format!("at most {MAX_DECODED_BYTES} bytes of decoded pixels"), error.to_string())
        }
        error => unusable(&whole, error.to_string()),
    };

    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    check_size(origin, width as usize, height as usize)?;
    plausible::check(origin, format, bytes, width.into(), height.into())?;
    if format == ImageFormat::Gif
        && let Some((width, height)) = plausible::first_gif_frame(bytes)
    {
        plausible::check(origin, format, bytes, width.into(), height.into())?;
    }
    limits.reserve(decoder.total_bytes()).map_err(failed)?;

    let orientation = match format {
        // EXIF data have the layout of a TIFF file, with the orientation in the first directory.
        ImageFormat::Tiff => Orientation::from_exif_chunk(bytes),
        // Damaged metadata are ignored.
        _ => decoder.exif_metadata().ok().flatten().as_deref().and_then(exif_orientation),
    };
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    Picture::from_rgb8(picture.width() as usize, picture.height() as usize, to_rgb8(picture))
}

/// The orientation in EXIF data; WebP files often have the prefix that only JPEG requires.
fn exif_orientation(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
}

/// Describes content of an unknown format, for error messages.
fn describe(bytes: &[u8]) -> String {
    match bytes {
        [] => "an empty file".into(),
        _ => format!("content of no known format, beginning with \"{}\"", bytes[..bytes.len().min(16)].escape_ascii()),
    }
}

/// Any sample and channel layout → RGB of 8 bits.
fn to_rgb8(picture: DynamicImage) -> Vec<u8> {
    let narrow = |sample: u16| (sample >> 8) as u8;
    match picture {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageLuma8(picture) => to_rgb(&picture, 1, |sample| sample),
        DynamicImage::ImageLumaA8(picture) => to_rgb(&picture, 2, |sample| sample),
        DynamicImage::ImageRgba8(picture) => to_rgb(&picture, 4, |sample| sample),
        DynamicImage::ImageLuma16(picture) => to_rgb(&picture, 1, narrow),
        DynamicImage::ImageLumaA16(picture) => to_rgb(&picture, 2, narrow),
        DynamicImage::ImageRgb16(picture) => to_rgb(&picture, 3, narrow),
        DynamicImage::ImageRgba16(picture) => to_rgb(&picture, 4, narrow),
        DynamicImage::ImageRgb32F(picture) => to_rgb(&picture, 3, srgb),
        DynamicImage::ImageRgba32F(picture) => to_rgb(&picture, 4, srgb),
        // The enum is non-exhaustive; variants that are added later use the library's conversion.
        other => other.into_rgb8().into_raw(),
    }
}

/// Interleaved `samples`, `channels` (1 to 4) per pixel → three bytes per pixel; grey is repeated, alpha dropped.
fn to_rgb<S: Copy>(samples: &[S], channels: usize, to_byte: impl Fn(S) -> u8) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(samples.len() / channels * 3);
    for pixel in samples.chunks_exact(channels) {
        match *pixel {
            [red, green, blue] | [red, green, blue, _] => {
                pixels.extend([to_byte(red), to_byte(green), to_byte(blue)]);
            }
            [grey, ..] => pixels.extend([to_byte(grey); 3]),
            [] => {}
        }
    }
    pixels
}

/// Linear light → a byte on the sRGB curve (IEC 61966-2-1); NaN → 0.
fn srgb(linear: f32) -> u8 {
    let encoded = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    // A float cast saturates, and converts NaN to 0.
    (encoded * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_light_gets_the_srgb_curve() {
        let light = [0.0, 0.002, 0.214_041_14, 1.0, 7.0, -1.0];
        let picture = image::Rgb32FImage::from_raw(2, 1, light.to_vec()).unwrap();
        // 0.002 · 12.92 · 255 = 6.6; 0.21404 is the middle grey of sRGB.
        assert_eq!(to_rgb8(picture.into()), [0, 7, 128, 255, 255, 0]);
    }
}
