//! The names and paths that identify a model.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

const PUBLISHED: &str = "acl-vit16";
const EMBEDDED: &str = "embedded";
const AUTO: &str = "auto";

/// Where a model comes from.
///
/// In text form, `acl-vit16`, `embedded` and `auto` are names, and everything else is the path of a model directory. A
/// name is never a path: a folder called `auto` is written `./auto`. A [`Path`] always converts to a directory.
///
/// ```
/// use std::path::Path;
///
/// use soundsight::ModelSource;
///
/// assert_eq!(ModelSource::from("acl-vit16"), ModelSource::Published);
/// assert_eq!(ModelSource::from("runs/best"), ModelSource::Directory("runs/best".into()));
/// assert_eq!("./auto".parse(), Ok(ModelSource::Directory("./auto".into())));
/// assert_eq!(ModelSource::from(Path::new("auto")).to_string(), "./auto");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelSource {
    /// A model directory.
    Directory(PathBuf),
    /// `acl-vit16`: the published ACL model with BEATs (iter3+, AS2M fine-tuned, cpt2) and CLIPSeg (rd64-refined,
    /// ViT-B/16), from the cache of the Hugging Face Hub or, if downloads are allowed, from the Hub.
    Published,
    /// `embedded`: the small model that the feature `embedded` compiles into the program.
    Embedded,
    /// `auto`: [`ModelSource::Published`] if its weights are in the cache, otherwise [`ModelSource::Embedded`]. Never
    /// downloads. [`ModelFiles::source`](super::ModelFiles#structfield.source) and
    /// [`Localizer::source`](crate::Localizer::source) say which of the two was used.
    #[default]
    Auto,
}

impl ModelSource {
    /// All names that are not paths.
    pub(super) const NAMES: [&str; 3] = [PUBLISHED, EMBEDDED, AUTO];
}

impl fmt::Display for ModelSource {
    /// Writes text that parses to the same source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A folder with the name of a model.
            Self::Directory(path) if Self::NAMES.iter().any(|name| path.as_os_str() == *name) => {
                write!(f, "./{}", path.display())
            }
            Self::Directory(path) => path.display().fmt(f),
            Self::Published => f.write_str(PUBLISHED),
            Self::Embedded => f.write_str(EMBEDDED),
            Self::Auto => f.write_str(AUTO),
        }
    }
}

impl FromStr for ModelSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl From<&str> for ModelSource {
    fn from(text: &str) -> Self {
        match text {
            PUBLISHED => Self::Published,
            EMBEDDED => Self::Embedded,
            AUTO => Self::Auto,
            path => Self::Directory(path.into()),
        }
    }
}

impl From<&String> for ModelSource {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<String> for ModelSource {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<&Path> for ModelSource {
    fn from(path: &Path) -> Self {
        Self::Directory(path.into())
    }
}

impl From<PathBuf> for ModelSource {
    fn from(path: PathBuf) -> Self {
        Self::Directory(path)
    }
}

impl From<&PathBuf> for ModelSource {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&ModelSource> for ModelSource {
    fn from(source: &ModelSource) -> Self {
        source.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_being_written_down() {
        for (text, source) in [
            ("acl-vit16", ModelSource::Published),
            ("embedded", ModelSource::Embedded),
            ("auto", ModelSource::Auto),
            ("./auto", ModelSource::Directory("./auto".into())),
            ("Auto", ModelSource::Directory("Auto".into())),
            ("", ModelSource::Directory("".into())),
        ] {
            assert_eq!(text.parse::<ModelSource>().unwrap(), source);
            assert_eq!(source.to_string(), text);
        }
        for name in ModelSource::NAMES {
            let folder = ModelSource::from(Path::new(name));
            assert!(matches!(folder.to_string().parse().unwrap(), ModelSource::Directory(_)), "{name}");
        }
        assert_eq!(ModelSource::default(), ModelSource::Auto);
    }
}
