//! Strassen's algorithm around the loops of [`block`](mod@super::block): seven products of half the size instead of
//! eight.
//!
//! Both operands and the result are divided into quarters (Strassen, "Gaussian Elimination is not Optimal", 1969):
//!
//! ```text
//! M₁ = (A₁₁ + A₂₂)(B₁₁ + B₂₂)    C₁₁ = M₁ + M₄ − M₅ + M₇
//! M₂ = (A₂₁ + A₂₂) B₁₁           C₁₂ = M₃ + M₅
//! M₃ = A₁₁ (B₁₂ − B₂₂)           C₂₁ = M₂ + M₄
//! M₄ = A₂₂ (B₂₁ − B₁₁)           C₂₂ = M₁ − M₂ + M₃ + M₆
//! M₅ = (A₁₁ + A₁₂) B₂₂
//! M₆ = (A₂₁ − A₁₁)(B₁₁ + B₁₂)
//! M₇ = (A₁₂ − A₂₂)(B₂₁ + B₂₂)
//! ```
//!
//! Any rows, columns and depths can form a quarter, so the division happens inside the blocks: the upper and lower rows
//! of a block, the columns of neighbouring tiles, and two consecutive depths. The sums therefore use data that is
//! already in the cache, no matrix is stored twice, and a product's tile is added to both of its targets while it is in
//! registers. The targets of one group of panels are next to each other in memory, and are written to the result once.

use pulp::{Simd, WithSimd};

use super::super::activation::Activation;
use super::block::{
    Block, InTiles, KC, MR, TileRows, load, multiply, multiply_pair, pack_rows, room, store, tiles_are_high,
};
use super::layout::{MatrixRef, NR};
use super::operands::{Epilogue, PackedMatrix, Start};

/// The maximum number of rows of a block. The sums of the right-hand side are computed once per block.
pub(super) const MC: usize = 252;
/// With fewer rows, the sums cost more than the saved product.
const MIN_ROWS: usize = 96;

/// A quarter of a matrix: row, then column.
#[derive(Clone, Copy, PartialEq)]
enum Quarter {
    Q11,
    Q12,
    Q21,
    Q22,
}
use Quarter::{Q11, Q12, Q21, Q22};

impl Quarter {
    /// The index of the first of the [`PRODUCTS`] that contributes to this quarter of the result.
    fn first(self) -> usize {
        match self {
            Q11 | Q22 => 0,
            Q12 => 2,
            Q21 => 1,
        }
    }
}

/// The sign of the second of two terms.
#[derive(Clone, Copy)]
enum Sign {
    Plus,
    Minus,
}
use Sign::{Minus, Plus};

impl Sign {
    /// `x ± y`.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
        match self {
            Plus => simd.add_f32s(x, y),
            Minus => simd.sub_f32s(x, y),
        }
    }
}

/// One of the seven products.
struct Product {
    /// Which of the seven packed left-hand sides.
    left: usize,
    right: (Quarter, Option<(Sign, Quarter)>),
    targets: [Option<(Sign, Quarter)>; 2],
}

/// Indices of the packed left-hand sides, in the order of [`pack_left`].
const A11: usize = 0;
const A12_LESS_A22: usize = 1;
const A21_LESS_A11: usize = 2;
const A22: usize = 3;
const A11_AND_A22: usize = 4;
const A21_AND_A22: usize = 5;
const A11_AND_A12: usize = 6;

#[rustfmt::skip]
const PRODUCTS: [Product; 7] = [
    Product { left: A11_AND_A22, right: (Q11, Some((Plus, Q22))), targets: [Some((Plus, Q11)), Some((Plus, Q22))] },
    Product { left: A21_AND_A22, right: (Q11, None), targets: [Some((Plus, Q21)), Some((Minus, Q22))] },
    Product { left: A11, right: (Q12, Some((Minus, Q22))), targets: [Some((Plus, Q12)), Some((Plus, Q22))] },
    Product { left: A22, right: (Q21, Some((Minus, Q11))), targets: [Some((Plus, Q11)), Some((Plus, Q21))] },
    Product { left: A11_AND_A12, right: (Q22, None), targets: [Some((Minus, Q11)), Some((Plus, Q12))] },
    Product { left: A21_LESS_A11, right: (Q11, Some((Plus, Q12))), targets: [Some((Plus, Q22)), None] },
    Product { left: A12_LESS_A22, right: (Q21, Some((Plus, Q22))), targets: [Some((Plus, Q11)), None] },
];

/// Whether the algorithm pays off for a block of `rows` rows. Depths are divided at multiples of the number of rows in
/// which compressed panels are read.
pub(super) fn pays(rows: usize, b: &PackedMatrix) -> bool {
    rows >= MIN_ROWS && b.columns >= 4 * NR && b.rows.is_multiple_of(64)
}

/// One thread's share of a product: some rows (more than [`MR`]) times all of `b`.
pub(super) struct StrassenBlock<'a> {
    pub(super) a: MatrixRef<'a>,
    pub(super) b: &'a PackedMatrix,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
    /// Reusable memory for packed rows and sums of panels.
    pub(super) scratch: &'a mut Vec<f32>,
}

