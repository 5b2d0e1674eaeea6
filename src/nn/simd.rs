//! Vectorised scalar functions and row kernels for `f32` on CPUs.
//!
//! Everything here is safe Rust based on [`pulp`]'s vectors, which are dispatched at run time: the same binary uses
//! AVX2 where the processor supports it, NEON on ARM, and scalars elsewhere. On the CPU, Candle's own softmax, GELU and
//! LayerNorm call `libm` element by element and take longer than the matrix products between them.

use pulp::{Simd, WithSimd};

use super::instructions::arch;

/// `log₂(e)`, to turn `eˣ` into `2^(x·log₂e)`.
const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// `ln 2` split in two, so that `x − n·ln 2` is exact to more bits than one `f32` holds (Cody–Waite reduction).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding `1.5·2²³` rounds an `f32` to an integer in its lowest mantissa bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// `eˣ` with a relative error below 3e-7 for x in [−87, 88]. Smaller x give 0 (instead of values below 1e-37); larger x
/// are clamped.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = simd.min_f32s(simd.max_f32s(x, simd.splat_f32s(-87.0)), simd.splat_f32s(88.0));
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2_LOW), r);
    // eʳ for |r| ≤ ln(2)/2 by its Taylor series; the first dropped term is below 6e-9.
    const TAYLOR: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut y = simd.splat_f32s(1.0 / 5040.0);
    for c in TAYLOR {
        y = simd.mul_add_e_f32s(y, r, simd.splat_f32s(c));
    }
    // 2ⁿ: the rounded sum has n in its lowest bits. Shifted into the exponent and added, they scale y.
    let shift = simd.splat_u32s(23);
    let n_bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), shift);
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(y), n_bits))
}

/// Coefficients of `erf(x) ≈ x·P(x²)/Q(x²)` on [−3.925, 3.925], beyond which erf rounds to ±1 in f32. Fitted by
/// iteratively reweighted least squares (relative error 1.9e-8); absolute error in f32 arithmetic below 5e-7.
const ERF_LIMIT: f32 = 3.925;
#[allow(clippy::approx_constant)] // fitted; the last one is close to 2/√π but differs from it
const ERF_P: [f32; 6] = [2.046_187_5e-6, 2.848_304e-4, 3.771_840_8e-3, 5.276_709e-2, 1.905_768_2e-1, 1.128_379_1];
const ERF_Q: [f32; 6] = [3.804_876_5e-5, 1.163_691_7e-3, 1.498_176_5e-2, 1.141_757_5e-1, 5.022_27e-1, 1.0];

/// `erf(x) = 2/√π ∫₀ˣ exp(−t²) dt` with an absolute error below 5e-7.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = simd.min_f32s(simd.max_f32s(x, simd.splat_f32s(-ERF_LIMIT)), simd.splat_f32s(ERF_LIMIT));
    let t = simd.mul_f32s(x, x);
    let mut p = simd.splat_f32s(ERF_P[0]);
    let mut q = simd.splat_f32s(ERF_Q[0]);
    for i in 1..6 {
        p = simd.mul_add_e_f32s(p, t, simd.splat_f32s(ERF_P[i]));
        q = simd.mul_add_e_f32s(q, t, simd.splat_f32s(ERF_Q[i]));
    }
    simd.div_f32s(simd.mul_f32s(x, p), q)
}

/// `σ(x) = 1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// A function that is applied to every element of a row, vector by vector.
pub(crate) trait Map1: Copy + Send + Sync {
    /// Applies the function to one vector.
    fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
}

/// `out[i] = f(x[i])`.
pub(crate) fn map<F: Map1>(f: F, x: &[f32], out: &mut [f32]) {
    struct Run<'a, F>(F, &'a [f32], &'a mut [f32]);
    impl<F: Map1> WithSimd for Run<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(f, x, out) = self;
            let (x, x_tail) = S::as_simd_f32s(x);
            let (out, out_tail) = S::as_mut_simd_f32s(out);
            for (x, out) in x.iter().zip(out) {
                *out = f.apply(simd, *x);
            }
            simd.partial_store_f32s(out_tail, f.apply(simd, simd.partial_load_f32s(x_tail)));
        }
    }
    arch().dispatch(Run(f, x, out));
}

