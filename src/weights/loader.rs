//! Building a model from a checkpoint, strictly: every tensor is accounted for, or there is no model.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Result as CandleResult, Shape, Tensor, bail};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::checkpoint::Checkpoint;
use super::compress::Compression;
use super::keys;
use crate::error::{Error, Result};
use crate::nn::compressed::CompressedMatrix;
use crate::nn::weights::CompressedMatrices;
use crate::nn::{WeightFormat, Weights};

/// After this many problems a file is the wrong one, and naming more helps nobody.
const MAX_PROBLEMS: usize = 50;
/// Stand-ins for missing tensors may be this much larger than the whole file, in numbers.
const MAX_STAND_INS: usize = 1 << 20;

impl Checkpoint {
    /// Builds a model: `build` gets a [`VarBuilder`] over the tensors of this file, converted to `dtype` on `device`,
    /// and the model that it returns is handed out only if file and model agree exactly.
    ///
    /// They agree when every tensor that the model asks for is there in the shape that it asks for, and every tensor of
    /// the file was asked for. Exempt from the latter are those that match [`keys::IGNORABLE`] or one of the patterns
    /// `ignored` (as [`keys::matches`] reads them: `"decoder.*"`). A single number may be stored as `[]` or `[1]`,
    /// whichever the model asks for.
    ///
    /// All problems of the file are reported at once: while `build` runs, missing tensors read as zeros. The builder
    /// pays no attention to initialization hints.
    ///
    /// # Errors
    /// [`Error::Weights`] with every missing, misshaped and unexpected tensor; what [`Checkpoint::tensor`] fails with;
    /// what `build` itself fails with, when the file is not to blame.
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

    /// As [`Checkpoint::load`], but `build` gets [`Weights`], from which the layers that know how to
    /// ([`Linear`](crate::nn::Linear), tables of token embeddings) keep their matrices as `format` says. That is
    /// for `f32` on the CPU; on other devices and in other precisions weights are kept in the precision of computing.
    ///
    /// # Errors
    /// As [`Checkpoint::load`]; [`Error::Argument`] for a format that device and `dtype` cannot have.
    pub fn load_with_format<M>(
        &self,
        device: &Device,
        dtype: DType,
        format: WeightFormat,
        ignored: &[&str],
        build: impl FnOnce(Weights<'_>) -> Result<M>,
    ) -> Result<M> {
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
        let reader = Reader { checkpoint: self, format, audit: &audit };
        let tensors = VarBuilder::from_backend(Box::new(reader), dtype, device.clone());
        let built = build(Weights::with_compressed(tensors, &reader));
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

/// What happened while a model was being built.
#[derive(Default)]
struct Audit {
    /// The tensors that were asked for and are there.
    read: BTreeSet<String>,
    problems: Vec<String>,
    /// The names in `problems`, each of which is worth one mention.
    mentioned: BTreeSet<String>,
    /// Numbers in the stand-ins so far.
    stand_ins: usize,
    /// The first error of reading the file.
    failure: Option<Error>,
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    format: WeightFormat,
    audit: &'a Mutex<Audit>,
}

impl Reader<'_> {
    fn audit(&self) -> MutexGuard<'_, Audit> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        self.noted(name, self.checkpoint.tensor(name, device, dtype))
    }

    /// Notes that the tensor `name` was read, or could not be.
    fn noted<T>(&self, name: &str, result: Result<T>) -> CandleResult<T> {
        self.audit().read.insert(name.to_owned());
        result.or_else(|error| {
            let message = error.to_string();
            self.audit().failure.get_or_insert(error);
            bail!("{message}")
        })
    }

    /// Notes the problem with `name` and answers zeros in its place, as long as that is cheap.
    ///
    /// A configuration that has nothing to do with the file may ask for any number of tensors of any size.
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
        // A view of one zero: memory is taken only if the model copies it.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }
}

impl CompressedMatrices for Reader<'_> {
    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Option<CompressedMatrix>> {
        let found = self.checkpoint.entries().get(name).filter(|entry| entry.shape() == [rows, columns]);
        match found.and_then(|entry| Some((entry, Compression::of(name, entry, self.format)?))) {
            Some((entry, compression)) => Ok(self.noted(name, self.checkpoint.compressed(name, entry, compression))?),
            // The layer asks for the whole tensor next, and hears what is wrong with it.
            None => Ok(None),
        }
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
