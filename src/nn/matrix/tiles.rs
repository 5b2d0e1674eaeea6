//! Products in tiles of bf16, by the instructions of the processor for them or by their portable form.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::activation::Activation;
use super::block::{InTiles, load, store};
use super::layout::{MatrixRef, NR};
use super::operands::{Epilogue, Start};
use super::panels::{BYTES, Lanes, Quants};
use super::parts::{DEPTH, PairTile, Products, SIDE, Sums, TilePanels, ZEROS, pack_strips, split_pair};
use super::units::TileUnit;

/// Tiles along the depth of a block. All parts of two panels of this depth take 48 KiB.
const CHUNKS: usize = 8;
/// The maximum number of rows of a block. All their parts take 384 KiB and stay in the second-level cache.
pub(super) const MC: usize = 256;

/// The right-hand side.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Tiles(&'a TilePanels),
    /// Weights of 8 bits, which are expanded for each block of rows.
    Quants(Quants<'a>, Products),
}

impl Right<'_> {
    fn products(self) -> Products {
        match self {
            Self::Tiles(tiles) => tiles.products(),
            Self::Quants(_, products) => products,
        }
    }
}

/// `out = activation(a · b[panels] + bias)` for some rows and some panels, on the calling thread.
pub(super) struct TileBlock<'a> {
    pub(super) unit: TileUnit,
    pub(super) a: MatrixRef<'a>,
    pub(super) b: Right<'a>,
    /// The number of columns of the right-hand side.
    pub(super) columns: usize,
    pub(super) panels: Range<usize>,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
}

impl WithSimd for TileBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run_with(simd);
    }
}

impl InTiles for TileBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S) {
        match self.b.products() {
            Products::ThreeByThree | Products::ThreeByOne => self.run_in_parts::<S, V, 3>(simd),
            Products::TwoByTwo => self.run_in_parts::<S, V, 2>(simd),
            Products::OneByOne => self.run_in_parts::<S, V, 1>(simd),
        }
    }
}

impl TileBlock<'_> {
    /// Computes the block, with the left-hand side in `P` parts.
    #[inline(always)]
    fn run_in_parts<S: Simd, const V: usize, const P: usize>(self, simd: S) {
        let Self { unit, a, b, columns, panels, epilogue, out, out_stride } = self;
        let num_chunks = a.columns.div_ceil(DEPTH);
        let products = b.products();
        let mut strips = Vec::new();
        let mut expanded = [Vec::new(), Vec::new()];
        let mut sums = Sums([[0.0; SIDE]; SIDE]);
        let started = unit.start();
        for rows in (0..a.rows).step_by(MC) {
            let a = a.slice_rows(rows..(rows + MC).min(a.rows));
            for first in (0..num_chunks).step_by(CHUNKS) {
                let chunks = first..(first + CHUNKS).min(num_chunks);
                pack_strips::<P>(a, chunks.clone(), &mut strips);
                let per_strip = chunks.len() * P;
                let is_last = chunks.end == num_chunks;
                let activation = epilogue.activation.filter(|_| is_last);
                for p in panels.clone().step_by(2) {
                    // Where there is no second panel or strip, the first is multiplied twice, and one result dropped.
                    let next = (p + 1).min(panels.end - 1);
                    let right = match b {
                        Right::Tiles(tiles) => [tiles.panel(p, chunks.clone()), tiles.panel(next, chunks.clone())],
                        Right::Quants(quants, _) => {
                            for (tiles, panel) in expanded.iter_mut().zip([p, next]) {
                                let (rows, count) = (first * DEPTH, chunks.len() * DEPTH);
                                let (quants, scales) = quants.rows(panel, a.columns, rows, count);
                                // Every element is overwritten.
                                tiles.resize(per_strip, ZEROS);
                                expand::<P>(quants, scales, tiles);
                            }
                            [&expanded[0][..], &expanded[1][..]]
                        }
                    };
                    let width = ((panels.end - p) * NR).min(columns - p * NR).min(SIDE);
                    let start = epilogue.start(first == 0, p * NR..p * NR + width);
                    let column = (p - panels.start) * NR;
                    for (t, pair) in strips.chunks(2 * per_strip).enumerate() {
                        let left = [&pair[..per_strip], &pair[pair.len() - per_strip..]];
                        started.multiply(products, left, right, &mut sums);
                        for (i, sums) in sums.0.iter().enumerate().take(a.rows - t * SIDE) {
                            let at = (rows + t * SIDE + i) * out_stride + column;
                            finish::<S, V>(simd, sums, start, activation, &mut out[at..at + width]);
                        }
                    }
                }
            }
        }
    }
}

