//! The transfer of one file, over as many connections as necessary.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use ureq::http::StatusCode;

use super::client::{Client, MAX_FAILURES, Refusal, pause};
use crate::error::Error;
use crate::weights::hub::{HubFile, Progress};

/// Called with the progress of each download.
pub(super) type OnProgress<'a> = dyn FnMut(Progress<'_>) + 'a;

/// Bytes per read.
const PIECE: usize = 1 << 17;

/// The transfer of one file into `file`.
pub(super) struct Transfer<'a, 'p> {
    pub(super) client: &'a Client<'a>,
    pub(super) source: &'a HubFile,
    /// The size of the whole file in bytes, if the Hub sends it.
    pub(super) len: Option<u64>,
    pub(super) file: &'a Path,
    pub(super) progress: &'a mut OnProgress<'p>,
}

/// How one connection ended.
enum Ended {
    /// The server sent everything.
    Finished,
    /// The server ignores ranges and sent the whole file.
    IgnoresRange,
    /// The server sent more than it had announced.
    TooMuch,
    /// The connection was broken.
    Cut(String),
}

impl Transfer<'_, '_> {
    /// Downloads the part of `file` that is missing.
    pub(super) fn run(&mut self) -> Result<(), Refusal> {
        let mut failures = 0;
        // Ranges require a known length. A server that ignores them must send everything in one go.
        let mut ranges = self.len.is_some();
        loop {
            let had = self.written();
            let start = if ranges && self.len.is_some_and(|len| had <= len) { had } else { 0 };
            let file = OpenOptions::new().create(true).write(true).truncate(false).open(self.file);
            let mut file = file.map_err(Error::io(self.file, "write"))?;
            file.set_len(start).map_err(Error::io(self.file, "write"))?;
            self.report(start);
            if self.len == Some(start) {
                return Ok(());
            }
            let why = match self.connect(start, &mut file)? {
                Ended::Finished if self.len.is_none_or(|len| len == self.written()) => return Ok(()),
                Ended::IgnoresRange => {
                    ranges = false;
                    continue;
                }
                Ended::TooMuch => "the server sends more than it announced".to_owned(),
                Ended::Finished => "the connection was closed early".to_owned(),
                Ended::Cut(why) => why,
            };
            failures = if ranges && self.written() > start { 0 } else { failures + 1 };
            if failures > MAX_FAILURES {
                return Err(Refusal::Failed(format!("{}: {why}", self.source.file)));
            }
            pause(failures);
        }
    }

    fn written(&self) -> u64 {
        std::fs::metadata(self.file).map_or(0, |about| about.len())
    }

    fn report(&mut self, downloaded: u64) {
        (self.progress)(Progress { file: self.source.file, downloaded, total: self.len });
    }

    /// Downloads the bytes from `start` on over one connection and appends them.
    fn connect(&mut self, start: u64, file: &mut File) -> Result<Ended, Refusal> {
        let range = self.len.filter(|_| start > 0).map(|len| start..len);
        let response = match self.client.get(self.source, range) {
            Ok(response) => response,
            Err(Refusal::Failed(why)) => return Ok(Ended::Cut(why)),
            Err(refusal) => return Err(refusal),
        };
        if start > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Ended::IgnoresRange);
        }
        file.seek(SeekFrom::Start(start)).map_err(Error::io(self.file, "write"))?;
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        let mut at = start;
        loop {
            let len = match body.read(&mut piece) {
                Ok(0) => return Ok(Ended::Finished),
                Ok(len) => len,
                Err(error) => return Ok(Ended::Cut(self.client.describe(error.into()))),
            };
            at += len as u64;
            if self.len.is_some_and(|len| at > len) {
                return Ok(Ended::TooMuch);
            }
            file.write_all(&piece[..len]).map_err(Error::io(self.file, "write"))?;
            self.report(at);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::weights::hub::{Hub, Repo, RepoKind};

    /// Reads a request, answers it with `head` and `body`, and keeps the connection open.
    fn answer(listener: &TcpListener, head: &str, body: &str) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(format!("HTTP/1.1 {head}\r\n\r\n{body}").as_bytes()).unwrap();
        stream
    }

    #[test]
    fn a_silent_line_counts_as_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let silent = answer(&listener, "200 OK\r\nContent-Length: 10", "0123");
            let rest = "206 Partial Content\r\nContent-Length: 6\r\nContent-Range: bytes 4-9/10";
            (silent, answer(&listener, rest, "456789"))
        });
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub { cache: folder.path().into(), endpoint, token: None, offline: false };
        let client = Client::new(&hub, Duration::from_millis(300)).unwrap();
        let source = HubFile { repo: Repo { kind: RepoKind::Model, id: "owner/name" }, file: "file" };
        let file = folder.path().join("file");
        let started = Instant::now();
        let mut transfer =
            Transfer { client: &client, source: &source, len: Some(10), file: &file, progress: &mut |_| () };
        transfer.run().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "0123456789");
        assert!(started.elapsed() >= Duration::from_millis(300));
        server.join().unwrap();
    }
}
