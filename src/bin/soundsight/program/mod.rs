//! Functions shared by the programs of this repository: parsing options, reporting errors, showing progress, handling
//! Ctrl-C.
#![allow(clippy::print_stderr)] // command-line output

pub mod interrupt;
pub mod memory;
pub mod progress;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rayon::ThreadPoolBuilder;

/// The stack of a main thread, in bytes.
const STACK: usize = 8 << 20;

/// Parses the command line and runs `work`. The exit status is 0, or 1 with one message on standard error.
pub fn run<O: Parser + Send>(work: impl FnOnce(O) -> Result<()> + Send) -> ExitCode {
    let result = match O::try_parse() {
        // On a worker of a thread pool, which computes its part of every product itself. Another thread would hand over
        // each product to the pool, and wait: a training step of a small model takes a quarter longer. Other threads
        // than this one share the global pool, so that none of them waits for `work`.
        Ok(options) => match ThreadPoolBuilder::new().stack_size(STACK).build() {
            Ok(pool) => pool.install(|| work(options)),
            Err(_) => work(options),
        },
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