/// `out[i] = g[i] · f(x[i])`: propagates the gradient `g` through a function whose derivative is `f`.
pub(crate) fn map_times<F: Map1>(f: F, x: &[f32], g: &[f32], out: &mut [f32]) {
    struct Run<'a, F>(F, &'a [f32], &'a [f32], &'a mut [f32]);
    impl<F: Map1> WithSimd for Run<'_, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(f, x, g, out) = self;
            let (x, x_tail) = S::as_simd_f32s(x);
            let (g, g_tail) = S::as_simd_f32s(g);
            let (out, out_tail) = S::as_mut_simd_f32s(out);
            for ((x, g), out) in x.iter().zip(g).zip(out) {
                *out = simd.mul_f32s(*g, f.apply(simd, *x));
            }
            let (x, g) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(g_tail));
            simd.partial_store_f32s(out_tail, simd.mul_f32s(g, f.apply(simd, x)));
        }
    }
    arch().dispatch(Run(f, x, g, out));
}

/// `x[i] ← σ(x[i] + offset)`, with a relative error below 5e-7.
pub(crate) fn sigmoid_in_place(x: &mut [f32], offset: f32) {
    struct Run<'a>(&'a mut [f32], f32);
    impl WithSimd for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(x, offset) = self;
            let offset = simd.splat_f32s(offset);
            let (body, tail) = S::as_mut_simd_f32s(x);
            for x in body {
                *x = sigmoid(simd, simd.add_f32s(*x, offset));
            }
            let last = sigmoid(simd, simd.add_f32s(simd.partial_load_f32s(tail), offset));
            simd.partial_store_f32s(tail, last);
        }
    }
    arch().dispatch(Run(x, offset));
}

/// `out = Σ weights[j]·rows[j]`, where `rows` holds at least as many rows of the length of `out` as there are weights.
pub(crate) fn weighted_sum(rows: &[f32], weights: &[f32], out: &mut [f32]) {
    struct Run<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl WithSimd for Run<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(rows, weights, out) = self;
            out.fill(0.0);
            for (row, weight) in rows.chunks_exact(out.len().max(1)).zip(weights) {
                add_scaled(simd, out, row, *weight);
            }
        }
    }
    arch().dispatch(Run(rows, weights, out));
}

/// `Σ x[i]·y[i]`, in four interleaved sums.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let (x, x_tail) = S::as_simd_f32s(x);
    let (y, y_tail) = S::as_simd_f32s(y);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (x4, x1) = x.as_chunks::<4>();
    let (y4, y1) = y.as_chunks::<4>();
    for (x, y) in x4.iter().zip(y4) {
        for i in 0..4 {
            sums[i] = simd.mul_add_e_f32s(x[i], y[i], sums[i]);
        }
    }
    for (x, y) in x1.iter().zip(y1) {
        sums[0] = simd.mul_add_e_f32s(*x, *y, sums[0]);
    }
    let tail = simd.mul_f32s(simd.partial_load_f32s(x_tail), simd.partial_load_f32s(y_tail));
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    simd.reduce_sum_f32s(simd.add_f32s(sum, tail))
}

/// `Σ x[i]`.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (x, x_tail) = S::as_simd_f32s(x);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (x4, x1) = x.as_chunks::<4>();
    for x in x4 {
        for i in 0..4 {
            sums[i] = simd.add_f32s(x[i], sums[i]);
        }
    }
    for x in x1 {
        sums[0] = simd.add_f32s(*x, sums[0]);
    }
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    simd.reduce_sum_f32s(simd.add_f32s(sum, simd.partial_load_f32s(x_tail)))
}

