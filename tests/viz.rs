//! Score maps, findings, overlays and galleries.
#![allow(clippy::unwrap_used)]

#[path = "common/pictures.rs"]
mod pictures;

use soundsight::Error;
use soundsight::image::Picture;
use soundsight::viz::{BoundingBox, Colormap, OverlayOptions, ScoreMap, overlay, panel};

/// A score map at the picture's own size from rows of digits: "0" … "9" are 0.0 … 0.9.
fn digits(rows: &[&str]) -> ScoreMap {
    let values =
        rows.iter().flat_map(|row| row.bytes().map(|digit| f32::from(digit - b'0') / 10.0)).collect::<Vec<_>>();
    let size = (rows[0].len(), rows.len());
    ScoreMap::from_heatmap(&values, size, size).unwrap()
}

/// Round hills (centre x, centre y, radius, height) on a map of `size`, positions relative to it.
fn hills(size: (usize, usize), hills: &[(f32, f32, f32, f32)]) -> Vec<f32> {
    let (width, height) = size;
    let score = |x: usize, y: usize| {
        let (x, y) = ((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
        hills
            .iter()
            .map(|&(cx, cy, r, h)| h * (-((x - cx).powi(2) + (y - cy).powi(2)) / (r * r)).exp())
            .fold(0.0, f32::max)
    };
    (0..height).flat_map(|y| (0..width).map(move |x| score(x, y))).collect()
}

fn grey(width: usize, height: usize, level: u8) -> Picture {
    Picture::from_rgb8(width, height, vec![level; width * height * 3]).unwrap()
}

#[test]
fn a_map_of_the_pictures_size_is_itself() {
    let map = digits(&["0123", "4567", "8901"]);
    let expected: Vec<f32> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1].map(|digit| digit as f32 / 10.0).to_vec();
    assert_eq!(map.rows(0..3).unwrap(), expected);
    assert_eq!(map.rows(1..2).unwrap(), expected[4..8]);
}

#[test]
fn bands_and_wholes_agree() {
    // Enlarged, reduced and both; more rows than in a band.
    for (from, size) in [((22, 22), (301, 517)), ((352, 352), (40, 300)), ((64, 300), (100, 150)), ((5, 700), (9, 311))]
    {
        let values = hills(from, &[(0.3, 0.4, 0.2, 0.9), (0.8, 0.7, 0.1, 0.7)]);
        let map = ScoreMap::from_heatmap(&values, from, size).unwrap();
        let whole = map.rows(0..size.1).unwrap();
        assert_eq!(whole.len(), size.0 * size.1);
        for rows in [0..1, 0..size.1 / 3, size.1 / 3..size.1 - 1, size.1 - 1..size.1] {
            let part = map.rows(rows.clone()).unwrap();
            let expected = &whole[rows.start * size.0..rows.end * size.0];
            assert_eq!(part.len(), expected.len());
            for (part, expected) in part.iter().zip(expected) {
                assert!((part - expected).abs() < 1e-5, "{rows:?}: {part} for {expected}");
            }
        }
    }
}

#[test]
fn interpolation_is_cubic_and_keeps_constants() {
    let map = ScoreMap::from_heatmap(&[0.37; 12], (4, 3), (101, 50)).unwrap();
    assert!(map.rows(0..50).unwrap().iter().all(|score| (score - 0.37).abs() < 1e-6));
    // Doubling: a point a quarter past a sample is the cubic combination (a = -0.5) of its four neighbours.
    let values: Vec<f32> = [0.1, 0.5, 0.2, 0.9, 0.4, 0.3].to_vec();
    let map = ScoreMap::from_heatmap(&values, (6, 1), (12, 1)).unwrap();
    let kernel = |x: f32| {
        let x = x.abs();
        if x < 1.0 { 1.5 * x.powi(3) - 2.5 * x * x + 1.0 } else { -0.5 * x.powi(3) + 2.5 * x * x - 4.0 * x + 2.0 }
    };
    let expected: f32 = (1..5).map(|i| values[i] * kernel(i as f32 - 2.25)).sum();
    let found = map.rows(0..1).unwrap()[5];
    assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
}

#[test]
fn what_overshoots_is_cut() {
    let map = ScoreMap::from_heatmap(&[0.0, 0.0, 1.0, 1.0, 0.0, 0.0], (6, 1), (60, 1)).unwrap();
    let scores = map.rows(0..1).unwrap();
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)));
    assert!(scores.contains(&0.0) && scores.contains(&1.0));
}

