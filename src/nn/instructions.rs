//! The instruction set of the processor that the kernels use.

use std::sync::OnceLock;

use pulp::Arch;

/// The environment variable that limits the instruction set.
const VARIABLE: &str = "SOUNDSIGHT_SIMD";

/// The instruction set that the kernels use: the widest one that this processor has and the environment variable
/// `SOUNDSIGHT_SIMD` allows. It is read once, at the first use.
pub(crate) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| limited(std::env::var(VARIABLE).ok().as_deref()))
}

fn limited(limit: Option<&str>) -> Arch {
    match limit {
        Some("scalar") => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Some("avx2") => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    }
}

/// The name of the instruction set that the kernels for `f32` on CPUs use: `AVX-512`, `AVX2`, `scalar`, or `native` on
/// processors other than x86-64.
///
/// The environment variable `SOUNDSIGHT_SIMD` forbids wider ones than it names: `avx2` or `scalar`. Other values have no
/// effect. Results differ by rounding from one instruction set to the next.
///
/// ```
/// println!("computing with {}", soundsight::nn::instruction_set());
/// ```
pub fn instruction_set() -> &'static str {
    match arch() {
        Arch::Scalar => "scalar",
        #[cfg(target_arch = "x86_64")]
        Arch::V3(_) => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Arch::V4(_) => "AVX-512",
        _ => "native",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_limits_the_instruction_set() {
        assert!(matches!(limited(Some("scalar")), Arch::Scalar));
        let widest = std::mem::discriminant(&Arch::new());
        for without_effect in [None, Some(""), Some("avx512"), Some("AVX2")] {
            assert_eq!(std::mem::discriminant(&limited(without_effect)), widest);
        }
        #[cfg(target_arch = "x86_64")]
        assert!(matches!(limited(Some("avx2")), Arch::Scalar | Arch::V3(_)));
    }
}
