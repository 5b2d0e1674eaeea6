//! What this machine can do at most, in the instructions that matrix products are made of: the limits that `compare`
//! holds every stage against.
//!
//! ```text
//! roofline --threads 2  → {"f32": {"instruction": "AVX2 FMA", "gflops": 205.1}, "bf16": null, "int8": {…}}
//! ```
//!
//! Operations are counted as in a matrix product: two for every multiplication of two numbers. Each figure is the best
//! of a few runs of a loop that multiplies what is in registers, on all threads at once.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use pulp::{Arch, Simd, WithSimd};
use serde_json::{Value, json};

#[derive(Parser)]
struct Options {
    /// Number of threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

/// Chains of operations that do not depend on each other: enough to hide their latency.
const CHAINS: usize = 12;
/// Operations of each chain per run.
const LENGTH: usize = 4_000_000;
const RUNS: usize = 5;

/// A loop of multiplications on one thread.
struct Limit {
    instruction: &'static str,
    /// Multiplications per instruction.
    products: usize,
    run: fn(),
}

fn float_limit() -> Limit {
    let (instruction, products) = match Arch::new() {
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => ("AVX-512 FMA", 16),
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => ("AVX2 FMA", 8),
        // As far as pulp goes: NEON has vectors of four.
        _ => ("FMA", if cfg!(target_arch = "aarch64") { 4 } else { 1 }),
    };
    Limit { instruction, products, run: || Arch::new().dispatch(Floats) }
}

struct Floats;

impl WithSimd for Floats {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, y) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(1e-3)));
        let mut chains = [simd.splat_f32s(black_box(1.0)); CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut chains {
                *chain = simd.mul_add_e_f32s(*chain, x, y);
            }
        }
        black_box(chains);
    }
}

/// The widest instruction for products of bf16.
fn half_limit() -> Option<Limit> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        return Some(Limit { instruction: "AVX-512 BF16", products: 32, run: x86::bf16 });
    }
    None
}

/// The widest instruction for products of bytes.
fn byte_limit() -> Option<Limit> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vnni") {
            return Some(Limit { instruction: "AVX-512 VNNI", products: 64, run: x86::vnni });
        }
        if is_x86_feature_detected!("avx2") {
            // Without the additions that the sums of products need besides.
            return Some(Limit { instruction: "AVX2 maddubs", products: 32, run: x86::maddubs });
        }
    }
    None
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // each function is only called where the processor has the instructions
mod x86 {
    use std::arch::x86_64::*;

    use super::{CHAINS, LENGTH, black_box};

    pub(super) fn bf16() {
        // SAFETY: the caller has checked that the processor has the instructions.
        unsafe { bf16_loop() }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_loop() {
        let x = black_box(_mm512_setzero_ps());
        let numbers = _mm512_cvtne2ps_pbh(x, x);
        let mut chains = [x; CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, numbers, numbers);
            }
        }
        black_box(chains);
    }

    pub(super) fn vnni() {
        // SAFETY: the caller has checked that the processor has the instructions.
        unsafe { vnni_loop() }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni_loop() {
        let numbers = black_box(_mm512_set1_epi8(1));
        let mut chains = [black_box(_mm512_setzero_si512()); CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut chains {
                *chain = _mm512_dpbusd_epi32(*chain, numbers, numbers);
            }
        }
        black_box(chains);
    }

    pub(super) fn maddubs() {
        // SAFETY: the caller has checked that the processor has the instructions.
        unsafe { maddubs_loop() }
    }

    #[target_feature(enable = "avx2")]
    fn maddubs_loop() {
        let numbers = black_box(_mm256_set1_epi8(1));
        let mut chains = [black_box(_mm256_set1_epi8(1)); CHAINS];
        for _ in 0..LENGTH {
            for chain in &mut chains {
                *chain = _mm256_maddubs_epi16(*chain, numbers);
            }
        }
        black_box(chains);
    }
}

impl Limit {
    /// Measures it on all threads at once.
    fn measure(&self, threads: usize) -> Result<Value> {
        let seconds: Result<Vec<f64>> = (0..RUNS).map(|_| self.seconds(threads)).collect();
        let least = seconds?.into_iter().fold(f64::INFINITY, f64::min);
        let operations = 2 * self.products * CHAINS * LENGTH * threads;
        let rate = operations as f64 / least / 1e9;
        Ok(json!({"instruction": self.instruction, "gflops": rate}))
    }

    /// The time that the slowest of the threads takes for one run.
    fn seconds(&self, threads: usize) -> Result<f64> {
        let start = Barrier::new(threads);
        let run = || {
            start.wait();
            let started = Instant::now();
            (self.run)();
            started.elapsed().as_secs_f64()
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            let mut seconds = all.into_iter().map(|thread| thread.join().ok().context("a thread has failed"));
            seconds.try_fold(0.0, |most: f64, seconds| Ok(most.max(seconds?)))
        })
    }
}

fn main() -> Result<()> {
    let threads = Options::parse().threads;
    let measured = |limit: Option<Limit>| limit.map(|limit| limit.measure(threads)).transpose();
    let limits = json!({
        "f32": measured(Some(float_limit()))?,
        "bf16": measured(half_limit())?,
        "int8": measured(byte_limit())?,
    });
    #[allow(clippy::print_stdout)] // the answer
    {
        println!("{limits}");
    }
    Ok(())
}
