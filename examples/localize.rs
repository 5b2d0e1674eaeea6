//! Shows where in a picture a sound comes from.
//!
//! ```text
//! cargo run --release --example localize -- clip.wav frame.jpg [MODEL]
//! ```
//!
//! Writes out/frame.overlay.png (the heatmap over the picture), out/frame.heatmap.png and out/frame.mask.png. MODEL is
//! a model directory, `embedded`, `acl-vit16` or `auto`, the default. The command `soundsight localize` has more
//! options.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;

use anyhow::Context;
use soundsight::viz::{OverlayOptions, overlay};
use soundsight::{Localizer, Picture, Waveform};

/// Pixels with at least this score belong to the mask.
const THRESHOLD: f32 = 0.5;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (sound, image) = args.next().zip(args.next()).context("usage: localize AUDIO IMAGE [MODEL]")?;
    let model = args.next().unwrap_or("auto".to_string());

    // A model is downloaded only if it is requested by name.
    let localizer = Localizer::builder(&model)
        .download(|progress| eprint!("\r{}: {} MB ", progress.file, progress.downloaded >> 20))
        .load()?;
    println!("model: {}", localizer.name());

    // Read as much of the sound as the model takes at once, and the picture.
    let waveform = Waveform::open_window(&sound, 0.0, localizer.audio_seconds())?;
    let picture = Picture::open(&image)?;
    let heatmap = localizer.localize_pair(&waveform, &picture)?;

    // Compute scores at the picture's own size, and interpret them.
    let scores = heatmap.score_map(picture.width(), picture.height())?;
    let findings = scores.findings(THRESHOLD)?;
    let peak = findings.peak;
    println!("where: ({}, {}) with score {:.2}", peak.x, peak.y, peak.score);
    for found in findings.boxes.iter().take(3) {
        println!("       {} x {} pixels at ({}, {})", found.width, found.height, found.x, found.y);
    }
    println!("how sure: {:.2} (from -1 to 1)", heatmap.confidence);

    // Write the results as pictures.
    let out = Path::new("out");
    std::fs::create_dir_all(out)?;
    let name = Path::new(&image).file_stem().unwrap_or_default().display();
    let drawn = OverlayOptions { threshold: THRESHOLD, ..Default::default() };
    overlay(&picture, &scores, &drawn)?.write_png(out.join(format!("{name}.overlay.png")))?;
    scores.write_heatmap(out.join(format!("{name}.heatmap.png")))?;
    scores.write_mask(out.join(format!("{name}.mask.png")), THRESHOLD)?;
    println!("written: out/{name}.overlay.png, out/{name}.heatmap.png, out/{name}.mask.png");
    Ok(())
}
