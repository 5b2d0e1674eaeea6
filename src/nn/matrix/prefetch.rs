//! Memory that will be needed soon.

/// Asks the processor to bring these numbers into the second-level cache, without waiting for them. Only x86-64 processors
/// have a stable instruction for that; on others, nothing happens.
#[inline(always)]
pub(super) fn prefetch(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    super::native::prefetch(numbers);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}
