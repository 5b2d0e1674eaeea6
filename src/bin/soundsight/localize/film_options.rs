//! The options of `soundsight localize FILM`.

use std::path::PathBuf;

use clap::Args;
use soundsight::watch::WatchOptions;

/// The arguments that ask for pictures rather than a film.
const STILLS: [&str; 3] = ["image", "pairs", "text"];

/// How a film is analysed, and what is written.
#[derive(Args)]
#[command(next_help_heading = "Films")]
pub struct FilmOptions {
    /// Moments analysed per second of the film.
    #[arg(long, conflicts_with_all = STILLS, value_name = "F", value_parser = rate,
        default_value_t = WatchOptions::default().rate)]
    pub fps: f64,
    /// Seconds of sound around each moment.
    #[arg(long, conflicts_with_all = STILLS, value_name = "S", value_parser = window,
        default_value_t = WatchOptions::default().window)]
    pub window: f64,
    /// Where in the film to begin, in seconds.
    #[arg(long, conflicts_with_all = STILLS, value_name = "S", default_value_t = 0.0)]
    pub from: f64,
    /// Where in the film to end, in seconds [default: its end].
    #[arg(long, conflicts_with_all = STILLS, value_name = "S")]
    pub to: Option<f64>,
    /// Do not write the annotated film.
    #[arg(long, conflicts_with_all = STILLS)]
    pub no_film: bool,
    /// Analyse each moment alone, with all the sound in its window.
    #[arg(long, conflicts_with_all = STILLS)]
    pub no_smoothing: bool,
    /// Write all heatmaps to a safetensors file: time [T] and heatmap [T, S, S].
    #[arg(long, conflicts_with_all = STILLS, value_name = "FILE")]
    pub save_heatmaps: Option<PathBuf>,
}

/// Parses `--fps`.
fn rate(text: &str) -> Result<f64, String> {
    valid(text, |rate| WatchOptions { rate, ..Default::default() })
}

/// Parses `--window`.
fn window(text: &str) -> Result<f64, String> {
    valid(text, |window| WatchOptions { window, ..Default::default() })
}

/// Parses a number with which `options` are valid.
fn valid(text: &str, options: impl Fn(f64) -> WatchOptions) -> Result<f64, String> {
    let number = text.parse().map_err(|_| "expected a number".to_string())?;
    options(number).validate().map_err(|error| error.to_string())?;
    Ok(number)
}
