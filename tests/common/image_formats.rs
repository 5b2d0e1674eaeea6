//! Which picture formats this build reads.

/// The feature that reads files named as `name`, and whether it is on; `None` when none is needed.
fn feature(name: &str) -> Option<(&'static str, bool)> {
    match name.rsplit('.').next() {
        Some("png" | "jpg") => None,
        Some("bmp" | "gif" | "ico" | "ppm" | "tga" | "webp") => {
            Some(("image-formats", cfg!(feature = "image-formats")))
        }
        _ => Some(("all-image-formats", cfg!(feature = "all-image-formats"))),
    }
}

/// The feature that is missing to read files named as `name`; `None` when this build reads them.
pub fn missing_feature(name: &str) -> Option<&'static str> {
    feature(name).and_then(|(feature, on)| (!on).then_some(feature))
}
