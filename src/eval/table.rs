//! Formats the report as text, and the records as CSV.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::viz::MaskStatistics;

use super::baselines::Baseline;
use super::overlap::NUM_THRESHOLDS;
use super::presence::PresenceReport;
use super::record::Record;
use super::report::{Entry, Report, Row, threshold};

const LABEL_WIDTH: usize = 28;

/// `value` with two decimals, or a dash.
pub(super) fn two_decimals(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"))
}

impl Report {
    /// The number of scored samples as text: "4,900 of 5,158 samples scored".
    pub fn coverage(&self) -> String {
        format!("{} of {} samples scored", thousands(self.samples), thousands(self.samples + self.missing))
    }

    /// The [title](super::Benchmark::title) of the benchmark, with the split.
    pub fn title(&self) -> String {
        let title = self.benchmark.title();
        self.split.as_ref().map_or_else(|| title.to_owned(), |split| format!("{title} ({split})"))
    }

    /// The report as a table for the terminal: the metrics at each threshold, at the best one and as published, the
    /// baselines, and the additional metrics of newer papers.
    pub fn table(&self) -> String {
        let names: Vec<&str> = self.best.row.0.iter().map(|(name, _)| *name).collect();
        let mut text = format!("{}: {}\n\n", self.title(), self.coverage());
        let header = names.iter().map(|&name| name.to_owned());
        push_line(&mut text, "threshold", &names, header);
        let rule = "─".repeat(LABEL_WIDTH + names.iter().map(|name| width(name) + 2).sum::<usize>());
        text.push_str(&rule);
        text.push('\n');
        let mut push = |label: &str, row: &Row| {
            let values = names.iter().map(|name| two_decimals(row.get(name)));
            push_line(&mut text, label, &names, values);
        };
        for entry in &self.thresholds {
            push(&format!("{:.2}", entry.threshold), &entry.row);
        }
        for (label, row) in self.summary() {
            push(&label, &row);
        }
        if let Some(pointing) = self.pointing {
            let _ = write!(text, "\npeak inside the ground truth: {pointing:.2} %");
        }
        if let Some(pairs) = &self.pairs {
            let _ = write!(text, "\n{} scenes with several sources: CAP {}", pairs.scenes, two_decimals(pairs.cap));
        }
        if let Some(universal) = &self.universal_threshold {
            let _ = write!(
                text,
                "\nuniversal threshold {:.3}: cIoU {}, AUC {}, F_LOC {}, F_AUC {}",
                universal.threshold,
                two_decimals(universal.success),
                two_decimals(universal.auc),
                two_decimals(universal.f_loc),
                two_decimals(universal.f_auc),
            );
            for (kind, scores) in &universal.negatives {
                let _ = write!(text, "\n  {}: pIA {:.2}, AUC_N {:.2}", kind.name(), scores.active, scores.auc);
            }
        }
        if let Some(presence) = &self.presence {
            let PresenceReport { threshold, detected, gated, .. } = presence;
            let _ = write!(
                text,
                "\npresence of {threshold:.3} or more: {detected:.2} % of the sounding pairs, cIoU {:.2} at {:.3}",
                gated.success, gated.threshold
            );
            for (kind, scores) in &presence.negatives {
                let (auroc, alarms) = (scores.auroc, scores.false_alarms);
                let _ = write!(text, "\n  {}: AUROC {auroc:.3}, false alarms {alarms:.2} %", kind.name());
            }
        }
        if let Some(warning) = self.warning() {
            let _ = write!(text, "\nwarning: {warning}");
        }
        if !self.missing_ids.is_empty() {
            const SHOWN: usize = 5;
            let shown: Vec<&str> = self.missing_ids.iter().take(SHOWN).map(String::as_str).collect();
            let more = if self.missing > SHOWN { " …" } else { "" };
            let _ = write!(text, "\nmissing: {}{more}", shown.join(", "));
        }
        text.push('\n');
        text
    }

    /// One line that describes how the heatmaps fail at the best threshold; `None` if they do not.
    pub fn warning(&self) -> Option<String> {
        self.masks.as_ref().and_then(MaskStatistics::warning)
    }

    /// The rows below the thresholds, as (label, metrics).
    pub(super) fn summary(&self) -> Vec<(String, Row)> {
        let mut lines = vec![(format!("best: {:.2}", self.best.threshold), self.best.row.clone())];
        if let Some(published) = &self.published {
            let row = published.scores.iter().map(|&(name, value)| (name, Some(value))).collect();
            lines.push((format!("published ({})", published.source), Row(row)));
        }
        if let Some(fixed) = &self.fixed {
            lines.push((format!("fixed: {}", fixed.threshold), fixed.row.clone()));
        }
        lines.push(("adaptive (oracle)".to_owned(), self.adaptive_oracle.clone()));
        let baseline = |(baseline, entry): &(Baseline, Entry)| {
            (format!("{}, best: {:.2}", baseline.name(), entry.threshold), entry.row.clone())
        };
        lines.extend(self.baselines.iter().map(baseline));
        lines
    }
}

fn width(name: &str) -> usize {
    name.chars().count().max(6)
}

fn push_line(text: &mut String, label: &str, names: &[&str], values: impl Iterator<Item = String>) {
    let _ = write!(text, "{label:<LABEL_WIDTH$}");
    for (name, value) in names.iter().zip(values) {
        let _ = write!(text, "  {value:>width$}", width = width(name));
    }
    text.push('\n');
}

fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes the records as CSV, one row per sample.
///
/// The columns are the id, class, picture and sound; whether the pair is sounding; the area of the ground truth as a
/// fraction of the picture; the confidence and the presence; whether the peak lies inside the ground truth; and the score (a fraction)
/// at the fixed threshold, at the adaptive threshold and at each threshold of the tables.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written.
pub fn write_csv(path: &Path, report: &Report, records: &[Record]) -> Result<()> {
    let score = report.benchmark.score_name();
    let mut header: Vec<String> =
        ["id", "class", "picture", "sound", "sounding", "truth_area", "confidence", "presence", "pointing"]
            .map(Into::into)
            .into();
    header.extend([format!("{score}_fixed"), format!("{score}_adaptive")]);
    header.extend((0..NUM_THRESHOLDS).map(|place| format!("{score}_{:.2}", threshold(place))));
    write_atomically(path, |writer| {
        let mut csv = csv::Writer::from_writer(writer);
        let failed = |e: csv::Error| Error::io(path, "write")(e.into());
        csv.write_record(&header).map_err(failed)?;
        for record in records {
            let mut fields = vec![
                record.id.clone(),
                record.class.clone().unwrap_or_default(),
                record.picture.clone(),
                record.sound.clone(),
                record.sounding.to_string(),
                record.truth_area.to_string(),
                record.confidence.map(|c| c.to_string()).unwrap_or_default(),
                record.presence.map(|p| p.to_string()).unwrap_or_default(),
                record.pointing.to_string(),
                record.fixed.map(|score| score.to_string()).unwrap_or_default(),
                record.adaptive.to_string(),
            ];
            fields.extend(record.scores.iter().map(f64::to_string));
            csv.write_record(&fields).map_err(failed)?;
        }
        csv.flush().map_err(Error::io(path, "write"))
    })
}
