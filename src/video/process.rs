//! A child process that never outlives its owner.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::error::{Error, Result};

/// How many bytes of the messages are kept.
const MAX_MESSAGES: usize = 1 << 14;
/// How many messages an error quotes.
const MAX_QUOTED: usize = 3;
/// How long to wait for the last messages of a process that has ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running `ffmpeg` or `ffprobe`. When it is dropped, the process is killed if it still runs.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    child: Child,
    /// What the process has written to standard error; sent when it has ended.
    messages: Receiver<Vec<u8>>,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ending {
    /// Whether it ended by itself and reported success.
    pub(super) success: bool,
    /// Its last messages, in one line; empty if there were none.
    pub(super) messages: String,
    /// What happened, in words: the messages, the exit status, or the signal that ended it.
    pub(super) description: String,
}

impl Process {
    /// Starts a process whose output is read.
    pub(super) fn reader(mut command: Command) -> Result<(Self, ChildStdout)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Self::start(&mut command)?;
        // `take` returns the pipe that was just asked for.
        let output = process.child.stdout.take().ok_or_else(|| no_pipe(&command))?;
        Ok((process, output))
    }

    /// Starts a process whose input is written.
    pub(super) fn writer(mut command: Command) -> Result<(Self, ChildStdin)> {
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut process = Self::start(&mut command)?;
        let input = process.child.stdin.take().ok_or_else(|| no_pipe(&command))?;
        Ok((process, input))
    }

    /// Runs a process that needs no input, and returns its output, at most `limit` bytes of it.
    pub(super) fn output(command: Command, limit: u64) -> Result<(Vec<u8>, Ending)> {
        let (mut process, output) = Self::reader(command)?;
        let mut bytes = Vec::new();
        output.take(limit).read_to_end(&mut bytes).map_err(Error::io(&process.program, "read from"))?;
        Ok((bytes, process.wait()))
    }

    fn start(command: &mut Command) -> Result<Self> {
        command.stderr(Stdio::piped());
        // A process group of its own: Ctrl-C in a terminal reaches this program alone, which then ends the process
        // as it sees fit.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        #[cfg(windows)]
        std::os::windows::process::CommandExt::creation_flags(command, 0x0000_0200); // CREATE_NEW_PROCESS_GROUP
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::MissingProgram { program: program.clone() },
            _ => Error::Io { path: program.clone(), action: "start", source },
        })?;
        let (sender, messages) = channel();
        if let Some(mut stderr) = child.stderr.take() {
            // The messages are read at once, or the process would stop when the pipe is full.
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                    kept.extend_from_slice(&buffer[..count]);
                    if kept.len() > 2 * MAX_MESSAGES {
                        kept.drain(..kept.len() - MAX_MESSAGES);
                    }
                }
                // Nobody listens when the process was dropped.
                let _ = sender.send(kept);
            });
        }
        Ok(Self { program, child, messages })
    }

    /// Ends the process at once. [`wait`](Self::wait) then returns without delay.
    pub(super) fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
    }

    /// Waits until the process has ended.
    pub(super) fn wait(&mut self) -> Ending {
        let status = self.child.wait();
        // With a limit: a process of the process may still hold the pipe.
        let messages = self.messages.recv_timeout(PATIENCE).unwrap_or_default();
        let messages = quote(&String::from_utf8_lossy(&messages));
        let program = self.program.file_name().unwrap_or_default().display();
        let description = match &status {
            Ok(status) if status.code().is_some() && !messages.is_empty() => messages.clone(),
            Ok(status) => format!("{program} ended with {status}"),
            Err(error) => format!("{program} was lost: {error}"),
        };
        Ending { success: status.is_ok_and(|status| status.success()), messages, description }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Takes the process off the system's list.
        let _ = self.child.wait();
    }
}

/// Writes `parts` one after the other.
pub(super) fn write_all(input: &mut ChildStdin, parts: &[&[u8]]) -> std::io::Result<()> {
    parts.iter().try_for_each(|part| input.write_all(part))
}

fn no_pipe(command: &Command) -> Error {
    let path = PathBuf::from(command.get_program());
    Error::Io { path, action: "start", source: std::io::Error::other("no pipe to the process") }
}

/// The last of `messages` in one line, without what means nothing to a reader: the addresses of `ffmpeg`'s parts in
/// memory, repetitions, and the line that only says that there were errors.
fn quote(messages: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in messages.lines() {
        let line = match line.split_once("] ") {
            Some((part, rest)) if part.starts_with('[') && part.contains(" @ 0x") => rest,
            _ => line,
        };
        let line = line.trim();
        if !line.is_empty() && line != "Conversion failed!" && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines[lines.len().saturating_sub(MAX_QUOTED)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_quoted_in_one_line() {
        let messages = "[mov @ 0x55d2] moov atom not found\nfile:a.mp4: Invalid data\n\nfile:a.mp4: Invalid data\n";
        assert_eq!(quote(messages), "moov atom not found; file:a.mp4: Invalid data");
        assert_eq!(quote("1\n2\n3\n4\nConversion failed!\n"), "2; 3; 4");
        assert_eq!(quote(""), "");
    }
}