#[test]
fn logits_pass_through_the_sigmoid_after_the_interpolation() {
    let logits = [-3.0, 0.5, 40.0, -90.0, 2.0, 0.0];
    let map = ScoreMap::from_logits(&logits, (3, 2), (3, 2), 1.4).unwrap();
    for (score, logit) in map.rows(0..2).unwrap().iter().zip(logits) {
        assert!((score - 1.0 / (1.0 + (-(logit + 1.4)).exp())).abs() < 1e-6);
    }
    // Halfway between opposite logits, the score is one half, even where the sigmoid saturates.
    let map = ScoreMap::from_logits(&[-50.0, -50.0, 50.0, 50.0], (4, 1), (4 * 101, 1), 0.0).unwrap();
    let scores = map.rows(0..1).unwrap();
    assert!(scores[197] < 0.5 && scores[206] > 0.5 && (scores[201] + scores[202] - 1.0).abs() < 1e-3);
}

#[test]
fn peaks_areas_and_boxes_of_a_drawing() {
    let map = digits(&[
        "5000000000", //
        "0500060000",
        "0000080500",
        "0000000050",
        "7700000000",
        "7900000006",
    ]);
    let findings = map.findings(0.5).unwrap();
    assert_eq!((findings.peak.x, findings.peak.y, findings.peak.score), (1, 5, 0.9));
    assert!((findings.area - 11.0 / 60.0).abs() < 1e-12);
    // The first two touch at a corner and are one part; (5, 2) and (7, 2) do not touch.
    let expected = [
        BoundingBox { x: 0, y: 4, width: 2, height: 2, score: 0.9 },
        BoundingBox { x: 5, y: 1, width: 1, height: 2, score: 0.8 },
        BoundingBox { x: 9, y: 5, width: 1, height: 1, score: 0.6 },
        BoundingBox { x: 0, y: 0, width: 2, height: 2, score: 0.5 },
        BoundingBox { x: 7, y: 2, width: 2, height: 2, score: 0.5 },
    ];
    assert_eq!(findings.boxes, expected);
}

#[test]
fn parts_that_meet_below_are_one() {
    // A comb, a spiral and a ring are one part each.
    for rows in [
        &["9090909", "9090909", "9999999"][..],
        &["9999999", "0000009", "9999909", "9000909", "9099909", "9000009", "9999999"],
        &["00900", "09090", "90009", "09090", "00900"],
    ] {
        let map = digits(rows);
        let boxes = map.findings(0.9).unwrap().boxes;
        assert_eq!(boxes.len(), 1, "{boxes:?}");
        let (width, height) = (rows[0].len(), rows.len());
        assert_eq!(boxes[0], BoundingBox { x: 0, y: 0, width, height, score: 0.9 });
    }
}

