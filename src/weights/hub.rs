//! Access to the Hugging Face Hub: the cache that all Hub clients share, and the settings for downloads.
//!
//! The cache is read here, with or without the feature `hub`; only `download` accesses the network.

use std::fmt;
use std::path::PathBuf;

/// The location of the Hub's cache, and how to reach the Hub.
///
/// Downloads also respect `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, and trust the certificates in
/// `SSL_CERT_FILE` if it is set (Mozilla's otherwise).
///
/// ```
/// use soundsight::weights::{Download, Hub, ModelFiles};
///
/// // The user's settings, but never the network.
/// let hub = Hub { offline: true, ..Hub::from_env() };
/// match ModelFiles::resolve("acl-vit16", &hub, Download::IfMissing(&mut |_| ())) {
///     Ok(files) => println!("{} is in the cache", files.name),
///     Err(error) => println!("{error}"), // what is missing, and how to get it
/// }
/// ```
#[derive(Clone)]
pub struct Hub {
    /// The folder of the cache, which contains one folder per repository.
    pub cache: PathBuf,
    /// The address of the Hub, <https://huggingface.co> or a mirror.
    pub endpoint: String,
    /// The access token, for repositories that are not public.
    pub token: Option<String>,
    /// Whether network access is disabled, even if the program allows downloads.
    pub offline: bool,
}

// Written by hand, because a token must not end up in a log.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish()
    }
}

/// Whether missing files may be downloaded.
pub enum Download<'a> {
    /// Never: a file that is not on this machine is an error.
    Never,
    /// Download missing files. The function receives the progress, at the start of each file and then several times a
    /// second.
    IfMissing(&'a mut dyn FnMut(Progress<'_>)),
}

/// The progress of the download of one file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// The file's name in its repository.
    pub file: &'a str,
    /// The number of bytes on disk, including those of an earlier, interrupted download.
    pub downloaded: u64,
    /// The size of the whole file in bytes, if the Hub sends it.
    pub total: Option<u64>,
}

/// A repository on the Hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repo {
    pub(super) kind: RepoKind,
    /// "owner/name".
    pub(super) id: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum RepoKind {
    Model,
    Space,
}

/// A file on the Hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct HubFile {
    pub(super) repo: Repo,
    pub(super) file: &'static str,
}

/// The revision to download.
pub(super) const REVISION: &str = "main";

impl Hub {
    /// Creates the settings from the environment, with the variables and defaults of the Hub's own clients:
    /// `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME` and `XDG_CACHE_HOME` for the cache, `HF_ENDPOINT`,
    /// `HF_HUB_OFFLINE`, and `HF_TOKEN`, `HF_TOKEN_PATH` or the token stored at login (none of these three if
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set).
    ///
    /// Without a home folder (as on WebAssembly), the cache is `.cache/huggingface/hub` in the current folder.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>, user_home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let on = |name: &str| {
            set(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        };
        let path = |name: &str| set(name).map(PathBuf::from);
        let user_cache = path("XDG_CACHE_HOME").unwrap_or_else(|| user_home.unwrap_or_default().join(".cache"));
        let home = path("HF_HOME").unwrap_or_else(|| user_cache.join("huggingface"));
        let token = || {
            let stored = || std::fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok();
            let token = set("HF_TOKEN").or_else(stored)?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        };
        Self {
            token: if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { token() },
            cache: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub")),
            endpoint: set("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".into(), |endpoint| endpoint.trim_end_matches('/').to_owned()),
            offline: on("HF_HUB_OFFLINE"),
        }
    }

    /// The cache's folder for `repo`.
    pub(super) fn repo_folder(&self, repo: Repo) -> PathBuf {
        let kind = match repo.kind {
            RepoKind::Model => "models",
            RepoKind::Space => "spaces",
        };
        self.cache.join(format!("{kind}--{}", repo.id.replace('/', "--")))
    }

    /// The path of `source` in the cache, if it is there.
    pub(super) fn cached(&self, source: &HubFile) -> Option<PathBuf> {
        let folder = self.repo_folder(source.repo);
        let commit = std::fs::read_to_string(folder.join("refs").join(REVISION)).ok()?;
        let file = folder.join("snapshots").join(commit.trim()).join(source.file);
        file.is_file().then_some(file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let value = |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| *value);
        Hub::from_variables(|name| value(name).map(str::to_owned), value("HOME").map(PathBuf::from))
    }

    #[test]
    fn the_variables_of_the_hubs_own_clients() {
        let cache = |variables| hub(variables).cache;
        assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/h/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), PathBuf::from("/old"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/old")]), PathBuf::from("/c"));
        assert_eq!(cache(&[("HF_HOME", ""), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/home/me")]), PathBuf::from("/home/me/.cache/huggingface/hub"));
        assert_eq!(cache(&[]), PathBuf::from(".cache/huggingface/hub"));
        assert_eq!(hub(&[]).endpoint, "https://huggingface.co");
        assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        for (value, offline) in [("1", true), ("true", true), ("Yes", true), ("0", false), ("", false), ("off", false)]
        {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
    }

    #[test]
    fn the_token_comes_from_the_variable_or_from_the_login() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", folder)]).token, None);
        std::fs::write(home.path().join("token"), "stored\n").unwrap();
        assert_eq!(hub(&[("HF_HOME", folder)]).token.as_deref(), Some("stored"));
        assert_eq!(hub(&[("HF_HOME", folder), ("HF_TOKEN", " given ")]).token.as_deref(), Some("given"));
        assert_eq!(hub(&[("HF_HOME", folder), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        let debug = format!("{:?}", hub(&[("HF_HOME", folder), ("HF_TOKEN", "secret")]));
        assert!(!debug.contains("secret"), "{debug}");
    }
}
