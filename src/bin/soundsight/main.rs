//! The command `soundsight`.

mod calibrate;
mod completions;
mod convert;
mod evaluate;
mod localize;
mod model;
mod parallel;
mod prepare;
mod program;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Finds where in a picture a sound comes from.
#[derive(Parser)]
#[command(name = "soundsight", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Localize(localize::Options),
    Prepare(prepare::Options),
    Train(train::Options),
    Evaluate(evaluate::Options),
    Calibrate(calibrate::Options),
    Convert(convert::Options),
    Completions(completions::Options),
}

fn main() -> ExitCode {
    program::run(|cli: Cli| match cli.command {
        Command::Localize(options) => localize::localize(options),
        Command::Prepare(options) => prepare::prepare(options),
        Command::Train(options) => train::train(options),
        Command::Evaluate(options) => evaluate::evaluate(options),
        Command::Calibrate(options) => calibrate::calibrate(options),
        Command::Convert(options) => convert::convert(options),
        Command::Completions(options) => completions::completions(options),
    })
}
