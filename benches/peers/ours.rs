//! Our side of `compare`: loads a model directory and answers requests, one line of JSON each.
//!
//! ```text
//! {"op": "time", "stage": "beats", "batch": 1, "seconds": 10.0, "side": 352, "budget_ms": 200}  → {"ms": […], "flop": …}
//! {"op": "train", "batch": 4, "cached": false}                                                  → {"ms": […]}
//! {"op": "heatmap", "file": "heatmap.safetensors"}                                              → {}
//! {"op": "peak"}                                                                                → {"mib": …}
//! ```

#[path = "ours_training.rs"]
mod training;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use benches::{Inputs, Stage, flop, localize, stage_job};
use candle_core::Tensor;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use soundsight::weights::{ModelFiles, Precision, save_safetensors};
use soundsight::{Localizer, Picture, Waveform};

#[derive(Parser)]
struct Options {
    /// A model directory with clip.wav and frame.png, as `peers.py export` writes it.
    model: PathBuf,
    /// The precision of products.
    #[arg(long, value_enum, default_value = "highest")]
    precision: Level,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Highest,
    High,
    Medium,
}

impl Level {
    fn precision(self) -> Precision {
        match self {
            Self::Highest => Precision::Highest,
            Self::High => Precision::High,
            Self::Medium => Precision::Medium,
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    Time { stage: Question, batch: usize, seconds: f64, side: usize, budget_ms: f64 },
    Train { batch: usize, cached: bool },
    Heatmap { file: PathBuf },
    Peak,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Question {
    Stage(Stage),
    Door(Door),
}

/// The functions that users of the library call.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Door {
    /// `Localizer::localize_pair`: the heatmap with its confidence, from a decoded picture.
    LocalizePair,
    /// `Localizer::localize_pairs`: the same for `batch` pairs in one call.
    LocalizePairs,
    /// `Localizer::encode_image` and `localize`, with a sound that is already embedded.
    AnotherFrame,
}

/// A loaded model with the sound and the picture that go with it.
struct Ours {
    localizer: Localizer,
    files: ModelFiles,
    sound: Waveform,
    picture: Picture,
}

impl Ours {
    fn load(model: &Path, precision: Precision) -> Result<Self> {
        let files = ModelFiles::from_directory(model)?;
        Ok(Self {
            localizer: Localizer::builder(model).precision(precision).load()?,
            files,
            sound: Waveform::open(model.join("clip.wav"))?,
            picture: Picture::open(model.join("frame.png"))?,
        })
    }

    /// The sound and the picture, each `batch` times.
    fn inputs(&self, batch: usize, seconds: f64, side: usize) -> Result<Inputs> {
        let normalize = self.localizer.acl().config().acl.normalize();
        let pixels = self.picture.resize(side, side)?.to_tensor(&normalize, self.localizer.device())?;
        let pixels = Tensor::stack(&vec![pixels; batch], 0)?;
        Ok(Inputs { waveforms: vec![self.sound.clone(); batch], seconds, pixels })
    }

    fn own_size(&self) -> Result<Inputs> {
        self.inputs(1, self.localizer.audio_seconds(), self.localizer.acl().config().acl.image_size)
    }

    fn time_door(&self, door: &Door, batch: usize, budget_ms: f64) -> Result<Value> {
        let Self { localizer, sound, picture, .. } = self;
        let ms = match door {
            Door::LocalizePair => timed(|| localizer.localize_pair(sound, picture).map(done), budget_ms)?,
            Door::LocalizePairs => {
                let (sounds, pictures) = (vec![sound.clone(); batch], vec![picture.clone(); batch]);
                let job = || localizer.localize_pairs(&sounds, &pictures).map(done);
                timed(job, budget_ms)?
            }
            Door::AnotherFrame => {
                let heard = localizer.embed_audio(sound)?;
                let job = || localizer.localize(&heard, &localizer.encode_image(picture)?).map(done);
                timed(job, budget_ms)?
            }
        };
        Ok(json!({"ms": ms}))
    }

    fn answer(&self, request: Request) -> Result<Value> {
        let acl = self.localizer.acl();
        Ok(match request {
            Request::Time { stage: Question::Stage(stage), batch, seconds, side, budget_ms } => {
                let inputs = self.inputs(batch, seconds, side)?;
                let flop = batch as u64 * flop::of(acl.config(), stage, inputs.tokens(acl)?);
                json!({"ms": timed(stage_job(acl, stage, &inputs)?, budget_ms)?, "flop": flop})
            }
            Request::Time { stage: Question::Door(door), batch, budget_ms, .. } => {
                self.time_door(&door, batch, budget_ms)?
            }
            Request::Train { batch, cached } => {
                let inputs = self.inputs(batch, self.localizer.audio_seconds(), acl.config().acl.image_size)?;
                let step = training::step(&self.files, acl, inputs, cached)?;
                json!({"ms": timed(step, 0.0)?})
            }
            Request::Heatmap { file } => {
                let Inputs { waveforms, pixels, .. } = self.own_size()?;
                let logits = localize(acl, &self.own_size()?.frontend(acl)?, &waveforms, &pixels)?;
                let heatmap = acl.masker.heatmap(&logits)?;
                save_safetensors(&file, &BTreeMap::from([("heatmap".to_string(), heatmap)]), &BTreeMap::new())?;
                json!({})
            }
            Request::Peak => json!({"mib": peak_mib()?}),
        })
    }
}

/// Prevents the optimizer from removing the computation of a result.
fn done<T>(result: T) {
    black_box(result);
}

/// The time of each execution in milliseconds: a single execution if it takes longer than `budget_ms`; otherwise, after
/// a warm-up, as many as fit into the budget.
fn timed<E>(mut job: impl FnMut() -> std::result::Result<(), E>, budget_ms: f64) -> Result<Vec<f64>>
where
    anyhow::Error: From<E>,
{
    let mut once = || -> Result<f64> {
        let started = Instant::now();
        job()?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    let first = once()?;
    if first >= budget_ms {
        return Ok(vec![first]);
    }
    let mut all = Vec::new();
    while all.is_empty() || all.iter().sum::<f64>() < budget_ms {
        all.push(once()?);
    }
    Ok(all)
}

/// The peak memory of this process, in MiB.
fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status: cannot read")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(peak.context("/proc/self/status: no VmHWM")?.trim().parse::<f64>()? / 1024.0)
}

fn main() -> Result<()> {
    let Options { model, precision } = Options::parse();
    let ours = Ours::load(&model, precision.precision())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({"version": env!("CARGO_PKG_VERSION"), "threads": rayon::current_num_threads()}))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let request = serde_json::from_str(&line).with_context(|| format!("request {line}"))?;
        writeln!(out, "{}", ours.answer(request)?)?;
        out.flush()?;
    }
    Ok(())
}
