//! Instructions that multiply pairs of 16-bit integers.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // other processors compute in floats

use pulp::{Scalar, Simd};

#[cfg(target_arch = "x86_64")]
use super::native::vnni::{Vnni256, Vnni512};

/// Vectors that multiply pairs of 16-bit integers. The halves of their lanes are signed integers.
pub(super) trait PairDot: Copy {
    type Simd: Simd;
    fn simd(self) -> Self::Simd;
    /// For each lane, `sum + a₀·b₀ + a₁·b₁`.
    fn add_products(self, sum: U32s<Self>, a: U32s<Self>, b: U32s<Self>) -> U32s<Self>;
    /// For each half of each lane, `x·y / 2¹⁵`, rounded.
    fn scale(self, x: U32s<Self>, y: U32s<Self>) -> U32s<Self>;
    /// The signed integers in the lanes as floats.
    fn float(self, x: U32s<Self>) -> F32s<Self>;
}

/// A vector of 32-bit integers.
pub(super) type U32s<T> = <<T as PairDot>::Simd as Simd>::u32s;
/// A vector of floats.
pub(super) type F32s<T> = <<T as PairDot>::Simd as Simd>::f32s;

#[cfg(target_arch = "x86_64")]
macro_rules! pair_dot {
    ($simd:ty, $multiply:ident, $set:ident, $scale:ident, $float:ident) => {
        impl PairDot for $simd {
            type Simd = Self;

            #[inline(always)]
            fn simd(self) -> Self {
                self
            }

            #[inline(always)]
            fn add_products(self, sum: U32s<Self>, a: U32s<Self>, b: U32s<Self>) -> U32s<Self> {
                self.add_u32s(sum, pulp::cast(self.$multiply(pulp::cast(a), pulp::cast(b))))
            }

            #[inline(always)]
            fn scale(self, x: U32s<Self>, y: U32s<Self>) -> U32s<Self> {
                pulp::cast(self.$set.$scale(pulp::cast(x), pulp::cast(y)))
            }

            #[inline(always)]
            fn float(self, x: U32s<Self>) -> F32s<Self> {
                self.$float(pulp::cast(x))
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pair_dot!(pulp::x86::V3, multiply_wrapping_add_adjacent_i16x16, avx2, _mm256_mulhrs_epi16, convert_i32x8_to_f32x8);
#[cfg(target_arch = "x86_64")]
pair_dot!(
    pulp::x86::V4,
    multiply_wrapping_add_adjacent_i16x32,
    avx512bw,
    _mm512_mulhrs_epi16,
    convert_i32x16_to_f32x16
);

#[cfg(target_arch = "x86_64")]
macro_rules! pair_dot_with_vnni {
    ($vnni:ty, $simd:ty) => {
        impl PairDot for $vnni {
            type Simd = $simd;

            #[inline(always)]
            fn simd(self) -> $simd {
                <$vnni>::simd(self)
            }

            #[inline(always)]
            fn add_products(self, sum: U32s<Self>, a: U32s<Self>, b: U32s<Self>) -> U32s<Self> {
                <$vnni>::add_products(self, sum, a, b)
            }

            #[inline(always)]
            fn scale(self, x: U32s<Self>, y: U32s<Self>) -> U32s<Self> {
                PairDot::scale(<$vnni>::simd(self), x, y)
            }

            #[inline(always)]
            fn float(self, x: U32s<Self>) -> F32s<Self> {
                PairDot::float(<$vnni>::simd(self), x)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pair_dot_with_vnni!(Vnni256, pulp::x86::V3);
#[cfg(target_arch = "x86_64")]
pair_dot_with_vnni!(Vnni512, pulp::x86::V4);

/// The portable form, to which the others are compared in tests.
impl PairDot for Scalar {
    type Simd = Self;

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }

    #[inline(always)]
    fn add_products(self, sum: u32, a: u32, b: u32) -> u32 {
        let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
        sum.wrapping_add((a0 * b0).cast_unsigned()).wrapping_add((a1 * b1).cast_unsigned())
    }

    #[inline(always)]
    fn scale(self, x: u32, y: u32) -> u32 {
        let ([x0, x1], [y0, y1]) = (halves(x), halves(y));
        let scaled = |x: i32, y: i32| ((x * y + (1 << 14)) >> 15).cast_unsigned() & 0xffff;
        scaled(x0, y0) | scaled(x1, y1) << 16
    }

    #[inline(always)]
    fn float(self, x: u32) -> f32 {
        x.cast_signed() as f32
    }
}

/// The signed integers in the halves of a lane.
fn halves(x: u32) -> [i32; 2] {
    [i32::from(x as u16 as i16), i32::from((x >> 16) as u16 as i16)]
}
