//! Opened files of weights: the directory is in memory, and the values are read one tensor at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::element::{CHUNK, Element, SUPPORTED, for_dtype};
use super::entry::{Contents, Entry, ReadError};
use super::store::Store;
use super::{gguf, keys, safetensors, torch};
use crate::error::{Error, Result};
use crate::files::{link_or_copy, write_atomically};
use crate::nn::format::{BLOCK, BLOCK_BYTES, append_blocks};

/// The kind of file, for error messages.
const KIND: &str = "checkpoint";

/// A file of weights: `.safetensors`, `.gguf`, or a file written by `torch.save` (`.pt`, `.pth`, `.bin`). The format is
/// detected from the contents.
///
/// Opening the file only reads its directory. Each tensor is then read directly into its final place, so that loading a
/// model takes no more memory than the model itself. (Mapping the file into memory would not help: weights are repacked
/// for the products they are used in, and modifying a mapped file is undefined behaviour.) Pickles are decoded, never
/// executed: anything in them that is not part of a checkpoint of tensors is an error.
///
/// Nested dictionaries become dotted names: `{"masker_i": {"w": …}}` contains the tensor `masker_i.w`. Top-level
/// entries without tensors become [`Checkpoint::metadata`]. If one of them is `cfg`, the tensors under `model` lose
/// that prefix, so that a published `{cfg, model}` checkpoint has the tensor names of its model. Names are always the
/// published ones ([`keys::published`]), even if the file uses others.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    store: Store,
    contents: Contents,
}

impl Checkpoint {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file is missing, is a directory, or cannot be read; [`Error::Format`] when it is not a
    /// file of weights, is truncated or damaged, or is a pickle that contains anything other than tensors and plain
    /// values.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read_directory(path, Store::open(path)?)
    }

    /// Opens a file of weights in memory. Neither static nor owned bytes are copied. `name` represents the file in
    /// error messages.
    ///
    /// # Errors
    /// [`Error::Format`] as for [`Checkpoint::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::read_directory(name.as_ref(), Store::Memory(bytes.into()))
    }

    /// Opens the safetensors file `path` without renaming its tensors: for layouts that are specific to this crate, not
    /// published ones.
    #[cfg(feature = "eval")]
    pub(crate) fn open_safetensors(path: &Path) -> Result<Self> {
        Self::safetensors(path, Store::open(path)?)
    }

    /// Reads the `bytes` of the safetensors file `path` without renaming its tensors.
    #[cfg(feature = "train")]
    pub(crate) fn safetensors_from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::safetensors(path, Store::Memory(bytes.into()))
    }

    #[cfg(any(feature = "eval", feature = "train"))]
    fn safetensors(path: &Path, store: Store) -> Result<Self> {
        let read = || safetensors::read(&store, store.len()?);
        let contents = read().map_err(|error| error.of(path, "a safetensors file"))?;
        Ok(Self { path: path.to_path_buf(), store, contents })
    }

    fn read_directory(path: &Path, store: Store) -> Result<Self> {
        let expected = "a safetensors or GGUF file, or a torch.save archive of tensors";
        let mut contents = read_contents(&store).map_err(|error| error.of(path, expected))?;
        for (name, entry) in std::mem::take(&mut contents.entries) {
            let published = keys::published(&name);
            if contents.entries.contains_key(&published) {
                return Err(Error::format(path, KIND, format!("one tensor named `{published}`"), "two"));
            }
            contents.entries.insert(published, entry);
        }
        Ok(Self { path: path.to_path_buf(), store, contents })
    }

    /// The path of the file, or the name of a checkpoint in memory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors, ordered by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.contents.entries
    }

    /// The contents of the file other than tensors: the strings in a safetensors file's `__metadata__`, or the
    /// top-level entries of a pickle without tensors (`cfg`, `label_dict`).
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.contents.metadata
    }

    /// The configuration in a published `{cfg, model}` checkpoint.
    pub fn config(&self) -> Option<&Value> {
        self.metadata().get("cfg").filter(|cfg| cfg.is_object())
    }

    /// The SHA-256 of the whole file, in hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read.
    #[cfg(feature = "train")]
    pub fn sha256(&self) -> Result<String> {
        match &self.store {
            Store::File(_) => crate::files::sha256(&self.path),
            Store::Memory(bytes) => Ok(crate::files::sha256_of(bytes)),
        }
    }

    /// Places this file at `target`: as a hard link (or a copy, on another disk), or by writing the bytes of a checkpoint
    /// in memory. An existing `target` is left unchanged.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read or `target` cannot be written.
    pub fn place_at(&self, target: &Path) -> Result<()> {
        match &self.store {
            Store::File(_) => link_or_copy(&self.path, target),
            Store::Memory(_) if target.exists() => Ok(()),
            Store::Memory(bytes) => {
                write_atomically(target, |writer| writer.write_all(bytes).map_err(Error::io(target, "write")))
            }
        }
    }

    /// Reads the tensor `name` onto `device` as `dtype`, converting from the type in the file if they differ.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such tensor; [`Error::Io`] when the file cannot be read; [`Error::Format`]
    /// when it became shorter since it was opened; [`Error::Candle`] when the device is out of memory.
    pub fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor> {
        let missing = || Error::Weights { path: self.path.clone(), problems: vec![format!("missing `{name}`")] };
        let entry = self.entries().get(name).ok_or_else(missing)?;
        let unsupported = || Error::format(&self.path, KIND, SUPPORTED, format!("`{name}`: {:?}", entry.dtype()));
        let tensor = if entry.is_quantized() {
            let mut numbers = Vec::with_capacity(entry.span);
            self.read_blocks(entry, |piece| append_blocks(piece, &mut numbers))?;
            Tensor::from_vec(numbers, entry.shape(), &Device::Cpu)?
        } else {
            for_dtype!(
                entry.dtype(),
                Number => Tensor::from_vec(self.numbers::<Number>(entry)?, entry.shape(), &Device::Cpu)?,
                return Err(unsupported())
            )
        };
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    /// The rows of the matrix `entry` in `Q8_0` blocks, as stored in the file: of type U8 on the CPU.
    pub(super) fn blocks(&self, entry: &Entry) -> Result<Tensor> {
        let (rows, columns) = (entry.shape()[0], entry.shape()[1]);
        let mut bytes = Vec::with_capacity(entry.span / BLOCK * BLOCK_BYTES);
        self.read_blocks(entry, |piece| bytes.extend_from_slice(piece))?;
        Ok(Tensor::from_vec(bytes, (rows, columns / BLOCK * BLOCK_BYTES), &Device::Cpu)?)
    }

    /// Passes the blocks of `entry` to `take`, always whole blocks.
    fn read_blocks(&self, entry: &Entry, take: impl FnMut(&[u8])) -> Result<()> {
        let len = entry.span / BLOCK * BLOCK_BYTES;
        let piece = CHUNK / BLOCK_BYTES * BLOCK_BYTES;
        self.store.read(entry.start, len, piece, take).map_err(|error| self.unreadable(error))
    }

    /// Fills `to` with the bytes of the file from `start` on.
    pub(super) fn read_bytes(&self, start: u64, to: &mut [u8]) -> Result<()> {
        self.store.read_exact(start, to).map_err(|error| self.unreadable(error))
    }

    /// The error for a failure to read values.
    fn unreadable(&self, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::format(&self.path, KIND, "the file as it was when opened", "a shorter one")
            }
            _ => Error::io(&self.path, "read")(error),
        }
    }

    /// The values of `entry` in the order of its shape.
    fn numbers<T: Element>(&self, entry: &Entry) -> Result<Vec<T>> {
        let numbers = self.read(entry.start, entry.span).map_err(|error| self.unreadable(error))?;
        Ok(match &entry.strides {
            None => numbers,
            Some(strides) => gather(&numbers, entry.shape(), strides),
        })
    }

    /// Reads `len` values from byte `start` on. The caller has checked both against the length of the file.
    fn read<T: Element>(&self, start: u64, len: usize) -> std::io::Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(len);
        self.store.read(start, len * T::SIZE, CHUNK, |piece| T::append(piece, &mut numbers))?;
        Ok(numbers)
    }
}

