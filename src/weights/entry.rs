//! The contents of a file of weights, independent of its format: the tensors and their positions.

use std::collections::BTreeMap;

use candle_core::DType;
use serde_json::{Map, Value};

use crate::nn::format::{BLOCK, BLOCK_BYTES};

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: Map<String, Value>,
}

/// A tensor of a [`Checkpoint`](super::Checkpoint): its shape and its element type.
#[derive(Clone, Debug)]
pub struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    /// The strides, for tensors whose elements are not contiguous in the file (transposed, sliced).
    pub(super) strides: Option<Vec<usize>>,
    /// How many elements of the file the tensor spans.
    pub(super) span: usize,
    /// The position of the first element in the file, in bytes.
    pub(super) start: u64,
    /// Whether the elements are in `Q8_0` blocks.
    quantized: bool,
}

impl Entry {
    /// A tensor at the start of the file; `None` if its size overflows or the strides do not match the shape.
    pub(super) fn strided(dtype: DType, shape: &[usize], strides: &[usize]) -> Option<Self> {
        if shape.len() != strides.len() {
            return None;
        }
        let len = len(shape)?;
        let mut span = usize::from(len > 0);
        if len > 0 {
            for (&dim, &stride) in shape.iter().zip(strides) {
                span = span.checked_add((dim - 1).checked_mul(stride)?)?;
            }
        }
        let mut expected = 1;
        let in_order = shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
            let matches = dim == 1 || stride == expected;
            expected *= dim;
            matches
        });
        let strides = (len > 0 && !in_order).then(|| strides.to_vec());
        Some(Self { dtype, shape: shape.to_vec(), strides, span, start: 0, quantized: false })
    }

    /// A tensor whose elements are contiguous from byte `start` on; `None` if its size overflows.
    pub(super) fn contiguous(dtype: DType, shape: &[usize], start: u64) -> Option<Self> {
        Some(Self { dtype, shape: shape.to_vec(), strides: None, span: len(shape)?, start, quantized: false })
    }

    /// A tensor in `Q8_0` blocks at the start of the file; `None` if its size overflows or is not a multiple of a
    /// block.
    pub(super) fn blocks(shape: &[usize]) -> Option<Self> {
        shape.last().filter(|columns| columns.is_multiple_of(BLOCK))?;
        Some(Self { quantized: true, ..Self::contiguous(DType::F32, shape, 0)? })
    }

    /// The size in the file in bytes; `None` if it overflows.
    pub(super) fn bytes(&self) -> Option<u64> {
        let bytes = match self.quantized {
            true => (self.span / BLOCK).checked_mul(BLOCK_BYTES),
            false => self.span.checked_mul(self.dtype.size_in_bytes()),
        };
        bytes.map(|bytes| bytes as u64)
    }

    /// Whether the elements are stored in blocks of 8 bits (GGUF's `Q8_0`).
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// The element type in the file. F32 for blocks of 8 bits, whose elements are products with a scale.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The number of elements of a tensor of `shape`; `None` if any of its strides would overflow, even if it is empty.
fn len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim.max(1)))?;
    Some(shape.iter().product())
}

/// Why the contents of a file cannot be listed.
pub(super) enum ReadError {
    /// An error of the file system.
    Io(std::io::Error),
    /// The contents are invalid: a description of what was found.
    Found(String),
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Found("a file that ends too early".into()),
            _ => Self::Io(error),
        }
    }
}

impl From<&str> for ReadError {
    fn from(found: &str) -> Self {
        Self::Found(found.into())
    }
}
