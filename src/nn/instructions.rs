//! The instruction set of the processor that the kernels use.

use std::sync::OnceLock;

use pulp::Arch;

/// The environment variable that limits the instruction set.
const VARIABLE: &str = "SOUNDSIGHT_SIMD";

/// What the environment allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    /// Everything that the processor has.
    None,
    /// Everything, and the portable form of the instructions that multiply tiles.
    PortableTiles,
    Avx512,
    Avx2,
    Scalar,
}

/// The limit that the environment variable `SOUNDSIGHT_SIMD` sets.
pub(super) fn limit() -> Limit {
    parse(std::env::var(VARIABLE).ok().as_deref())
}

fn parse(value: Option<&str>) -> Limit {
    match value {
        Some("scalar") => Limit::Scalar,
        Some("avx2") => Limit::Avx2,
        Some("avx512") => Limit::Avx512,
        Some("portable-tiles") => Limit::PortableTiles,
        _ => Limit::None,
    }
}

/// The instruction set that the kernels use: the widest one that this processor has and the environment allows. It is
/// determined once, at the first use.
pub(crate) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(|| limited(limit()))
}

fn limited(limit: Limit) -> Arch {
    match limit {
        Limit::Scalar => Arch::Scalar,
        #[cfg(target_arch = "x86_64")]
        Limit::Avx2 => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => Arch::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_limits_the_instruction_set() {
        assert!(matches!(limited(parse(Some("scalar"))), Arch::Scalar));
        let widest = std::mem::discriminant(&Arch::new());
        for of_the_widest in [None, Some(""), Some("avx512"), Some("AVX2"), Some("portable-tiles")] {
            assert_eq!(std::mem::discriminant(&limited(parse(of_the_widest))), widest);
        }
        for without_effect in [None, Some(""), Some("AVX2")] {
            assert_eq!(parse(without_effect), Limit::None);
        }
        #[cfg(target_arch = "x86_64")]
        assert!(matches!(limited(parse(Some("avx2"))), Arch::Scalar | Arch::V3(_)));
    }
}
