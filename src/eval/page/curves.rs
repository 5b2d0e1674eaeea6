//! Charts as inline SVG.

use std::fmt::Write as _;

use super::super::report::Report;
use super::super::run::Evaluation;
use super::html::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Bars of the histogram: one per 5 %.
const NUM_BARS: usize = 20;
/// Curves that a reader can still tell apart; `style.css` has as many colours.
const MAX_CURVES: usize = 5;

fn x_at(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn y_at(share: f64) -> f64 {
    TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
}

/// The frame of a chart: a grid with labels, y from 0 to `y_max` (in `unit`s), x from 0 to 1.
fn frame(title: &str, x_label: &str, y_max: f64, unit: &str, inside: &str, legend: &str) -> String {
    let mut grid = String::new();
    for step in 0..=5 {
        let share = f64::from(step) / 5.0;
        let (x, y, value) = (x_at(share), y_at(share), share * y_max);
        let value = if y_max >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") };
        let (start, end, low, bottom) = (x_at(0.0), x_at(1.0), y_at(0.0) + 18.0, HEIGHT - 4.0);
        let _ = write!(
            grid,
            "<line class=\"grid\" x1=\"{start:.1}\" x2=\"{end:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}{unit}</text>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{share:.1}</text>",
            start - 8.0,
            y + 4.0,
        );
        if step == 5 {
            let middle = x_at(0.5);
            let label = escape(x_label);
            let _ = write!(
                grid,
                "<text class=\"tick\" x=\"{middle:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{label}</text>"
            );
        }
    }
    let title = escape(title);
    format!(
        "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\">{grid}{inside}</svg>{legend}</figure>"
    )
}

/// Every metric over the thresholds; dashed the best of the baselines and what was published for the principal metric.
pub(super) fn over_thresholds(report: &Report) -> String {
    let mut inside = String::new();
    let mut legend = String::from("<ul class=\"legend\">");
    let best = x_at(report.best.threshold);
    let _ = write!(
        inside,
        "<line class=\"marker\" x1=\"{best:.1}\" x2=\"{best:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
        y_at(1.0),
        y_at(0.0)
    );
    for (curve, (name, _)) in report.best.row.0.iter().take(MAX_CURVES).enumerate() {
        let points: Vec<(f64, f64)> =
            report.thresholds.iter().filter_map(|e| e.row.get(name).map(|value| (e.threshold, value))).collect();
        let name = escape(name);
        let line: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(y / 100.0))).collect();
        let _ = write!(inside, "<polyline class=\"curve c{curve}\" points=\"{}\"/>", line.join(" "));
        for (x, y) in points {
            let _ = write!(
                inside,
                "<circle class=\"c{curve}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{name} at {x:.2}: {y:.2}</title></circle>",
                x_at(x),
                y_at(y / 100.0),
            );
        }
        let _ = write!(legend, "<li class=\"c{curve}\">{name}</li>");
    }
    let baseline = report.baselines.iter().filter_map(|(_, entry)| entry.row.principal()).reduce(f64::max);
    let published = report.published.as_ref().and_then(|p| p.scores.first()).map(|(_, value)| *value);
    for (class, name, level) in [("published", "published", published), ("baseline", "best baseline", baseline)] {
        let Some(level) = level else { continue };
        let principal = report.best.row.0.first().map_or("", |(name, _)| name);
        let (start, end, y) = (x_at(0.0), x_at(1.0), y_at(level / 100.0));
        let _ =
            write!(inside, "<line class=\"{class}\" x1=\"{start:.1}\" x2=\"{end:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = write!(legend, "<li class=\"{class}\">{} {name}</li>", escape(principal));
    }
    legend.push_str("</ul>");
    frame("Metrics over the threshold", "threshold", 100.0, "", &inside, &legend)
}

/// How the samples' scores spread at the best threshold.
pub(super) fn histogram(evaluation: &Evaluation) -> String {
    let report = &evaluation.report;
    let place = report.best_place();
    let mut bars = [0_usize; NUM_BARS];
    let mut total = 0;
    for record in evaluation.records.iter().filter(|record| record.sounding) {
        let bar = (record.scores[place] * NUM_BARS as f64) as usize;
        bars[bar.min(NUM_BARS - 1)] += 1;
        total += 1;
    }
    let share = |count: usize| 100.0 * count as f64 / f64::max(total as f64, 1.0);
    let highest = share(bars.iter().copied().max().unwrap_or(0));
    // The next multiple of five, so that the five grid lines are whole numbers.
    let y_max = ((highest / 5.0).ceil() * 5.0).max(5.0);
    let mut inside = String::new();
    for (bar, &count) in bars.iter().enumerate() {
        let (from, to) = (bar as f64 / NUM_BARS as f64, (bar + 1) as f64 / NUM_BARS as f64);
        let class = if from >= 0.5 { "bar found" } else { "bar" };
        let (x, y) = (x_at(from) + 1.5, y_at(share(count) / y_max));
        let _ = write!(
            inside,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\">\
             <title>{from:.2} to {to:.2}: {count} samples</title></rect>",
            x_at(to) - x_at(from) - 3.0,
            y_at(0.0) - y,
        );
    }
    let score = report.benchmark.score_name();
    let title = format!("Samples by {score} at threshold {:.2}", report.best.threshold);
    let legend = format!(
        "<ul class=\"legend\"><li class=\"found\">{score} of 0.5 and more</li><li class=\"rest\">less</li></ul>"
    );
    frame(&title, score, y_max, "%", &inside, &legend)
}
