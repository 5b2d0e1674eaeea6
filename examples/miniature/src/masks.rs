//! Imperfect masks, like those of a decoder in training.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// A variation of the given mask (`side` × `side`): grown, shrunk, cut into blocks, noisy, or unchanged. A tower that
/// has seen only perfect cut-outs cannot recognise imperfect ones, and gives ACL_I no useful gradient.
pub fn imperfect(mask: &[bool], side: usize, rng: &mut ChaCha8Rng) -> Vec<bool> {
    let mut mask = mask.to_vec();
    match rng.random_range(0..6) {
        0 => {}
        1 | 2 => mask = grown(&mask, side, rng.random_range(1..=5), true),
        3 => mask = grown(&mask, side, rng.random_range(1..=2), false),
        4 => mask = in_blocks(&mask, side, *pick(&[4, 8, 16], rng)),
        _ => mask = shifted(&mask, side, [rng.random_range(-5..=5), rng.random_range(-5..=5)]),
    }
    if rng.random_bool(0.5) {
        // Separate fractions for pixels lost inside and added outside.
        let (lost, found) = (rng.random_range(0.0..0.4), rng.random_range(0.0..0.15));
        for inside in &mut mask {
            if rng.random_bool(if *inside { lost } else { found }) {
                *inside = !*inside;
            }
        }
    }
    mask
}

fn pick<'a, T>(items: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    &items[rng.random_range(0..items.len())]
}

/// The mask with its border moved out (`outward`) or in by `steps` pixels.
fn grown(mask: &[bool], side: usize, steps: usize, outward: bool) -> Vec<bool> {
    let mut mask = mask.to_vec();
    for _ in 0..steps {
        let before = mask.clone();
        for y in 0..side {
            for x in 0..side {
                let near = [
                    (x > 0).then(|| y * side + x - 1),
                    (x + 1 < side).then(|| y * side + x + 1),
                    (y > 0).then(|| (y - 1) * side + x),
                    (y + 1 < side).then(|| (y + 1) * side + x),
                ];
                if near.into_iter().flatten().any(|i| before[i] == outward) {
                    mask[y * side + x] = outward;
                }
            }
        }
    }
    mask
}

/// The blocks of the picture of which the mask covers at least a quarter.
fn in_blocks(mask: &[bool], side: usize, block: usize) -> Vec<bool> {
    let blocks = side / block;
    let mut covered = vec![0; blocks * blocks];
    for (i, _) in mask.iter().enumerate().filter(|(_, inside)| **inside) {
        covered[i / side / block * blocks + i % side / block] += 1;
    }
    (0..mask.len()).map(|i| 4 * covered[i / side / block * blocks + i % side / block] >= block * block).collect()
}

fn shifted(mask: &[bool], side: usize, [dx, dy]: [i32; 2]) -> Vec<bool> {
    let source = |i: usize| {
        let within = |place: usize, by: i32| usize::try_from(place as i32 - by).ok().filter(|place| *place < side);
        Some(within(i / side, dy)? * side + within(i % side, dx)?)
    };
    (0..mask.len()).map(|i| source(i).is_some_and(|i| mask[i])).collect()
}

/// The fraction of each patch that the mask covers, row by row.
pub fn coverage(mask: &[bool], side: usize, patch: usize) -> Vec<f32> {
    let grid = side / patch;
    let mut covered = vec![0.0; grid * grid];
    for (i, _) in mask.iter().enumerate().filter(|(_, inside)| **inside) {
        covered[i / side / patch * grid + i % side / patch] += 1.0 / (patch * patch) as f32;
    }
    covered
}
