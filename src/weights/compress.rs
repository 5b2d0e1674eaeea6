//! Weights in fewer bits, on their way into memory or into a file.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::checkpoint::{Checkpoint, Entry};
use super::{gguf, keys, safetensors};
use crate::error::Result;
use crate::nn::WeightFormat;
use crate::nn::format::{BLOCK, BLOCK_BYTES};

/// Fewer bits than 32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Short {
    F16,
    Bf16,
    Q8,
}

impl Short {
    /// In what form `format` keeps the tensor `name`; `None` for `f32`, or whatever else the file has.
    pub(super) fn of(name: &str, entry: &Entry, format: WeightFormat) -> Option<Self> {
        let &[_, columns] = entry.shape() else { return None };
        if !keys::is_matrix(name) {
            return None;
        }
        match format {
            WeightFormat::F32 => None,
            WeightFormat::AsStored if entry.is_quantized() => Some(Self::Q8),
            WeightFormat::AsStored => match entry.dtype() {
                DType::F16 => Some(Self::F16),
                DType::BF16 => Some(Self::Bf16),
                _ => None,
            },
            WeightFormat::F16 => Some(Self::F16),
            WeightFormat::Bf16 => Some(Self::Bf16),
            WeightFormat::Q8_0 if columns.is_multiple_of(BLOCK) => Some(Self::Q8),
            WeightFormat::Q8_0 => Some(Self::F16),
        }
    }

    /// The largest number that it can express.
    fn limit(self) -> f32 {
        match self {
            Self::F16 => 65_504.0,
            // The largest bf16.
            Self::Bf16 => f32::from_bits(0x7f7f_0000),
            Self::Q8 => 127.0 * 65_504.0,
        }
    }
}

impl Checkpoint {
    /// The matrix `name` on the CPU as `short`: of type F16 or BF16, or rows of `Q8_0` blocks of type U8. It stays in F32
    /// where numbers are too large for that.
    pub(super) fn compressed(&self, name: &str, entry: &Entry, short: Short) -> Result<Tensor> {
        if short == Short::Q8 && entry.is_quantized() {
            return self.blocks(entry);
        }
        let numbers = self.tensor(name, &Device::Cpu, DType::F32)?;
        let fits = |x: &f32| x.abs() <= short.limit();
        if !numbers.flatten_all()?.to_vec1::<f32>()?.iter().all(fits) {
            return Ok(numbers);
        }
        Ok(match short {
            Short::F16 => numbers.to_dtype(DType::F16)?,
            Short::Bf16 => numbers.to_dtype(DType::BF16)?,
            Short::Q8 => {
                let (rows, columns) = numbers.dims2()?;
                let blocks = QTensor::quantize(&numbers, GgmlDType::Q8_0)?.data()?.into_owned();
                Tensor::from_vec(blocks, (rows, columns / BLOCK * BLOCK_BYTES), &Device::Cpu)?
            }
        })
    }
}

/// Writes the weights of `checkpoint` to `path`, all of them or nothing, with its matrices as `format` says: as a GGUF file
/// for [`WeightFormat::Q8_0`], as a safetensors file otherwise. Where numbers are too large for the format, and in
/// everything but matrices, tensors keep their type. A GGUF file leaves out what no model reads ([`keys::IGNORABLE`]).
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when a file cannot be read or written; what [`Checkpoint::tensor`] and
/// [`save_safetensors`](super::save_safetensors) fail with.
pub fn save_as(checkpoint: &Checkpoint, path: impl AsRef<Path>, format: WeightFormat) -> Result<()> {
    let path = path.as_ref();
    if format == WeightFormat::Q8_0 {
        return save_gguf(checkpoint, path);
    }
    let mut tensors = BTreeMap::new();
    for (name, entry) in checkpoint.entries() {
        let tensor = match Short::of(name, entry, format) {
            Some(short @ (Short::F16 | Short::Bf16)) => checkpoint.compressed(name, entry, short)?,
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
        let short = Short::of(name, entry, WeightFormat::Q8_0);
        let tensor = match short {
            // Blocks are made from numbers once more: dividing them by their own factor gives the same.
            Some(Short::Q8) | None => checkpoint.tensor(name, &Device::Cpu, entry.dtype())?,
            Some(short) => checkpoint.compressed(name, entry, short)?,
        };
        let fits = short != Some(Short::Q8) || {
            let largest = tensor.to_dtype(DType::F32)?.abs()?.flatten_all()?;
            largest.to_vec1::<f32>()?.iter().all(|x| *x <= Short::Q8.limit())
        };
        let kind = if short == Some(Short::Q8) && fits { GgmlDType::Q8_0 } else { gguf::dtype(tensor.dtype()) };
        // A tensor without dimensions is unknown to the format.
        let tensor = if tensor.rank() == 0 { tensor.reshape(1)? } else { tensor };
        tensors.insert(name.clone(), QTensor::quantize(&tensor, kind)?);
    }
    gguf::write(path, &tensors)
}
