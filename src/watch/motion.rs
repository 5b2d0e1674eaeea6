//! What moved between two frames, estimated on small grey copies of them.

use crate::error::Result;
use crate::image::Picture;

/// The side of a thumbnail, in pixels.
const SIDE: usize = 64;
/// Motion is estimated for GRID × GRID cells.
const GRID: usize = 8;
/// Half the side of the block that is compared for each cell, in pixels of the thumbnail: blocks overlap.
const HALF_BLOCK: i32 = 8;
/// The largest displacement that is searched for, in pixels of the thumbnail.
const REACH: i32 = 10;
/// The cost of a displacement, in grey levels for each pixel: flat regions match anywhere and should stay where they are.
const COST_PER_PIXEL: f32 = 0.15;
/// The least residual of the motion, in grey levels, and the least distance of the colours across a cut.
const CUT_RESIDUAL: f32 = 12.0;
const CUT_COLORS: f32 = 0.4;
/// Levels of each colour in the histogram.
const LEVELS: usize = 4;

/// A small copy of a frame, stretched to a square as the network's input is.
#[derive(Debug)]
pub(super) struct Thumbnail {
    /// SIDE · SIDE grey levels. In bytes, for their differences are then summed sixteen at a time.
    grey: Vec<u8>,
    /// The fraction of the pixels in each cell of the colour cube.
    colors: [f32; LEVELS * LEVELS * LEVELS],
}

impl Thumbnail {
    pub(super) fn new(picture: &Picture) -> Result<Self> {
        let small = picture.resize(SIDE, SIDE)?;
        let mut colors = [0.0; LEVELS * LEVELS * LEVELS];
        let mut grey = Vec::with_capacity(SIDE * SIDE);
        for pixel in small.pixels().chunks_exact(3) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
            grey.push((0.299 * r + 0.587 * g + 0.114 * b).round() as u8);
            let level = |value: u8| usize::from(value) * LEVELS / 256;
            colors[(level(pixel[0]) * LEVELS + level(pixel[1])) * LEVELS + level(pixel[2])] += 1.0;
        }
        colors.iter_mut().for_each(|count| *count /= (SIDE * SIDE) as f32);
        Ok(Self { grey, colors })
    }

    /// How different the colours of two frames are: 0 for the same histogram, 1 for histograms that share nothing.
    pub(super) fn color_distance(&self, other: &Self) -> f32 {
        self.colors.iter().zip(&other.colors).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0
    }

    /// The mean absolute difference of this block and the block of `other` displaced by (`dx`, `dy`), in grey levels.
    fn difference(&self, other: &Self, (x, y): (i32, i32), (dx, dy): (i32, i32)) -> f32 {
        let side = SIDE as i32;
        let span = |center: i32, shift: i32| {
            let first = (center - HALF_BLOCK).max(0).max(-shift);
            (first, (center + HALF_BLOCK).min(side).min(side - shift))
        };
        let ((left, right), (top, bottom)) = (span(x, dx), span(y, dy));
        if right - left < HALF_BLOCK || bottom - top < HALF_BLOCK {
            return f32::INFINITY; // too little is left inside the frame to compare
        }
        let mut sum = 0;
        for row in top..bottom {
            let here = &self.grey[(row * side + left) as usize..(row * side + right) as usize];
            let start = (row + dy) * side + left + dx;
            let there = &other.grey[start as usize..(start + right - left) as usize];
            sum += here.iter().zip(there).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        }
        sum as f32 / ((right - left) * (bottom - top)) as f32
    }
}

/// Where each part of a frame was in another frame: a grid of displacements, in fractions of the picture's side.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// GRID · GRID displacements (x, y).
    cells: Vec<[f32; 2]>,
    /// How different the matched blocks are, in grey levels.
    pub(super) residual: f32,
}

impl Flow {
    /// The flow along which `frame` looks like `other`: `frame(p) ≈ other(p + flow(p))`.
    pub(super) fn between(frame: &Thumbnail, other: &Thumbnail) -> Self {
        let cell = (SIDE / GRID) as i32;
        let mut residual = 0.0;
        let mut cells = Vec::with_capacity(GRID * GRID);
        for at in 0..(GRID * GRID) as i32 {
            let center = (at % GRID as i32 * cell + cell / 2, at / GRID as i32 * cell + cell / 2);
            let (shift, difference) = best_match(frame, other, center);
            residual += difference / (GRID * GRID) as f32;
            cells.push([shift.0 as f32 / SIDE as f32, shift.1 as f32 / SIDE as f32]);
        }
        Self { cells: median(&cells), residual }
    }

    /// The displacement at (`x`, `y`), in fractions of the side, interpolated between the cells.
    fn at(&self, x: f32, y: f32) -> [f32; 2] {
        let place = |v: f32| (v * GRID as f32 - 0.5).clamp(0.0, (GRID - 1) as f32);
        let corners = corners(place(x), place(y), GRID);
        corners.iter().fold([0.0; 2], |[dx, dy], &(at, weight)| {
            [dx + weight * self.cells[at][0], dy + weight * self.cells[at][1]]
        })
    }

    /// This flow followed by `next`: from this flow's frame through its other frame to that of `next`.
    pub(super) fn then(&self, next: &Self) -> Self {
        let middle = |index: usize| (index as f32 + 0.5) / GRID as f32;
        let cells = self.cells.iter().enumerate().map(|(at, &[dx, dy])| {
            let [further_x, further_y] = next.at(middle(at % GRID) + dx, middle(at / GRID) + dy);
            [dx + further_x, dy + further_y]
        });
        Self { cells: cells.collect(), residual: self.residual + next.residual }
    }

