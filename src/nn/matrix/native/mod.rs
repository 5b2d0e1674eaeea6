//! Instructions of x86-64 processors that cannot be had without `unsafe`. This is the only module of the library with such
//! code.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

pub(super) mod bf16;
pub(super) mod vnni;

/// Floats in a line of the caches.
const LINE: usize = 16;

/// Brings `numbers` into the second-level cache, except a last part of less than a line.
#[inline(always)]
pub(super) fn prefetch(numbers: &[f32]) {
    for line in numbers.as_chunks::<LINE>().0 {
        // SAFETY: every x86-64 processor has the instruction, which changes nothing but the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
    }
}
