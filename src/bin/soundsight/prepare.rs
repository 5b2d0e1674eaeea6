//! `soundsight prepare`: from films to the folders that `train` and `evaluate` read.
#![allow(clippy::print_stdout)] // command-line output

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use soundsight::data::Shard;
use soundsight::eval::Benchmark;
use soundsight::prepare::{FilmList, Layout, Outcome, Pictures, Preparation, Recipe, Summary};
use soundsight::video::Ffmpeg;

use crate::program::interrupt::stop_on_ctrl_c;
use crate::program::progress::progress_bar;

/// Cut sounds and pictures out of films, for `train` and `evaluate`.
///
/// Writes audio/ID.wav (16 kHz, mono), frames/ID.jpg, a CSV file for each split, flaws.csv (films that cannot be used, with
/// the reasons), summary.json and contact.png (some of the pictures with their names). This needs ffmpeg. Run the same command
/// again after an interruption of any kind: what is done is not done again. The exit status is 0, or 1 with a message on
/// standard error; flawed films are no failure unless all are flawed.
#[derive(Args)]
pub struct Options {
    /// Folders (with all folders in them), .zip, .tar and .tar.gz archives, or films.
    ///
    /// Archives are not unpacked as a whole: one film after the other is copied to --out and removed again.
    #[arg(value_name = "FILMS", required = true)]
    films: Vec<PathBuf>,
    /// Folder to write to; created if missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// CSV file with the films to prepare: `id`, `id,label`, `id,start,label`, or `id,start,label,split` as for VGGSound.
    ///
    /// With a start (in seconds), the sample is called ID_START, where the start has six digits. Its film is called like
    /// the sample if it was cut already, or ID if it is the whole one. Without this option every film is prepared under its
    /// own name.
    #[arg(long, value_name = "CSV")]
    list: Option<PathBuf>,
    /// Prepare only this split of --list.
    #[arg(long, value_name = "NAME", requires = "list")]
    split: Option<String>,
    /// Arrange and choose pictures as this benchmark expects, and keep silent and still films.
    ///
    /// vggss: frame 125 at 25 Hz. flickr: the middle picture. avsbench: 5 s, the last picture of each second as
    /// visual_frames/ID_1.png …, and the sound in audio_wav. The extended ones: as the others, in extend_frames and
    /// extend_audio.
    #[arg(long, value_parser = PossibleValuesParser::new(Benchmark::ALL.map(Benchmark::name))
        .try_map(|name| name.parse::<Benchmark>()))]
    benchmark: Option<Benchmark>,
    /// Take the picture with this number in the span, counted from 0 at --fps pictures per second [default: the middle one].
    #[arg(long, value_name = "N", conflicts_with = "pictures")]
    frame: Option<u32>,
    /// Pictures per second at which --frame counts; the film's own rate may be another.
    #[arg(long, value_name = "HZ", default_value_t = 25.0, requires = "frame")]
    fps: f64,
    /// Take this many pictures, evenly spaced, as ID_1, ID_2 …
    #[arg(long, value_name = "N")]
    pictures: Option<u32>,
    /// Where the span begins in films for which --list says no start, in seconds.
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    from: f64,
    /// Length of the span in seconds [default: 10; avsbench: 5].
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Shortest span to accept where a film ends early, in seconds [default: half of --seconds].
    #[arg(long, value_name = "S")]
    min_seconds: Option<f64>,
    /// Use flawed films of these kinds, too.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KINDS")]
    keep: Vec<Keep>,
    /// Write pictures as PNG, without loss, instead of JPEG.
    #[arg(long)]
    png: bool,
    /// Number of films to work on at the same time [default: one for each core].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Prepare only the Ith of N shares of the films, counted from 1, such as 2/3.
    ///
    /// Run one process for each share, with the same --out; the one that ends last writes the lists.
    #[arg(long, value_name = "I/N", default_value_t = Shard::WHOLE, hide_default_value = true)]
    shard: Shard,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// No sample is louder than -60 dB.
    Silent,
    /// The picture does not change.
    Still,
}

