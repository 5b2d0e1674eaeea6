//! How weights are kept: in full, in half precision, or in blocks of 8 bits.

use half::f16;

/// How the matrices of a model are kept in memory, or written to a file: those of its linear layers and its table of
/// token embeddings, which are nearly all of it. Everything else (biases, norms, positions, convolutions) stays in `f32`.
///
/// This is apart from the precision of *computing*: the product of an `f32` input with a compressed weight expands the
/// weight, a few KiB at a time, and goes on in `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightFormat {
    /// As the file has them: nothing is lost, and a file in half precision takes half the memory.
    #[default]
    AsStored,
    /// 32 bits.
    F32,
    /// 16 bits, with 11 bits of precision; a matrix with numbers beyond ±65,504 stays in `f32`.
    F16,
    /// 16 bits with the range of `f32`, and 8 bits of precision.
    Bf16,
    /// 8 bits: 32 neighbours in a row share one `f16` factor, as in GGUF's `Q8_0`. Matrices whose rows are no multiple of
    /// 32 are kept as `F16`.
    Q8_0,
}

/// Numbers of a `Q8_0` block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a `Q8_0` block: the factor as an `f16`, then the numbers divided by it.
pub(crate) const BLOCK_BYTES: usize = 34;

/// The factor and the numbers of a `Q8_0` block.
pub(super) fn split_block(block: &[u8; BLOCK_BYTES]) -> (f16, &[u8]) {
    (f16::from_le_bytes([block[0], block[1]]), &block[2..])
}

/// The numbers of whole `Q8_0` blocks, appended to `out`.
pub(crate) fn append_blocks(bytes: &[u8], out: &mut Vec<f32>) {
    for block in bytes.as_chunks::<BLOCK_BYTES>().0 {
        let (scale, quants) = split_block(block);
        let scale = scale.to_f32();
        out.extend(quants.iter().map(|&q| f32::from(q as i8) * scale));
    }
}