impl WithSimd for StrassenBlock<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run_with(simd);
    }
}

impl InTiles for StrassenBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const P: usize>(self, simd: S) {
        let Self { a, b, epilogue, out, out_stride, scratch } = self;
        let (k, n) = (b.rows, b.columns);
        let upper = a.rows.div_ceil(2 * MR) * MR;
        let groups = n / (2 * P * NR);
        let len = 7 * upper * KC.min(k / 2);
        let stride = 2 * P * NR;
        let (left, rest) = room(scratch, len + P * KC * NR + 2 * upper * stride).split_at_mut(len);
        let (sum, tiles) = rest.split_at_mut(P * KC * NR);
        let mut expanded = vec![0.0; if b.panels.is_compressed() { 4 * P * KC * NR } else { 0 }];
        for depth in (0..k).step_by(2 * KC) {
            let kc = KC.min((k - depth) / 2);
            pack_left(simd, a, upper, depth, kc, left);
            for group in 0..groups {
                let panel = group * 2 * P;
                let right = right_quarters::<S, P>(simd, b, panel, depth, kc, &mut expanded);
                for (number, product) in PRODUCTS.iter().enumerate() {
                    let (x, y) = product.right;
                    let panels = match y {
                        None => right[x as usize],
                        Some((sign, y)) => add(simd, sign, right[x as usize], right[y as usize], sum),
                    };
                    let target = |(sign, quarter): (Sign, Quarter)| {
                        let row = if matches!(quarter, Q21 | Q22) { upper } else { 0 };
                        let column = if matches!(quarter, Q12 | Q22) { P * NR } else { 0 };
                        Target { sign, is_first: number == quarter.first(), origin: row * stride + column }
                    };
                    // If the lower half is one strip shorter, so are the products that only read lower rows.
                    let rows = if matches!(product.left, A22 | A21_AND_A22) { a.rows - upper } else { upper };
                    let packed = &left[product.left * upper * kc..][..rows.next_multiple_of(MR) * kc];
                    // A separate function, so that its tile stays in registers.
                    simd.vectorize(Update::<V, P> {
                        panels,
                        strips: packed.as_chunks().0,
                        depth: kc,
                        targets: product.targets.map(|t| t.map(target)),
                        tiles: &mut *tiles,
                    });
                }
                let columns = panel * NR..panel * NR + stride;
                let start = epilogue.start(depth == 0, columns.clone());
                let activation = epilogue.activation.filter(|_| depth + 2 * kc == k);
                for (out, tiles) in out.chunks_mut(out_stride).zip(tiles.chunks_exact(stride)) {
                    finish(simd, start, tiles, activation, &mut out[columns.clone()]);
                }
            }
        }
        // The remaining columns, which do not fill a pair of tiles.
        let rest = groups * 2 * P..n.div_ceil(NR);
        if !rest.is_empty() {
            let out = &mut out[rest.start * NR..];
            Block { a, b, panels: rest, epilogue, out, out_stride, scratch }.run::<S, V, P>(simd);
        }
    }
}

/// The quarters `B₁₁`, `B₁₂`, `B₂₁`, `B₂₂` of the `2·P` panels from `panel` on and the `2·kc` rows from `depth` on.
#[inline(always)]
fn right_quarters<'a, S: Simd, const P: usize>(
    simd: S,
    b: &'a PackedMatrix,
    panel: usize,
    depth: usize,
    kc: usize,
    expanded: &'a mut [f32],
) -> [[&'a [f32]; P]; 4] {
    // No closures here and below: they would be compiled without the instruction set of the enclosing function.
    let mut memory = expanded.chunks_exact_mut(KC * NR);
    let mut quarters = [[&[][..]; P]; 4];
    for (quarter, panels) in quarters.iter_mut().enumerate() {
        for (j, rows) in panels.iter_mut().enumerate() {
            let (panel, depth) = (panel + quarter % 2 * P + j, depth + quarter / 2 * kc);
            *rows = b.panels.rows(simd, panel, b.rows, depth, kc, memory.next().unwrap_or_default());
        }
    }
    quarters
}

/// `x ± y`, written to `memory`.
#[inline(always)]
fn add<'a, S: Simd, const P: usize>(
    simd: S,
    sign: Sign,
    x: [&[f32]; P],
    y: [&[f32]; P],
    memory: &'a mut [f32],
) -> [&'a [f32]; P] {
    let mut sums = [&[][..]; P];
    for (j, (sum, memory)) in sums.iter_mut().zip(memory.chunks_exact_mut(KC * NR)).enumerate() {
        let memory = &mut memory[..x[j].len()];
        combine(simd, sign, x[j], y[j], memory);
        *sum = memory;
    }
    sums
}

