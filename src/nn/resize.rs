//! Resizing of feature maps as two matrix products, exact and differentiable on every device.

use candle_core::Tensor;

use super::frozen::FrozenLinear;
use crate::error::{Error, Result};

/// How values between samples are interpolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interpolation {
    /// The sample at `⌊i·in/out⌋`, like `torch.nn.functional.interpolate(mode="nearest")`.
    Nearest,
    /// Cubic convolution (Keys, 1981) with a = −0.75, aligned to pixel centres, with replicated borders and without
    /// antialiasing, like `interpolate(mode="bicubic", align_corners=False)`.
    Bicubic,
}

/// Resizes the last two dimensions of `x` `[…, H, W]` to `height` × `width`: `A_h · X · A_wᵀ`.
///
/// # Errors
/// [`Error::Shape`] when `x` has fewer than two dimensions, or an empty one.
pub fn resize(x: &Tensor, height: usize, width: usize, interpolation: Interpolation) -> Result<Tensor> {
    let dims = x.dims();
    let [.., h, w] = *dims else {
        return Err(Error::shape("picture to resize", "[…, H, W]", dims));
    };
    if h == 0 || w == 0 || height == 0 || width == 0 {
        return Err(Error::shape("picture to resize", "[…, H, W] without an empty dimension", dims));
    }
    if (h, w) == (height, width) {
        return Ok(x.clone());
    }
    let rows = FrozenLinear::new(&matrix(h, height, interpolation, x)?, None);
    let columns = FrozenLinear::new(&matrix(w, width, interpolation, x)?, None);
    let maps = x.contiguous()?.reshape(((), h, w))?;
    let wide = maps.apply_op1(columns)?.transpose(1, 2)?.contiguous()?; // [·, width, H]
    let out = wide.apply_op1(rows)?.transpose(1, 2)?.contiguous()?; // [·, height, width]
    let mut shape = dims.to_vec();
    let rank = shape.len();
    (shape[rank - 2], shape[rank - 1]) = (height, width);
    Ok(out.reshape(shape)?)
}

/// The weights `[to, from]` of the input samples in every output sample, with the device and precision of `like`.
fn matrix(from: usize, to: usize, interpolation: Interpolation, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![0f32; to * from];
    // Positions are in f32, as in PyTorch: f64 would be more accurate, but heatmaps would differ by 6e-5.
    let scale = from as f32 / to as f32;
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        match interpolation {
            Interpolation::Nearest => row[((i as f32 * scale) as usize).min(from - 1)] = 1.0,
            Interpolation::Bicubic => {
                let centre = (i as f32 + 0.5) * scale - 0.5;
                let first = centre.floor();
                for tap in -1..=2 {
                    let position = (first as i64 + tap).clamp(0, from as i64 - 1) as usize;
                    row[position] += cubic(centre - first - tap as f32);
                }
            }
        }
    }
    Ok(Tensor::from_vec(weights, (to, from), like.device())?.to_dtype(like.dtype())?)
}

/// Keys' cubic convolution kernel at distance `x`, a = −0.75.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.75;
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * A * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    #[test]
    fn values_agree_with_torch() {
        // x = torch.arange(12.).reshape(1, 1, 3, 4) ** 1.5
        // torch.nn.functional.interpolate(x, (4, 3), mode="bicubic").flatten()
        let x: Vec<f32> = (0..12).map(|i| (i as f32).powf(1.5)).collect();
        let x = Tensor::from_vec(x, (1, 1, 3, 4), &Device::Cpu).unwrap();
        let found = resize(&x, 4, 3, Interpolation::Bicubic).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (found, expected) in found.iter().zip(BICUBIC) {
            assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
        }
        let nearest =
            resize(&x, 2, 2, Interpolation::Nearest).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(nearest, [0.0, 2f32.powf(1.5), 4f32.powf(1.5), 6f32.powf(1.5)]);
    }

    const BICUBIC: [f32; 12] = [
        -0.482_800_84,
        0.989_808_5,
        3.944_605_4,
        3.786_669_7,
        7.080_841_5,
        11.336_758,
        14.631_207,
        20.002_201,
        25.902_859,
        24.235_534,
        30.441_92,
        37.145_634,
    ];

    #[test]
    fn constants_stay_and_gradients_add_up() {
        for interpolation in [Interpolation::Nearest, Interpolation::Bicubic] {
            let x = Var::from_tensor(&Tensor::ones((2, 5, 7), DType::F32, &Device::Cpu).unwrap()).unwrap();
            let y = resize(&x, 11, 3, interpolation).unwrap();
            for y in y.flatten_all().unwrap().to_vec1::<f32>().unwrap() {
                assert!((y - 1.0).abs() < 1e-6);
            }
            // Every output is a weighted mean of inputs, so the gradients of the sum add up to the number of outputs.
            let grads = y.sum_all().unwrap().backward().unwrap();
            let total: f32 = grads.get(&x).unwrap().sum_all().unwrap().to_scalar().unwrap();
            assert!((total - 2.0 * 33.0).abs() < 1e-3);
        }
    }
}
