//! Compressing weights, in memory and for files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::checkpoint::Checkpoint;
use super::entry::Entry;
use super::{gguf, keys, safetensors};
use crate::error::Result;
use crate::nn::WeightFormat;
use crate::nn::compressed::CompressedMatrix;
use crate::nn::format::{BLOCK, BLOCK_BYTES};
use crate::nn::stored::StoredFormat;

/// A storage format for matrices with fewer than 32 bits per value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compression {
    /// F16 or BF16.
    Half(DType),
    /// Blocks of 8 bits.
    Q8,
}

impl Compression {
    /// The compression that `format` applies to the tensor `name`; `None` leaves the tensor unchanged.
    pub(super) fn of(name: &str, entry: &Entry, format: WeightFormat) -> Option<Self> {
        let &[_, columns] = entry.shape() else { return None };
        if !keys::is_matrix(name) {
            return None;
        }
        match format {
            WeightFormat::F32 => None,
            WeightFormat::AsStored if entry.is_quantized() => Some(Self::Q8),
            WeightFormat::AsStored => match entry.dtype() {
                half @ (DType::F16 | DType::BF16) => Some(Self::Half(half)),
                _ => None,
            },
            WeightFormat::F16 => Some(Self::Half(DType::F16)),
            WeightFormat::Bf16 => Some(Self::Half(DType::BF16)),
            WeightFormat::Q8_0 if columns.is_multiple_of(BLOCK) => Some(Self::Q8),
            WeightFormat::Q8_0 => Some(Self::Half(DType::F16)),
        }
    }

    /// The format of `entry`, if its bytes are what `compression` would make of it (or, without one, `f32`s).
    pub(super) fn stored_format(compression: Option<Self>, entry: &Entry) -> Option<StoredFormat> {
        if entry.strides.is_some() {
            return None;
        }
        match (compression, entry.is_quantized(), entry.dtype()) {
            (None, false, DType::F32) => Some(StoredFormat::F32),
            (Some(Self::Half(DType::F16)), false, DType::F16) => Some(StoredFormat::F16),
            (Some(Self::Half(DType::BF16)), false, DType::BF16) => Some(StoredFormat::Bf16),
            (Some(Self::Q8), true, _) => Some(StoredFormat::Blocks),
            _ => None,
        }
    }

    /// Whether all `numbers`, of type F32, are in the range of the format.
    fn fits(self, numbers: &Tensor) -> Result<bool> {
        let limit = match self {
            Self::Half(DType::F16) => 65_504.0,
            // The largest finite bf16.
            Self::Half(_) => f32::from_bits(0x7f7f_0000),
            Self::Q8 => 127.0 * 65_504.0,
        };
        Ok(numbers.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.abs() <= limit))
    }
}

impl Checkpoint {
    /// The matrix `name`, compressed, on the CPU; `None` if some of its values are out of range.
    pub(super) fn compressed(
        &self,
        name: &str,
        entry: &Entry,
        compression: Compression,
    ) -> Result<Option<CompressedMatrix>> {
        if compression == Compression::Q8 && entry.is_quantized() {
            return Ok(Some(CompressedMatrix::blocks(self.blocks(entry)?)?));
        }
        let numbers = self.tensor(name, &Device::Cpu, DType::F32)?;
        if !compression.fits(&numbers)? {
            return Ok(None);
        }
        Ok(Some(match compression {
            Compression::Half(dtype) => CompressedMatrix::half(numbers.to_dtype(dtype)?)?,
            Compression::Q8 => {
                let (rows, columns) = numbers.dims2()?;
                let blocks = QTensor::quantize(&numbers, GgmlDType::Q8_0)?.data()?.into_owned();
                let width = columns / BLOCK * BLOCK_BYTES;
                CompressedMatrix::blocks(Tensor::from_vec(blocks, (rows, width), &Device::Cpu)?)?
            }
        }))
    }

    /// The tensor `name` as `dtype`, F16 or BF16, or as F32 if some of its values are out of range.
    fn half(&self, name: &str, dtype: DType) -> Result<Tensor> {
        let numbers = self.tensor(name, &Device::Cpu, DType::F32)?;
        Ok(if Compression::Half(dtype).fits(&numbers)? { numbers.to_dtype(dtype)? } else { numbers })
    }
}

/// Writes the weights of `checkpoint` to `path` atomically, with the matrices in `format`: as a GGUF file for
/// [`WeightFormat::Q8_0`], as a safetensors file otherwise. A matrix with values outside the range of the format is
/// not compressed. Other tensors keep their type, except that [`WeightFormat::F32`] converts all floating-point tensors
/// and that GGUF files store everything but F16 and BF16 as F32. GGUF files do not include tensors that no model uses
/// ([`keys::IGNORABLE`]).
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when a file cannot be read or written; the errors of [`Checkpoint::tensor`] and
/// [`save_safetensors`](super::save_safetensors).
pub fn save_as(checkpoint: &Checkpoint, path: impl AsRef<Path>, format: WeightFormat) -> Result<()> {
    let path = path.as_ref();
    if format == WeightFormat::Q8_0 {
        return save_gguf(checkpoint, path);
    }
    let mut tensors = BTreeMap::new();
    for (name, entry) in checkpoint.entries() {
        let tensor = match Compression::of(name, entry, format) {
            Some(Compression::Half(dtype)) => checkpoint.half(name, dtype)?,
            _ if format == WeightFormat::F32 && entry.dtype().is_float() => {
                checkpoint.tensor(name, &Device::Cpu, DType::F32)?
            }
            _ => checkpoint.tensor(name, &Device::Cpu, entry.dtype())?,
        };
        tensors.insert(name.clone(), tensor);
    }
    safetensors::save_safetensors(path, &tensors, &BTreeMap::new())
}

fn save_gguf(checkpoint: &Checkpoint, path: &Path) -> Result<()> {
    let mut tensors = BTreeMap::new();
    let read = |(name, _): &(&String, &Entry)| !keys::IGNORABLE.iter().any(|pattern| keys::matches(pattern, name));
    for (name, entry) in checkpoint.entries().iter().filter(read) {
        let compression = Compression::of(name, entry, WeightFormat::Q8_0);
        let tensor = match compression {
            // Values that were in blocks before are quantized again, which gives the same bytes.
            Some(Compression::Q8) | None => checkpoint.tensor(name, &Device::Cpu, entry.dtype())?,
            Some(Compression::Half(dtype)) => checkpoint.half(name, dtype)?,
        };
        let in_blocks = compression == Some(Compression::Q8) && Compression::Q8.fits(&tensor.to_dtype(DType::F32)?)?;
        let kind = if in_blocks { GgmlDType::Q8_0 } else { gguf::dtype(tensor.dtype()) };
        // The format does not support tensors without dimensions.
        let tensor = if tensor.rank() == 0 { tensor.reshape(1)? } else { tensor };
        tensors.insert(name.clone(), QTensor::quantize(&tensor, kind)?);
    }
    gguf::write(path, &tensors)
}
