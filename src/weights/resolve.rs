//! Finding the files of a model by its name or path.

use super::hub::{Download, Hub};
use super::model_files::ModelFiles;
use super::source::ModelSource;
use super::{embedded, published};
use crate::error::{Error, Result};

impl ModelFiles {
    /// Finds the files of `source`: those of a directory ([`ModelFiles::from_directory`]), the published ones in the
    /// cache of `hub` and, if `download` allows it, on the Hub, or the embedded ones. [`ModelSource::Auto`] never
    /// downloads.
    ///
    /// Files in the cache are used without asking the network whether there are newer ones. An interrupted download
    /// resumes where it stopped.
    ///
    /// ```
    /// use soundsight::ModelSource;
    /// use soundsight::weights::{Download, Hub, ModelFiles};
    ///
    /// # fn main() -> soundsight::Result<()> {
    /// let files = ModelFiles::resolve("tests/fixtures/alt", &Hub::from_env(), Download::Never)?;
    /// assert_eq!(files.source, ModelSource::Directory("tests/fixtures/alt".into()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::ModelUnavailable`] when there is no such directory, when the program has no embedded model, or when
    /// files are missing and could not be downloaded, with the reason and how to get them; [`Error::Io`] when the cache
    /// cannot be written; [`Error::Format`] when a cached file is invalid; the errors of
    /// [`ModelFiles::from_directory`].
    pub fn resolve(source: impl Into<ModelSource>, hub: &Hub, download: Download<'_>) -> Result<Self> {
        match source.into() {
            ModelSource::Directory(path) if path.is_dir() => Self::from_directory(path),
            ModelSource::Directory(path) => {
                let found = if path.exists() { "a file, not a directory" } else { "not a directory" };
                let names = ModelSource::NAMES.join(", ");
                let reason = format!("model `{}`: {found}, and not a known name ({names})", path.display());
                Err(Error::ModelUnavailable { reason })
            }
            ModelSource::Published => published::files(hub, download),
            ModelSource::Embedded => embedded::files(),
            ModelSource::Auto => match published::files(hub, Download::Never) {
                Err(Error::ModelUnavailable { .. }) if cfg!(feature = "embedded") => embedded::files(),
                published => published,
            },
        }
    }
}
