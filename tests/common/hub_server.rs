//! A local server that answers like the Hugging Face Hub, and fails on request.
//!
//! Small files come directly from the Hub with `ETag` and `X-Repo-Commit`; large ones by a redirect, whose headers
//! identify the contents, to a storage server with a different origin. Both support `Range`.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

/// The current commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A fault of one answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Only this status is sent.
    Status(u16),
    /// The connection is closed after this many bytes of the body.
    CutAfter(usize),
    /// `Range` is ignored: the whole file is sent with status 200.
    NoRange,
    /// Every byte of the body is inverted.
    Garbage,
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// Paths that are served through the storage server.
    large: Vec<String>,
    /// Paths that answer with a redirect to another path of the same server.
    moved: HashMap<String, String>,
    faults: HashMap<String, VecDeque<Fault>>,
    token: Option<String>,
    log: Vec<Request>,
    storage: String,
}

/// The server; its threads end with the test process.
pub struct HubServer {
    /// "http://127.0.0.1:…".
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let storage = serve(state.clone());
        state.lock().unwrap().storage = storage;
        Self { endpoint: serve(state.clone()), state }
    }

    /// Serves `bytes` as `path` ("owner/name/file", with "spaces/" in front for Spaces), as the Hub serves small files.
    pub fn small(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().files.insert(resolve(path), bytes.into());
    }

    /// Serves `bytes` as `path`, as the Hub serves large files.
    pub fn large(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.small(path, bytes);
        self.state.lock().unwrap().large.push(resolve(path));
    }

    /// Answers requests for `path` with a redirect to `to`, as for repositories that were renamed.
    pub fn moved(&self, path: &str, to: &str) {
        self.state.lock().unwrap().moved.insert(resolve(path), resolve(to));
    }

    /// Injects one fault into each of the next answers for `path` that send a body; for large files, at the storage
    /// server.
    pub fn fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(format!("GET {}", resolve(path)), faults.iter().copied().collect());
    }

    /// Injects faults into the Hub's next answers to queries about `path`.
    pub fn head_fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(format!("HEAD {}", resolve(path)), faults.iter().copied().collect());
    }

    /// From now on, every repository requires `token`.
    pub fn require(&self, token: &str) {
        self.state.lock().unwrap().token = Some(token.to_owned());
    }

    /// The requests so far.
    pub fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    /// The `Range` headers of the requests for the contents of `path` so far, in order.
    pub fn ranges(&self, path: &str) -> Vec<Option<String>> {
        let state = self.state.lock().unwrap();
        let path = resolve(path);
        // For a large file, which is requested from the Hub first, only the answer of the storage server counts.
        let path = if state.large.contains(&path) { format!("/storage{path}") } else { path };
        let wanted = |request: &&Request| request.method == "GET" && request.path == path;
        state.log.iter().filter(wanted).map(|request| request.range.clone()).collect()
    }
}

fn resolve(path: &str) -> String {
    let owner_name = if path.starts_with("spaces/") { 3 } else { 2 };
    let parts: Vec<&str> = path.splitn(owner_name + 1, '/').collect();
    format!("/{}/resolve/main/{}", parts[..owner_name].join("/"), parts[owner_name])
}

/// Listens on a free port and answers each connection in a thread.
fn serve(state: Arc<Mutex<State>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = state.clone();
            std::thread::spawn(move || answer(stream, &state));
        }
    });
    address
}

/// Answers the one request of a connection.
fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let headers: HashMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let range = headers.get("range").cloned();
    let authorization = headers.get("authorization").cloned();
    let (head, body) = respond(&mut state.lock().unwrap(), Request { method, path, range, authorization });
    // The client may have closed the connection, which is allowed.
    let _ = stream.write_all(format!("HTTP/1.1 {head}Connection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(&body);
}

/// The status line with the headers, and the body.
fn respond(state: &mut State, request: Request) -> (String, Vec<u8>) {
    state.log.push(request.clone());
    let empty = |status: &str| (format!("{status}\r\nContent-Length: 0\r\n"), Vec::new());
    let stored = request.path.strip_prefix("/storage").map(str::to_owned);
    let path = stored.clone().unwrap_or_else(|| request.path.clone());
    if stored.is_none()
        && state.token.is_some()
        && request.authorization != state.token.as_ref().map(|t| format!("Bearer {t}"))
    {
        return empty("401 Unauthorized\r\nX-Error-Message: Access to this repository is restricted");
    }
    if let Some(to) = state.moved.get(&path) {
        return empty(&format!("307 Temporary Redirect\r\nLocation: {to}"));
    }
    let Some(file) = state.files.get(&path) else {
        return empty("404 Not Found\r\nX-Error-Code: EntryNotFound");
    };
    let (etag, len) = (etag(file, state.large.contains(&path)), file.len());
    let large = state.large.contains(&path) && stored.is_none();
    // A fault in the contents of a large file belongs to the storage server, not to the redirect.
    let redirected = if large { "GET" } else { "HEAD" };
    let mut fault = None;
    if (!large && stored.is_none()) || request.method != redirected {
        fault = state.faults.get_mut(&format!("{} {path}", request.method)).and_then(VecDeque::pop_front);
    }
    if let Some(Fault::Status(status)) = fault {
        return empty(&format!("{status} Told To"));
    }
    if large {
        let (storage, commit) = (&state.storage, COMMIT);
        return empty(&format!(
            "302 Found\r\nLocation: {storage}/storage{path}\r\nX-Repo-Commit: {commit}\r\nX-Linked-Size: {len}\r\n\
             X-Linked-Etag: \"{etag}\"\r\nETag: \"of-the-pointer\"",
        ));
    }
    let start = request.range.as_ref().filter(|_| fault != Some(Fault::NoRange)).map(|range| {
        let (start, end) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
        assert_eq!(end.parse::<usize>().unwrap(), len - 1);
        start.parse::<usize>().unwrap()
    });
    let mut body = file[start.unwrap_or(0)..].to_vec();
    let status = match start {
        Some(start) => format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{len}", len - 1),
        None => "200 OK".to_owned(),
    };
    // The storage server has no concept of repositories.
    let repo = if stored.is_none() { format!("X-Repo-Commit: {COMMIT}\r\n") } else { String::new() };
    let head = format!("{status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\n{repo}", body.len());
    match fault {
        Some(Fault::CutAfter(len)) => body.truncate(len),
        Some(Fault::Garbage) => body.iter_mut().for_each(|byte| *byte = !*byte),
        _ => {}
    }
    if request.method == "HEAD" {
        body.clear();
    }
    (head, body)
}

/// The identifier of a file's contents: SHA-256 for large files, git's hash for small ones (here, any 40 digits).
pub fn etag(bytes: &[u8], large: bool) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if large { hash } else { hash[..40].to_owned() }
}
