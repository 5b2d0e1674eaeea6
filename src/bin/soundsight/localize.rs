//! `soundsight localize`: where in a picture does a sound come from?
#![allow(clippy::print_stdout)] // command-line output

mod annotate;
mod canvas;
mod decode;
mod film;
mod film_options;
mod output;
mod pairs;
mod sources;
mod stages;
mod timeline_picture;
mod view;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use soundsight::data::Shard;
use soundsight::weights::save_safetensors;
use soundsight::{Picture, Waveform};

use crate::model::{ModelOptions, device_name};
use crate::parallel::{Job, UNHURRIED};
use output::{Answer, OutputOptions, one_line};
use stages::Stages;
use view::View;

/// Show where in a picture, or in a film, a sound comes from.
///
/// For a sound and a picture, writes the picture with the heatmap over it, the heatmap and the mask. For a film, writes the
/// film with the heatmaps over it (NAME.localized.mp4), a line of JSON for each moment (NAME.timeline.jsonl) and a picture of
/// its course (NAME.timeline.png); this needs ffmpeg. The exit status is 0, or 1 with a message on standard error; with --pairs
/// it is 1 only if not a single pair could be localized.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    output: OutputOptions,
    /// Position in the sound to start at, in seconds.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    start: f64,
    /// Look for what a text describes ("a photo of a dog") instead of a sound; AUDIO may then be left out.
    #[arg(long, value_name = "PROMPT")]
    text: Option<String>,
    /// Localize many pairs: a CSV file with the header `audio,image`, or a folder.
    ///
    /// Paths in a CSV file are relative to its folder. In a folder, sounds and pictures with the same name (dog.wav,
    /// dog.jpg) are pairs. Each sound and each picture is encoded once, so the pairs of one picture are answered
    /// together. Pairs that cannot be read are skipped and listed at the end.
    #[arg(long, value_name = "CSV|DIR", conflicts_with_all = ["text", "save_tensors", "audio"])]
    pairs: Option<PathBuf>,
    /// Localize only the Ith of N shares of --pairs, counted from 1, such as 2/3.
    ///
    /// The shares may be computed at the same time, with the same --out. Together they give what one process gives. Under
    /// mpirun (a build with the feature mpi), each process takes its own share.
    #[arg(long, value_name = "I/N", requires = "pairs", conflicts_with_all = ["text", "audio"],
          default_value_t = Shard::WHOLE, hide_default_value = true)]
    shard: Shard,
    /// Take the sound apart into at most K sources, and localize each on its own.
    ///
    /// A model that names what it hears takes the K classes that are heard and seen best; others cluster windows of the
    /// sound. Writes the pictures NAME.1, NAME.2 …, the strongest source first.
    #[arg(long, value_name = "K", conflicts_with_all = ["text", "pairs", "save_tensors"], requires = "image")]
    sources: Option<usize>,
    /// Look closer: cut the picture into overlapping square tiles too, N of them (1 to 8) along its shorter side.
    ///
    /// Finds small objects in large pictures, and does not squeeze wide ones. With 1, a wide picture is a row of tiles. The time
    /// grows with the number of tiles, about 4·N² in a square picture.
    #[arg(long, value_name = "N", value_parser = view::tiles)]
    tiles: Option<usize>,
    /// Write every intermediate tensor to a safetensors file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "tiles"])]
    save_tensors: Option<PathBuf>,
    #[command(flatten)]
    film: film_options::FilmOptions,
    /// Sound: WAV, FLAC, MP3, Ogg Vorbis, AAC/M4A, or a film with a sound track. Without a picture: a film to localize in.
    #[arg(value_name = "AUDIO|FILM", required_unless_present_any = ["text", "pairs"])]
    audio: Option<PathBuf>,
    /// Picture: JPEG, PNG, WebP, GIF, BMP, TIFF …
    #[arg(value_name = "IMAGE")]
    image: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn localize(mut options: Options) -> Result<()> {
    if let Some(list) = &options.pairs {
        let job = Job::join(UNHURRIED)?;
        let outcome = localize_share(&job, list, &options);
        return job.leave(outcome);
    }
    let started = Instant::now();
    let mut stages = Stages::default();
    // With --text a single path is the picture's.
    let image_path = options.image.take().or_else(|| options.text.as_ref().and_then(|_| options.audio.take()));
    let image_path = match (image_path, &options.audio) {
        (Some(image), _) => image,
        (None, Some(film)) => {
            let others =
                "--start and --save-tensors are for a sound and a picture; a film has --from and --save-heatmaps";
            anyhow::ensure!(options.tiles.is_none(), "--tiles is for pictures; a film is analysed as a whole");
            anyhow::ensure!(options.start == 0.0 && options.save_tensors.is_none(), others);
            return film::localize_film(film, &options.model, &options.output, &options.film);
        }
        (None, None) => anyhow::bail!("no picture given: soundsight localize AUDIO IMAGE (see --help)"),
    };

    let localizer = stages.time("load", || options.model.load())?;
    if let (Some(count), Some(audio)) = (options.sources, &options.audio) {
        let closer = (count, options.tiles);
        return sources::localize_sources(&localizer, (audio, &image_path), options.start, closer, &options.output);
    }
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
            let features = stages.time(acl.audio_encoder.kind().name(), || acl.audio_features(&fbank))?;
            let token = stages.time("tokenizer", || acl.audio_token(&features))?;
            let embeddings = stages.time("text", || localizer.embed_tokens(&token))?;
            embeddings.into_iter().next().context("the sound was not embedded")?
        }
        (None, None) => anyhow::bail!("no sound given: soundsight localize AUDIO IMAGE (see --help)"),
    };
    let views = stages.time("vision", || View::encode(&localizer, std::slice::from_ref(&picture), options.tiles))?;
    let view = views.first().context("the picture was not encoded")?;
    stages.time("vision", || view.prepare_confidence(&localizer))?;
    let heatmap = stages.time("decoder", || view.localize(&localizer, &embedding))?;
    let name = image_path.file_stem().unwrap_or_default().to_string_lossy();
    let mut answer = stages.time("write", || Answer::write(&options.output, &name, &picture, &heatmap))?;
    answer.files["tensors"] = json!(options.save_tensors);
    let timings = stages.finish(started);

    if options.output.json {
        let question = json!({
            "model": localizer.name(),
            "device": device_name(localizer.device()),
            "dtype": localizer.dtype().as_str(),
            "audio": sound,
            "text": options.text,
            "image": {"path": image_path, "width": picture.width(), "height": picture.height()},
            "tiles": view.tiles_json(),
            "timings_ms": timings,
        });
        println!("{}", answer.json(question));
    } else {
        println!("{}", answer.summary());
        if let Some(closeness) = view.closeness() {
            println!("how close   {closeness}");
        }
        println!("how long    {}", one_line(&timings));
    }
    Ok(())
}

/// Localizes this process's share of the pairs.
fn localize_share(job: &Job, list: &Path, options: &Options) -> Result<()> {
    let shard = job.share_of(options.shard)?;
    let localizer = options.model.load_files(&options.model.find()?, options.model.device_of(job.local_rank())?)?;
    let group = &**job.group();
    pairs::localize_pairs(&localizer, list, shard, group, options.start, options.tiles, &options.output)
}

/// The description of a sound in the JSON answer.
fn sound_json(path: &Path, waveform: &Waveform) -> Value {
    json!({"path": path, "seconds": waveform.clip_seconds(), "sample_rate": waveform.sample_rate(),
           "channels": waveform.channels()})
}
