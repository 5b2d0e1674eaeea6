//! The help texts of `soundsight`.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use common::program::{refused, stdout};
use common::soundsight;

const SUBCOMMANDS: [&str; 7] = ["localize", "prepare", "train", "evaluate", "calibrate", "convert", "completions"];

#[test]
fn every_subcommand_has_help_and_refuses_what_it_does_not_know() {
    let help = stdout(&mut soundsight("--help"));
    for subcommand in SUBCOMMANDS {
        assert!(help.contains(&format!("  {subcommand} ")), "{help}");
        let help = stdout(soundsight(subcommand).arg("--help"));
        assert!(help.contains(&format!("Usage: soundsight {subcommand}")), "{help}");
        refused(soundsight(subcommand).arg("--no-such-option"), &["--no-such-option", "--help"]);
    }
    refused(&mut soundsight("lokalize"), &["lokalize", "localize"]);
    let version = format!("soundsight {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(stdout(&mut soundsight("--version")), version);
}

#[test]
fn completions_and_the_manual_know_every_subcommand_and_option() {
    for target in ["bash", "elvish", "fish", "powershell", "zsh", "man"] {
        let text = stdout(soundsight("completions").arg(target)).replace("\\-", "-");
        for word in SUBCOMMANDS.into_iter().chain(["save-tensors", "val-fraction", "predictions", "clipseg-config"]) {
            assert!(text.contains(word) || text.contains(&word.to_uppercase()), "{target}: {word}");
        }
    }
    refused(soundsight("completions").arg("tcsh"), &["tcsh", "bash", "man"]);
}