#[test]
fn parts_agree_with_a_flood_fill() {
    // Noise near the percolation threshold has the most complex parts; more rows than in a band.
    let (width, height) = (97, 300);
    let mut state = 12345_u32;
    let values: Vec<f32> = (0..width * height)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        })
        .collect();
    for threshold in [0.5, 0.6, 0.65, 0.8] {
        let map = ScoreMap::from_heatmap(&values, (width, height), (width, height)).unwrap();
        let found = map.findings(threshold).unwrap();

        let mut seen = vec![false; values.len()];
        let mut expected = Vec::new();
        for start in 0..values.len() {
            let (mut stack, mut part) = (vec![start], Vec::new());
            while let Some(pixel) = stack.pop() {
                if seen[pixel] || values[pixel] < threshold {
                    continue;
                }
                seen[pixel] = true;
                part.push(pixel);
                let (x, y) = (pixel % width, pixel / width);
                for y in y.saturating_sub(1)..(y + 2).min(height) {
                    stack.extend((x.saturating_sub(1)..(x + 2).min(width)).map(|x| y * width + x));
                }
            }
            if part.len() as f64 >= values.len() as f64 / 1000.0 {
                let columns = || part.iter().map(|pixel| pixel % width);
                let rows = || part.iter().map(|pixel| pixel / width);
                let (x, y) = (columns().min().unwrap(), rows().min().unwrap());
                expected.push(BoundingBox {
                    x,
                    y,
                    width: columns().max().unwrap() + 1 - x,
                    height: rows().max().unwrap() + 1 - y,
                    score: part.iter().map(|&pixel| values[pixel]).fold(0.0, f32::max),
                });
            }
        }
        expected.sort_by(|one, other| other.score.total_cmp(&one.score));
        assert!(!expected.is_empty());
        assert_eq!(found.boxes, expected, "threshold {threshold}");
        let area = values.iter().filter(|value| **value >= threshold).count() as f64 / values.len() as f64;
        assert_eq!(found.area, area);
    }
}

#[test]
fn specks_have_no_box() {
    // 100 × 50 pixels: five are a thousandth, four are not.
    let mut values = vec![0.0; 5000];
    values[..4].fill(0.9);
    values[4000..4005].fill(0.8);
    let findings = ScoreMap::from_heatmap(&values, (100, 50), (100, 50)).unwrap().findings(0.5).unwrap();
    assert_eq!(findings.boxes, [BoundingBox { x: 0, y: 40, width: 5, height: 1, score: 0.8 }]);
    assert_eq!(findings.peak.score, 0.9);
    assert_eq!(findings.area, 9.0 / 5000.0);
}

#[test]
fn nothing_and_everything() {
    let map = digits(&["11", "11"]);
    let nothing = map.findings(0.5).unwrap();
    assert_eq!((nothing.area, nothing.boxes.len(), nothing.peak.x, nothing.peak.y), (0.0, 0, 0, 0));
    let everything = map.findings(0.0).unwrap();
    assert_eq!(everything.area, 1.0);
    assert_eq!(everything.boxes, [BoundingBox { x: 0, y: 0, width: 2, height: 2, score: 0.1 }]);
}

#[test]
fn findings_are_in_pixels_of_the_picture() {
    let values = hills((22, 22), &[(0.25, 0.75, 0.2, 0.95), (0.8, 0.2, 0.1, 0.8)]);
    let findings = ScoreMap::from_heatmap(&values, (22, 22), (2000, 1000)).unwrap().findings(0.5).unwrap();
    assert!(findings.peak.x.abs_diff(500) <= 30 && findings.peak.y.abs_diff(750) <= 15, "{:?}", findings.peak);
    assert_eq!(findings.boxes.len(), 2);
    let first = findings.boxes[0];
    // A hill of 0.95 falls to 0.5 at 0.2 √ln 1.9 = 0.16 of the side.
    assert!(first.width.abs_diff(640) <= 20 && first.height.abs_diff(320) <= 10, "{first:?}");
    let json = serde_json::to_value(&findings).unwrap();
    assert!(json["boxes"][1]["score"].as_f64().unwrap() > 0.7 && json["peak"]["x"].is_u64());
}

#[test]
fn written_maps_hold_the_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (heatmap, mask) = (folder.path().join("heatmap.png"), folder.path().join("mask.png"));
    let values = hills((16, 16), &[(0.5, 0.5, 0.3, 1.0)]);
    let map = ScoreMap::from_heatmap(&values, (16, 16), (150, 290)).unwrap();
    map.write_heatmap(&heatmap).unwrap();
    map.write_mask(&mask, 0.5).unwrap();

    let scores = map.rows(0..290).unwrap();
    let image::DynamicImage::ImageLuma16(heatmap) = pictures::read(heatmap) else { panic!("not 16-bit grey") };
    let image::DynamicImage::ImageLuma8(mask) = pictures::read(mask) else { panic!("not 8-bit grey") };
    assert_eq!((heatmap.dimensions(), mask.dimensions()), ((150, 290), (150, 290)));
    for ((score, level), mask) in scores.iter().zip(heatmap.iter()).zip(mask.iter()) {
        assert!((f32::from(*level) / 65_535.0 - score).abs() < 1e-5);
        assert_eq!(*mask, if *score >= 0.5 { 255 } else { 0 });
    }
    let on = mask.iter().filter(|level| **level == 255).count();
    assert_eq!(map.findings(0.5).unwrap().area, on as f64 / (150.0 * 290.0));
}

