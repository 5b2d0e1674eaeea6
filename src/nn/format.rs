//! Storage formats of weights: full precision, half precision, or blocks of 8 bits.

use half::f16;

/// How the matrices of a model are stored in memory or in a file. Matrices are the weights of the linear layers and the
/// table of token embeddings, which make up nearly all of a model. Everything else (biases, norms, positions,
/// convolutions) stays in `f32`.
///
/// Products of `f32` inputs with weights of 16 bits expand the weights a few KiB at a time and compute in `f32`. Products
/// with weights of 8 bits are computed in integers on x86-64 with AVX2 or AVX-512: inputs are rounded to 14 bits, with a
/// scale for every row and block of depth, which moves a result far less than the 8 bits of the weights do. On other
/// processors they are expanded to `f32`, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightFormat {
    /// As in the file. Lossless, and a file in half precision takes half the memory.
    #[default]
    AsStored,
    /// 32 bits.
    F32,
    /// 16 bits, with 11 bits of precision. A matrix with values beyond ±65,504 stays in `f32`.
    F16,
    /// 16 bits, with the range of `f32` and 8 bits of precision.
    Bf16,
    /// 8 bits: 32 consecutive values of a row share one `f16` scale, as in GGUF's `Q8_0`. Matrices whose row length is
    /// not a multiple of 32 are stored as `F16`.
    Q8_0,
}

/// The precision of products with a model's matrices, where the processor multiplies tiles of bf16 (AMX). On others, and on
/// other devices than the CPU, products are computed in the precision of `f32`, or of the weights.
///
/// An `f32` is split into bf16 that add up to it, and products of sums are sums of products of bf16, which are summed in
/// `f32`. The levels are those of PyTorch's `set_float32_matmul_precision`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// All 24 bits of `f32`: each number is three bf16, and six products are summed. Weights take 6 bytes in memory.
    #[default]
    Highest,
    /// 16 bits: each number is two bf16, and three products are summed. Heatmaps move by less than 1e-4, intermediate
    /// values and gradients by more.
    High,
    /// The 8 bits of bf16, for weights and for what they are multiplied with: one product. Processors without AMX, but with
    /// AVX-512 BF16, compute it too.
    Medium,
}

/// How the matrices of a model are stored, and how precise products with them are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matrices {
    /// The storage format.
    pub format: WeightFormat,
    /// The precision of products.
    pub precision: Precision,
}

impl From<WeightFormat> for Matrices {
    fn from(format: WeightFormat) -> Self {
        Self { format, precision: Precision::default() }
    }
}

/// Values per `Q8_0` block.
pub(crate) const BLOCK: usize = 32;
/// Bytes per `Q8_0` block: the scale as an `f16`, then the values divided by it.
pub(crate) const BLOCK_BYTES: usize = 34;

/// Splits a `Q8_0` block into its scale and its quantized values.
pub(super) fn split_block(block: &[u8; BLOCK_BYTES]) -> (f16, &[u8]) {
    (f16::from_le_bytes([block[0], block[1]]), &block[2..])
}

/// Appends the values of whole `Q8_0` blocks to `out`.
pub(crate) fn append_blocks(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<BLOCK_BYTES>().0 {
        let (scale, quants) = split_block(block);
        let scale = scale.to_f32();
        out.extend(quants.iter().map(|&q| f32::from(q as i8) * scale));
    }
}
