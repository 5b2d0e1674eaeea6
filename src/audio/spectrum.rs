//! The discrete Fourier transform of real samples.

use std::f64::consts::PI;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// X_k = Σ_n x_n e^(-2πikn/N) for k ≤ N/2, of N real samples, N even.
///
/// Even samples are the real parts and odd ones the imaginary parts of a complex transform of half the length, from whose
/// symmetries X follows. The `realfft` crate does the same, but always with rustfft's code for every instruction set,
/// which is generic and would be an eighth of all code that the compiler generates for this crate; a localization spends a
/// thousandth of its time here.
pub(super) struct RealFft {
    half: Arc<dyn Fft<f64>>,
    /// e^(-2πik/N) / 2i for 0 < k < N/2.
    twiddles: Vec<Complex<f64>>,
}

/// The memory of a transform.
pub(super) struct Buffers {
    /// The N samples.
    pub(super) samples: Vec<f64>,
    /// X, N/2 + 1 numbers.
    pub(super) spectrum: Vec<Complex<f64>>,
    complex: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
}

impl RealFft {
    /// The transform of `length` samples, an even number.
    pub(super) fn new(length: usize) -> Self {
        let half = FftPlanner::new().plan_fft_forward(length / 2);
        let angle = |k: usize| -2.0 * PI * k as f64 / length as f64 - PI / 2.0;
        Self { half, twiddles: (1..length / 2).map(|k| Complex::from_polar(0.5, angle(k))).collect() }
    }

    pub(super) fn buffers(&self) -> Buffers {
        let (half, zero) = (self.half.len(), Complex::default());
        Buffers {
            samples: vec![0.0; 2 * half],
            spectrum: vec![zero; half + 1],
            complex: vec![zero; half],
            scratch: vec![zero; self.half.get_inplace_scratch_len()],
        }
    }

    /// Computes the spectrum of the samples.
    pub(super) fn transform(&self, buffers: &mut Buffers) {
        let Buffers { samples, spectrum, complex, scratch } = buffers;
        for (z, [even, odd]) in complex.iter_mut().zip(samples.as_chunks().0) {
            *z = Complex::new(*even, *odd);
        }
        self.half.process_with_scratch(complex, scratch);
        // Z_k and Z_(N/2 - k), where Z_(N/2) = Z_0.
        let ([x_first, xs @ .., x_last], [z_first, zs @ ..]) = (&mut spectrum[..], &complex[..]) else { return };
        (*x_first, *x_last) = ((z_first.re + z_first.im).into(), (z_first.re - z_first.im).into());
        for (((x, twiddle), z), mirrored) in xs.iter_mut().zip(&self.twiddles).zip(zs).zip(zs.iter().rev()) {
            let mirrored = mirrored.conj();
            *x = (z + mirrored) * 0.5 + (z - mirrored) * twiddle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transforms_agree_with_the_definition() {
        for length in [2, 4, 6, 26, 300, 400, 512] {
            let fft = RealFft::new(length);
            let mut buffers = fft.buffers();
            let samples: Vec<f64> = (0..length).map(|n| ((n * 7919) % 1009) as f64 / 504.0 - 1.0).collect();
            buffers.samples.copy_from_slice(&samples);
            fft.transform(&mut buffers);
            assert_eq!(buffers.spectrum.len(), length / 2 + 1);
            for (k, found) in buffers.spectrum.iter().enumerate() {
                let turn = |n: usize| Complex::from_polar(1.0, -2.0 * PI * (k * n % length) as f64 / length as f64);
                let expected: Complex<f64> = samples.iter().enumerate().map(|(n, x)| turn(n) * *x).sum();
                assert!((found - expected).norm() < 1e-12 * length as f64, "{length}, {k}: {found}, not {expected}");
            }
        }
    }
}
