//! `soundsight completions`: shell completions and the manual page.

use std::io::Write;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Cli;

/// Print shell completions, or the manual page.
///
/// For example, in bash: source <(soundsight completions bash). To read the manual page: soundsight completions man |
/// man -l -
#[derive(Args)]
pub struct Options {
    /// Shell to complete for, or `man` for the manual page.
    #[arg(value_enum)]
    shell: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    /// The manual page.
    Man,
}

/// Runs the subcommand.
pub fn completions(options: Options) -> Result<()> {
    let shell = match options.shell {
        Target::Bash => Some(Shell::Bash),
        Target::Elvish => Some(Shell::Elvish),
        Target::Fish => Some(Shell::Fish),
        Target::Powershell => Some(Shell::PowerShell),
        Target::Zsh => Some(Shell::Zsh),
        Target::Man => None,
    };
    let mut command = Cli::command();
    let text = match shell {
        Some(shell) => {
            let (name, mut text) = (command.get_name().to_string(), Vec::new());
            clap_complete::generate(shell, &mut command, name, &mut text);
            text
        }
        None => manual(command)?,
    };
    std::io::stdout().write_all(&text).context("standard output: cannot write")
}

/// One page for the command and all its subcommands, each in its own section.
fn manual(mut command: clap::Command) -> Result<Vec<u8>> {
    command.build();
    let (subcommands, page) = (command.clone(), Man::new(command));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    for subcommand in subcommands.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        writeln!(text, ".SH \"SOUNDSIGHT {}\"", subcommand.get_name().to_uppercase())?;
        let (page, mut part) = (Man::new(subcommand.clone()), Vec::new());
        page.render_description_section(&mut part)?;
        page.render_synopsis_section(&mut part)?;
        page.render_options_section(&mut part)?;
        text.extend(String::from_utf8(part)?.replace(".SH ", ".SS ").into_bytes());
    }
    page.render_version_section(&mut text)?;
    Ok(text)
}
