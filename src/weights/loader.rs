//! Building a model from a checkpoint, strictly: every tensor must be used, or loading fails.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::checkpoint::Checkpoint;
use super::compress::Compression;
use super::entry::Entry;
use super::keys;
use crate::error::{Error, Result};
use crate::nn::compressed::CompressedMatrix;
use crate::nn::stored::StoredMatrix;
use crate::nn::weights::MatrixSource;
use crate::nn::{Matrices, WeightFormat, Weights};

/// Limit on the number of reported problems: with more, it is simply the wrong file.
const MAX_PROBLEMS: usize = 50;
/// How much larger than the whole file the stand-ins for missing tensors may be, in elements.
const MAX_STAND_INS: usize = 1 << 20;

impl Checkpoint {
    /// Builds a model: `build` receives a [`VarBuilder`] over the tensors of this file, converted to `dtype` on
    /// `device`. The model that it returns is only passed on if it matches the file exactly.
    ///
    /// They match if every tensor that the model requests exists with the requested shape, and if the model requests
    /// every tensor of the file. Tensors that match [`keys::IGNORABLE`] or one of the patterns in `ignored`
    /// (`"decoder.*"`; see [`keys::matches`]) do not need to be requested. A scalar may be stored as `[]` or `[1]`,
    /// whichever shape the model requests.
    ///
    /// All problems of the file are reported at once: while `build` runs, missing tensors are replaced by zeros.
    /// Initialization hints are ignored.
    ///
    /// # Errors
    /// [`Error::Weights`] with every missing, misshaped and unexpected tensor; the errors of [`Checkpoint::tensor`];
    /// the errors of `build` itself, if they are not caused by the file.
    pub fn load<M>(
        &self,
        device: &Device,
        dtype: DType,
        ignored: &[&str],
        build: impl FnOnce(VarBuilder<'_>) -> Result<M>,
    ) -> Result<M> {
        let build = |weights: Weights<'_>| build(weights.var_builder().clone());
        self.load_with_format(device, dtype, WeightFormat::F32, ignored, build)
    }

    /// Like [`Checkpoint::load`], but `build` receives [`Weights`]. Layers that support it
    /// ([`Linear`](crate::nn::Linear), tables of token embeddings) store their matrices in a format of `matrices` and
    /// multiply with its precision. Compressed formats require `f32` on the CPU; on other devices and with other types,
    /// weights are stored in the compute precision.
    ///
    /// # Errors
    /// Those of [`Checkpoint::load`]; [`Error::Argument`] for a format that `device` and `dtype` do not support.
    pub fn load_with_format<M>(
        &self,
        device: &Device,
        dtype: DType,
        matrices: impl Into<Matrices>,
        ignored: &[&str],
        build: impl FnOnce(Weights<'_>) -> Result<M>,
    ) -> Result<M> {
        let Matrices { format, precision } = matrices.into();
        let packs = device.is_cpu() && dtype == DType::F32;
        if !packs && matches!(format, WeightFormat::F16 | WeightFormat::Bf16 | WeightFormat::Q8_0) {
            let found = format!("{format:?} for computing in {} on {:?}", dtype.as_str(), device.location());
            return Err(Error::argument(
                "format of weights",
                "AsStored or F32, or to compute in f32 on the CPU",
                found,
            ));
        }
        let audit = Mutex::default();
        let format = if packs { format } else { WeightFormat::F32 };
        let reader = Reader { checkpoint: self, packs, format, audit: &audit };
        let tensors = VarBuilder::from_backend(Box::new(reader), dtype, device.clone());
        let built = build(Weights::with_matrices(tensors, &reader, precision));
        let mut audit: Audit = audit.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = audit.failure {
            return Err(failure);
        }
        if built.is_ok() {
            let ignored =
                |name: &str| keys::IGNORABLE.iter().chain(ignored).any(|pattern| keys::matches(pattern, name));
            let unread = self.entries().iter().filter(|(name, _)| !audit.read.contains(*name) && !ignored(name));
            audit.problems.extend(unread.map(|(name, entry)| format!("unexpected `{name}` {:?}", entry.shape())));
        }
        if audit.problems.is_empty() {
            return built;
        }
        let more = audit.problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            audit.problems.truncate(MAX_PROBLEMS);
            audit.problems.push(format!("and {more} more"));
        }
        Err(Error::Weights { path: self.path().to_path_buf(), problems: audit.problems })
    }
}

/// A record of what happened while a model was being built.
#[derive(Default)]
struct Audit {
    /// The requested tensors that exist.
    read: BTreeSet<String>,
    problems: Vec<String>,
    /// The names in `problems`; each is reported once.
    mentioned: BTreeSet<String>,
    /// The number of elements in the stand-ins so far.
    stand_ins: usize,
    /// The first error while reading the file.
    failure: Option<Error>,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    /// Whether layers pack their matrices, for computing in `f32` on the CPU.
    packs: bool,
    format: WeightFormat,
    audit: &'a Mutex<Audit>,
}

impl Reader<'_> {
    fn audit(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tensor `name`, if it exists with this shape. If not, the layer requests the whole tensor next, which reports
    /// the problem.
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Option<&Entry> {
        self.checkpoint.entries().get(name).filter(|entry| entry.shape() == [rows, columns])
    }

    fn read(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        self.noted(name, self.checkpoint.tensor(name, device, dtype))
    }

    /// Records that the tensor `name` was read, or why it could not be.
    fn noted<T>(&self, name: &str, result: Result<T>) -> CandleResult<T> {
        self.audit().read.insert(name.to_owned());
        result.or_else(|error| {
            let message = error.to_string();
            self.audit().failure.get_or_insert(error);
            bail!("{message}")
        })
    }

    /// Records the problem with `name` and returns zeros in its place, as long as that is cheap.
    ///
    /// A configuration that does not match the file may request any number of tensors of any size.
    fn stand_in(
        &self,
        name: &str,
        problem: String,
        shape: Shape,
        dtype: DType,
        device: &Device,
    ) -> CandleResult<Tensor> {
        let mut audit = self.audit();
        if audit.mentioned.insert(name.to_owned()) {
            audit.problems.push(problem);
        }
        let len = shape.dims().iter().fold(1usize, |len, &dim| len.saturating_mul(dim));
        audit.stand_ins = audit.stand_ins.saturating_add(len);
        let in_file: usize = self.checkpoint.entries().values().map(|entry| entry.len()).sum();
        if audit.problems.len() > MAX_PROBLEMS || audit.stand_ins > in_file.saturating_add(MAX_STAND_INS) {
            bail!("too many tensors are missing");
        }
        // A view of a single zero: memory is only allocated if the model copies it.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }
}

impl MatrixSource for Reader<'_> {
    fn compressed(&self, name: &str, rows: usize, columns: usize) -> Result<Option<CompressedMatrix>> {
        let Some(entry) = self.matrix(name, rows, columns) else { return Ok(None) };
        match Compression::of(name, entry, self.format) {
            Some(compression) => Ok(self.noted(name, self.checkpoint.compressed(name, entry, compression))?),
            None => Ok(None),
        }
    }

    fn stored(&self, name: &str, rows: usize, columns: usize) -> Result<Option<StoredMatrix<'_>>> {
        let Some(entry) = self.matrix(name, rows, columns).filter(|_| self.packs) else { return Ok(None) };
        let compression = Compression::of(name, entry, self.format);
        let Some(format) = Compression::stored_format(compression, entry) else {
            return Ok(self.compressed(name, rows, columns)?.map(CompressedMatrix::into_stored));
        };
        self.audit().read.insert(name.to_owned());
        let (name, row_bytes) = (name.to_owned(), format.row_bytes(columns));
        let read = move |first: usize, to: &mut [u8]| {
            let start = entry.start + (first * row_bytes) as u64;
            Ok(self.noted(&name, self.checkpoint.read_bytes(start, to))?)
        };
        Ok(Some(StoredMatrix::new(rows, columns, format, Box::new(read))))
    }
}

impl SimpleBackend for Reader<'_> {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let Some(entry) = self.checkpoint.entries().get(name) else {
            let problem = format!("missing `{name}` {:?}", shape.dims());
            return self.stand_in(name, problem, shape, dtype, device);
        };
        let (expected, found) = (shape.dims(), entry.shape());
        if expected == found {
            return self.read(name, dtype, device);
        }
        if matches!((expected, found), ([], [1]) | ([1], [])) {
            return self.read(name, dtype, device)?.reshape(shape);
        }
        let problem = format!("`{name}`: expected {expected:?}, found {found:?}");
        self.audit().read.insert(name.to_owned());
        self.stand_in(name, problem, shape, dtype, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        self.read(name, dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.checkpoint.entries().contains_key(name)
    }
}
