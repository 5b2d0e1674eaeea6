//! The values that a pickle of tensors may contain, and the names that it may refer to.
//!
//! Values are stored in one arena and refer to each other by index, so that shared objects cost nothing and cycles
//! cannot leak.

use std::sync::Arc;

use candle_core::DType;

/// The position of a value among all the values of a pickle.
pub(super) type Id = usize;

/// The error is a description of what was found; the caller knows the file.
pub(super) type Parsed<T> = Result<T, String>;

/// A decoded value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Arc<Storage>),
    Tensor(Box<TensorView>),
}

/// The classes and functions that a checkpoint may refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    Size,
    StorageType(DType),
    TensorType,
    RebuildTensor,
    RebuildParameter,
    RebuildFromType,
}

/// A block of elements outside the pickle, in the archive under `data/<key>`.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) dtype: DType,
    pub(super) key: Arc<str>,
    /// The number of elements.
    pub(super) len: usize,
}

/// A tensor: a strided view of a storage. Offset and strides are in elements, not bytes.
#[derive(Clone, Debug)]
pub(super) struct TensorView {
    pub(super) storage: Arc<Storage>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// The class or function `module.name`, if a checkpoint may refer to it.
pub(super) fn known_global(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch", "Size") => Global::Size,
        ("torch", "FloatStorage") => Global::StorageType(DType::F32),
        ("torch", "DoubleStorage") => Global::StorageType(DType::F64),
        ("torch", "HalfStorage") => Global::StorageType(DType::F16),
        ("torch", "BFloat16Storage") => Global::StorageType(DType::BF16),
        ("torch", "LongStorage") => Global::StorageType(DType::I64),
        ("torch", "IntStorage") => Global::StorageType(DType::I32),
        ("torch", "ShortStorage") => Global::StorageType(DType::I16),
        ("torch", "ByteStorage" | "BoolStorage") => Global::StorageType(DType::U8),
        ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Global::TensorType,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        _ => return None,
    })
}
