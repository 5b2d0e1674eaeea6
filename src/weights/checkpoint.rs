//! A file of weights, opened: what it holds is known, the numbers are read one tensor at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::archive::Trouble;
use super::element::{CHUNK, Element, SUPPORTED, for_dtype};
use super::store::Store;
use super::{gguf, keys, safetensors, torch};
use crate::error::{Error, Result};
use crate::files::{link_or_copy, write_atomically};
use crate::nn::format::{BLOCK, BLOCK_BYTES, append_blocks};

/// A file of weights: `.safetensors`, `.gguf`, or what `torch.save` writes (`.pt`, `.pth`, `.bin`), told apart by content.
///
/// Opening reads the directory of the file only. Each tensor is then read straight into its final place, so that
/// loading a model takes the memory of the model and no more. (Mapping the file into memory would save nothing: weights
/// are laid out anew for the products that they are for, and a mapped file that changes is undefined behaviour.) Pickles are decoded, never executed: anything in them
/// that is not part of a checkpoint of tensors is an error.
///
/// Nested dictionaries become dotted names, `{"masker_i": {"w": …}}` the tensor `masker_i.w`. Entries of the top level
/// that hold no tensor become [`Checkpoint::metadata`]; where one of them is `cfg`, the tensors under `model` lose that
/// prefix, so that the published `{cfg, model}` has the names of its model. Names are the published ones
/// ([`keys::published`]) whatever the file calls them.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    store: Store,
    contents: Contents,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: Map<String, Value>,
}

/// A tensor of a [`Checkpoint`]: its shape and its type of numbers.
#[derive(Clone, Debug)]
pub struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    /// Steps between numbers, for tensors that do not lie in the file in their own order (transposed, sliced).
    strides: Option<Vec<usize>>,
    /// How many numbers of the file the tensor spans.
    pub(super) span: usize,
    /// Where in the file its first number is, in bytes.
    pub(super) start: u64,
    /// Whether the numbers are in `Q8_0` blocks.
    quantized: bool,
}

impl Entry {
    /// A tensor at the start of the file; `None` where its size overflows or shape and strides do not go together.
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

    /// A tensor whose numbers lie in order from byte `start`; `None` where its size overflows.
    pub(super) fn contiguous(dtype: DType, shape: &[usize], start: u64) -> Option<Self> {
        Some(Self { dtype, shape: shape.to_vec(), strides: None, span: len(shape)?, start, quantized: false })
    }

    /// A tensor in `Q8_0` blocks at the start of the file; `None` where its size overflows or is no multiple of a block.
    pub(super) fn blocks(shape: &[usize]) -> Option<Self> {
        shape.last().filter(|columns| columns.is_multiple_of(BLOCK))?;
        Some(Self { quantized: true, ..Self::contiguous(DType::F32, shape, 0)? })
    }

    /// How many bytes of the file it takes; `None` where that overflows.
    pub(super) fn bytes(&self) -> Option<u64> {
        let bytes = match self.quantized {
            true => (self.span / BLOCK).checked_mul(BLOCK_BYTES),
            false => self.span.checked_mul(self.dtype.size_in_bytes()),
        };
        bytes.map(|bytes| bytes as u64)
    }

    /// Whether its numbers are stored in blocks of 8 bits (GGUF's `Q8_0`).
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// The type of its numbers in the file; F32 for numbers in blocks of 8 bits, which are products with a factor.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many numbers it has.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How many numbers a tensor of `shape` has; `None` where any of its strides would overflow, also if it has none.
fn len(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |len, &dim| len.checked_mul(dim.max(1)))?;
    Some(shape.iter().product())
}

