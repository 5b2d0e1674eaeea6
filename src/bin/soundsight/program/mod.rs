//! What every program of this repository does: read its options, report an error, show progress, heed Ctrl-C.
#![allow(clippy::print_stderr)] // a program talks

pub mod interrupt;
pub mod memory;
pub mod progress;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Parses the command line and runs `work`. The exit status is 0, or 1 with one message on standard error.
pub fn run<O: Parser>(work: impl FnOnce(O) -> Result<()>) -> ExitCode {
    let result = match O::try_parse() {
        Ok(options) => work(options),
        Err(error) => {
            // --help and --version end here too. If the terminal is gone, there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
