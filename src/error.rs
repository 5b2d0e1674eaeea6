//! The crate's one error type.
//!
//! Every variant names what is wrong (a file, a tensor, a setting), what was expected and what was found, and there is
//! one variant for each problem that a caller might handle differently. Sources are kept, so `anyhow` prints the whole
//! chain.

use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file system error: no such file, no permission, a full disk, a directory in place of a file.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: "read", "write", "create the folder" …
        action: &'static str,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// A sound that cannot be used: unknown format, truncated, no samples, NaN.
    #[error("{origin}: unusable sound: expected {expected}, found {found}")]
    Audio {
        /// The file, or "samples" for sound given from memory.
        origin: String,
        /// What a usable sound would have had.
        expected: String,
        /// What was there instead.
        found: String,
    },
    /// A picture that cannot be used: unknown format, truncated, empty, beyond the size limits.
    #[error("{origin}: unusable picture: expected {expected}, found {found}")]
    Image {
        /// The file, or "pixels" for pictures given from memory.
        origin: String,
        /// What a usable picture would have had.
        expected: String,
        /// What was there instead.
        found: String,
    },
    /// A file of weights (or a configuration, a tokenizer, a checkpoint) that cannot be read as what it claims to be.
    #[error("{}: unusable {kind}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the file should be: "checkpoint", "safetensors file", "configuration", "tokenizer" …
        kind: &'static str,
        /// What such a file holds.
        expected: String,
        /// What was there instead.
        found: String,
    },
    /// The tensors of a file and those that the model reads do not match, by name or by shape.
    #[error("{}: the weights do not fit the model: {}", path.display(), problems.join("; "))]
    Weights {
        /// The file.
        path: PathBuf,
        /// One entry for each tensor: "missing `name`" or "unexpected `name`" with its shape, or "`name`: expected …
        /// found …" with both shapes.
        problems: Vec<String>,
    },
    /// A setting of a configuration that is out of range, or two settings that contradict each other.
    #[error("{what}: expected {expected}, found {found}")]
    Config {
        /// The setting, by its name in the configuration.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was set.
        found: String,
    },
    /// An argument of a call that the function cannot work with: a threshold above 1, an empty batch.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The argument, by its name.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was passed.
        found: String,
    },
    /// A device that this build or this machine does not have, or whose driver failed.
    #[error("device {name} is not available: {reason}")]
    Device {
        /// The device as it was asked for: "cuda".
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A text prompt for a model that came without a tokenizer.
    #[error(
        "text prompt: expected a model with tokenizer.json, or vocab.json and merges.txt, found no tokenizer in {model}"
    )]
    NoTokenizer {
        /// The model, by its directory or name.
        model: String,
    },
    /// More pairs of a data set cannot be read than the caller tolerates.
    #[error(
        "max_bad: expected at most {} % of {num_pairs} pairs unreadable, found {num_bad}, listed in {}, such as {example}",
        max_bad * 100.0,
        list.display()
    )]
    TooManyBadPairs {
        /// How many pairs cannot be read.
        num_bad: usize,
        /// How many pairs there are.
        num_pairs: usize,
        /// The fraction that is tolerated, 0 to 1.
        max_bad: f64,
        /// The CSV file that lists them with the reasons.
        list: PathBuf,
        /// One of them with its reason.
        example: String,
    },
    /// Something that this build leaves out: it was compiled without the Cargo feature that provides it.
    #[error("{what} needs the feature `{feature}`, which this program was built without")]
    MissingFeature {
        /// What was asked for.
        what: String,
        /// The feature that provides it.
        feature: &'static str,
    },
    /// A tensor of the wrong shape was passed.
    #[error("{what}: expected shape {expected}, found {found:?}")]
    Shape {
        /// The argument.
        what: &'static str,
        /// The expected shape, with symbols: "[B, N, 768]".
        expected: String,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// A model that was not found: not a directory, not a known name, not in the cache and not on the network.
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
        /// Where and when: the step, the samples concerned.
        details: String,
    },
    /// A tensor operation failed in Candle.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// An [`Error::Io`] on `path` while trying to `action`, for `map_err`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// An [`Error::Format`]: `path` should have been a `kind`.
    pub fn format(
        path: impl AsRef<Path>,
        kind: &'static str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), kind, expected: expected.into(), found: found.to_string() }
    }

    /// An [`Error::Config`]: the setting `what` should have been `expected`.
    pub fn config(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Config { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// An [`Error::Argument`]: the argument `what` should have been `expected`.
    pub fn argument(what: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Self::Argument { what: what.into(), expected: expected.into(), found: found.to_string() }
    }

    /// An [`Error::Shape`] for the argument `what`.
    pub fn shape(what: &'static str, expected: impl Into<String>, found: &[usize]) -> Self {
        Self::Shape { what, expected: expected.into(), found: found.to_vec() }
    }
}

/// The message of `error` and those of its causes, in one line: "what failed: why: why that".
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