impl Checkpoint {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no such file, it is a directory, or it cannot be read; [`Error::Format`] when it is
    /// no file of weights, is cut short or damaged, or is a pickle with anything in it but tensors and plain values.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::read_directory(path, Store::open(path)?)
    }

    /// Takes a file of weights from memory: bytes that live as long as the program are not copied, nor are owned ones.
    /// `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Format`] as [`Checkpoint::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::read_directory(name.as_ref(), Store::Memory(bytes.into()))
    }

    fn read_directory(path: &Path, store: Store) -> Result<Self> {
        let mut contents = read_contents(&store).map_err(|trouble| match trouble {
            Trouble::Io(source) => Error::io(path, "read")(source),
            Trouble::Found(found) => Error::format(
                path,
                "checkpoint",
                "a safetensors or GGUF file, or a torch.save archive of tensors",
                found,
            ),
        })?;
        for (name, entry) in std::mem::take(&mut contents.entries) {
            let published = keys::published(&name);
            if contents.entries.contains_key(&published) {
                return Err(Error::format(path, "checkpoint", format!("one tensor named `{published}`"), "two"));
            }
            contents.entries.insert(published, entry);
        }
        Ok(Self { path: path.to_path_buf(), store, contents })
    }

    /// The file; of a checkpoint from memory the name that it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors, by name, in the order of their names.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.contents.entries
    }

    /// What the file holds beside tensors: the strings of a safetensors file's `__metadata__`, or the entries of a
    /// pickle's top level that hold no tensor (`cfg`, `label_dict`).
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.contents.metadata
    }

    /// The configuration that a published `{cfg, model}` checkpoint carries.
    pub fn config(&self) -> Option<&Value> {
        self.metadata().get("cfg").filter(|cfg| cfg.is_object())
    }

    /// The SHA-256 of the whole file, in hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        match &self.store {
            Store::File(_) => crate::files::sha256(&self.path),
            Store::Memory(bytes) => Ok(crate::files::hex(&Sha256::digest(bytes))),
        }
    }

    /// Makes `target` this file: another name of it or a copy ([`link_or_copy`]), and the bytes where they are in memory.
    /// A `target` that exists already is left as it is.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, or `target` not be written.
    pub fn place_at(&self, target: &Path) -> Result<()> {
        match &self.store {
            Store::File(_) => link_or_copy(&self.path, target),
            Store::Memory(_) if target.exists() => Ok(()),
            Store::Memory(bytes) => {
                write_atomically(target, |writer| writer.write_all(bytes).map_err(Error::io(target, "write")))
            }
        }
    }

    /// Reads the tensor `name` onto `device` as `dtype`, converting from the type in the file where they differ.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such tensor; [`Error::Io`] and [`Error::Format`] when the file changed since
    /// it was opened; [`Error::Candle`] when the device has no room.
    pub fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor> {
        let missing = || Error::Weights { path: self.path.clone(), problems: vec![format!("missing `{name}`")] };
        let entry = self.entries().get(name).ok_or_else(missing)?;
        let unsupported = || Error::format(&self.path, "checkpoint", SUPPORTED, format!("`{name}`: {:?}", entry.dtype));
        let tensor = if entry.quantized {
            let mut numbers = Vec::with_capacity(entry.span);
            self.read_blocks(entry, |piece| append_blocks(piece, &mut numbers))?;
            Tensor::from_vec(numbers, entry.shape(), &Device::Cpu)?
        } else {
            for_dtype!(
                entry.dtype,
                Number => Tensor::from_vec(self.numbers::<Number>(entry)?, entry.shape(), &Device::Cpu)?,
                return Err(unsupported())
            )
        };
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }

    /// The rows of the matrix `entry` in `Q8_0` blocks, as they are in the file: of type U8 on the CPU.
    pub(super) fn blocks(&self, entry: &Entry) -> Result<Tensor> {
        let (rows, columns) = (entry.shape[0], entry.shape[1]);
        let mut bytes = Vec::with_capacity(entry.span / BLOCK * BLOCK_BYTES);
        self.read_blocks(entry, |piece| bytes.extend_from_slice(piece))?;
        Ok(Tensor::from_vec(bytes, (rows, columns / BLOCK * BLOCK_BYTES), &Device::Cpu)?)
    }

    /// Hands on the blocks of `entry`, whole ones at a time.
    fn read_blocks(&self, entry: &Entry, take: impl FnMut(&[u8])) -> Result<()> {
        let len = entry.span / BLOCK * BLOCK_BYTES;
        let piece = CHUNK / BLOCK_BYTES * BLOCK_BYTES;
        self.store.read(entry.start, len, piece, take).map_err(|error| self.unreadable(error))
    }

    /// What reading numbers fails with.
    fn unreadable(&self, error: std::io::Error) -> Error {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::format(&self.path, "checkpoint", "the file as it was when opened", "a shorter one")
            }
            _ => Error::io(&self.path, "read")(error),
        }
    }

    /// The numbers of `entry` in the order of its shape.
    fn numbers<T: Element>(&self, entry: &Entry) -> Result<Vec<T>> {
        let numbers = self.read(entry.start, entry.span).map_err(|error| self.unreadable(error))?;
        Ok(match &entry.strides {
            None => numbers,
            Some(strides) => gather(&numbers, &entry.shape, strides),
        })
    }

    /// `len` numbers from byte `start`. The caller has checked them against the length of the file.
    fn read<T: Element>(&self, start: u64, len: usize) -> std::io::Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(len);
        self.store.read(start, len * T::SIZE, CHUNK, |piece| T::append(piece, &mut numbers))?;
        Ok(numbers)
    }
}

fn read_contents(store: &Store) -> Result<Contents, Trouble> {
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
            Err("a Git LFS pointer in place of the file itself (get it: git lfs pull)".into())
        }
        [b'<', ..] => Err("a web page".into()),
        _ => Err(Trouble::Found(format!("a file that begins with {:?}", String::from_utf8_lossy(&head)))),
    }
}

/// The numbers of a strided view in the order of its shape; at least one, all within `numbers`.
fn gather<T: Copy>(numbers: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let mut gathered = Vec::with_capacity(shape.iter().product());
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    loop {
        gathered.push(numbers[at]);
        // The next index, as an odometer counts: the last dimension turns fastest.
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
