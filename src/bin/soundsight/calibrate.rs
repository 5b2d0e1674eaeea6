//! `soundsight calibrate`: fits the presence of a model's heatmaps to held-out pairs.
#![allow(clippy::print_stdout)] // command-line output

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use soundsight::data::{Pair, PairList};
use soundsight::eval::{Negative, auroc};
use soundsight::localizer::{Evidence, LabelledPair};
use soundsight::{ModelSource, Picture, Waveform};

use crate::model::ModelOptions;
use crate::program::progress::progress_bar;

/// Teach a model to tell whether a picture shows the source of a sound.
///
/// Fits a logistic regression to pairs that the model was not trained on: each picture is asked for its own sound, for that
/// of another pair, for silence and for white noise. The result, presence.json, belongs into the model's directory;
/// localize then says how likely the source is in the picture.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    model: ModelOptions,
    /// Held-out pairs: a CSV file with the header `audio,image[,label]`, or a folder of sounds and pictures of the same
    /// names.
    #[arg(long, value_name = "CSV|DIR")]
    pairs: PathBuf,
    /// Largest fraction of absent sounds that may count as present.
    #[arg(long, value_name = "F", default_value_t = 0.05)]
    false_alarms: f64,
    /// Folder to write presence.json to [default: the model's directory].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
pub fn calibrate(options: Options) -> Result<()> {
    let list = if options.pairs.is_dir() { PairList::folder(&options.pairs)? } else { PairList::csv(&options.pairs)? };
    list.require_negatives()?;
    let out = match (&options.out, &options.model.model) {
        (Some(out), _) => out,
        (None, ModelSource::Directory(folder)) => folder,
        (None, other) => anyhow::bail!("{other} is no directory: --out says where to write presence.json"),
    };
    ensure!(out.is_dir(), "{}: expected a folder", out.display());
    let localizer = options.model.load()?;
    let seconds = localizer.audio_seconds();
    let bar = progress_bar(list.num_pairs(), "{wide_bar} {pos}/{len} pairs, {eta} left");
    let open = |pair: &Pair| {
        bar.inc(1);
        Ok(LabelledPair {
            sound: Waveform::open_window(&pair.audio, 0.0, seconds)?,
            picture: Picture::open(&pair.image)?,
            label: pair.label.clone(),
        })
    };
    let kinds = [Negative::Silence, Negative::Noise];
    let negatives = kinds.map(|kind| kind.sound(seconds)).into_iter().filter_map(Result::transpose);
    let negatives = negatives.collect::<Result<Vec<_>, _>>()?;
    let gathered = localizer.gather_evidence(list.pairs().iter().map(open), &negatives)?;
    bar.finish_and_clear();
    let fitted = gathered.calibrate(options.false_alarms)?;
    fitted.write(out)?;

    let presences = |group: &[Evidence]| group.iter().map(|e| fitted.presence(*e)).collect::<Vec<_>>();
    let reach = |group: &[f32]| {
        let count = group.iter().filter(|presence| **presence >= fitted.threshold).count();
        100.0 * count as f64 / group.len().max(1) as f64
    };
    let present = presences(&gathered.present);
    println!("present     {:.1} % of {} at {:.3} or more", reach(&present), present.len(), fitted.threshold);
    let named = kinds.into_iter().map(Negative::name).zip(&gathered.negatives);
    for (name, group) in std::iter::once((Negative::Offscreen.name(), &gathered.elsewhere)).chain(named) {
        let absent = presences(group);
        let area = auroc(&present, &absent).context("no such sound")?;
        println!("{name:<11} {:.1} % of {}, AUROC {area:.3}", reach(&absent), absent.len());
    }
    println!("written     {}", out.join("presence.json").display());
    Ok(())
}
