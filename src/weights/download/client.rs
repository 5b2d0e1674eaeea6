//! Requests to the Hub. Redirects are followed here, so that only the Hub receives the token.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, ResponseExt, Timeout};

use crate::error::Error;
use crate::weights::hub::{Hub, HubFile, REVISION, RepoKind};

/// The maximum number of consecutive retries without progress.
pub(super) const MAX_FAILURES: u32 = 4;
/// The first pause between attempts; each following pause is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Time limit for resolving the host name, and for connecting.
const CONNECT: Duration = Duration::from_secs(10);
const MAX_REDIRECTS: usize = 8;

/// Why a source did not provide the file.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such file; another source may have it.
    Absent(String),
    /// Access is restricted; another source may be open.
    Denied(String),
    /// The Hub is unreachable or misbehaves, so its other sources would fail too.
    Failed(String),
    /// An error on this machine, not of the Hub.
    Local(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Local(error)
    }
}

/// The metadata that the Hub sends for a file.
#[derive(Debug)]
pub(super) struct About {
    /// The identifier of the contents; for large files, their SHA-256.
    pub(super) etag: String,
    /// The commit that [`REVISION`] refers to.
    pub(super) commit: String,
    /// The size in bytes, if the Hub sends it.
    pub(super) len: Option<u64>,
}

impl About {
    fn from_response(response: &Response<Body>) -> Option<Self> {
        let (status, headers) = (response.status(), response.headers());
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let commit = text(headers, "x-repo-commit")?;
        // Both become file names, so they must not contain path separators or the like.
        let plain =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let len = text(headers, "x-linked-size")
            .or_else(|| text(headers, "content-length").filter(|_| status.is_success()))
            .and_then(|len| len.parse().ok());
        (plain(etag) && plain(commit)).then(|| Self { etag: etag.to_owned(), commit: commit.to_owned(), len })
    }
}

/// A client of one Hub.
pub(super) struct Client<'a> {
    agent: Agent,
    hub: &'a Hub,
    endpoint: Uri,
    silence: Duration,
}

impl<'a> Client<'a> {
    /// Creates a client of `hub` that drops a connection after `silence` without data. The error describes an invalid
    /// Hub address.
    pub(super) fn new(hub: &'a Hub, silence: Duration) -> Result<Self, String> {
        let endpoint: Uri = hub.endpoint.parse().map_err(|error| format!("{}: {error}", hub.endpoint))?;
        if !matches!(endpoint.scheme_str(), Some("http" | "https")) {
            return Err(format!("{}: expected an address that begins with https:// or http://", hub.endpoint));
        }
        // Proxies are taken from the environment, ureq's default.
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots(std::env::var_os("SSL_CERT_FILE"))?).build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(silence))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .user_agent(concat!("soundsight/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: agent.into(), hub, endpoint, silence })
    }

    pub(super) fn hub(&self) -> &'a Hub {
        self.hub
    }

    /// Requests the metadata of `source`.
    ///
    /// For large files, the Hub redirects to its storage, and the required headers are those of the redirect itself.
    /// Renamed repositories answer with a redirect without these headers, which is followed.
    pub(super) fn about(&self, source: &HubFile) -> Result<About, Refusal> {
        let response = self.follow(source, |url| self.head(url), |answer| About::from_response(answer).is_some())?;
        About::from_response(&response).ok_or_else(|| {
            let (url, status) = (response.get_uri(), response.status());
            self.failed(format!("no Hub: {url} answers {status} without ETag and X-Repo-Commit"))
        })
    }

    /// Requests the contents of `source`, all of them or a range. A server may always send all of them (status 200).
    pub(super) fn get(&self, source: &HubFile, range: Option<Range<u64>>) -> Result<Response<Body>, Refusal> {
        self.follow(source, |url| self.send(Method::GET, url, range.clone()), |_| false)
    }

    /// Sends requests for `source` and follows redirects until a response is successful or satisfies `enough`.
    fn follow(
        &self,
        source: &HubFile,
        send: impl Fn(&Uri) -> Result<Response<Body>, ureq::Error>,
        enough: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Response<Body>, Refusal> {
        let prefix = match source.repo.kind {
            RepoKind::Model => "",
            RepoKind::Space => "spaces/",
        };
        let url = format!("{}/{prefix}{}/resolve/{REVISION}/{}", self.hub.endpoint, source.repo.id, source.file);
        let mut url: Uri = url.parse().map_err(|error| self.failed(format!("{url}: {error}")))?;
        for _ in 0..MAX_REDIRECTS {
            let response = send(&url).map_err(|error| self.failed(self.describe(error)))?;
            let status = response.status();
            let refusal = || {
                let message = text(response.headers(), "x-error-message").map(|message| format!(": {message}"));
                // The query of a storage address contains a signature, which must not appear in logs.
                let url = url.to_string();
                let page = url.split('?').next().unwrap_or_default();
                format!("{page} answers {status}{}", message.unwrap_or_default())
            };
            match status {
                StatusCode::NOT_FOUND => return Err(Refusal::Absent(refusal())),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::Denied(refusal())),
                _ if !status.is_success() && !status.is_redirection() => return Err(Refusal::Failed(refusal())),
                _ => {}
            }
            if status.is_success() || enough(&response) {
                return Ok(response);
            }
            let next = text(response.headers(), "location").and_then(|location| join(&url, location));
            url =
                next.ok_or_else(|| self.failed(format!("no Hub: {url} answers {status} without a usable Location")))?;
        }
        Err(self.failed(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn failed(&self, why: String) -> Refusal {
        Refusal::Failed(format!("{}: {why}", self.hub.endpoint))
    }

    /// Sends a HEAD request, and repeats it after transient failures of the server or the connection.
    fn head(&self, url: &Uri) -> Result<Response<Body>, ureq::Error> {
        let mut failures = 0;
        loop {
            let answer = self.send(Method::HEAD, url, None);
            let repeat = match &answer {
                Ok(response) => {
                    response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
                }
                Err(error) => !matches!(error, ureq::Error::Timeout(_) | ureq::Error::BadUri(_) | ureq::Error::Http(_)),
            };
            if !repeat || failures == MAX_FAILURES {
                return answer;
            }
            pause(failures);
            failures += 1;
        }
    }

    fn send(&self, method: Method, url: &Uri, range: Option<Range<u64>>) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT_ENCODING, "identity");
        // Only the Hub may receive the token.
        if let Some(token) = self.hub.token.as_ref().filter(|_| is_same_origin(url, &self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(Range { start, end }) = range {
            request = request.header(header::RANGE, format!("bytes={start}-{}", end - 1));
        }
        self.agent.run(request.body(())?)
    }

    /// Describes an error for a message.
    pub(super) fn describe(&self, error: ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                format!("no connection within {} s", CONNECT.as_secs())
            }
            ureq::Error::Timeout(_) => format!("no data for {} s", self.silence.as_secs()),
            error => error.into_io().to_string(),
        }
    }
}

