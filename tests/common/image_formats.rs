//! The picture formats that this build can read.

/// The feature needed to read files with the extension of `name`, and whether it is enabled; `None` if none is needed.
fn feature(name: &str) -> Option<(&'static str, bool)> {
    match name.rsplit('.').next() {
        Some("png" | "jpg") => None,
        Some("bmp" | "gif" | "ico" | "ppm" | "tga" | "webp") => {
            Some(("image-formats", cfg!(feature = "image-formats")))
        }
        _ => Some(("all-image-formats", cfg!(feature = "all-image-formats"))),
    }
}

/// The missing feature needed to read files with the extension of `name`; `None` if this build can read them.
pub fn missing_feature(name: &str) -> Option<&'static str> {
    feature(name).and_then(|(feature, on)| (!on).then_some(feature))
}
