//! What the example programs share: choosing and loading a model, timing stages.
#![allow(dead_code)] // each program uses its part
#![allow(clippy::print_stderr)] // a program talks

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{DType, Device};
use clap::{Args, Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use soundsight::localizer::select_device;
use soundsight::weights::{Download, Hub, ModelFiles, WeightFormat};
use soundsight::{Localizer, ModelSource};

/// A program's frame: reads the command line and runs `work`; exit status 0, or 1 with one message on standard error.
pub fn run<O: Parser>(work: impl FnOnce(O) -> Result<()>) -> ExitCode {
    let result = match O::try_parse() {
        Ok(options) => work(options),
        Err(error) => {
            // --help and --version come this way too; if the terminal is gone there is nobody left to tell.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Which model, and where it runs.
#[derive(Args)]
pub struct ModelOptions {
    /// A model directory; acl-vit16: the published weights, downloaded where they are not in the Hub's cache; embedded: the
    /// small model in this program; or auto: acl-vit16 if it is in the cache, else embedded, without any download.
    #[arg(long, value_name = "DIR|NAME", default_value = "auto")]
    pub model: ModelSource,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Precision to compute in.
    #[arg(long, value_enum, default_value_t = DTypeChoice::F32)]
    pub dtype: DTypeChoice,
    /// How matrices are kept in memory, where they are computed with in f32 on the CPU.
    #[arg(long, value_enum, default_value_t = WeightsChoice::AsStored)]
    pub weights: WeightsChoice,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum WeightsChoice {
    /// As the files have them.
    AsStored,
    F32,
    F16,
    Bf16,
    /// 8 bits, 32 neighbours with one factor.
    Q8,
}

impl WeightsChoice {
    /// The library's word for it.
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
    /// The best device of this machine that this build knows.
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
    /// Where to compute.
    pub fn device(&self) -> Result<Device> {
        Ok(match self.device {
            DeviceChoice::Auto => select_device("auto"),
            DeviceChoice::Cpu => select_device("cpu"),
            DeviceChoice::Cuda => select_device("cuda"),
            DeviceChoice::Metal => select_device("metal"),
        }?)
    }

    /// Precision to compute in.
    pub fn dtype(&self) -> DType {
        match self.dtype {
            DTypeChoice::F32 => DType::F32,
            DTypeChoice::F16 => DType::F16,
            DTypeChoice::Bf16 => DType::BF16,
        }
    }

    /// Loads the chosen model from its files.
    pub fn load(&self, files: &ModelFiles) -> Result<Localizer> {
        let builder = Localizer::builder(&files.source).device(self.device()?).dtype(self.dtype());
        Ok(builder.weights(self.weights.format()).load_files(files)?)
    }

    /// Finds the chosen model's files, with a progress bar for whatever has to be downloaded.
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

/// Finds and loads the chosen model.
pub fn load(options: &ModelOptions) -> Result<Localizer> {
    options.load(&options.find()?)
}

/// A bar on the terminal; nothing where there is none.
pub fn progress_bar(length: usize, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
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

/// How long each stage took.
#[derive(Default)]
pub struct Stages {
    spent: BTreeMap<&'static str, Duration>,
}

impl Stages {
    /// Runs `work` and adds its time to `stage`.
    pub fn time<T, E>(&mut self, stage: &'static str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = Instant::now();
        let result = work();
        *self.spent.entry(stage).or_default() += started.elapsed();
        result
    }

    /// All stages and the time since `started`, in milliseconds.
    pub fn finish(&self, started: Instant) -> Value {
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
        let mut stages: BTreeMap<&str, Value> =
            self.spent.iter().map(|(stage, time)| (*stage, json!(milliseconds(*time)))).collect();
        stages.insert("total", json!(milliseconds(started.elapsed())));
        json!(stages)
    }
}

/// A JSON object as "key value, key value".
pub fn one_line(object: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let fields = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(key, value)| format!("{key} {}", text(value))).collect::<Vec<_>>().join(", ")
}
