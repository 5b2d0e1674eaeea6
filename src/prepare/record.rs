//! What became of a film.

use serde::{Deserialize, Serialize};

use super::flaw::Flaw;

/// What became of a film.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The sample's id.
    pub id: String,
    /// The film's path within its folder or archive; empty if it is missing.
    pub film: String,
    /// The film's size in bytes. A film of another size is prepared again.
    pub bytes: u64,
    /// The length of the written sound in seconds; 0 if there is none.
    pub seconds: f64,
    /// The number of written pictures.
    pub pictures: usize,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
    /// Whether its files were written and it is listed. A flaw may be tolerated.
    pub used: bool,
}

impl Record {
    /// A film that is not used.
    pub(super) fn unused(id: &str, film: &str, bytes: u64, flaw: Flaw) -> Self {
        Self { id: id.into(), film: film.into(), bytes, flaw: Some(flaw), ..Self::default() }
    }
}
