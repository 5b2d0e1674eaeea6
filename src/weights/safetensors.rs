//! The safetensors format: a JSON header, then the elements of all tensors one after another.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;
use serde_json::json;

use super::element::{CHUNK, Element, SUPPORTED, for_dtype, from_safetensors, to_safetensors};
use super::entry::{Contents, Entry, ReadError};
use super::store::Store;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// The file starts with the length of the header, in eight bytes.
const PREFIX: u64 = 8;
/// The header entry that is not a tensor.
const METADATA: &str = "__metadata__";
/// The limit of the format.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the header of the safetensors `file`, which is `file_len` bytes long.
pub(super) fn read(file: &Store, file_len: u64) -> Result<Contents, ReadError> {
    if file_len < PREFIX {
        return Err(ReadError::Found(format!("{file_len} bytes")));
    }
    let len: [u8; 8] = file.bytes(0, PREFIX as usize)?.try_into().map_err(|_| "a file that ends too early")?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER || len > file_len - PREFIX {
        let found =
            format!("no safetensors header in {file_len} bytes (the first eight announce a header of {len} bytes)");
        return Err(ReadError::Found(found));
    }
    let header = file.bytes(PREFIX, len as usize)?;
    // Deserializing checks the shapes, and that the tensors follow each other without gaps or overlaps.
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| ReadError::Found(format!("a damaged header: {error}")))?;
    let numbers = PREFIX + len;
    if numbers.checked_add(header.data_len() as u64) != Some(file_len) {
        return Err(ReadError::Found(format!(
            "{} bytes of numbers where the header announces {}",
            file_len - numbers,
            header.data_len()
        )));
    }
    let mut contents = Contents::default();
    for (name, info) in header.tensors() {
        let dtype = from_safetensors(info.dtype)
            .ok_or_else(|| ReadError::Found(format!("`{name}` of type {:?}, not {SUPPORTED}", info.dtype)))?;
        let entry = Entry::contiguous(dtype, &info.shape, numbers + info.data_offsets.0 as u64);
        let entry = entry.ok_or_else(|| ReadError::Found(format!("`{name}` of shape {:?}", info.shape)))?;
        contents.entries.insert(name, entry);
    }
    let strings = header.metadata().iter().flatten();
    contents.metadata = strings.map(|(key, value)| (key.clone(), value.clone().into())).collect();
    Ok(contents)
}

/// Writes `tensors` and `metadata` to the safetensors file `path` atomically (to a temporary file, which is then
/// renamed).
///
/// Every tensor keeps its element type. The same tensors always give the same bytes: they are sorted by decreasing
/// element size, then by name, so that all of them are aligned. Only one tensor at a time is copied.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; [`Error::Argument`] for an element type that safetensors files do not
/// support, or a tensor with the name that the format reserves for metadata; [`Error::Candle`] when a tensor cannot be
/// read from its device.
pub fn save_safetensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let path = path.as_ref();
    write_atomically(path, |writer| write(writer, path, tensors, metadata))
}

/// Writes a safetensors file to `writer`, like [`save_safetensors`]; `path` represents it in error messages.
pub(crate) fn write(
    writer: &mut impl Write,
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    if tensors.contains_key(METADATA) {
        return Err(Error::argument("name of a tensor", format!("any but `{METADATA}`"), METADATA));
    }
    let unsupported =
        |name: &str, dtype: DType| Error::argument(format!("type of `{name}`"), SUPPORTED, dtype.as_str());
    let mut ordered: Vec<(&String, &Tensor)> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));

    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let strings = metadata.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        header.insert(METADATA.into(), serde_json::Value::Object(strings.collect()));
    }
    let mut end = 0;
    for (name, tensor) in &ordered {
        let dtype = to_safetensors(tensor.dtype()).ok_or_else(|| unsupported(name, tensor.dtype()))?;
        let start = end;
        end += tensor.elem_count() * tensor.dtype().size_in_bytes();
        let info = json!({ "dtype": dtype, "shape": tensor.dims(), "data_offsets": [start, end] });
        header.insert((*name).clone(), info);
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    // Padded with spaces, so that the elements begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');

    writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io(path, "write"))?;
    writer.write_all(&header).map_err(Error::io(path, "write"))?;
    for (name, tensor) in &ordered {
        for_dtype!(
            tensor.dtype(),
            Number => for chunk in numbers::<Number>(tensor)?.chunks(CHUNK) {
                writer.write_all(&Element::to_bytes(chunk)).map_err(Error::io(path, "write"))?;
            },
            return Err(unsupported(name, tensor.dtype()))
        );
    }
    Ok(())
}

/// All elements of `tensor`, in order.
fn numbers<T: Element>(tensor: &Tensor) -> Result<Vec<T>> {
    Ok(tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}
