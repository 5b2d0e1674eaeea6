//! Shows where in a picture a sound comes from.
//!
//! ```text
//! cargo run --release --example localize -- clip.wav frame.jpg
//! cargo run --release --example localize -- --pairs list.csv --json
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program talks

mod common;
#[path = "localize/decode.rs"]
mod decode;
#[path = "localize/output.rs"]
mod output;
#[path = "localize/pairs.rs"]
mod pairs;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use soundsight::weights::save_safetensors;
use soundsight::{Picture, Waveform};

/// Shows where in a picture a sound comes from: writes the picture with the heatmap over it, the heatmap and the mask.
///
/// Exit status 0, or 1 with a message on standard error; with --pairs 1 only if no pair at all could be localized.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(flatten)]
    model: common::ModelOptions,
    #[command(flatten)]
    output: output::OutputOptions,
    /// Second of the sound to begin at.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    start: f64,
    /// Looks for what a text describes ("a photo of a dog") in place of a sound; AUDIO may then be left out.
    #[arg(long, value_name = "PROMPT")]
    text: Option<String>,
    /// Many pairs: a CSV file with the header `audio,image` (paths relative to its folder), or a folder of sounds and
    /// pictures that share a name (dog.wav, dog.jpg). Pairs that cannot be read are skipped and listed at the end; those
    /// of one picture come together.
    #[arg(long, value_name = "CSV|DIR", conflicts_with_all = ["text", "save_tensors", "audio"])]
    pairs: Option<PathBuf>,
    /// Writes every tensor on the way into a safetensors file.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    save_tensors: Option<PathBuf>,
    /// Sound: WAV, FLAC, MP3, Ogg Vorbis, AAC/M4A, or a film with a sound track.
    #[arg(value_name = "AUDIO", required_unless_present_any = ["text", "pairs"])]
    audio: Option<PathBuf>,
    /// Picture: JPEG, PNG, WebP, GIF, BMP, TIFF …
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::run(localize)
}

fn localize(mut options: Options) -> Result<()> {
    if let Some(list) = &options.pairs {
        return pairs::localize_pairs(&common::load(&options.model)?, list, options.start, &options.output);
    }
    let started = Instant::now();
    let mut stages = common::Stages::default();
    // With a text one path is enough, and it is the picture's.
    let image_path = options.image.take().or_else(|| options.text.as_ref().and(options.audio.take()));
    let image_path = image_path.context("no picture given: localize AUDIO IMAGE (see --help)")?;

    let localizer = stages.time("load", || common::load(&options.model))?;
    let acl = localizer.acl();
    let seconds = localizer.audio_seconds();
    let picture = stages.time("decode", || Picture::open(&image_path))?;
    let mut sound = Value::Null;
    let embedding = match (&options.text, &options.audio) {
        (Some(prompt), _) => stages.time("text", || localizer.embed_text(prompt))?,
        (None, Some(path)) => {
            let waveform = stages.time("decode", || Waveform::open_window(path, options.start, seconds))?;
            sound = sound_json(path, &waveform);
            if let Some(file) = &options.save_tensors {
                let tensors = localizer.trace(&waveform, &picture)?;
                let named = tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect();
                save_safetensors(file, &named, &Default::default())?;
            }
            let fbank = stages.time("fbank", || localizer.fbank(&[waveform]))?;
            let features = stages.time("beats", || acl.audio_features(&fbank))?;
            let token = stages.time("tokenizer", || acl.audio_token(&features))?;
            let embedding = stages.time("text", || acl.audio_embedding(&token))?;
            soundsight::Embedding::from_tensor(embedding)?
        }
        (None, None) => anyhow::bail!("no sound given: localize AUDIO IMAGE (see --help)"),
    };
    let encoded = stages.time("vision", || localizer.encode_image(&picture))?;
    stages.time("vision", || localizer.dense_features(&encoded))?; // the rest of the tower, for the confidence
    let heatmap = stages.time("decoder", || localizer.localize(&embedding, &encoded))?;
    let name = image_path.file_stem().unwrap_or_default().to_string_lossy();
    let mut answer = stages.time("write", || output::Answer::write(&options.output, &name, &picture, &heatmap))?;
    answer.files["tensors"] = json!(options.save_tensors);
    let timings = stages.finish(started);

    if options.output.json {
        let question = json!({
            "model": localizer.name(),
            "device": common::device_name(localizer.device()),
            "dtype": localizer.dtype().as_str(),
            "audio": sound,
            "text": options.text,
            "image": {"path": image_path, "width": picture.width(), "height": picture.height()},
            "timings_ms": timings,
        });
        println!("{}", answer.json(question));
    } else {
        println!("{}", answer.summary());
        println!("how long    {}", common::one_line(&timings));
    }
    Ok(())
}

/// What is reported of a sound.
fn sound_json(path: &Path, waveform: &Waveform) -> Value {
    json!({"path": path, "seconds": waveform.clip_seconds(), "sample_rate": waveform.sample_rate(),
           "channels": waveform.channels()})
}