/// Expands 8-bit weights to tiles in `P` parts.
#[inline(always)]
fn expand<const P: usize>(quants: &[Lanes], scales: &[[f32; NR]], tiles: &mut [PairTile]) {
    for ((tiles, quants), scales) in
        tiles.as_chunks_mut::<P>().0.iter_mut().zip(quants.chunks_exact(DEPTH / BYTES)).zip(scales)
    {
        for (i, lanes) in quants.iter().enumerate() {
            for j in 0..NR {
                let bytes = lanes[j].to_le_bytes();
                let mut x = [0.0; BYTES];
                for (x, byte) in x.iter_mut().zip(bytes) {
                    *x = f32::from(byte.cast_signed()) * scales[j];
                }
                let (first, second) = (split_pair::<P>(x[0], x[1]), split_pair::<P>(x[2], x[3]));
                for part in 0..P {
                    tiles[part].0[2 * i][j] = first[part];
                    tiles[part].0[2 * i + 1][j] = second[part];
                }
            }
        }
    }
}

/// Finishes up to [`SIDE`] elements of a row: adds what they start with, and applies the activation.
#[inline(always)]
fn finish<S: Simd, const V: usize>(
    simd: S,
    sums: &[f32; SIDE],
    start: Start<'_>,
    activation: Option<Activation>,
    out: &mut [f32],
) {
    for (j, out) in out.chunks_mut(NR).enumerate() {
        let mut x = load::<S, V>(simd, &sums[j * NR..(j + 1) * NR]);
        let before = match start {
            Start::Zeros => [simd.splat_f32s(0.0); V],
            Start::Bias(bias) => load::<S, V>(simd, &bias[j * NR..j * NR + out.len()]),
            Start::Result => load::<S, V>(simd, out),
        };
        for (x, before) in x.iter_mut().zip(before) {
            *x = simd.add_f32s(*x, before);
            if let Some(activation) = activation {
                *x = activation.apply_simd(simd, *x);
            }
        }
        store::<S, V>(simd, &x, out);
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar};

    use super::super::tests::numbers;
    use super::super::units::tests::units;
    use super::*;

    fn product(unit: TileUnit, a: MatrixRef<'_>, b: &TilePanels, columns: usize, epilogue: Epilogue<'_>) -> Vec<f32> {
        let mut out = vec![f32::NAN; a.rows * columns];
        let (panels, b) = (0..columns.div_ceil(NR), Right::Tiles(b));
        Arch::new().dispatch(TileBlock { unit, a, b, columns, panels, epilogue, out: &mut out, out_stride: columns });
        out
    }

    const ALL: [Products; 4] = [Products::ThreeByThree, Products::TwoByTwo, Products::ThreeByOne, Products::OneByOne];
    const SIZES: [(usize, usize, usize); 6] =
        [(1, 1, 1), (16, 32, 16), (33, 300, 47), (7, 65, 32), (290, 520, 33), (40, 256, 64)];

    #[test]
    fn products_agree_with_the_definition() {
        for (m, k, n) in SIZES {
            let (mut a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            // A massive activation.
            a[m / 2 * k + k / 2] = 300.0;
            let (left, right) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
            // The unit in the last place of three, two and one part.
            for (products, precision) in [
                (Products::ThreeByThree, 2f64.powi(-23)),
                (Products::ThreeByOne, 2f64.powi(-9)),
                (Products::OneByOne, 2f64.powi(-8)),
            ] {
                let panels = TilePanels::new(right, products);
                let epilogue = Epilogue { bias: Some(&bias), activation: Some(Activation::Relu) };
                for unit in units() {
                    // Long sums in one register: not for what should be exact.
                    if unit.name() == "AVX-512 BF16" && products != Products::OneByOne {
                        continue;
                    }
                    let found = product(unit, left, &panels, n, epilogue);
                    for i in 0..m {
                        for j in 0..n {
                            let (mut sum, mut size) = (f64::from(bias[j]), 1.0);
                            for at in 0..k {
                                let x = f64::from(a[i * k + at]) * f64::from(b[at * n + j]);
                                sum += x;
                                size += x * x;
                            }
                            // Roundings of products and of sums, as often as chance adds them up.
                            let allowed = 4.0 * (precision + 2f64.powi(-22)) * size.sqrt();
                            let (found, expected) = (f64::from(found[i * n + j]), sum.max(0.0));
                            let name = unit.name();
                            assert!(
                                (found - expected).abs() < allowed,
                                "{name}, {products:?}, ({i}, {j}) of {m} × {k} × {n}: {found}, expected {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn amx_and_scalars_give_the_same_bits_as_the_portable_form() {
        for (m, k, n) in SIZES {
            let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
            for products in ALL {
                let panels = TilePanels::new(MatrixRef::new(&b, k, n), products);
                // By columns, as in a backward pass.
                let a = MatrixRef::new(&a, k, m).transposed();
                let expected = product(TileUnit::Portable, a, &panels, n, Epilogue::default());
                for unit in units().into_iter().filter(|unit| unit.name() != "AVX-512 BF16") {
                    assert_eq!(product(unit, a, &panels, n, Epilogue::default()), expected, "{}", unit.name());
                }
                let mut by_scalars = vec![f32::NAN; m * n];
                let (unit, epilogue) = (TileUnit::Portable, Epilogue::default());
                let (panels, b, out) = (0..n.div_ceil(NR), Right::Tiles(&panels), &mut by_scalars[..]);
                TileBlock { unit, a, b, columns: n, panels, epilogue, out, out_stride: n }.with_simd(Scalar::new());
                assert_eq!(by_scalars, expected);
            }
        }
    }

    #[test]
    fn weights_of_8_bits_are_multiplied_like_others() {
        let (m, k, n): (usize, usize, usize) = (70, 416, 37);
        let a = numbers(m * k, 6);
        let quants: Vec<Lanes> = (0..n.div_ceil(NR) * k / BYTES)
            .map(|i| std::array::from_fn(|j| ((i * NR + j) as u32).wrapping_mul(2_654_435_761)))
            .collect();
        let scales: Vec<[f32; NR]> = (0..n.div_ceil(NR) * k / DEPTH)
            .map(|i| std::array::from_fn(|j| 0.01 + ((i + j) % 7) as f32 * 1e-3))
            .collect();
        let weight = |at: usize, j: usize| {
            let (panel, lane) = (j / NR, j % NR);
            let byte = quants[(panel * k + at) / BYTES][lane].to_le_bytes()[at % BYTES];
            f32::from(byte.cast_signed()) * scales[panel * (k / DEPTH) + at / DEPTH][lane]
        };
        for products in [Products::TwoByTwo, Products::OneByOne] {
            for unit in units() {
                let mut out = vec![f32::NAN; m * n];
                let (panels, b) = (0..n.div_ceil(NR), Right::Quants(Quants::new(&quants, &scales), products));
                let (a, epilogue) = (MatrixRef::new(&a, m, k), Epilogue::default());
                let block = TileBlock { unit, a, b, columns: n, panels, epilogue, out: &mut out, out_stride: n };
                Arch::new().dispatch(block);
                let weights: Vec<f32> = (0..k * n).map(|i| weight(i / n, i % n)).collect();
                let panels = TilePanels::new(MatrixRef::new(&weights, k, n), products);
                assert_eq!(out, product(unit, a, &panels, n, epilogue), "{}", unit.name());
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_in_its_row() {
        let panels = TilePanels::new(MatrixRef::new(&numbers(64 * 32, 1), 64, 32), Products::ThreeByThree);
        for unit in units() {
            for broken in [f32::NAN, f32::from_bits(u32::MAX), f32::INFINITY, f32::NEG_INFINITY] {
                let mut a = numbers(3 * 64, 2);
                a[64 + 7] = broken;
                let found = product(unit, MatrixRef::new(&a, 3, 64), &panels, 32, Epilogue::default());
                for (i, row) in found.chunks_exact(32).enumerate() {
                    assert!(row.iter().all(|x| x.is_finite() == (i != 1)), "{}: {row:?}", unit.name());
                }
            }
        }
    }
}
