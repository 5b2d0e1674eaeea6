//! The options that choose a model, and how it is loaded.
#![allow(clippy::print_stderr)] // command-line output

use anyhow::Result;
use candle_core::{DType, Device};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use soundsight::localizer::select_device;
use soundsight::nn::multiplies_bf16;
use soundsight::weights::{Download, Hub, Matrices, ModelFiles, Precision, WeightFormat};
use soundsight::{Localizer, ModelSource};

use crate::program::progress::progress_bar;

/// Which model, and where it runs.
#[derive(Args)]
pub struct ModelOptions {
    /// Model: a directory, acl-vit16, embedded, or auto.
    ///
    /// acl-vit16 is the published model, downloaded once (1 GB) unless it is in the Hub's cache; embedded is the small
    /// model inside this program; auto takes acl-vit16 if it is in the cache and embedded otherwise, and never
    /// downloads.
    #[arg(long, value_name = "DIR|NAME", default_value = "auto")]
    pub model: ModelSource,
    /// Device to compute on.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Number type to compute in; on the CPU, f16 and bf16 save memory, and bf16 stands for --precision medium.
    #[arg(long, value_enum, default_value_t = DTypeChoice::F32)]
    pub dtype: DTypeChoice,
    /// Precision of products on CPUs with instructions for bf16 (AMX, AVX-512 BF16); without effect on others.
    #[arg(long, value_enum, default_value_t = PrecisionChoice::Highest)]
    pub precision: PrecisionChoice,
    /// Format of the weight matrices in memory, for computing in f32 on the CPU.
    #[arg(long, value_enum, default_value_t = WeightsChoice::AsStored)]
    pub weights: WeightsChoice,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PrecisionChoice {
    /// 24 bits, as f32: six products of bf16 for each.
    Highest,
    /// 16 bits: three products of bf16; needs AMX.
    High,
    /// 8 bits: a product of bf16.
    Medium,
}

impl PrecisionChoice {
    /// The library's name for it.
    fn level(self) -> Precision {
        match self {
            Self::Highest => Precision::Highest,
            Self::High => Precision::High,
            Self::Medium => Precision::Medium,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WeightsChoice {
    /// The format of the model's files.
    AsStored,
    F32,
    F16,
    Bf16,
    /// 8 bits a number, with one scale for every 32 of them.
    Q8,
}

impl WeightsChoice {
    /// The library's name for it.
    pub fn format(self) -> WeightFormat {
        match self {
            Self::AsStored => WeightFormat::AsStored,
            Self::F32 => WeightFormat::F32,
            Self::F16 => WeightFormat::F16,
            Self::Bf16 => WeightFormat::Bf16,
            Self::Q8 => WeightFormat::Q8_0,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DeviceChoice {
    /// A GPU if this build supports it and the machine has one, else the CPU.
    Auto,
    Cpu,
    Cuda,
    Metal,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DTypeChoice {
    F32,
    F16,
    Bf16,
}

impl ModelOptions {
    /// The device to compute on.
    pub fn device(&self) -> Result<Device> {
        self.device_of(0)
    }

    /// The device of the process that is number `local_rank` on its machine: its own GPU, if there are several.
    ///
    /// Launchers may show each process only its own GPU (`CUDA_VISIBLE_DEVICES`), which is then the first one.
    pub fn device_of(&self, local_rank: usize) -> Result<Device> {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").map_or(usize::MAX, |list| list.split(',').count());
        let cuda = || select_device(&format!("cuda:{}", local_rank % visible.max(1)));
        Ok(match self.device {
            DeviceChoice::Auto if candle_core::utils::cuda_is_available() => cuda(),
            DeviceChoice::Auto => select_device("auto"),
            DeviceChoice::Cpu => select_device("cpu"),
            DeviceChoice::Cuda => cuda(),
            DeviceChoice::Metal => select_device("metal"),
        }?)
    }

    /// The number type to compute in.
    pub fn dtype(&self) -> DType {
        match self.dtype {
            DTypeChoice::F32 => DType::F32,
            DTypeChoice::F16 => DType::F16,
            DTypeChoice::Bf16 => DType::BF16,
        }
    }

    /// The storage format of the matrices, and the precision of products.
    pub fn matrices(&self) -> Matrices {
        Matrices { format: self.weights.format(), precision: self.precision.level() }
    }

    /// Finds and loads the chosen model.
    pub fn load(&self) -> Result<Localizer> {
        self.load_files(&self.find()?, self.device()?)
    }

    /// Loads the chosen model from its files onto `device`.
    pub fn load_files(&self, files: &ModelFiles, device: Device) -> Result<Localizer> {
        let builder = Localizer::builder(&files.source).device(device).dtype(self.dtype());
        let Matrices { format, precision } = self.matrices();
        let localizer = builder.weights(format).precision(precision).load_files(files)?;
        let is_faster = self.dtype() == DType::BF16 && multiplies_bf16();
        if localizer.dtype() != self.dtype() && !is_faster {
            let (asked, computed) = (self.dtype().as_str(), localizer.dtype().as_str());
            eprintln!(
                "--dtype {asked}: this CPU computes in {computed}; fewer bits for the weights save memory, but no time"
            );
        }
        Ok(localizer)
    }

    /// Finds the chosen model's files, with a progress bar for each file that has to be downloaded.
    pub fn find(&self) -> Result<ModelFiles> {
        let mut bar: Option<(String, ProgressBar)> = None;
        let mut progress = move |p: soundsight::weights::Progress<'_>| {
            if bar.as_ref().is_none_or(|(file, _)| file != p.file) {
                bar = Some((p.file.to_string(), download_bar(p.file)));
            }
            if let Some((_, bar)) = &bar {
                if let Some(total) = p.total {
                    bar.set_length(total);
                }
                bar.set_position(p.downloaded);
                if p.total == Some(p.downloaded) {
                    bar.finish();
                }
            }
        };
        let files = ModelFiles::resolve(&self.model, &Hub::from_env(), Download::IfMissing(&mut progress))?;
        if self.model == ModelSource::Auto && files.source == ModelSource::Embedded {
            let knows = files
                .classes
                .as_ref()
                .map_or(String::new(), |classes| format!(", which knows {} classes", classes.len()));
            eprintln!("using the embedded model{knows}; --model acl-vit16 fetches the published one (1 GB, once)");
        }
        Ok(files)
    }
}

fn download_bar(file: &str) -> ProgressBar {
    let bar = progress_bar(0, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_message(file.to_string());
    bar
}

/// `cpu`, `cuda` or `metal`.
pub fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}
