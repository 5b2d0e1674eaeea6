//! Plots as SVG files.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 420);
const FONT: &str = "sans-serif";

/// The height of the legend, in pixels.
const LEGEND: i32 = 24;

/// The label of the dashed line.
const CHANCE: &str = "chance";

/// Distinguishable with red-green colour blindness.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// If there are more points than this, they are averaged in groups: the trend of a long curve is what matters.
const MAX_POINTS: usize = 150;

/// The title and the labels of a plot.
pub struct Axes<'a> {
    pub title: &'a str,
    /// The label of the horizontal axis.
    pub across: &'a str,
    /// The label of the vertical axis.
    pub up: &'a str,
}

/// A line with a name: (step, value) in the order of the steps.
pub struct Curve<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// A bar in each group, all of one colour.
pub struct Series<'a> {
    pub name: &'a str,
    /// A value for each group.
    pub values: Vec<f64>,
}

/// Draws `curves` over one axis of steps into the SVG file `path`. Values that are not finite are left out.
///
/// # Errors
/// When there is nothing to draw, or the file cannot be written.
pub fn lines(path: &Path, axes: &Axes, curves: &[Curve]) -> Result<()> {
    let curves: Vec<(&str, Vec<(f64, f64)>)> =
        curves.iter().map(|curve| (curve.name, thinned(&curve.points))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (across, up) = (range(points().map(|point| point.0)), range(points().map(|point| point.1)));
    let (Some(across), Some(up)) = (across, up) else {
        return Err(anyhow!("{}: expected a curve with at least one finite value, found none", path.display()));
    };
    // Add a margin, and include zero if it is near.
    let margin = 0.05 * (up.end - up.start);
    let floor = if up.start >= 0.0 && up.start < 0.3 * up.end { 0.0 } else { up.start - margin };
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    draw(path, axes.title, &names, None, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(across, floor..up.end + margin)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_label_formatter(&|step| format!("{step}"))
            .y_label_formatter(&|value| format!("{value:.1}"))
            .x_desc(axes.across)
            .y_desc(axes.up)
            .draw()?;
        for ((_, points), colour) in curves.into_iter().zip(COLOURS.into_iter().cycle()) {
            chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        }
        Ok(())
    })
}

/// Draws a group of bars for each of `groups`, one bar of each of `series`, into the SVG file `path`; a dashed line
/// where chance lies.
///
/// # Errors
/// When there is nothing to draw, a series does not have a finite value for each group, or the file cannot be written.
pub fn bars(path: &Path, axes: &Axes, groups: &[&str], series: &[Series], chance: Option<f64>) -> Result<()> {
    ensure!(!groups.is_empty() && !series.is_empty(), "{}: expected groups of bars, found none", path.display());
    for Series { name, values } in series {
        ensure!(
            values.len() == groups.len() && values.iter().all(|value| value.is_finite()),
            "{}: expected {} finite values of \"{name}\", found {values:?}",
            path.display(),
            groups.len()
        );
    }
    let values = series.iter().flat_map(|series| series.values.iter().copied()).chain(chance);
    let Range { start, end } = range(values.chain([0.0])).unwrap_or(0.0..1.0);
    let (width, left) = (0.8 / series.len() as f64, -0.4);
    let names: Vec<&str> = series.iter().map(|series| series.name).collect();
    draw(path, axes.title, &names, chance, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..groups.len() as f64 - 0.5, start..end + 0.12 * (end - start))?;
        // A label is centred under its group, at a whole number.
        let label = |at: &f64| groups.get(at.round().max(0.0) as usize).map_or(String::new(), ToString::to_string);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_labels(groups.len())
            .x_label_formatter(&label)
            .x_desc(axes.across)
            .y_desc(axes.up)
            .draw()?;
        for (number, (series, colour)) in series.iter().zip(COLOURS.into_iter().cycle()).enumerate() {
            let bar = |(group, &value): (usize, &f64)| {
                let from = group as f64 + left + width * number as f64;
                Rectangle::new([(from, 0.0), (from + 0.92 * width, value)], colour.filled())
            };
            chart.draw_series(series.values.iter().enumerate().map(bar))?;
            let number_above = |(group, &value): (usize, &f64)| {
                let middle = group as f64 + left + width * (number as f64 + 0.46);
                let style = (FONT, 12).into_font().color(&BLACK);
                let anchor = plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Bottom,
                );
                Text::new(short(value), (middle, value.max(0.0)), style.pos(anchor))
            };
            chart.draw_series(series.values.iter().enumerate().map(number_above))?;
        }
        if let Some(chance) = chance {
            let ends = [(-0.5, chance), (groups.len() as f64 - 0.5, chance)];
            chart.draw_series(DashedLineSeries::new(ends, 6, 4, BLACK.stroke_width(1)))?;
        }
        Ok(())
    })
}

/// The label of a value above its bar.
fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws a title, a legend with `names`, and the plot area with `fill`.
fn draw(
    path: &Path,
    title: &str,
    names: &[&str],
    chance: Option<f64>,
    fill: impl FnOnce(&Area) -> Drawn,
) -> Result<()> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = || {
        area.fill(&WHITE)?;
        let (legend, plot) = area.titled(title, (FONT, 20))?.split_vertically(LEGEND);
        let mut left = 68;
        let entries = names.iter().copied().zip(COLOURS.into_iter().cycle());
        for (name, colour) in entries.chain(chance.map(|_| (CHANCE, BLACK))) {
            let middle = LEGEND / 2;
            let thickness = if name == CHANCE { 1 } else { 4 };
            let key = [(left, middle - thickness), (left + 14, middle + thickness)];
            legend.draw(&Rectangle::new(key, colour.filled()))?;
            legend.draw(&Text::new(name.to_string(), (left + 20, middle - 6), (FONT, 14)))?;
            left += 20 + 8 * name.chars().count() as i32 + 16;
        }
        fill(&plot)?;
        area.present()?;
        Drawn::Ok(())
    };
    drawn().map_err(|error| anyhow!("{}: cannot draw: {error}", path.display()))?;
    drop(area);
    std::fs::write(path, svg).with_context(|| format!("{}: cannot write", path.display()))
}

/// The range from the smallest to the largest value, never empty.
fn range(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let (least, greatest) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), value| (least.min(value), greatest.max(value)));
    (least <= greatest).then_some(if least < greatest { least..greatest } else { least - 0.5..greatest + 0.5 })
}

/// At most [`MAX_POINTS`] points, each the mean of its group.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<_> = points.iter().filter(|(step, value)| step.is_finite() && value.is_finite()).collect();
    let mean = |group: &[&(f64, f64)]| {
        let (steps, values) =
            group.iter().fold((0.0, 0.0), |(steps, values), point| (steps + point.0, values + point.1));
        (steps / group.len() as f64, values / group.len() as f64)
    };
    let groups = finite.len().min(MAX_POINTS);
    (0..groups).map(|group| mean(&finite[group * finite.len() / groups..(group + 1) * finite.len() / groups])).collect()
}
