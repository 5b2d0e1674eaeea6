//! The pieces of a filterbank that are computed once: the window function and the mel filters.
//!
//! Both are computed in f32, step by step as in PyTorch. The precision matters: if a filter barely covers a single FFT
//! bin, its weight is a small difference of two large mel values, and more exact arithmetic would change the log energy
//! of that filter by more than the required agreement with PyTorch.

use std::f64::consts::PI;

use crate::audio::fbank_options::{FbankOptions, WindowFunction};

/// One triangular filter: weights for the spectrum's bins `first ..`.
pub(super) struct MelFilter {
    pub(super) first: usize,
    pub(super) weights: Vec<f64>,
}

/// The `num_mel_bins` filters over the first `num_bins` bins (from 0 Hz up to but excluding the Nyquist rate).
///
/// mel(f) = 1127 ln(1 + f / 700); filter m rises from l + mΔ to l + (m + 1)Δ and falls to l + (m + 2)Δ, linearly in
/// mel, where l = mel(low) and Δ = (mel(high) - l) / (M + 1).
pub(super) fn filters(options: &FbankOptions, num_bins: usize) -> Vec<MelFilter> {
    let mel_of = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
    let low = mel_of(options.low_freq);
    let delta = (mel_of(options.highest_freq()) - low) / (options.num_mel_bins as f64 + 1.0);
    let (low, delta) = (low as f32, delta as f32);
    let bin_width = (f64::from(options.sample_rate) / (2.0 * num_bins as f64)) as f32;
    let mels: Vec<f32> = (0..num_bins)
        .map(|bin| {
            let argument = 1.0 + bin_width * bin as f32 / 700.0;
            1127.0 * f64::from(argument).ln() as f32
        })
        .collect();
    (0..options.num_mel_bins)
        .map(|m| {
            let m = m as f32;
            let (left, center, right) = (low + m * delta, low + (m + 1.0) * delta, low + (m + 2.0) * delta);
            let weight = |mel: f32| ((mel - left) / (center - left)).min((right - mel) / (right - center)).max(0.0);
            let first = mels.iter().position(|&mel| weight(mel) > 0.0).unwrap_or(0);
            let weights = mels[first..].iter().map(|&mel| f64::from(weight(mel))).take_while(|&w| w > 0.0).collect();
            MelFilter { first, weights }
        })
        .collect()
}

/// The window function over `length` samples (at least 2), symmetric: its last sample equals its first.
pub(super) fn window(function: WindowFunction, length: usize) -> Vec<f32> {
    let step = 2.0 * PI / (length - 1) as f64;
    // f32 as in PyTorch: the angle is rounded before the cosine is taken.
    let cosine = |n: usize, step: f64| f64::from(n as f32 * step as f32).cos() as f32;
    let raised_cosine = |n: usize, alpha: f32, beta: f32| cosine(n, step) * -beta + alpha;
    (0..length)
        .map(|n| match function {
            WindowFunction::Rectangular => 1.0,
            WindowFunction::Hanning => raised_cosine(n, 0.5, 0.5),
            WindowFunction::Hamming => raised_cosine(n, 0.54, 0.46),
            WindowFunction::Povey => f64::from(raised_cosine(n, 0.5, 0.5)).powf(f64::from(0.85f32)) as f32,
            WindowFunction::Blackman => 0.42 - 0.5 * cosine(n, step) + 0.08 * cosine(n, 2.0 * step),
        })
        .collect()
}
