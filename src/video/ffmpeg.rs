//! The two programs, and the arguments that every call of them has.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that films are read and written with. By default they are found on the `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ffmpeg {
    /// Decodes and encodes ("ffmpeg").
    pub ffmpeg: PathBuf,
    /// Says what a file contains ("ffprobe").
    pub ffprobe: PathBuf,
}

impl Default for Ffmpeg {
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

impl Ffmpeg {
    /// A call of `ffmpeg`, without input and output yet, that prints nothing but errors.
    pub(super) fn ffmpeg(&self) -> Command {
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]);
        command
    }

    /// A call of `ffprobe` that reports on the file at `path` in the format `format`, and prints nothing else but
    /// errors.
    pub(super) fn ffprobe(&self, path: &Path, format: &str) -> Command {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-hide_banner", "-loglevel", "error", "-of", format]);
        add_input(&mut command, path);
        command
    }
}

/// Adds the file at `path` as an input. Neither it nor anything that it refers to is opened over the network.
pub(super) fn add_input(command: &mut Command, path: &Path) {
    command.args(["-protocol_whitelist", "file,pipe", "-i"]).arg(file_address(path));
}

/// The path as an address that `ffmpeg` takes for nothing but a file, whatever characters it contains.
pub(super) fn file_address(path: &Path) -> OsString {
    let mut address = OsString::from("file:");
    address.push(path);
    address
}
