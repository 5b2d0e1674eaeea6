//! The values in weight files: little-endian, in the types that Candle computes with.

use candle_core::{DType, WithDType};

use half::{bf16, f16};

/// Size of a read or write, in bytes or in values: small enough for the cache, large enough to make the cost of the
/// system call negligible.
pub(super) const CHUNK: usize = 256 << 10;

/// A value as it is stored in a file.
pub(super) trait Element: WithDType {
    /// Bytes per value.
    const SIZE: usize;

    /// Appends the values in `bytes`, whose length is a multiple of [`Element::SIZE`].
    fn append(bytes: &[u8], to: &mut Vec<Self>);

    /// The bytes of `numbers`.
    fn to_bytes(numbers: &[Self]) -> Vec<u8>;
}

macro_rules! element {
    ($($number:ty),*) => {$(
        impl Element for $number {
            const SIZE: usize = size_of::<$number>();

            fn append(bytes: &[u8], to: &mut Vec<Self>) {
                let (numbers, _) = bytes.as_chunks::<{ size_of::<$number>() }>();
                to.extend(numbers.iter().map(|&number| <$number>::from_le_bytes(number)));
            }

            fn to_bytes(numbers: &[Self]) -> Vec<u8> {
                numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
            }
        }
    )*};
}

element!(f32, f64, f16, bf16, i64, i32, i16, u32, u8);

/// The value types that weight files may contain, for error messages.
pub(super) const SUPPORTED: &str = "numbers of type f32, f64, f16, bf16, i64, i32, i16, u32 or u8";

/// Runs `$body` with `$number` as the Rust type of `$dtype`, or `$otherwise` for types that files do not support.
macro_rules! for_dtype {
    ($dtype:expr, $number:ident => $body:expr, $otherwise:expr) => {
        match $dtype {
            DType::F32 => {
                type $number = f32;
                $body
            }
            DType::F64 => {
                type $number = f64;
                $body
            }
            DType::F16 => {
                type $number = half::f16;
                $body
            }
            DType::BF16 => {
                type $number = half::bf16;
                $body
            }
            DType::I64 => {
                type $number = i64;
                $body
            }
            DType::I32 => {
                type $number = i32;
                $body
            }
            DType::I16 => {
                type $number = i16;
                $body
            }
            DType::U32 => {
                type $number = u32;
                $body
            }
            DType::U8 => {
                type $number = u8;
                $body
            }
            _ => $otherwise,
        }
    };
}
pub(super) use for_dtype;

/// The safetensors name of `dtype`, for the types in [`SUPPORTED`].
pub(super) fn to_safetensors(dtype: DType) -> Option<safetensors::Dtype> {
    use safetensors::Dtype;
    Some(match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::U32 => Dtype::U32,
        DType::U8 => Dtype::U8,
        _ => return None,
    })
}

/// The type for the safetensors name `dtype`, for the types in [`SUPPORTED`] and booleans (as u8).
pub(super) fn from_safetensors(dtype: safetensors::Dtype) -> Option<DType> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        _ => return None,
    })
}