    /// Adds `weight` times `values` (S × S, row by row, of the other frame), moved along this flow, to `sum`.
    pub(super) fn add_moved(&self, values: &[f32], side: usize, weight: f32, sum: &mut [f32]) {
        let unit = |index: usize| (index as f32 + 0.5) / side as f32;
        for (at, target) in sum.iter_mut().enumerate() {
            let (x, y) = (unit(at % side), unit(at / side));
            let [dx, dy] = self.at(x, y);
            let place = |v: f32| (v * side as f32 - 0.5).clamp(0.0, (side - 1) as f32);
            let corners = corners(place(x + dx), place(y + dy), side);
            *target += weight * corners.iter().map(|&(at, share)| share * values[at]).sum::<f32>();
        }
    }
}

/// Whether two neighbouring frames belong to different shots: their blocks do not match even when moved, and their colours
/// differ.
pub(super) fn is_cut(residual: f32, color_distance: f32) -> bool {
    residual > CUT_RESIDUAL && color_distance > CUT_COLORS
}

/// The four neighbours of (`x`, `y`) in a `side` × `side` grid, each with its share. Both coordinates are in 0..side − 1.
fn corners(x: f32, y: f32, side: usize) -> [(usize, f32); 4] {
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(side - 1), (top + 1).min(side - 1));
    let (across, down) = (x - left as f32, y - top as f32);
    [
        (top * side + left, (1.0 - across) * (1.0 - down)),
        (top * side + right, across * (1.0 - down)),
        (bottom * side + left, (1.0 - across) * down),
        (bottom * side + right, across * down),
    ]
}

/// The displacement within [`REACH`] with the least cost, and the difference there: every second one, then its neighbours.
fn best_match(frame: &Thumbnail, other: &Thumbnail, center: (i32, i32)) -> ((i32, i32), f32) {
    let measured = |shift: (i32, i32)| {
        let difference = frame.difference(other, center, shift);
        let length = ((shift.0 * shift.0 + shift.1 * shift.1) as f32).sqrt();
        (difference + COST_PER_PIXEL * length, shift, difference)
    };
    let mut best = measured((0, 0));
    let consider = |shift: (i32, i32), best: &mut (f32, (i32, i32), f32)| {
        let candidate = measured(shift);
        if candidate.0 < best.0 {
            *best = candidate;
        }
    };
    for dy in (-REACH..=REACH).step_by(2) {
        for dx in (-REACH..=REACH).step_by(2) {
            consider((dx, dy), &mut best);
        }
    }
    let (x, y) = best.1;
    for (dx, dy) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))) {
        consider((x + dx, y + dy), &mut best);
    }
    (best.1, best.2)
}

/// The median over each cell and its neighbours, which removes single false matches.
fn median(cells: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let neighbours = |at: usize| {
        let (x, y) = (at % GRID, at / GRID);
        let rows = y.saturating_sub(1)..=(y + 1).min(GRID - 1);
        rows.flat_map(move |y| (x.saturating_sub(1)..=(x + 1).min(GRID - 1)).map(move |x| y * GRID + x))
    };
    let middle = |at: usize, axis: usize| {
        let mut values: Vec<f32> = neighbours(at).map(|at| cells[at][axis]).collect();
        values.sort_unstable_by(f32::total_cmp);
        values[values.len() / 2]
    };
    (0..cells.len()).map(|at| [middle(at, 0), middle(at, 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with a blurred blob at (`x`, `y`) on a shaded background.
    fn blob(x: f32, y: f32) -> Thumbnail {
        let pixels = (0..SIDE * SIDE).flat_map(|at| {
            let (px, py) = ((at % SIDE) as f32, (at / SIDE) as f32);
            let distance = ((px - x).powi(2) + (py - y).powi(2)) / 60.0;
            let value = 40.0 + px * 0.3 + 180.0 * (-distance).exp();
            [value as u8; 3]
        });
        Thumbnail::new(&Picture::from_rgb8(SIDE, SIDE, pixels.collect()).unwrap()).unwrap()
    }

    #[test]
    fn a_map_follows_what_moves() {
        let (before, after) = (blob(24.0, 30.0), blob(31.0, 34.0));
        let flow = Flow::between(&after, &before);
        let side = 16;
        let mut map = vec![0.0; side * side];
        map[7 * side + 6] = 1.0; // where the blob was
        let mut moved = vec![0.0; side * side];
        flow.add_moved(&map, side, 1.0, &mut moved);
        let peak = moved.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let (x, y) = (peak % side, peak / side);
        assert!((7..=8).contains(&x) && (8..=9).contains(&y), "({x}, {y})");
    }

    #[test]
    fn two_steps_are_one_long_step() {
        let frames = [blob(20.0, 30.0), blob(26.0, 30.0), blob(32.0, 30.0)];
        let (last, first) = (Flow::between(&frames[2], &frames[1]), Flow::between(&frames[1], &frames[0]));
        let [dx, dy] = last.then(&first).at(32.5 / 64.0, 30.5 / 64.0);
        assert!((dx + 12.0 / 64.0).abs() < 2.5 / 64.0 && dy.abs() < 1.5 / 64.0, "({dx}, {dy})");
    }

    #[test]
    fn equal_frames_have_no_motion() {
        let flow = Flow::between(&blob(20.0, 20.0), &blob(20.0, 20.0));
        assert!(flow.residual == 0.0 && flow.cells.iter().all(|cell| *cell == [0.0; 2]));
        assert!(blob(20.0, 20.0).color_distance(&blob(20.0, 20.0)) == 0.0);
    }
}
