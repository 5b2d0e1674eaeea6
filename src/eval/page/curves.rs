//! The charts of the page, as inline SVG drawn by plotters.
//!
//! plotters draws with fixed colours, but the page has a light and a dark style. Therefore `style.css` selects elements
//! by the colours below and replaces them.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::super::presence::PresenceReport;
use super::super::report::{Entry, Report};
use super::super::run::Evaluation;
use super::html::escape;
use crate::error::{Error, Result};

const SIZE: (u32, u32) = (640, 340);
const FONT: (&str, u32) = ("sans-serif", 12);
/// Grid lines.
const GRID: RGBColor = RGBColor(0xe3, 0xe0, 0xda);
/// Labels and background elements.
const SOFT: RGBColor = RGBColor(0x6b, 0x68, 0x73);
/// One colour per curve; a reader cannot tell more of them apart.
const CURVES: [RGBColor; 5] = [
    RGBColor(0xd4, 0x54, 0x1c),
    RGBColor(0x34, 0x57, 0xb1),
    RGBColor(0x2c, 0x8a, 0x6a),
    RGBColor(0x8a, 0x4f, 0xb0),
    RGBColor(0xb5, 0x8a, 0x1b),
];
/// The bars of samples that were localized.
const FOUND: RGBColor = CURVES[2];
/// The number of bars in the histogram, one per 5 %.
const NUM_BARS: usize = 20;

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// A figure with a grid, x from 0 to 1 and y from 0 to `y_max` (in `unit`s). `fill` draws its contents.
fn figure(
    title: &str,
    x_label: &str,
    (y_max, unit): (f64, &str),
    legend: &str,
    fill: impl FnOnce(&mut Chart<'_, '_>) -> Drawn,
) -> Result<String> {
    let mut svg = String::new();
    let draw = || {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(36)
            .build_cartesian_2d(0.0..1.0, 0.0..y_max)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(TRANSPARENT)
            .label_style(FONT.into_font().color(&SOFT))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| format!("{x:.1}"))
            .y_label_formatter(&|y| format!("{y:.0}{unit}"))
            .x_desc(x_label)
            .draw()?;
        fill(&mut chart)?;
        area.present()?;
        Drawn::Ok(())
    };
    draw().map_err(|error| Error::Image {
        origin: title.to_string(),
        expected: "a chart that can be drawn".to_string(),
        found: error.to_string(),
    })?;
    let title = escape(title);
    // HTML does not need the namespace, and the page should not contain any address.
    let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{title}\" "), 1);
    Ok(format!("<figure><figcaption>{title}</figcaption>{svg}<ul class=\"legend\">{legend}</ul></figure>"))
}

/// Plots the metrics over the thresholds, and the principal metric's best baseline and published value as dashed lines.
pub(super) fn over_thresholds(report: &Report) -> Result<String> {
    let names: Vec<&str> = report.best.row.0.iter().map(|(name, _)| *name).take(CURVES.len()).collect();
    let principal = escape(names.first().unwrap_or(&""));
    let baseline = report.baselines.iter().filter_map(|(_, entry)| entry.row.principal()).reduce(f64::max);
    let published = report.published.as_ref().and_then(|p| p.scores.first()).map(|(_, value)| *value);
    let mut legend = String::new();
    for (curve, name) in names.iter().enumerate() {
        legend += &format!("<li class=\"c{curve}\">{}</li>", escape(name));
    }
    for (class, name, level) in [("published", "published", published), ("baseline", "best baseline", baseline)] {
        if level.is_some() {
            legend += &format!("<li class=\"{class}\">{principal} {name}</li>");
        }
    }
    figure("Metrics over the threshold", "threshold", (100.0, ""), &legend, |chart| {
        let best = report.best.threshold;
        chart.draw_series(LineSeries::new([(best, 0.0), (best, 100.0)], SOFT.mix(0.6)))?;
        if let Some(level) = published {
            let ends = [(0.0, level), (1.0, level)];
            chart.draw_series(DashedLineSeries::new(ends, 2, 5, CURVES[0].stroke_width(2)))?;
        }
        if let Some(level) = baseline {
            chart.draw_series(DashedLineSeries::new([(0.0, level), (1.0, level)], 8, 5, SOFT.stroke_width(2)))?;
        }
        for (name, colour) in names.iter().zip(CURVES) {
            let at = |entry: &Entry| entry.row.get(name).map(|value| (entry.threshold, value));
            let points = report.thresholds.iter().filter_map(at);
            chart.draw_series(LineSeries::new(points, colour.filled().stroke_width(2)).point_size(3))?;
        }
        Ok(())
    })
}

/// The distribution of the samples' scores at the best threshold.
pub(super) fn histogram(evaluation: &Evaluation) -> Result<String> {
    let report = &evaluation.report;
    let place = report.best_place();
    let mut bars = [0_usize; NUM_BARS];
    for record in evaluation.records.iter().filter(|record| record.sounding) {
        let bar = (record.scores[place] * NUM_BARS as f64) as usize;
        bars[bar.min(NUM_BARS - 1)] += 1;
    }
    let total = bars.iter().sum::<usize>().max(1) as f64;
    let shares = bars.map(|count| 100.0 * count as f64 / total);
    // The highest bar, rounded up to a multiple of 5 %.
    let y_max = ((shares.into_iter().fold(0.0, f64::max) / 5.0).ceil() * 5.0).max(5.0);
    let score = report.benchmark.score_name();
    let title = format!("Samples by {score} at threshold {:.2}", report.best.threshold);
    let legend = format!("<li class=\"found\">{score} of at least 0.5</li><li class=\"rest\">below 0.5</li>");
    figure(&title, score, (y_max, "%"), &legend, |chart| {
        let gap = 0.1 / NUM_BARS as f64;
        chart.draw_series(shares.into_iter().enumerate().map(|(bar, share)| {
            let (from, to) = (bar as f64 / NUM_BARS as f64, (bar + 1) as f64 / NUM_BARS as f64);
            let style = if from >= 0.5 { FOUND.filled() } else { SOFT.mix(0.45).filled() };
            Rectangle::new([(from + gap, 0.0), (to - gap, share)], style)
        }))?;
        Ok(())
    })
}

/// How often a sound with a certain presence really has its source in the picture; along the diagonal, as often as it says.
pub(super) fn calibration(presence: &PresenceReport) -> Result<String> {
    let legend =
        "<li class=\"c0\">sounds with a source in the picture</li><li class=\"baseline\">as the presence says</li>";
    figure("Calibration of the presence", "presence", (100.0, "%"), legend, |chart| {
        let ends = [(0.0, 0.0), (1.0, 100.0)];
        chart.draw_series(DashedLineSeries::new(ends, 8, 5, SOFT.stroke_width(2)))?;
        let points = presence.calibration.iter().map(|bin| (bin.presence, 100.0 * bin.sounding));
        chart.draw_series(LineSeries::new(points, CURVES[0].filled().stroke_width(2)).point_size(3))?;
        Ok(())
    })
}