/// Waits before the next attempt, longer after each failure.
pub(super) fn pause(failures: u32) {
    std::thread::sleep(PAUSE * 2u32.pow(failures));
}

/// The trusted certificates: those in `file`, the value of `SSL_CERT_FILE`, as in the Hub's own clients (proxies that
/// inspect traffic need this), or Mozilla's if it is not set.
fn roots(file: Option<OsString>) -> Result<RootCerts, String> {
    let Some(path) = file.filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(RootCerts::WebPki);
    };
    let failed = |why: &dyn std::fmt::Display| format!("SSL_CERT_FILE: {}: {why}", path.display());
    let pem = std::fs::read(&path).map_err(|error| failed(&error))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    if certificates.is_empty() { Err(failed(&"no certificate in it")) } else { Ok(certificates.into()) }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        (uri.scheme().cloned(), uri.host().map(str::to_ascii_lowercase), port)
    };
    origin(a) == origin(b)
}

/// Resolves the redirect `location` in a response from `base`.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute = match location.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => return Some(uri),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => {
            let (folder, _) = base.path().rsplit_once('/')?;
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    absolute.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base: Uri = "https://hub.example/a/b/resolve/main/c.bin?download=true".parse().unwrap();
        for (location, expected) in [
            ("http://other.example:8080/x?sig=%2B", "http://other.example:8080/x?sig=%2B"),
            ("//other.example/x", "https://other.example/x"),
            ("/d/e?next=https://hub.example/", "https://hub.example/d/e?next=https://hub.example/"),
            ("d.bin", "https://hub.example/a/b/resolve/main/d.bin"),
        ] {
            assert_eq!(join(&base, location).unwrap(), expected, "{location}");
        }
        assert_eq!(join(&base, "/a b"), None);
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let why = roots(Some(file.path().into())).unwrap_err();
        assert!(why.contains(file.path().to_str().unwrap()) && why.contains("no certificate"), "{why}");
        let why = roots(Some("/nonexistent".into())).unwrap_err();
        assert!(why.contains("SSL_CERT_FILE: /nonexistent"), "{why}");
        assert!(matches!(roots(Some("".into())), Ok(RootCerts::WebPki)));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub: Uri = "https://hub.example".parse().unwrap();
        for (other, same) in [
            ("https://hub.example:443/x", true),
            ("https://HUB.example/x", true),
            ("http://hub.example/x", false),
            ("https://hub.example:8443/x", false),
            ("https://hub.example.org/x", false),
            ("https://hub.example@evil.example/x", false),
        ] {
            assert_eq!(is_same_origin(&other.parse().unwrap(), &hub), same, "{other}");
        }
    }
}