/// The largest element of a row, or −∞ for an empty row.
#[inline(always)]
pub(crate) fn max<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let (x, x_tail) = S::as_simd_f32s(x);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for x in x {
        largest = simd.max_f32s(largest, *x);
    }
    x_tail.iter().fold(simd.reduce_max_f32s(largest), |a, &b| a.max(b))
}

/// Softmax of one row in place: `xᵢ ← e^(xᵢ − max x) / Σⱼ e^(xⱼ − max x)`.
#[inline(always)]
pub(crate) fn softmax_in_place<S: Simd>(simd: S, row: &mut [f32]) {
    let largest = simd.splat_f32s(max(simd, row));
    let mut total = simd.splat_f32s(0.0);
    let (body, tail) = S::as_mut_simd_f32s(row);
    for x in body {
        *x = exp(simd, simd.sub_f32s(*x, largest));
        total = simd.add_f32s(total, *x);
    }
    let mut sum = simd.reduce_sum_f32s(total);
    let e = exp(simd, simd.sub_f32s(simd.partial_load_f32s(tail), largest));
    simd.partial_store_f32s(tail, e);
    sum += tail.iter().sum::<f32>();
    scale_in_place(simd, row, 1.0 / sum);
}

/// `x[i] ← x[i]·factor`.
#[inline(always)]
pub(crate) fn scale_in_place<S: Simd>(simd: S, x: &mut [f32], factor: f32) {
    let factors = simd.splat_f32s(factor);
    let (body, tail) = S::as_mut_simd_f32s(x);
    for x in body {
        *x = simd.mul_f32s(*x, factors);
    }
    for x in tail {
        *x *= factor;
    }
}

/// `out[i] ← out[i] + factor·x[i]`.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(simd: S, out: &mut [f32], x: &[f32], factor: f32) {
    let factors = simd.splat_f32s(factor);
    let (x, x_tail) = S::as_simd_f32s(x);
    let (out, out_tail) = S::as_mut_simd_f32s(out);
    for (out, x) in out.iter_mut().zip(x) {
        *out = simd.mul_add_e_f32s(*x, factors, *out);
    }
    for (out, x) in out_tail.iter_mut().zip(x_tail) {
        *out += factor * x;
    }
}

/// LayerNorm of one row: `out = (x − mean(x)) / √(var(x) + eps) · weight + bias`, with the biased variance.
#[inline(always)]
pub(crate) fn layer_norm_row<S: Simd>(simd: S, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let (mean, inverse_std) = moments(simd, x, eps);
    let (shift, scale) = (simd.splat_f32s(-mean * inverse_std), simd.splat_f32s(inverse_std));
    let (x, x_tail) = S::as_simd_f32s(x);
    let (w, w_tail) = S::as_simd_f32s(weight);
    let (b, b_tail) = S::as_simd_f32s(bias);
    let (out, out_tail) = S::as_mut_simd_f32s(out);
    for (((x, w), b), out) in x.iter().zip(w).zip(b).zip(out) {
        *out = simd.mul_add_e_f32s(simd.mul_add_e_f32s(*x, scale, shift), *w, *b);
    }
    let (x, w, b) = (simd.partial_load_f32s(x_tail), simd.partial_load_f32s(w_tail), simd.partial_load_f32s(b_tail));
    let y = simd.mul_add_e_f32s(simd.mul_add_e_f32s(x, scale, shift), w, b);
    simd.partial_store_f32s(out_tail, y);
}

