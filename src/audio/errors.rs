//! Errors shared by several steps of decoding.

use std::path::Path;

use crate::error::{Error, Result};

/// An [`Error::Audio`].
pub(super) fn unusable(origin: impl ToString, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Audio { origin: origin.to_string(), expected: expected.into(), found: found.into() }
}

/// [`Error::Audio`] for a file that ends too early.
pub(super) fn truncated(path: &Path, cut: impl Into<String>) -> Error {
    unusable(path.display(), "a complete file", format!("a truncated one: {}", cut.into()))
}

/// [`Error::Audio`] for a window that begins at or after the end of the clip.
pub(super) fn start_beyond_end(origin: impl ToString, start: f64, clip_seconds: f64) -> Error {
    let expected = format!("a start before the end of the clip ({clip_seconds:.3} s long)");
    unusable(origin, expected, format!("a start at {start:.3} s"))
}

/// Returns an [`Error::Audio`] that names the first NaN or infinite sample, if there is one.
pub(super) fn check_finite(origin: &str, samples: &[f32]) -> Result<()> {
    match samples.iter().position(|s| !s.is_finite()) {
        Some(at) => Err(unusable(origin, "finite samples", format!("{} at sample {at}", samples[at]))),
        None => Ok(()),
    }
}
