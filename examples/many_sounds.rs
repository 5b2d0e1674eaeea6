//! Finds many sounds in one picture. The picture is encoded only once, which is about half of the work.
//!
//! ```text
//! cargo run --release --example many_sounds -- examples/media/farm.jpg examples/media/{dog,goat,horse}.wav
//! ```
#![allow(clippy::print_stdout)]

use anyhow::{Context, ensure};
use soundsight::{Localizer, Picture, Waveform};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let image = args.next().context("usage: many_sounds IMAGE AUDIO...")?;
    let files: Vec<String> = args.collect();
    ensure!(!files.is_empty(), "usage: many_sounds IMAGE AUDIO...");

    let localizer = Localizer::load("auto")?;
    let picture = localizer.encode_image(&Picture::open(&image)?)?;

    // Batches use all cores. Embeddings are small and can be kept for other pictures.
    let sounds = files.iter().map(|file| Waveform::open_window(file, 0.0, localizer.audio_seconds()));
    let embeddings = localizer.embed_audio_batch(&sounds.collect::<soundsight::Result<Vec<_>>>()?)?;
    let pairs: Vec<_> = embeddings.iter().map(|embedding| (embedding, &picture)).collect();
    let heatmaps = localizer.localize_batch(&pairs)?;

    // For a single sound, `embed_audio` and `localize` give the same heatmap.
    for (file, heatmap) in files.iter().zip(&heatmaps) {
        let findings = heatmap.score_map(picture.width(), picture.height())?.findings(0.5)?;
        let (peak, percent) = (findings.peak, findings.area * 100.0);
        println!(
            "{file}: ({}, {}), {percent:.0} % of the picture, confidence {:.2}",
            peak.x, peak.y, heatmap.confidence
        );
    }
    Ok(())
}