/// Runs the subcommand.
pub fn prepare(options: Options) -> Result<()> {
    let recipe = options.recipe()?;
    let list = options.list.as_deref().map(FilmList::read).transpose()?;
    let list = match &options.split {
        Some(split) => list.map(|list| list.select(split)).transpose()?,
        None => list,
    };
    let (out, shard) = (&options.out, options.shard);
    let is_single = recipe.pictures.is_single();
    let preparation = Preparation::new(&options.films, list.as_ref(), out, recipe, shard, Ffmpeg::default())?;
    let stop = stop_on_ctrl_c()?;
    let bar = progress_bar(preparation.num_films(), "{wide_bar} {pos}/{len} films, {eta} left");
    bar.set_position((preparation.num_films() - preparation.num_left()) as u64);
    bar.reset_eta();
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let outcome = preparation.run(jobs, stop, &|| bar.inc(1));
    bar.finish_and_clear();
    match outcome? {
        Outcome::Finished(summary) => {
            ensure!(
                summary.used > 0,
                "none of {} films can be used: {}, listed in {}",
                summary.wanted,
                flaws(&summary),
                out.join("flaws.csv").display()
            );
            println!("{}", text(&summary));
            let lists: Vec<String> = summary.lists(out).iter().map(|list| list.display().to_string()).collect();
            println!("written     {}, flaws.csv, summary.json, contact.png", lists.join(", "));
            let train = out.join("train.csv").display().to_string();
            if lists.contains(&train) {
                let data = if is_single { format!("{} --split {train}", out.display()) } else { train };
                println!("next        soundsight train --data {data} --out RUN");
            }
        }
        Outcome::Waiting { unfinished, films } => {
            let others: Vec<String> = unfinished.iter().map(Shard::to_string).collect();
            println!("shard {shard} is done; {films} films of {} are left", others.join(", "));
        }
        Outcome::Stopped { films } => {
            println!("stopped with {films} films left; run the same command again to continue")
        }
        _ => {}
    }
    Ok(())
}

impl Options {
    fn recipe(&self) -> Result<Recipe> {
        let usual = Recipe::default();
        let (layout, pictures, seconds) = match self.benchmark {
            None => (Layout::Pairs, Pictures::Middle, usual.seconds),
            Some(Benchmark::Vggss) => (Layout::Pairs, VGGSS, usual.seconds),
            Some(Benchmark::VggssExtended) => (Layout::Extended, VGGSS, usual.seconds),
            Some(Benchmark::FlickrExtended) => (Layout::Extended, Pictures::Middle, usual.seconds),
            Some(benchmark) if benchmark.is_segmentation() => (Layout::Avsbench, Pictures::EachSecond, 5.0),
            Some(_) => (Layout::Pairs, Pictures::Middle, usual.seconds),
        };
        let pictures = match (self.frame, self.pictures) {
            (Some(number), _) => Pictures::Number { number, rate: self.fps },
            (None, Some(count)) => Pictures::Several(count),
            (None, None) => pictures,
        };
        let seconds = self.seconds.unwrap_or(seconds);
        let keeps = |kind| self.benchmark.is_some() || self.keep.contains(&kind);
        let recipe = Recipe {
            layout,
            pictures,
            split: if self.benchmark.is_some() { "test" } else { "train" }.into(),
            from: self.from,
            seconds,
            min_seconds: self.min_seconds.unwrap_or(seconds / 2.0),
            keep_silent: keeps(Keep::Silent),
            keep_still: keeps(Keep::Still),
            png: self.png,
        };
        recipe.validate()?;
        Ok(recipe)
    }
}

/// The picture that VGG-SS annotates.
const VGGSS: Pictures = Pictures::Number { number: 125, rate: 25.0 };

/// The summary in a few lines.
fn text(summary: &Summary) -> String {
    let Summary { used, wanted, pictures, .. } = summary;
    let mut text =
        format!("prepared    {used} of {wanted} films: {pictures} pictures, {} of sound\n", clock(summary.seconds));
    if let Some([shortest, median, longest]) = summary.lengths {
        text += &format!("lengths     {shortest:.2} s to {longest:.2} s, median {median:.2} s\n");
    }
    if !summary.flaws.is_empty() {
        let tolerated = match summary.tolerated {
            0 => String::new(),
            count => format!("; {count} of them used nevertheless"),
        };
        text += &format!("flawed      {}{tolerated}\n", flaws(summary));
    }
    for (count, what) in [(summary.unlisted, "films that --list does not name"), (summary.ignored, "other files")] {
        if count > 0 {
            text += &format!("ignored     {count} {what}\n");
        }
    }
    text.trim_end().to_owned()
}

fn flaws(summary: &Summary) -> String {
    let flaws = summary.flaws.iter().map(|(kind, count)| format!("{count} {kind}"));
    flaws.collect::<Vec<_>>().join(", ")
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