/// Mean and `1 / √(var + eps)` of a row, in two passes (the one-pass form cancels).
#[inline(always)]
pub(crate) fn moments<S: Simd>(simd: S, x: &[f32], eps: f32) -> (f32, f32) {
    let len = x.len() as f32;
    let mean = sum(simd, x) / len;
    let (body, tail) = S::as_simd_f32s(x);
    let means = simd.splat_f32s(mean);
    let mut squares = simd.splat_f32s(0.0);
    for x in body {
        let d = simd.sub_f32s(*x, means);
        squares = simd.mul_add_e_f32s(d, d, squares);
    }
    let rest: f32 = tail.iter().map(|x| (x - mean) * (x - mean)).sum();
    let variance = (simd.reduce_sum_f32s(squares) + rest) / len;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// The gradient of LayerNorm with respect to its input, one row:
/// `dx = (h − mean(h) − x̂·mean(h·x̂)) / √(var + eps)` with `h = g·weight` and `x̂` the normalised row.
#[inline(always)]
pub(crate) fn layer_norm_row_backward<S: Simd>(
    simd: S,
    x: &[f32],
    weight: &[f32],
    g: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let (mean, inverse_std) = moments(simd, x, eps);
    let len = x.len() as f32;
    for ((out, g), w) in out.iter_mut().zip(g).zip(weight) {
        *out = g * w;
    }
    let mean_h = sum(simd, out) / len;
    let mean_hx = (dot(simd, out, x) - mean * mean_h * len) * inverse_std / len;
    for (out, x) in out.iter_mut().zip(x) {
        *out = (*out - mean_h - (x - mean) * inverse_std * mean_hx) * inverse_std;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Exp;
    impl Map1 for Exp {
        fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
            exp(simd, x)
        }
    }

    #[derive(Clone, Copy)]
    struct Erf;
    impl Map1 for Erf {
        fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
            erf(simd, x)
        }
    }

    /// Points from `low` to `high`. Their number leaves a remainder for every vector width.
    fn grid(low: f32, high: f32) -> Vec<f32> {
        (0..100_003).map(|i| low + (high - low) * i as f32 / 100_002.0).collect()
    }

    #[test]
    fn exp_stays_within_its_relative_bound() {
        let x = grid(-86.9, 87.9);
        let mut y = vec![0.0; x.len()];
        map(Exp, &x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            let expected = (*x as f64).exp();
            assert!(((*y as f64) / expected - 1.0).abs() < 3e-7, "exp({x}) = {y}, expected {expected}");
        }
    }

    #[test]
    fn sigmoids_and_weighted_sums_agree_with_scalars() {
        let logits = grid(-95.0, 95.0);
        let mut scores = logits.clone();
        sigmoid_in_place(&mut scores, 2.5);
        for (x, y) in logits.iter().zip(&scores) {
            let expected = 1.0 / (1.0 + (-(f64::from(*x) + 2.5)).exp());
            assert!((f64::from(*y) - expected).abs() <= 5e-7 * expected + 1e-37, "σ({x} + 2.5) = {y}, not {expected}");
        }
        // 19 columns leave a remainder for every vector width; the last row has no weight.
        let rows: Vec<f32> = (0..4 * 19).map(|i| (i as f32).sin()).collect();
        let mut sum = vec![f32::NAN; 19];
        weighted_sum(&rows, &[0.5, -2.0, 0.25], &mut sum);
        for (i, sum) in sum.iter().enumerate() {
            let expected = 0.5 * rows[i] - 2.0 * rows[19 + i] + 0.25 * rows[38 + i];
            assert!((sum - expected).abs() < 1e-6, "column {i}: {sum}, not {expected}");
        }
    }

    #[test]
    fn exp_of_minus_infinity_vanishes() {
        let mut y = [1.0; 3];
        map(Exp, &[f32::NEG_INFINITY, -1e9, -200.0], &mut y);
        assert!(y.iter().all(|y| *y < 1e-37), "{y:?}");
    }

    #[test]
    fn erf_stays_within_its_absolute_bound() {
        // The Taylor series in double precision is an independent reference. Beyond 4.5, erf is 1 − 2e-10.
        fn reference(x: f64) -> f64 {
            if x.abs() > 4.5 {
                return x.signum();
            }
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        }
        let x = grid(-8.0, 8.0);
        let mut y = vec![0.0; x.len()];
        map(Erf, &x, &mut y);
        for (x, y) in x.iter().zip(&y) {
            assert!((*y as f64 - reference(*x as f64)).abs() < 5e-7, "erf({x}) = {y}");
        }
    }
}