impl ReadError {
    /// Converts this to the error of opening `path`, which should have been `expected`.
    fn of(self, path: &Path, expected: &str) -> Error {
        match self {
            Self::Io(source) => Error::io(path, "read")(source),
            Self::Found(found) => Error::format(path, KIND, expected, found),
        }
    }
}

fn read_contents(store: &Store) -> Result<Contents, ReadError> {
    let len = store.len()?;
    let head = store.bytes(0, len.min(64) as usize)?;
    match head[..] {
        [] => Err("an empty file".into()),
        [b'P', b'K', 3, 4, ..] => torch::read(store, len),
        _ if head.starts_with(gguf::MAGIC) => gguf::read(store, len),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::read(store, len),
        [0x80, ..] => Err("a bare pickle, as PyTorch wrote before 1.6 (convert it: torch.save(torch.load(FILE, \
                           map_location=\"cpu\"), FILE))"
            .into()),
        _ if head.starts_with(b"version https://git-lfs") => {
            Err("a Git LFS pointer instead of the file (run `git lfs pull` to get it)".into())
        }
        [b'<', ..] => Err("a web page".into()),
        _ => Err(ReadError::Found(format!("a file that begins with {:?}", String::from_utf8_lossy(&head)))),
    }
}

/// Gathers the values of a strided view in the order of its shape. There must be at least one, and all must lie within
/// `numbers`.
fn gather<T: Copy>(numbers: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let mut gathered = Vec::with_capacity(shape.iter().product());
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    loop {
        gathered.push(numbers[at]);
        // Increments the index like an odometer: the last dimension changes fastest.
        let mut dim = shape.len();
        loop {
            let Some(previous) = dim.checked_sub(1) else { return gathered };
            dim = previous;
            index[dim] += 1;
            at += strides[dim];
            if index[dim] < shape[dim] {
                break;
            }
            at -= strides[dim] * shape[dim];
            index[dim] = 0;
        }
    }
}