#[test]
fn overlays_colour_the_high_and_spare_the_low() {
    let values = hills((64, 64), &[(0.5, 0.5, 0.2, 1.0)]);
    let map = ScoreMap::from_heatmap(&values, (64, 64), (320, 240)).unwrap();
    let picture = grey(320, 240, 120);
    let seen = overlay(&picture, &map, &OverlayOptions::default()).unwrap();
    assert_eq!(seen.size(), picture.size());
    let at = |x: usize, y: usize| -> [u8; 3] { seen.pixels()[(y * 320 + x) * 3..][..3].try_into().unwrap() };
    let corner = at(0, 0);
    assert!(corner.iter().all(|channel| channel.abs_diff(120) <= 6), "{corner:?}");
    let centre = at(160, 120);
    assert!(centre[0] > centre[2].saturating_add(40), "{centre:?} is not hot");
    // The middle row crosses the line around the mask twice, with its dark rim.
    let row: Vec<[u8; 3]> = (0..320).map(|x| at(x, 120)).collect();
    let white: Vec<usize> = (0..320).filter(|&x| row[x].iter().all(|channel| *channel > 220)).collect();
    let outline = 0.2 * 2.0_f32.ln().sqrt() * 320.0;
    assert!(!white.is_empty());
    for x in white {
        assert!(((x as f32 + 0.5 - 160.0).abs() - outline).abs() < 4.0, "a white pixel at {x}");
    }
    // If no score is near the threshold, there is no line; without opacity, there is no colour.
    let clear = OverlayOptions { opacity: 0.0, threshold: 1.0, ..OverlayOptions::default() };
    let low = ScoreMap::from_heatmap(&[0.3; 4], (2, 2), (320, 240)).unwrap();
    assert_eq!(overlay(&picture, &low, &clear).unwrap(), picture);
}

#[test]
fn the_outline_shows_no_seams_between_bands() {
    // Rings around the middle are symmetric from top to bottom; the bands are not.
    let size = (400, 400);
    let values = hills((50, 50), &[(0.5, 0.5, 0.4, 1.0)]);
    let map = ScoreMap::from_heatmap(&values, (50, 50), size).unwrap();
    let options = OverlayOptions { opacity: 0.0, ..OverlayOptions::default() };
    let seen = overlay(&grey(400, 400, 100), &map, &options).unwrap();
    let touched = |y: usize| seen.pixels()[y * 1200..][..1200].iter().filter(|level| **level != 100).count();
    for y in 0..200 {
        let (above, below) = (touched(y), touched(399 - y));
        assert!(above.abs_diff(below) <= 3 * 16, "rows {y} and {}: {above} and {below}", 399 - y);
    }
}

#[test]
fn every_colormap_rises_from_dark_to_bright_or_is_turbo() {
    let luminance =
        |[red, green, blue]: [u8; 3]| 0.2126 * f32::from(red) + 0.7152 * f32::from(green) + 0.0722 * f32::from(blue);
    use Colormap::{Cividis, Inferno, Magma, Plasma, Viridis};
    for map in [Cividis, Inferno, Magma, Plasma, Viridis] {
        for step in 0..20 {
            let (low, high) = (step as f32 / 20.0, (step + 1) as f32 / 20.0);
            assert!(luminance(map.color(low)) < luminance(map.color(high)), "{map:?} at {low}");
        }
    }
    assert_ne!(Colormap::Turbo.color(0.2), Colormap::Turbo.color(0.8));
    assert_eq!(serde_json::to_string(&Colormap::Inferno).unwrap(), "\"inferno\"");
}

