//! Sample rate conversion: rubato's sinc resampler, set up as `torchaudio.functional.resample` is by default.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType, WindowFunction};

use crate::error::{Error, Result};

/// The cut-off frequency as a fraction of the lower Nyquist rate (torchaudio's `rolloff`).
const ROLLOFF: f64 = 0.99;
/// The number of zero crossings of the sinc on each side of the filter (torchaudio's `lowpass_filter_width`).
const ZERO_CROSSINGS: f64 = 6.0;
/// rubato rounds filter lengths up to a multiple of this.
const LENGTH_STEP: f64 = 8.0;
/// The largest relative difference between the rounded filter length and the exact one.
const LENGTH_TOLERANCE: f64 = 0.05;
/// Input frames per step of the resampler.
const CHUNK_FRAMES: usize = 1024;

/// `samples` at `from` Hz converted to `to` Hz, both at least 1: ⌈n · to / from⌉ samples.
pub(super) fn resample(samples: &[f32], from: u32, to: u32) -> Result<Vec<f32>> {
    if from == to || samples.is_empty() {
        return Ok(samples.to_vec());
    }
    let plan = Plan::new(from, to);
    let mut padded = vec![0.0; plan.lead + samples.len() * plan.stuffing + plan.tail];
    for (slot, sample) in padded[plan.lead..].iter_mut().step_by(plan.stuffing).zip(samples) {
        // The inserted zeros reduce the mean to 1 / stuffing of the original's; this compensates for it.
        *slot = sample * plan.stuffing as f32;
    }
    let parameters = SincInterpolationParameters {
        sinc_len: plan.length,
        f_cutoff: Some(plan.cutoff as f32),
        oversampling_factor: plan.phases,
        // Every output falls exactly on one of the phases, so nothing is interpolated between them.
        interpolation: SincInterpolationType::Nearest,
        window: WindowFunction::Hann,
    };
    let mut resampler = Async::<f32>::new_sinc(plan.ratio, 1.0, &parameters, CHUNK_FRAMES, 1, FixedAsync::Input)
        .map_err(|e| failed(from, to, e))?;
    let skip = plan.first_output.saturating_sub(resampler.output_delay());
    let input = SequentialSlice::new(&padded, 1, padded.len()).map_err(|e| failed(from, to, e))?;
    let mut output = resampler.process_all(&input, padded.len(), None).map_err(|e| failed(from, to, e))?.take_data();
    let length = (samples.len() as u128 * u128::from(to)).div_ceil(u128::from(from)) as usize;
    output.drain(..skip.min(output.len()));
    output.truncate(length);
    Ok(output)
}

/// The error if rubato rejects a conversion. The current version accepts every setting that it is given here.
fn failed(from: u32, to: u32, error: impl ToString) -> Error {
    Error::argument("sample rate", format!("a conversion from {from} to {to} Hz"), error)
}

/// The parameters of one conversion by rubato.
struct Plan {
    /// Zero stuffing: each sample is followed by `stuffing` - 1 zeros. On this finer grid, a filter length that is a
    /// multiple of [`LENGTH_STEP`] is closer to the exact length.
    stuffing: usize,
    /// Filter length in stuffed samples.
    length: usize,
    /// Cut-off relative to the lower Nyquist rate of the stuffed input and the output.
    cutoff: f64,
    /// Distinct positions of output samples between two stuffed input samples.
    phases: usize,
    /// Output rate over stuffed input rate.
    ratio: f64,
    /// Zeros inserted before the signal so that its first sample falls on the output's grid.
    lead: usize,
    /// Zeros appended to the signal to flush the filter.
    tail: usize,
    /// The index, in all of rubato's output, of the sample at the time of the signal's first sample.
    first_output: usize,
}

impl Plan {
    fn new(from: u32, to: u32) -> Self {
        let (from_hz, to_hz) = (f64::from(from), f64::from(to));
        let wanted = 2.0 * ZERO_CROSSINGS * from_hz / (from_hz.min(to_hz) * ROLLOFF);
        // `wanted` is at least 12, so the tolerance is met at a stuffing of 7 at the latest.
        let (mut stuffing, mut length) = (1, 0.0);
        for candidate in 1..=7 {
            stuffing = candidate;
            let exact = wanted * candidate as f64;
            length = (exact / LENGTH_STEP).round().max(1.0) * LENGTH_STEP;
            if (length - exact).abs() <= LENGTH_TOLERANCE * exact {
                break;
            }
        }
        let length = length as usize;
        // Output sample n lies a/b stuffed input samples after output sample n - 1.
        let stuffed = u64::from(from) * stuffing as u64;
        let divisor = gcd(stuffed, u64::from(to));
        let (a, b) = ((stuffed / divisor) as usize, (u64::from(to) / divisor) as usize);
        let cutoff = ROLLOFF * from_hz.min(to_hz) / to_hz.min(stuffed as f64);
        // rubato's output n (from 0) lies at (n + 1) · a/b + 1/b - length/2 stuffed input samples. For some n that is
        // `lead`, the place of the signal's first sample: (n + 1) · a = (lead + length/2) · b - 1. As a and b share no
        // factor, one of any `a` consecutive leads solves it; from 2a on, n is beyond the delay that rubato drops.
        let position = |lead: usize| (lead + length / 2) * b - 1;
        let lead = (2 * a..3 * a).find(|&lead| position(lead).is_multiple_of(a)).unwrap_or(2 * a);
        Self {
            stuffing,
            length,
            cutoff,
            phases: b,
            ratio: b as f64 / a as f64,
            lead,
            tail: length + a / b + 1,
            first_output: position(lead) / a - 1,
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
