//! The picture formats and the features that enable them.

use image::ImageFormat;

/// A Cargo feature and whether it is enabled.
type Feature = (&'static str, bool);

const COMMON: Option<Feature> = Some(("image-formats", cfg!(feature = "image-formats")));
const RARE: Option<Feature> = Some(("all-image-formats", cfg!(feature = "all-image-formats")));

/// Each format with its name and the feature that it needs, if any.
const FORMATS: [(ImageFormat, &str, Option<Feature>); 14] = [
    (ImageFormat::Png, "PNG", None),
    (ImageFormat::Jpeg, "JPEG", None),
    (ImageFormat::WebP, "WebP", COMMON),
    (ImageFormat::Gif, "GIF", COMMON),
    (ImageFormat::Bmp, "BMP", COMMON),
    (ImageFormat::Ico, "ICO", COMMON),
    (ImageFormat::Pnm, "PNM", COMMON),
    (ImageFormat::Tga, "TGA", COMMON),
    (ImageFormat::Tiff, "TIFF", RARE),
    (ImageFormat::Qoi, "QOI", RARE),
    (ImageFormat::Dds, "DDS", RARE),
    (ImageFormat::Hdr, "HDR", RARE),
    (ImageFormat::OpenExr, "OpenEXR", RARE),
    (ImageFormat::Farbfeld, "farbfeld", RARE),
];

/// The readable formats, for error messages.
pub(super) fn expected() -> String {
    let readable = FORMATS.iter().filter(|(_, _, feature)| feature.is_none_or(|(_, on)| on));
    let names: Vec<_> = readable.map(|(_, name, _)| *name).collect();
    format!("a picture ({})", names.join(", "))
}

/// The name of `format`, for messages.
pub(super) fn name(format: ImageFormat) -> &'static str {
    FORMATS.iter().find(|(known, ..)| *known == format).map_or("picture", |(_, name, _)| name)
}

/// The missing feature that would let this build read `format`; `None` if it can read it, or if no feature would help.
pub(super) fn missing_feature(format: ImageFormat) -> Option<&'static str> {
    let (_, _, feature) = FORMATS.iter().find(|(known, ..)| *known == format)?;
    feature.and_then(|(name, on)| (!on).then_some(name))
}

/// Whether files whose names end with `extension` are usually pictures, even if this build cannot read them.
#[cfg(feature = "train")]
pub(crate) fn is_picture_extension(extension: &str) -> bool {
    ImageFormat::from_extension(extension).is_some()
}
