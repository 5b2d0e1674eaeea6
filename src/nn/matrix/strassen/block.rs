//! The loops of a product on one thread.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::super::activation::Activation;
use super::super::block::{Block, InTiles, MR, pack_rows};
use super::super::layout::{MatrixRef, NR};
use super::super::operands::{Epilogue, PackedMatrix, Start};
use super::super::prefetch::Ahead;
use super::super::scratch::room;
use super::algorithm::{PRODUCTS, Quarter, Sign};
use super::update::{Right, Target, Update};

/// The maximum number of rows of a block. The sums of the right-hand side are computed once per block.
pub(super) const MC: usize = 252;
/// Depth of a quarter of a block.
const KC: usize = 384;
/// With fewer rows, the sums cost more than the saved product.
const MIN_ROWS: usize = 96;

/// Whether the algorithm pays off for a block of `rows` rows. Depths are divided at multiples of the number of rows in
/// which compressed panels are read.
pub(super) fn pays(rows: usize, b: &PackedMatrix) -> bool {
    rows >= MIN_ROWS && b.columns >= 4 * NR && b.rows.is_multiple_of(64)
}

/// `out = activation(a · b[panels] + bias)` for some rows and some panels, on the calling thread.
pub(super) struct StrassenBlock<'a, 'b> {
    pub(super) a: MatrixRef<'a>,
    pub(super) b: &'a PackedMatrix,
    pub(super) panels: Range<usize>,
    pub(super) epilogue: Epilogue<'a>,
    /// Each row.
    pub(super) out: &'a mut [&'b mut [f32]],
    /// Reusable memory for packed rows, sums of panels and tiles.
    pub(super) scratch: &'a mut Vec<f32>,
}

impl WithSimd for StrassenBlock<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run_with(simd);
    }
}

impl InTiles for StrassenBlock<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S) {
        let Self { a, b, panels, epilogue, out, scratch } = self;
        let k = b.rows;
        let num_columns = (panels.end * NR).min(b.columns) - panels.start * NR;
        // Strips of a quarter, and its rows.
        let strips = a.rows.div_ceil(2 * MR);
        let upper = strips * MR;
        // Each group of panels is one pair of tiles wide. Less than two strips have no lower half.
        let groups = if a.rows > MR { num_columns / (2 * P * NR) } else { 0 };
        let len = 7 * upper * KC.min(k / 2);
        let (left, rest) = room(scratch, len + 2 * KC * NR + 4 * upper * P * NR).split_at_mut(len);
        let (sums, tiles) = rest.split_at_mut(2 * KC * NR);
        let (tiles, _) = tiles.as_chunks_mut::<NR>().0.as_chunks_mut::<P>().0.as_chunks_mut::<MR>();
        let mut expanded = vec![0.0; if b.panels.is_compressed() { 4 * P * KC * NR } else { 0 }];
        // Without groups, nothing is packed.
        let depths = if groups > 0 { 0..k } else { 0..0 };
        for depth in depths.step_by(2 * KC) {
            let kc = KC.min((k - depth) / 2);
            pack_left(simd, a, upper, depth, kc, left);
            for group in 0..groups {
                let panel = panels.start + group * 2 * P;
                let part = RightPart { b, panel, depth, kc };
                let right = part.quarters::<S, P>(simd, &mut expanded);
                tiles.as_flattened_mut().as_flattened_mut().fill([0.0; NR]);
                for (number, product) in PRODUCTS.iter().enumerate() {
                    let (x, y) = product.right;
                    let (first, second) = sums.split_at_mut(KC * NR);
                    let side = match y {
                        None => Right::Quarter(right[x as usize]),
                        Some((sign, y)) => {
                            Right::Sum { sign, x: right[x as usize], y: right[y as usize], memory: [first, second] }
                        }
                    };
                    let target =
                        |(sign, quarter): (Sign, Quarter)| Target { sign, first_tile: quarter as usize * strips };
                    // If the lower half is one strip shorter, so are the products that only read lower rows.
                    let rows = if product.reads_lower_rows_only() { a.rows - upper } else { upper };
                    let mut ahead = Ahead::new(kc, rows.div_ceil(MR));
                    match PRODUCTS.get(number + 1).map(|next| next.reads_beside(product)) {
                        Some(Some(quarter)) => ahead.panels[..P].copy_from_slice(&right[quarter as usize]),
                        Some(None) => {}
                        None if group + 1 < groups => part.next::<P>().first_product::<P>(&mut ahead.panels),
                        None => {}
                    }
                    let packed = &left[product.left * upper * kc..][..rows.next_multiple_of(MR) * kc];
                    // A separate function, so that its tile stays in registers.
                    simd.vectorize(Update::<V, P> {
                        right: side,
                        strips: packed.as_chunks().0,
                        depth: kc,
                        targets: product.targets.map(|t| t.map(target)),
                        tiles: &mut *tiles,
                        ahead,
                    });
                }
                let columns = panel * NR..(panel + 2 * P) * NR;
                let start = epilogue.start(depth == 0, columns.clone());
                let activation = epilogue.activation.filter(|_| depth + 2 * kc == k);
                let from = group * 2 * P * NR;
                for (out, tiles) in out.chunks_mut(upper).zip(tiles.chunks_exact(2 * strips)) {
                    let (left, right) = tiles.split_at(strips);
                    let rows = left.as_flattened().iter().zip(right.as_flattened());
                    for (out, (left, right)) in out.iter_mut().zip(rows) {
                        let (first, second) = out[from..from + 2 * P * NR].split_at_mut(P * NR);
                        finish(simd, start, left.as_flattened(), activation, first);
                        finish(simd, start.skip(P * NR), right.as_flattened(), activation, second);
                    }
                }
            }
        }
        // The remaining columns, which do not fill a pair of tiles.
        let first = groups * 2 * P * NR;
        if first < num_columns {
            let width = num_columns - first;
            let mut rest = vec![0.0; a.rows * width];
            let panels = panels.start + groups * 2 * P..panels.end;
            Block { a, b, panels, epilogue, out: &mut rest, out_stride: width, scratch }.run::<S, V, P>(simd);
            for (out, rest) in out.iter_mut().zip(rest.chunks_exact(width)) {
                out[first..].copy_from_slice(rest);
            }
        }
    }
}