#[test]
fn tiny_and_wide_pictures() {
    let values = hills((352, 352), &[(0.5, 0.5, 0.3, 0.9)]);
    for size in [(1, 1), (2, 1), (1, 300), (20_000, 5), (20_000, 150)] {
        let map = ScoreMap::from_heatmap(&values, (352, 352), size).unwrap();
        let seen = overlay(&grey(size.0, size.1, 50), &map, &OverlayOptions::default()).unwrap();
        assert_eq!(seen.size(), size);
        let findings = map.findings(0.5).unwrap();
        assert!(findings.peak.x < size.0 && findings.peak.y < size.1);
        for part in findings.boxes {
            assert!(part.x + part.width <= size.0 && part.y + part.height <= size.1);
        }
    }
}

#[test]
fn galleries_put_pictures_in_cells() {
    let pictures = [grey(64, 64, 10), grey(64, 64, 20), grey(32, 64, 30)];
    let gallery = panel(&pictures, 2).unwrap();
    // Cells of 64 with a gap of 2.
    assert_eq!(gallery.size(), (130, 130));
    let at = |x: usize, y: usize| gallery.pixels()[(y * 130 + x) * 3];
    assert_eq!((at(0, 0), at(63, 63), at(64, 0), at(66, 0), at(129, 63)), (10, 10, 255, 20, 20));
    // The narrow one is centred in its cell.
    assert_eq!((at(15, 66), at(16, 66), at(47, 129), at(48, 129), at(100, 100)), (255, 30, 30, 255, 255));
    assert_eq!(panel(&pictures[..1], 9).unwrap(), pictures[0]);
}

/// The name of the argument that an [`Error::Argument`] is about.
#[track_caller]
fn config(error: Error) -> String {
    let Error::Argument { what, .. } = error else { panic!("{error:?}") };
    what
}

#[test]
fn bad_input() {
    let new = |values: &[f32]| ScoreMap::from_heatmap(values, (2, 2), (4, 4)).unwrap_err();
    assert!(matches!(new(&[0.0; 3]), Error::Shape { what: "scores", found, .. } if found == [3]));
    let error = new(&[0.0, 0.0, f32::NAN, 0.0]);
    assert!(matches!(&error, Error::NonFinite { details, .. } if details.contains("(0, 1)")), "{error}");
    assert_eq!(config(new(&[0.0, 1.5, 0.0, 0.0])), "heatmap");
    assert_eq!(config(ScoreMap::from_heatmap(&[], (0, 2), (4, 4)).unwrap_err()), "score map");
    assert_eq!(config(ScoreMap::from_heatmap(&[0.0], (1, 1), (4, 0)).unwrap_err()), "picture");
    let error = ScoreMap::from_logits(&[0.0], (1, 1), (4, 4), f32::NAN).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");

    let map = digits(&["12", "34"]);
    for rows in [0..3, 1..1, 2..3] {
        assert_eq!(config(map.rows(rows).unwrap_err()), "rows");
    }
    let folder = tempfile::tempdir().unwrap();
    for threshold in [-0.1, 1.1, f32::NAN] {
        assert_eq!(config(map.findings(threshold).unwrap_err()), "threshold");
        assert_eq!(config(map.write_mask(folder.path().join("mask.png"), threshold).unwrap_err()), "threshold");
        let options = OverlayOptions { threshold, ..OverlayOptions::default() };
        assert_eq!(config(overlay(&grey(2, 2, 0), &map, &options).unwrap_err()), "threshold");
    }
    let options = OverlayOptions { opacity: 1.1, ..OverlayOptions::default() };
    assert_eq!(config(overlay(&grey(2, 2, 0), &map, &options).unwrap_err()), "opacity");
    let error = overlay(&grey(3, 2, 0), &map, &OverlayOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Shape { found, .. } if *found == [2, 2]), "{error}");
    assert_eq!(config(panel(&[], 2).unwrap_err()), "pictures");
    assert_eq!(config(panel(&[grey(1, 1, 0)], 0).unwrap_err()), "columns");
    assert_eq!(config(panel(&vec![grey(20_000, 1, 0); 2], 2).unwrap_err()), "panel");

    let missing = folder.path().join("missing/heatmap.png");
    let error = map.write_heatmap(&missing).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == missing), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
