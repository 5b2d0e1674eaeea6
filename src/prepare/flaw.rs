//! Why a film cannot be used.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of flaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FlawKind {
    /// The list names it, and no source has it.
    Missing,
    /// The span is too short, or ends before the wanted picture.
    Short,
    /// No sample of the span is louder than [`SILENCE`](super::SILENCE).
    Silent,
    /// The picture does not change during the span.
    Still,
    /// It cannot be decoded: no film, truncated, damaged.
    Broken,
    /// It has no sound track.
    NoSound,
    /// It has no picture track.
    NoPicture,
    /// Another film has the same id.
    Duplicate,
    /// Its name cannot be the name of a file, or leads out of the archive; or it is a link in an archive.
    Unsafe,
    /// A member of an archive beyond [`MAX_MEMBER_BYTES`](super::MAX_MEMBER_BYTES), or that inflates like a bomb.
    TooLarge,
}

impl FlawKind {
    /// All kinds, in the order in which summaries list them.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Short,
        Self::Silent,
        Self::Still,
        Self::Broken,
        Self::NoSound,
        Self::NoPicture,
        Self::Duplicate,
        Self::Unsafe,
        Self::TooLarge,
    ];

    /// The name in reports: `missing`, `no-sound` …
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Short => "short",
            Self::Silent => "silent",
            Self::Still => "still",
            Self::Broken => "broken",
            Self::NoSound => "no-sound",
            Self::NoPicture => "no-picture",
            Self::Duplicate => "duplicate",
            Self::Unsafe => "unsafe",
            Self::TooLarge => "too-large",
        }
    }
}

impl fmt::Display for FlawKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is wrong with a film.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaw {
    /// The kind of flaw.
    pub kind: FlawKind,
    /// What was expected and what was found.
    pub reason: String,
}

impl Flaw {
    pub(super) fn new(kind: FlawKind, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self { kind, reason: format!("expected {expected}, found {found}") }
    }
}
