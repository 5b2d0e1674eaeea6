//! VNNI: multiply pairs of 16-bit integers and add the products to 32-bit sums, in one instruction. AVX-512 VNNI is in Intel's
//! server processors since Cascade Lake and AMD's since Zen 4, AVX-VNNI in Intel's processors for desktops since Alder Lake.

use std::arch::x86_64::{_mm256_dpwssd_avx_epi32, _mm512_dpwssd_epi32};

use pulp::x86::{V3, V4};
use pulp::{Simd, WithSimd, cast};

macro_rules! vnni {
    ($name:ident, $simd:ty, $feature:tt, $features:literal, $dot:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub(in super::super) struct $name($simd);

        impl $name {
            /// Asks the processor.
            pub(in super::super) fn try_new() -> Option<Self> {
                <$simd>::try_new().filter(|_| is_x86_feature_detected!($feature)).map(Self)
            }

            /// The instructions besides.
            #[inline(always)]
            pub(in super::super) fn simd(self) -> $simd {
                self.0
            }

            /// For each lane, `sum + a₀·b₀ + a₁·b₁`, where the 16-bit halves of the lanes are signed integers. Fast only
            /// inside [`Self::vectorize`].
            #[inline(always)]
            pub(in super::super) fn add_products(
                self,
                sum: <$simd as Simd>::u32s,
                a: <$simd as Simd>::u32s,
                b: <$simd as Simd>::u32s,
            ) -> <$simd as Simd>::u32s {
                // SAFETY: `self` proves that the processor has the instruction.
                cast(unsafe { $dot(cast(sum), cast(a), cast(b)) })
            }

            /// Compiles and runs `work` for this instruction set.
            pub(in super::super) fn vectorize<W: WithSimd>(self, work: W) -> W::Output {
                #[target_feature(enable = $features)]
                fn compiled<W: WithSimd>(simd: $simd, work: W) -> W::Output {
                    work.with_simd(simd)
                }
                // SAFETY: `self` proves that the processor has the instructions.
                unsafe { compiled(self.0, work) }
            }
        }
    };
}

vnni!(
    Vnni256,
    V3,
    "avxvnni",
    "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,avxvnni",
    _mm256_dpwssd_avx_epi32,
    "Proof that the processor has AVX-VNNI."
);
vnni!(
    Vnni512,
    V4,
    "avx512vnni",
    "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,\
     avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni",
    _mm512_dpwssd_epi32,
    "Proof that the processor has AVX-512 VNNI."
);
