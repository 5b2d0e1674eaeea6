//! The gallery of samples.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ExtendedColorType;

use crate::error::{Error, Result};
use crate::image::png_bytes;

use super::super::benchmark::Benchmark;
use super::super::grid::SIZE;
use super::super::media::Media;
use super::super::overlap::THRESHOLDS;
use super::super::predictor::Predictor;
use super::super::record::{Measure, Record};
use super::super::run::Evaluation;
use super::super::sample::Sample;
use super::html::escape;
use super::svg;

/// The number of samples per section.
const NUM_SHOWN: usize = 6;
/// Larger media files are omitted from the page.
const MAX_BYTES: u64 = 16 << 20;

/// The sections of the gallery: the best, median and worst samples, and the silent pairs with the highest confidence.
pub(super) fn sections<P: Predictor>(
    evaluation: &Evaluation,
    samples: &[Sample],
    predictor: &P,
    media: impl Fn(&Sample) -> Media,
) -> Result<String> {
    let place = evaluation.report.best_place();
    let benchmark = evaluation.report.benchmark;
    let score = benchmark.score_name();
    let mut ranked: Vec<&Record> = evaluation.records.iter().filter(|record| record.sounding).collect();
    ranked.sort_by(|a, b| b.scores[place].total_cmp(&a.scores[place]).then_with(|| a.id.cmp(&b.id)));
    let mut silent: Vec<&Record> = evaluation.records.iter().filter(|record| !record.sounding).collect();
    silent.sort_by(|a, b| b.confidence.unwrap_or(0.0).total_cmp(&a.confidence.unwrap_or(0.0)));

    // A small set is split three ways, so that no sample is shown twice.
    let num = NUM_SHOWN.min(ranked.len().div_ceil(3));
    let (best, rest) = ranked.split_at(num.min(ranked.len()));
    let (middle, worst) = rest.split_at(rest.len() - num.min(rest.len()));
    let start = (ranked.len() / 2).saturating_sub(num + num / 2).min(middle.len().saturating_sub(num));
    let median = middle.iter().skip(start).take(num).copied().collect::<Vec<_>>();
    let alarms = &silent[..silent.len().min(NUM_SHOWN)];

    let mut html = String::from(
        "<section class=\"key\"><h2>Gallery</h2><p><span class=\"truth\"></span>ground truth \
         <span class=\"predicted\"></span>predicted at the best threshold <span class=\"ramp\"></span>heatmap</p></section>",
    );
    let sections = [
        (format!("Best by {score}"), best),
        (format!("Median by {score}"), &median[..]),
        (format!("Worst by {score}"), worst),
        ("Silent pairs with the highest confidence".to_owned(), alarms),
    ];
    for (title, records) in sections {
        if records.is_empty() {
            continue;
        }
        let _ = write!(html, "<section><h2>{}</h2><div class=\"cards\">", escape(&title));
        for record in records {
            let Some(sample) = samples.get(record.place) else { continue };
            let Some(input) = predictor.load(sample)? else { continue };
            for said in predictor.predict(vec![(sample, input)])? {
                html.push_str(&card(benchmark, record, sample, &said.heatmap, place, &media(sample))?);
            }
        }
        html.push_str("</div></section>");
    }
    Ok(html)
}

/// One sample: picture, heatmap and prediction side by side, each with the ground truth, then the score and the sound.
/// `place` is the position of the best threshold.
fn card(
    benchmark: Benchmark,
    record: &Record,
    sample: &Sample,
    heatmap: &[f32],
    place: usize,
    media: &Media,
) -> Result<String> {
    let measure = Measure::of(benchmark);
    let truth = sample.truth.map()?;
    let is_inside = |x: usize, y: usize| truth.levels().get(y * SIZE + x).is_some_and(|&level| level > 0);
    let is_predicted =
        |x: usize, y: usize| heatmap.get(y * SIZE + x).is_some_and(|&v| measure.predicts(v, THRESHOLDS[place]));
    let truth = format!("<path class=\"halo\" d=\"{0}\"/><path class=\"truth\" d=\"{0}\"/>", svg::outline(is_inside));
    let overlay = |shapes: &str| {
        format!("<svg viewBox=\"0 0 {SIZE} {SIZE}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{shapes}</svg>")
    };
    let predicted = format!("<path class=\"predicted\" d=\"{}\"/>{truth}", svg::fill(is_predicted));

    let name = escape(sample.class.as_deref().unwrap_or(&sample.id));
    let picture = media.picture.as_deref().map(data_uri).transpose()?.flatten();
    let (image, style) = match &picture {
        Some(uri) => (format!("<img src=\"{uri}\" alt=\"{name}\">"), format!(" style=\"background-image:url({uri})\"")),
        None => ("<div class=\"blank\">no picture</div>".to_owned(), String::new()),
    };
    let sound = match media.sound.as_deref().map(data_uri).transpose()?.flatten() {
        Some(uri) => format!("<audio controls preload=\"metadata\" src=\"{uri}\"></audio>"),
        None => "<p class=\"silent\">no sound file</p>".to_owned(),
    };
    let id = match sample.class {
        Some(_) => format!("<p class=\"id\">{}</p>", escape(&sample.id)),
        None => String::new(),
    };
    let number = if record.sounding {
        format!("{} {:.2}", benchmark.score_name(), record.scores[place])
    } else {
        format!("confidence {:.3}", record.confidence.unwrap_or(0.0))
    };
    Ok(format!(
        "<article><div class=\"panels\"><div>{image}{}</div><div{style}><img class=\"heat\" src=\"{}\" alt=\"heatmap\">{}</div>\
         <div class=\"decision\"{style}>{}</div></div>\
         <div class=\"caption\"><h3>{name}</h3><span class=\"score\">{number}</span></div>{id}{sound}</article>",
        overlay(&truth),
        colored(heatmap)?,
        overlay(&truth),
        overlay(&predicted),
    ))
}

/// The heatmap as a PNG to overlay on a picture: coloured by value, and more opaque for higher values.
fn colored(heatmap: &[f32]) -> Result<String> {
    let pixel = |&value: &f32| {
        let value = value.clamp(0.0, 1.0);
        let [r, g, b] = colorous::INFERNO.eval_continuous(f64::from(value)).into_array();
        [r, g, b, (value.sqrt() * 215.0) as u8]
    };
    let pixels: Vec<u8> = heatmap.iter().flat_map(pixel).collect();
    let png = png_bytes(&pixels, (SIZE, SIZE), ExtendedColorType::Rgba8)?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

/// The unmodified contents of a file as a data URI; `None` for files larger than [`MAX_BYTES`].
fn data_uri(path: &Path) -> Result<Option<String>> {
    if std::fs::metadata(path).map_err(Error::io(path, "read"))?.len() > MAX_BYTES {
        return Ok(None);
    }
    let kind = match path.extension().and_then(|ext| ext.to_str()) {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("wav") => "audio/wav",
        Some("flac") => "audio/flac",
        Some("ogg") => "audio/ogg",
        Some("mp3") => "audio/mpeg",
        Some("m4a") => "audio/mp4",
        _ => "application/octet-stream",
    };
    let bytes = std::fs::read(path).map_err(Error::io(path, "read"))?;
    Ok(Some(format!("data:{kind};base64,{}", STANDARD.encode(bytes))))
}
