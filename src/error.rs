//! The crate's one error type.
//!
//! Every variant says what is wrong (a file, a tensor, a setting), what was expected and what was found. There is one
//! variant for each kind of error that a caller might handle differently. Underlying errors are available as sources,
//! so `anyhow` prints the whole chain.
//!
//! ```
//! use soundsight::Error;
//! use soundsight::error::chain;
//! use soundsight::weights::Checkpoint;
//!
//! match Checkpoint::open("missing.safetensors") {
//!     Err(error @ Error::Io { .. }) => assert!(chain(&error).starts_with("missing.safetensors: cannot open: ")),
//!     Err(error) => panic!("{error}"),
//!     Ok(_) => unreachable!("there is no such file"),
//! }
//! ```

use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file system error: a missing file, a lack of permission, a full disk, a directory instead of a file.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: "read", "write", "create the folder" …
        action: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Unusable audio: an unknown format, a truncated file, no samples, NaN.
    #[error("{origin}: unusable sound: expected {expected}, found {found}")]
    Audio {
        /// The file, or "samples" for audio from memory.
        origin: String,
        /// What usable audio would contain.
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// An unusable picture: an unknown format, a truncated or empty file, a size beyond the limits.
    #[error("{origin}: unusable picture: expected {expected}, found {found}")]
    Image {
        /// The file, or "pixels" for pictures from memory.
        origin: String,
        /// What a usable picture would contain.
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// An unusable film: no film at all, without a picture track, truncated or damaged, a still picture.
    #[error("{origin}: unusable film: expected {expected}, found {found}")]
    Film {
        /// The file.
        origin: String,
        /// What a usable film would contain.
        expected: String,
        /// What was found instead, often in the words of `ffmpeg`.
        found: String,
    },
    /// A program that films are read and written with, and that is not installed.
    #[error(
        "cannot find the program `{}`, which is needed for films; it comes with ffmpeg (Debian and Ubuntu: `apt-get \
         install ffmpeg`, macOS: `brew install ffmpeg`, Windows: `winget install ffmpeg`)",
        program.display()
    )]
    MissingProgram {
        /// The program: "ffmpeg", or the path that was given for it.
        program: PathBuf,
    },
    /// A file of weights, a configuration, a tokenizer or a checkpoint whose contents are invalid.
    #[error("{}: unusable {kind}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the file should be: "checkpoint", "safetensors file", "configuration", "tokenizer" …
        kind: &'static str,
        /// What such a file contains.
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// The tensors of a file do not match those of the model, by name or by shape.
    #[error("{}: the weights do not fit the model: {}", path.display(), problems.join("; "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// One entry per tensor: "missing `name`" or "unexpected `name`" with its shape, or "`name`: expected … found
        /// …" with both shapes.
        problems: Vec<String>,
    },
    /// A configuration setting that is out of range, or two settings that contradict each other.
    #[error("{what}: expected {expected}, found {found}")]
    Config {
        /// The name of the setting in the configuration.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was set.
        found: String,
    },
    /// An invalid argument to a function: a threshold above 1, an empty batch.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The name of the argument.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// A device that is not available in this build or on this machine, or whose driver failed.
    #[error("device {name} is not available: {reason}")]
    Device {
        /// The requested device: "cuda".
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A text prompt for a model without a tokenizer.
    #[error(
        "text prompt: expected a model with tokenizer.json, or vocab.json and merges.txt, found no tokenizer in {model}"
    )]
    NoTokenizer {
        /// The directory or name of the model.
        model: String,
    },
    /// More unreadable pairs in a data set than the caller tolerates.
    #[error(
        "max_bad: expected at most {} % of {num_pairs} pairs unreadable, found {num_bad}, listed in {}, such as {example}",
        max_bad * 100.0,
        list.display()
    )]
    TooManyBadPairs {
        /// The number of unreadable pairs.
        num_bad: usize,
        /// The number of pairs.
        num_pairs: usize,
        /// The tolerated fraction, 0 to 1.
        max_bad: f64,
        /// The CSV file that lists the unreadable pairs with the reasons.
        list: PathBuf,
        /// One of these pairs, with its reason.
        example: String,
    },
    /// A request for something that needs a Cargo feature, in a build without that feature.
    #[error("{what} needs the feature `{feature}`, which this program was built without")]
    MissingFeature {
        /// What was requested.
        what: String,
        /// The required feature.
        feature: &'static str,
    },
    /// A tensor of the wrong shape.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The argument.
        what: &'static str,
        /// The expected shape, with symbols: "[B, N, 768]".
        expected: String,
        /// The actual shape.
        found: Vec<usize>,
    },
    /// A model that was not found: neither a directory nor a known name, or missing from the cache and not downloaded.
    #[error("{reason}")]
    ModelUnavailable {
        /// What was tried, and how to get the model.
        reason: String,
    },
    /// A value that is NaN or infinite.
    #[error("{what} is not finite: {details}")]
    NonFinite {
        /// The quantity.
        what: String,
        /// Where and when it occurred: the step, the samples concerned.
        details: String,
    },
    /// An error of another process of a run in several processes.
    #[error("{process}: {reason}")]
    Process {
        /// Which process: "process 3 on node-b".
        process: String,
        /// Its message, or what it failed to do.
        reason: String,
    },
    /// A tensor operation that failed in Candle.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// Creates an [`Error::Io`] on `path` during `action`, for use in `map_err`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// Creates an [`Error::Format`]: `path` should have been a `kind`.
    pub fn format(
        path: impl AsRef<Path>,
        kind: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), kind, expected: expected.into(), found: found.to_string() }
    }

    /// Creates an [`Error::Config`]: the setting `what` should have been `expected`.
    pub fn config(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Config { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// Creates an [`Error::Argument`]: the argument `what` should have been `expected`.
    pub fn argument(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Argument { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// Creates an [`Error::Shape`] for the argument `what`.
    pub fn shape(what: &'static str, expected: impl Into<String>, found: &[usize]) -> Self {
        Self::Shape { what, expected: expected.into(), found: found.to_vec() }
    }
}

/// The messages of `error` and of its sources on one line: "what failed: why: why that".
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_the_error_and_its_causes_in_one_line() {
        let error = Error::io("model.pt", "read")(std::io::Error::other("the disk is on fire"));
        assert_eq!(chain(&error), "model.pt: cannot read: the disk is on fire");
        assert_eq!(chain(&Error::config("steps", "at least 1", 0)), "steps: expected at least 1, found 0");
    }
}
