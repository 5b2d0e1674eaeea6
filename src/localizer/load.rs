//! Loading a localizer.

use candle_core::{DType, Device};

use super::Localizer;
use super::presence::PresenceCalibration;
#[cfg(feature = "text")]
use super::text;
use crate::acl::{Acl, ModelConfig};
#[cfg(not(feature = "text"))]
use crate::acl::{AclConfig, PromptIds};
use crate::error::{Error, Result};
use crate::nn::{Matrices, Precision};
use crate::weights::{Download, Hub, ModelFiles, ModelSource, Progress, WeightFormat};

type OnProgress = Box<dyn FnMut(Progress<'_>) + Send>;

/// Where a model comes from and where it runs; [`LocalizerBuilder::load`] loads it.
#[must_use = "a builder does nothing until `load` is called"]
pub struct LocalizerBuilder {
    source: ModelSource,
    device: Device,
    dtype: DType,
    matrices: Matrices,
    hub: Hub,
    download: Option<OnProgress>,
}

impl LocalizerBuilder {
    pub(super) fn new(source: ModelSource) -> Self {
        Self {
            source,
            device: Device::Cpu,
            dtype: DType::F32,
            matrices: Matrices::default(),
            hub: Hub::from_env(),
            download: None,
        }
    }

    /// The device to compute on; the CPU by default. [`select_device`] finds devices by name.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// The precision that the model computes in: `F32`, the default, `F16` or `BF16`.
    ///
    /// On CPUs, the latter two are formats of the weights, and everything else is computed in `F32` ([`Localizer::dtype`]
    /// says so): they save memory there. `BF16` also stands for [`Precision::Medium`], which saves time if the processor
    /// multiplies bf16 ([`multiplies_bf16`](crate::nn::multiplies_bf16)).
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The format of matrices in memory; by default that of the files, or the number type that is asked for. Other formats
    /// require the CPU.
    pub fn weights(mut self, weights: WeightFormat) -> Self {
        self.matrices.format = weights;
        self
    }

    /// The precision of products with the model's matrices on CPUs that have instructions for bf16; the highest by default.
    /// Others have no effect on other processors and devices.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.matrices.precision = precision;
        self
    }

    /// The Hub and its cache; by default [`Hub::from_env`].
    pub fn hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// Allows downloads: files of a published model that are not in the cache are downloaded, and `progress` is called
    /// with the progress. Without this call nothing is downloaded.
    pub fn download(mut self, progress: impl FnMut(Progress<'_>) + Send + 'static) -> Self {
        self.download = Some(Box::new(progress));
        self
    }

    /// Finds the files and loads them.
    ///
    /// # Errors
    /// [`Error::ModelUnavailable`] when there is no such model on this machine (nor, if allowed, on the Hub),
    /// [`Error::Io`] for a file that cannot be read, [`Error::Format`] for one in the wrong format, [`Error::Weights`]
    /// when the weights do not match the configuration, [`Error::Config`] for invalid settings, [`Error::Argument`] for
    /// a `dtype` that is not supported, [`Error::NonFinite`] for a masker that cannot produce a heatmap.
    pub fn load(mut self) -> Result<Localizer> {
        let download = match &mut self.download {
            Some(progress) => Download::IfMissing(progress.as_mut()),
            None => Download::Never,
        };
        let files = ModelFiles::resolve(&self.source, &self.hub, download)?;
        self.load_files(&files)
    }

    /// Loads these files, and ignores the source given to [`Localizer::builder`].
    ///
    /// # Errors
    /// As [`LocalizerBuilder::load`], except for [`Error::ModelUnavailable`].
    pub fn load_files(self, files: &ModelFiles) -> Result<Localizer> {
        let Self { device, dtype, matrices, .. } = self;
        if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(Error::argument("dtype", "F32, F16 or BF16", dtype.as_str()));
        }
        let (dtype, matrices) = if device.is_cpu() { on_cpu(dtype, matrices) } else { (dtype, matrices) };
        let config = ModelConfig::from_files(files)?;
        #[cfg(feature = "text")]
        let tokenizer = files.tokenizer.as_ref().map(text::open).transpose()?;
        #[cfg(feature = "text")]
        let prompt = text::prompt_ids(&config.acl, tokenizer.as_ref())?;
        #[cfg(not(feature = "text"))]
        let prompt = prompt_ids(&config.acl)?;
        let acl = Acl::load(&config, &prompt, files, &device, dtype, matrices)?;
        let mut localizer = Localizer::from_parts(files.name.clone(), acl, device, dtype)?;
        if let Some(calibration) = &files.presence {
            localizer = localizer.with_calibration(PresenceCalibration::from_json(&files.name, calibration)?)?;
        }
        if let Some(classes) = &files.classes {
            localizer = localizer.with_classes(classes.clone());
        }
        #[cfg(feature = "text")]
        let localizer = Localizer { tokenizer, ..localizer };
        Ok(Localizer { source: Some(files.source.clone()), ..localizer })
    }
}

impl Localizer {
    /// Loads a model from these files, with its weights in the format of the files.
    ///
    /// # Errors
    /// As [`LocalizerBuilder::load_files`].
    pub fn from_files(files: &ModelFiles, device: Device, dtype: DType) -> Result<Self> {
        Self::builder(&files.source).device(device).dtype(dtype).load_files(files)
    }
}

/// The number type to compute in on a CPU, and the matrices: 16-bit weights are expanded for each product, or split for
/// instructions that multiply bf16, both of which are several times faster than Candle's products in 16 bits.
fn on_cpu(dtype: DType, mut matrices: Matrices) -> (DType, Matrices) {
    matrices.format = match (matrices.format, dtype) {
        (WeightFormat::AsStored, DType::F16) => WeightFormat::F16,
        (WeightFormat::AsStored, DType::BF16) => WeightFormat::Bf16,
        (format, _) => format,
    };
    if dtype == DType::BF16 {
        matrices.precision = Precision::Medium;
    }
    (DType::F32, matrices)
}

/// The ids of the prompt if they are known; this build has no tokenizer.
#[cfg(not(feature = "text"))]
fn prompt_ids(config: &AclConfig) -> Result<PromptIds> {
    config.known_prompt_ids().ok_or_else(|| {
        let what = format!("the prompt \"{}\" without known ids", config.prompt);
        Error::MissingFeature { what, feature: "text" }
    })
}

/// A device by name: `cpu`, `cuda` or `metal` (the first device of that kind), `cuda:1` (the second one) …, or `auto`, the
/// best that this build and this machine have.
///
/// # Errors
/// [`Error::Argument`] for another name, [`Error::Device`] when this build or this machine does not have the device.
pub fn select_device(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "cuda" => opened("cuda", Device::new_cuda(0)),
        "metal" => opened("metal", Device::new_metal(0)),
        "auto" if candle_core::utils::cuda_is_available() => select_device("cuda"),
        "auto" if candle_core::utils::metal_is_available() => select_device("metal"),
        "auto" => Ok(Device::Cpu),
        other => match other.strip_prefix("cuda:").and_then(|number| number.parse().ok()) {
            Some(number) => opened(other, Device::new_cuda(number)),
            None => Err(Error::argument("device", "auto, cpu, cuda, cuda:N or metal", other)),
        },
    }
}

fn opened(name: &str, device: candle_core::Result<Device>) -> Result<Device> {
    device.map_err(|error| Error::Device { name: name.to_owned(), reason: error.to_string() })
}
