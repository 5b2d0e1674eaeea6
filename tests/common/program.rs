//! Programs as a user runs them.

use std::path::Path;
use std::process::{Command, Output};

/// The program at `path`, isolated from the machine's caches and settings.
pub fn command(path: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(path);
    command.env_remove("HF_ENDPOINT").env_remove("HF_TOKEN").env("HF_HUB_OFFLINE", "1").env("HF_HOME", "/nonexistent");
    command
}

/// The example that `cargo test` built along with this test.
pub fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: cargo test builds it unless single tests are selected", path.display());
    command(path)
}

/// Limits the size of the files that the command may write, as if the disk were full, in blocks of 512 bytes or
/// 1 KiB, depending on the shell. The signal for exceeding it is ignored, because a full disk does not send one.
pub fn with_full_disk(command: &Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Runs a command that must succeed, and returns its output.
#[track_caller]
pub fn stdout(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail: exit status 1, one message on standard error that contains all of `parts`.
#[track_caller]
pub fn failed(command: &mut Command, parts: &[&str]) -> Output {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(!message.contains("panicked") && !message.contains("RUST_BACKTRACE"), "{message}");
    assert_eq!(message.matches("error:").count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    output
}

/// Runs a command that must fail before it does anything: like [`failed`], without any standard output.
#[track_caller]
pub fn refused(command: &mut Command, parts: &[&str]) {
    let output = failed(command, parts);
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// The names in a folder, sorted; none if the folder does not exist.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
