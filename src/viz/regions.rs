//! Peak, area and bounding boxes of the regions with high scores.

use super::ScoreMap;
use super::scores::check_threshold;
use crate::error::Result;

/// Parts of the mask smaller than this fraction of the picture (1/1000; about 11 × 11 pixels at 352 × 352) get no box.
pub const MIN_BOX_FRACTION: f64 = 1e-3;

/// The pixel with the highest score.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Peak {
    /// The column, in pixels from the left.
    pub x: usize,
    /// The row, in pixels from the top.
    pub y: usize,
    /// The score of the pixel, in 0..1.
    pub score: f32,
}

/// The smallest axis-aligned rectangle around a connected part of the mask.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BoundingBox {
    /// The leftmost column, in pixels from the left.
    pub x: usize,
    /// The topmost row, in pixels from the top.
    pub y: usize,
    /// The number of columns, at least 1.
    pub width: usize,
    /// The number of rows, at least 1.
    pub height: usize,
    /// The highest score of the part, in 0..1.
    pub score: f32,
}

/// The peak and the mask of a localization, in pixels of the picture.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Findings {
    /// The pixel with the highest score; the first in reading order if there are several.
    pub peak: Peak,
    /// The fraction of the picture that the mask covers, in 0..1.
    pub area: f64,
    /// The boxes around the connected parts of the mask, in descending order of score. Parts smaller than
    /// [`MIN_BOX_FRACTION`] are omitted.
    pub boxes: Vec<BoundingBox>,
}

/// A run of adjacent mask pixels in one row.
#[derive(Clone, Copy)]
struct Run {
    y: usize,
    start: usize,
    /// Exclusive.
    end: usize,
    score: f32,
}

impl ScoreMap {
    /// Finds the peak, the area of the mask (scores ≥ `threshold`) and the boxes around its connected parts.
    ///
    /// Pixels that touch at a side or a corner are connected.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a threshold outside 0..1.
    pub fn findings(&self, threshold: f32) -> Result<Findings> {
        check_threshold(threshold)?;
        let width = self.width();
        let bands = self.map_bands(|first, scores| {
            let rows = scores.chunks_exact(width).zip(first..);
            let peak = rows.clone().map(|(row, y)| row_peak(row, y)).reduce(higher);
            let runs = rows.flat_map(|(row, y)| row_runs(row, y, threshold)).collect::<Vec<_>>();
            (peak, runs)
        })?;
        let peak = bands.iter().filter_map(|(peak, _)| *peak).reduce(higher);
        let runs = bands.into_iter().flat_map(|(_, runs)| runs).collect::<Vec<_>>();

        let pixels = (width * self.height()) as f64;
        let mask: usize = runs.iter().map(|run| run.end - run.start).sum();
        Ok(Findings {
            peak: peak.unwrap_or(Peak { x: 0, y: 0, score: 0.0 }),
            area: mask as f64 / pixels,
            boxes: boxes(&runs, pixels * MIN_BOX_FRACTION),
        })
    }
}

/// The first highest score of a row.
fn row_peak(row: &[f32], y: usize) -> Peak {
    let first = Peak { x: 0, y, score: f32::NEG_INFINITY };
    row.iter().zip(0..).map(|(&score, x)| Peak { x, y, score }).fold(first, higher)
}

/// The higher of two peaks; the first if they are equal.
fn higher(first: Peak, second: Peak) -> Peak {
    if second.score > first.score { second } else { first }
}

/// The runs of a row, from left to right.
fn row_runs(row: &[f32], y: usize, threshold: f32) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut x = 0;
    for part in row.chunk_by(|left, right| (*left >= threshold) == (*right >= threshold)) {
        let score = part.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if score >= threshold {
            runs.push(Run { y, start: x, end: x + part.len(), score });
        }
        x += part.len();
    }
    runs
}

/// Joins runs (given in reading order) that touch at a side or a corner, and returns the boxes of the parts with at
/// least `min_pixels`.
///
/// Nearly linear in the number of runs: each run is compared with the touching runs in the row above, and a
/// disjoint-set forest keeps track of the parts.
fn boxes(runs: &[Run], min_pixels: f64) -> Vec<BoundingBox> {
    let mut parents: Vec<usize> = (0..runs.len()).collect();
    // Two pointers: `above` follows `below` one row behind.
    let mut above = 0;
    for below in 0..runs.len() {
        let run = runs[below];
        // Runs that end before this one begins, or are more than one row above it, touch no later run either.
        while runs[above].y + 1 < run.y || (runs[above].y + 1 == run.y && runs[above].end < run.start) {
            above += 1;
        }
        let touching = runs[above..below].iter().take_while(|other| other.y < run.y && other.start <= run.end);
        for other in above..above + touching.count() {
            let (left, right) = (root(&mut parents, other), root(&mut parents, below));
            // The earlier root remains, so parts stay in reading order.
            parents[left.max(right)] = left.min(right);
        }
    }

    let mut parts: Vec<Option<(BoundingBox, usize)>> = vec![None; runs.len()];
    for (index, run) in runs.iter().enumerate() {
        let alone = BoundingBox { x: run.start, y: run.y, width: run.end - run.start, height: 1, score: run.score };
        let (part, pixels) = parts[root(&mut parents, index)].get_or_insert((alone, 0));
        let right = (part.x + part.width).max(run.end);
        part.x = part.x.min(run.start);
        part.width = right - part.x;
        part.height = run.y + 1 - part.y;
        part.score = part.score.max(run.score);
        *pixels += run.end - run.start;
    }
    let mut boxes: Vec<_> =
        parts.into_iter().flatten().filter(|(_, pixels)| *pixels as f64 >= min_pixels).map(|(part, _)| part).collect();
    boxes.sort_by(|left, right| right.score.total_cmp(&left.score));
    boxes
}

/// The root of the set that contains the run `index`, with path halving.
fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}
