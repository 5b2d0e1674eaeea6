//! Functions shared by the programs of this repository: parsing options, reporting errors, showing progress, handling
//! Ctrl-C.
#![allow(clippy::print_stderr)] // command-line output

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
            // --help and --version end here too. A failure to print cannot be reported.
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