/// Some panels from `panel` on, and the `2·kc` rows from `depth` on.
#[derive(Clone, Copy)]
struct RightPart<'a> {
    b: &'a PackedMatrix,
    panel: usize,
    depth: usize,
    kc: usize,
}

impl<'a> RightPart<'a> {
    /// The quarters `B₁₁`, `B₁₂`, `B₂₁`, `B₂₂` of `2·P` panels.
    #[inline(always)]
    fn quarters<S: Simd, const P: usize>(self, simd: S, expanded: &'a mut [f32]) -> [[&'a [f32]; P]; 4] {
        // No closures here and below: they would be compiled without the instruction set of the enclosing function.
        let mut memory = expanded.chunks_exact_mut(KC * NR);
        let mut quarters = [[&[][..]; P]; 4];
        for (quarter, panels) in Quarter::ALL.into_iter().zip(&mut quarters) {
            let (first, depth) = self.start::<P>(quarter);
            for (j, rows) in panels.iter_mut().enumerate() {
                let memory = memory.next().unwrap_or_default();
                *rows = self.b.panels.rows(simd, first + j, self.b.rows, depth, self.kc, memory);
            }
        }
        quarters
    }

    /// The first panel of a quarter, and its first row.
    #[inline(always)]
    fn start<const P: usize>(self, quarter: Quarter) -> (usize, usize) {
        (self.panel + quarter as usize % 2 * P, self.depth + quarter as usize / 2 * self.kc)
    }

    /// The `2·P` panels after those of this part.
    fn next<const P: usize>(self) -> Self {
        Self { panel: self.panel + 2 * P, ..self }
    }

    /// The panels that the first product reads, one or two quarters, unless they are compressed.
    #[inline(always)]
    fn first_product<const P: usize>(self, panels: &mut [&'a [f32]; 4]) {
        let (x, y) = PRODUCTS[0].right;
        let quarters = [Some(x), y.map(|(_, y)| y)];
        for (quarter, panels) in quarters.into_iter().flatten().zip(panels.chunks_exact_mut(P)) {
            let (first, depth) = self.start::<P>(quarter);
            for (j, rows) in panels.iter_mut().enumerate() {
                *rows = self.b.panels.uncompressed_rows(first + j, self.b.rows, depth, self.kc);
            }
        }
    }
}

/// `sum = x + y`.
#[inline(always)]
fn add<S: Simd>(simd: S, x: &[f32], y: &[f32], sum: &mut [f32]) {
    let (x, y, sum) = (S::as_simd_f32s(x).0, S::as_simd_f32s(y).0, S::as_mut_simd_f32s(sum).0);
    for ((x, y), sum) in x.iter().zip(y).zip(sum) {
        *sum = simd.add_f32s(*x, *y);
    }
}

/// Packs the seven left-hand sides of `2·kc` columns of `a` one after the other, `upper` rows each.
#[inline(always)]
fn pack_left<S: Simd>(simd: S, a: MatrixRef<'_>, upper: usize, depth: usize, kc: usize, left: &mut [f32]) {
    let size = upper * kc;
    let (quarters, sums) = left[..7 * size].split_at_mut(4 * size);
    for (half, quarters) in quarters.chunks_exact_mut(2 * size).enumerate() {
        let rows = a.slice_rows(half * upper..a.rows.min((half + 1) * upper));
        let (first, second) = quarters.split_at_mut(size);
        pack_rows(rows, depth, kc, first);
        pack_rows(rows, depth + kc, kc, second);
    }
    let (upper, lower) = quarters.split_at_mut(2 * size);
    let ((a11, a12), (a21, a22)) = (upper.split_at_mut(size), lower.split_at_mut(size));
    add(simd, a11, a22, &mut sums[..size]);
    add(simd, a21, a22, &mut sums[size..2 * size]);
    add(simd, a11, a12, &mut sums[2 * size..]);
    subtract(simd, a12, a22);
    subtract(simd, a21, a11);
}

