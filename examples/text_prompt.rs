//! Finds what a text describes. A text can replace a sound because both are embedded in the same space.
//!
//! ```text
//! cargo run --release --example text_prompt -- examples/media/savanna.jpg "a photo of a lion" [MODEL]
//! ```
#![allow(clippy::print_stdout)]

use anyhow::Context;
use soundsight::viz::{OverlayOptions, overlay};
use soundsight::{Localizer, Picture};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (image, prompt) = args.next().zip(args.next()).context("usage: text_prompt IMAGE PROMPT [MODEL]")?;
    let localizer = Localizer::load(args.next().unwrap_or("auto".to_string()))?;

    // The published model supports all English words; for unknown words, a small model lists those that it supports.
    let text = localizer.embed_text(&prompt)?;

    // From here on, everything is the same as for a sound.
    let picture = Picture::open(&image)?;
    let heatmap = localizer.localize(&text, &localizer.encode_image(&picture)?)?;
    let scores = heatmap.score_map(picture.width(), picture.height())?;
    let findings = scores.findings(0.5)?;
    println!("{prompt}: at ({}, {}), score {:.2}", findings.peak.x, findings.peak.y, findings.peak.score);
    println!("{:.1} % of the picture, confidence {:.2}", findings.area * 100.0, heatmap.confidence);

    overlay(&picture, &scores, &OverlayOptions::default())?.write_png("text_prompt.png")?;
    println!("written: text_prompt.png");
    Ok(())
}
