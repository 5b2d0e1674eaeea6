//! Regions of the pixel grid as SVG paths.

use std::fmt::Write as _;

use super::super::grid::SIZE;

/// The region's pixels, as one closed rectangle per horizontal run.
pub(super) fn fill(inside: impl Fn(usize, usize) -> bool) -> String {
    let mut path = String::new();
    for y in 0..SIZE {
        for (start, end) in runs(|x| inside(x, y)) {
            let _ = write!(path, "M{start} {y}H{end}V{}H{start}Z", y + 1);
        }
    }
    path
}

/// The region's outline, as straight lines between pixels inside and outside.
pub(super) fn outline(inside: impl Fn(usize, usize) -> bool) -> String {
    let at = |x: Option<usize>, y: Option<usize>| match (x, y) {
        (Some(x), Some(y)) if x < SIZE && y < SIZE => inside(x, y),
        _ => false,
    };
    let mut path = String::new();
    for line in 0..=SIZE {
        for (start, end) in runs(|x| at(Some(x), Some(line)) != at(Some(x), line.checked_sub(1))) {
            let _ = write!(path, "M{start} {line}H{end}");
        }
        for (start, end) in runs(|y| at(Some(line), Some(y)) != at(line.checked_sub(1), Some(y))) {
            let _ = write!(path, "M{line} {start}V{end}");
        }
    }
    path
}

/// The runs `start..end` of a row or column in which `holds` is true.
fn runs(holds: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    for place in 0..=SIZE {
        match (start, place < SIZE && holds(place)) {
            (None, true) => start = Some(place),
            (Some(from), false) => {
                runs.push((from, place));
                start = None;
            }
            _ => {}
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectangle_has_its_runs_and_its_four_sides() {
        let inside = |x: usize, y: usize| (2..5).contains(&x) && (222..224).contains(&y);
        assert_eq!(fill(inside), "M2 222H5V223H2ZM2 223H5V224H2Z");
        assert_eq!(outline(inside), "M2 222V224M5 222V224M2 222H5M2 224H5");
    }
}
