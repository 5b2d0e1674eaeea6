//! The report as a self-contained HTML page, without scripts, other files or network access.

mod curves;
mod gallery;
mod html;
mod sections;
mod svg;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::write_atomically;

use super::media::Media;
use super::predictor::Predictor;
use super::report::{Report, Row};
use super::run::Evaluation;
use super::sample::Sample;
use super::table::two_decimals;
use html::escape;

const STYLE: &str = include_str!("style.css");

/// Writes the report as a self-contained HTML page.
///
/// The page compares the metrics with the published ones, plots them over the thresholds, and shows the best, median
/// and worst samples in a gallery, with picture, ground truth, heatmap and playable sound.
///
/// `samples` and `predictor` are those of the evaluation; the samples of the gallery are predicted again. `media` finds
/// the files of a sample. A sample whose picture or sound is missing is shown without it.
///
/// # Errors
/// [`Error::Io`] when the page cannot be written or a file cannot be read; [`Error::Image`] when a mask is invalid or a
/// chart cannot be drawn; any error of the predictor.
pub fn write_page<P: Predictor>(
    path: &Path,
    evaluation: &Evaluation,
    samples: &[Sample],
    predictor: &P,
    media: impl Fn(&Sample) -> Media,
) -> Result<()> {
    let report = &evaluation.report;
    let gallery = gallery::sections(evaluation, samples, predictor, media)?;
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\
         <header><p class=\"kicker\">Sound source localization</p><h1>{title}</h1><p>{coverage}</p></header>\
         <main>{warning}{tiles}<div class=\"charts\">{curves}{histogram}{calibration}</div>\
         {comparison}{scenes}{universal}{presence}{gallery}{thresholds}{missing}</main>\
         <footer>Written by soundsight {version}. Percentages throughout.</footer></body></html>\n",
        title = escape(&report.title()),
        coverage = escape(&report.coverage()),
        warning = warning(report),
        tiles = tiles(report),
        curves = curves::over_thresholds(report)?,
        histogram = curves::histogram(evaluation)?,
        calibration = report.presence.as_ref().map(curves::calibration).transpose()?.unwrap_or_default(),
        comparison = comparison(report),
        thresholds = thresholds(report),
        scenes = sections::scenes(report),
        universal = sections::universal(report),
        presence = sections::presence(report),
        missing = missing(report),
        version = env!("CARGO_PKG_VERSION"),
    );
    write_atomically(path, |writer| writer.write_all(page.as_bytes()).map_err(Error::io(path, "write")))
}

/// The warning about failed heatmaps, if any. It precedes the scores, so that nobody misses it.
fn warning(report: &Report) -> String {
    report.warning().map_or_else(String::new, |warning| format!("<p class=\"warning\">{}</p>", escape(&warning)))
}

/// The headline numbers, each with the published one.
fn tiles(report: &Report) -> String {
    let mut html = String::from("<section class=\"tiles\">");
    let published = |name: &str| {
        report.published.as_ref().and_then(|p| p.scores.iter().find(|(key, _)| *key == name)).map(|(_, value)| *value)
    };
    let num_tiles = if report.benchmark.is_extended() { 3 } else { 2 };
    for &(name, value) in report.best.row.0.iter().take(num_tiles) {
        let note = published(name).map_or_else(
            || format!("at threshold {:.2}", report.best.threshold),
            |published| format!("at {:.2} · published {published:.2}", report.best.threshold),
        );
        push_tile(&mut html, name, value, &note);
    }
    if let Some(fixed) = &report.fixed {
        let name = fixed.row.0.first().map_or("", |(name, _)| name);
        push_tile(&mut html, name, fixed.row.principal(), &format!("at the fixed threshold {}", fixed.threshold));
    }
    push_tile(&mut html, "pointing", report.pointing, "peak inside the ground truth");
    let best_baseline = report
        .baselines
        .iter()
        .reduce(|best, other| if other.1.row.principal() > best.1.row.principal() { other } else { best });
    if let Some((baseline, entry)) = best_baseline {
        let name = entry.row.0.first().map_or("", |(name, _)| name);
        push_tile(&mut html, name, entry.row.principal(), &format!("best baseline: {}", baseline.name()));
    }
    html + "</section>"
}

fn push_tile(html: &mut String, name: &str, value: Option<f64>, note: &str) {
    let (name, value, note) = (escape(name), two_decimals(value), escape(note));
    let _ = write!(html, "<div class=\"tile\"><h2>{name}</h2><strong>{value}</strong><p>{note}</p></div>");
}

/// A table that compares the best threshold with the published numbers, other choices of threshold, and the baselines.
fn comparison(report: &Report) -> String {
    let lines = report.summary().into_iter().enumerate().map(|(line, (label, row))| (label, row, line == 0));
    format!("<section><h2>Comparison</h2>{}</section>", table(report, "", lines))
}

/// The metrics at every threshold.
fn thresholds(report: &Report) -> String {
    let lines = report
        .thresholds
        .iter()
        .map(|entry| (format!("{:.2}", entry.threshold), entry.row.clone(), entry.threshold == report.best.threshold));
    let table = table(report, "threshold", lines);
    format!("<section><details><summary>All thresholds</summary>{table}</details></section>")
}

/// A table of metrics. Each line is (label, values, whether it is highlighted).
fn table(report: &Report, corner: &str, lines: impl Iterator<Item = (String, Row, bool)>) -> String {
    let names: Vec<&str> = report.best.row.0.iter().map(|(name, _)| *name).collect();
    let cells = |row: &Row| names.iter().map(|name| two_decimals(row.get(name))).collect();
    html::table(corner, &names, lines.map(|(label, row, stands_out)| (label, cells(&row), stands_out)))
}

fn missing(report: &Report) -> String {
    if report.missing_ids.is_empty() {
        return String::new();
    }
    let ids = escape(&report.missing_ids.join(", "));
    let summary = match report.missing {
        1 => "1 sample missing".to_owned(),
        missing => format!("{missing} samples missing"),
    };
    format!("<section><details><summary>{summary}</summary><p class=\"ids\">{ids}</p></details></section>")
}