/// `sum = x ± y`.
#[inline(always)]
fn combine<S: Simd>(simd: S, sign: Sign, x: &[f32], y: &[f32], sum: &mut [f32]) {
    let (x, y, sum) = (S::as_simd_f32s(x).0, S::as_simd_f32s(y).0, S::as_mut_simd_f32s(sum).0);
    for ((x, y), sum) in x.iter().zip(y).zip(sum) {
        *sum = sign.apply(simd, *x, *y);
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
    combine(simd, Plus, a11, a22, &mut sums[..size]);
    combine(simd, Plus, a21, a22, &mut sums[size..2 * size]);
    combine(simd, Plus, a11, a12, &mut sums[2 * size..]);
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

/// The quarter of the tiles that a product is added to.
#[derive(Clone, Copy)]
struct Target {
    sign: Sign,
    /// Whether the product is the first one.
    is_first: bool,
    origin: usize,
}

/// The product of all packed rows and panels of one of the seven products.
struct Update<'a, const V: usize, const P: usize> {
    panels: [&'a [f32]; P],
    strips: &'a [[f32; MR]],
    depth: usize,
    targets: [Option<Target>; 2],
    /// The four quarters of a part of the result, `2·P` panels wide. Here they stay in the cache, while the rows of the result
    /// may be whole pages apart, and then displace each other.
    tiles: &'a mut [f32],
}

impl<const V: usize, const P: usize> WithSimd for Update<'_, V, P> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { panels, mut strips, depth, targets, tiles } = self;
        let zeros = [[[simd.splat_f32s(0.0); V]; P]; MR];
        let height = MR * 2 * P * NR;
        let mut first = 0;
        if tiles_are_high::<S>() {
            while let Some((pair, rest)) = strips.split_at_checked(2 * depth) {
                let [upper, lower] = multiply_pair(simd, pair.split_at(depth), panels, [zeros, zeros]);
                for target in targets.iter().flatten() {
                    target.add(simd, &upper, &mut tiles[target.origin + first..]);
                    target.add(simd, &lower, &mut tiles[target.origin + first + height..]);
                }
                (strips, first) = (rest, first + 2 * height);
            }
        }
        for (t, strip) in strips.chunks_exact(depth).enumerate() {
            let tile = multiply::<S, V, P>(simd, strip, panels, zeros);
            for target in targets.iter().flatten() {
                target.add(simd, &tile, &mut tiles[target.origin + first + t * height..]);
            }
        }
    }
}

impl Target {
    #[inline(always)]
    fn add<S: Simd, const V: usize, const P: usize>(&self, simd: S, tile: &TileRows<S, V, P>, to: &mut [f32]) {
        for (i, row) in tile.iter().enumerate() {
            let to = &mut to[i * 2 * P * NR..][..P * NR];
            for (x, to) in row.iter().zip(to.chunks_exact_mut(NR)) {
                let before = if self.is_first { [simd.splat_f32s(0.0); V] } else { load::<S, V>(simd, to) };
                let mut sum = *x;
                for (x, before) in sum.iter_mut().zip(before) {
                    *x = self.sign.apply(simd, before, *x);
                }
                store::<S, V>(simd, &sum, to);
            }
        }
    }
}

/// Writes a row of products, all of which are whole vectors.
#[inline(always)]
fn finish<S: Simd>(simd: S, start: Start<'_>, products: &[f32], activation: Option<Activation>, out: &mut [f32]) {
    let (products, out) = (S::as_simd_f32s(products).0, S::as_mut_simd_f32s(out).0);
    let bias = if let Start::Bias(bias) = start { S::as_simd_f32s(bias).0 } else { &[] };
    for (i, (product, out)) in products.iter().zip(out).enumerate() {
        let mut x = match start {
            Start::Zeros => *product,
            Start::Bias(_) => simd.add_f32s(bias[i], *product),
            Start::Result => simd.add_f32s(*out, *product),
        };
        if let Some(activation) = activation {
            x = activation.apply_simd(simd, x);
        }
        *out = x;
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use pulp::{Arch, Scalar};

    use super::super::super::compressed::CompressedMatrix;
    use super::super::super::format::Precision;
    use super::super::tests::numbers;
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
                let check = |name: &str, run: &dyn Fn(StrassenBlock<'_>)| {
                    let mut out = vec![f32::NAN; m * n];
                    let a = MatrixRef::new(&a, m, k);
                    // As other products leave it: with other values.
                    let scratch = &mut vec![f32::NAN; 1 << 20];
                    run(StrassenBlock { a, b: &packed, epilogue, out: &mut out, out_stride: n, scratch });
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
    fn every_quarter_starts_with_the_product_that_says_so() {
        for quarter in [Q11, Q12, Q21, Q22] {
            let into = |product: &Product| product.targets.iter().flatten().any(|(_, target)| *target == quarter);
            assert_eq!(PRODUCTS.iter().position(into), Some(quarter.first()));
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
            Arch::new().dispatch(StrassenBlock {
                a,
                b,
                epilogue,
                out: &mut out,
                out_stride: n,
                scratch: &mut Vec::new(),
            });
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
