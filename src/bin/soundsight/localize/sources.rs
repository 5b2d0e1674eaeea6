//! `soundsight localize --sources K`: every source of a sound on its own.
#![allow(clippy::print_stdout)] // command-line output

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use soundsight::localizer::Source;
use soundsight::{Heatmap, Localizer, Picture, Waveform};

use super::output::{Answer, OutputOptions};
use super::sound_json;
use super::view::View;

/// Takes the sound apart, localizes each of at most `count` sources in the picture and in its `tiles`, and writes the pictures of each.
pub fn localize_sources(
    localizer: &Localizer,
    (audio, image): (&Path, &Path),
    start: f64,
    (count, tiles): (usize, Option<usize>),
    options: &OutputOptions,
) -> Result<()> {
    let waveform = Waveform::open_window(audio, start, localizer.audio_seconds())?;
    let picture = Picture::open(image)?;
    let views = View::encode(localizer, std::slice::from_ref(&picture), tiles)?;
    let view = views.first().context("the picture was not encoded")?;
    let found = view.localize_sources(localizer, &waveform, count)?;
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    let write = |(number, (source, heatmap)): (usize, (Source, Heatmap))| {
        let answer = Answer::write(options, &format!("{stem}.{number}"), &picture, &heatmap)?;
        Ok((source, answer))
    };
    let answers = (1..).zip(found).map(write).collect::<Result<Vec<_>>>()?;
    if !options.json {
        for (number, (source, answer)) in (1..).zip(&answers) {
            let name = source.name.as_ref().map_or(String::new(), |name| format!("{name}, "));
            println!("source {number}    {name}{:.0} % of the sound", source.share * 100.0);
            println!("{}", answer.summary());
        }
        if let Some(closeness) = view.closeness() {
            println!("how close   {closeness}");
        }
        return Ok(());
    }
    let sources: Vec<Value> = answers
        .iter()
        .map(|(source, answer)| answer.json(json!({"name": source.name, "share": source.share})))
        .collect();
    let answer = json!({
        "model": localizer.name(),
        "audio": sound_json(audio, &waveform),
        "image": {"path": image, "width": picture.width(), "height": picture.height()},
        "tiles": view.tiles_json(),
        "sources": sources,
    });
    println!("{}", serde_json::to_string(&answer).context("the answer cannot be written")?);
    Ok(())
}