/// `x −= y`.
#[inline(always)]
fn subtract<S: Simd>(simd: S, x: &mut [f32], y: &[f32]) {
    for (x, y) in S::as_mut_simd_f32s(x).0.iter_mut().zip(S::as_simd_f32s(y).0) {
        *x = simd.sub_f32s(*x, *y);
    }
}

/// Writes a part of a row of products, all of which are whole vectors.
#[inline(always)]
fn finish<S: Simd>(simd: S, start: Start<'_>, products: &[f32], activation: Option<Activation>, out: &mut [f32]) {
    let (products, out) = (S::as_simd_f32s(products).0, S::as_mut_simd_f32s(out).0);
    match start {
        Start::Zeros => out.copy_from_slice(products),
        Start::Bias(bias) => {
            for ((out, product), bias) in out.iter_mut().zip(products).zip(S::as_simd_f32s(bias).0) {
                *out = simd.add_f32s(*bias, *product);
            }
        }
        Start::Result => {
            for (out, product) in out.iter_mut().zip(products) {
                *out = simd.add_f32s(*out, *product);
            }
        }
    }
    if let Some(activation) = activation {
        for x in out {
            *x = activation.apply_simd(simd, *x);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use pulp::{Arch, Scalar};

    use super::super::super::super::compressed::CompressedMatrix;
    use super::super::super::super::format::Precision;
    use super::super::super::tests::numbers;
    use super::*;

    /// `activation(a · b + bias)` in `f64`.
    fn expected(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], bias: &[f32], activation: bool) -> Vec<f64> {
        let mut out = Vec::with_capacity(m * n);
        for row in a.chunks_exact(k).take(m) {
            for j in 0..n {
                let mut x = bias.get(j).map_or(0.0, |b| f64::from(*b));
                for (i, a) in row.iter().enumerate() {
                    x += f64::from(*a) * f64::from(b[i * n + j]);
                }
                out.push(if activation { x.max(0.0) } else { x });
            }
        }
        out
    }

    #[test]
    fn every_instruction_set_agrees_with_the_definition() {
        // Rows with and without an unpaired last strip, columns that do not fill tiles, and depths of several blocks.
        for (m, k, n) in [(12, 64, 64), (13, 128, 70), (19, 832, 130), (100, 64, 96), (31, 1600, 64), (7, 192, 65)] {
            let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let packed = PackedMatrix::new(MatrixRef::new(&b, k, n));
            for (bias, activation) in [(None, None), (Some(&bias), None), (Some(&bias), Some(Activation::Relu))] {
                let epilogue = Epilogue { bias: bias.map(Vec::as_slice), activation };
                let expected = expected(&a, &b, [m, k, n], epilogue.bias.unwrap_or_default(), activation.is_some());
                let check = |name: &str, run: &dyn Fn(StrassenBlock<'_, '_>)| {
                    let mut out = vec![f32::NAN; m * n];
                    let a = MatrixRef::new(&a, m, k);
                    // As other products leave it: with other values.
                    let scratch = &mut vec![f32::NAN; 1 << 20];
                    let mut rows: Vec<&mut [f32]> = out.chunks_mut(n).collect();
                    let panels = 0..n.div_ceil(NR);
                    run(StrassenBlock { a, b: &packed, panels, epilogue, out: &mut rows, scratch });
                    for (i, (found, expected)) in out.iter().zip(&expected).enumerate() {
                        let off = (f64::from(*found) - expected).abs();
                        assert!(off < 1e-4, "{name}, {m} × {k} × {n}, at {i}: {found}, expected {expected}");
                    }
                };
                check("the best", &|block| Arch::new().dispatch(block));
                check("scalars", &|block| block.with_simd(Scalar::new()));
                #[cfg(target_arch = "x86_64")]
                if let Some(avx2) = pulp::x86::V3::try_new() {
                    check("AVX2", &|block| Simd::vectorize(avx2, block));
                }
            }
        }
    }

    #[test]
    fn compressed_weights_give_what_their_expansion_gives() {
        let (m, k, n) = (27, 832, 150);
        let a = numbers(m * k, 1);
        let rows = Tensor::from_vec(numbers(n * k, 2), (n, k), &Device::Cpu).unwrap();
        let half = rows.to_dtype(DType::BF16).unwrap();
        let expanded = half.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let product = |b: &PackedMatrix| {
            let mut out = vec![f32::NAN; m * n];
            let (a, epilogue) = (MatrixRef::new(&a, m, k), Epilogue::default());
            let mut rows: Vec<&mut [f32]> = out.chunks_mut(n).collect();
            let (panels, scratch) = (0..n.div_ceil(NR), &mut Vec::new());
            Arch::new().dispatch(StrassenBlock { a, b, panels, epilogue, out: &mut rows, scratch });
            out
        };
        let full = PackedMatrix::new(MatrixRef::new(&expanded, n, k).transposed());
        assert_eq!(
            product(
                &PackedMatrix::stored(&CompressedMatrix::half(half).unwrap().into_stored(), Precision::Highest)
                    .unwrap()
            ),
            product(&full)
        );
    }
}
