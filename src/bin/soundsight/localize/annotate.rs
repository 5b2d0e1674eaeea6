//! Paints the heatmaps over a film.

use std::path::Path;
use std::sync::mpsc::Receiver;

use anyhow::Result;
use soundsight::Picture;
use soundsight::video::{Film, FilmWriter, Frame, FrameOptions, Frames, WriterOptions};
use soundsight::viz::{Colormap, OverlayOptions, overlay};
use soundsight::watch::Moment;

use super::film_options::FilmOptions;

/// The strip's height as a fraction of the film's, and its least height in pixels.
const STRIP_FRACTION: usize = 40;
const MIN_STRIP: usize = 4;

/// Reads every frame of a film, paints what the moments around it say, and writes the result.
pub struct Annotator {
    frames: Frames,
    painter: Painter,
    /// The longest time that a moment stands for, in seconds.
    period: f64,
    /// Why not all frames could be read.
    failed: Option<soundsight::Error>,
}

impl Annotator {
    /// Paints the part of `film` between `from` and `to`, which is known to end at `end`, into `path`.
    pub fn new(film: &Film, path: &Path, end: f64, threshold: f32, options: &FilmOptions) -> Result<Self> {
        let &FilmOptions { from, to, fps, .. } = options;
        let options = WriterOptions {
            frame_rate: film.info().frame_rate,
            sound: Some(film.clone()),
            from,
            to,
            ..Default::default()
        };
        let painter = Painter {
            writer: FilmWriter::create(path, options)?,
            overlay: OverlayOptions { threshold, ..Default::default() },
            span: (from, end),
            strip: Vec::new(),
        };
        let frames = film.frames(&FrameOptions { from, to, ..Default::default() })?;
        Ok(Self { frames, painter, period: 1.0 / fps, failed: None })
    }

    /// Paints every frame up to the last moment that is received.
    pub fn paint(mut self, moments: Receiver<Moment>) -> Result<Self> {
        let Ok(mut before) = moments.recv() else { return Ok(self) };
        let mut next = Some(before.clone());
        for frame in self.frames.by_ref() {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            };
            while let Some(reached) = next.take_if(|next| next.time <= frame.time) {
                before = reached;
                next = moments.recv().ok();
            }
            if next.is_none() && frame.time >= before.time + self.period {
                break; // the analysis ended before the film did
            }
            self.painter.write(frame, &before, next.as_ref())?;
        }
        Ok(self)
    }

    /// Puts the film in place: as finished only if `whole`, and all of it could be read.
    pub fn finish(self, whole: bool) -> Result<()> {
        match whole && self.failed.is_none() {
            true => self.painter.writer.finish()?,
            false => self.painter.writer.finish_unfinished()?,
        }
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Paints single frames.
struct Painter {
    writer: FilmWriter,
    overlay: OverlayOptions,
    span: (f64, f64),
    /// Confidence at each column of the strip painted so far; `None` where nothing sounds.
    strip: Vec<Option<f32>>,
}

impl Painter {
    /// Paints one frame between two moments.
    fn write(&mut self, frame: Frame, before: &Moment, next: Option<&Moment>) -> Result<()> {
        // Across a cut nothing is interpolated.
        let next = next.filter(|next| !next.cut);
        let share = next.map_or(0.0, |next| (frame.time - before.time) / (next.time - before.time)) as f32;
        let sounding = |moment: &Moment| f32::from(u8::from(moment.sounding));
        let shown = sounding(before) + (next.map_or(sounding(before), sounding) - sounding(before)) * share;
        let heatmap = match next {
            Some(next) => before.heatmap_between(next, frame.time)?,
            None => before.heatmap.clone(),
        };
        let size = frame.picture.size();
        let picture = match shown > 0.0 {
            true => {
                let painted = overlay(&frame.picture, &heatmap.score_map(size.0, size.1)?, &self.overlay)?;
                mixed(frame.picture, painted, shown)?
            }
            false => frame.picture,
        };
        let picture = self.with_strip(picture, frame.time, (shown >= 0.5).then_some(heatmap.confidence))?;
        Ok(self.writer.write(frame.time, &picture)?)
    }

    /// The frame with a strip at its bottom: the confidence of what has been shown so far, and a mark where the film is.
    fn with_strip(&mut self, picture: Picture, time: f64, confidence: Option<f32>) -> Result<Picture> {
        let (width, height) = picture.size();
        let strip = (height / STRIP_FRACTION).max(MIN_STRIP).min(height);
        let column = |time: f64| ((time - self.span.0) / (self.span.1 - self.span.0) * width as f64) as usize;
        let here = column(time).min(width - 1);
        let last = self.strip.last().copied().flatten();
        if self.strip.len() <= here {
            // A column between two frames looks like the one before it.
            self.strip.resize(here, last);
            self.strip.push(confidence);
        }
        let mut pixels = picture.into_pixels();
        for row in pixels.chunks_exact_mut(width * 3).skip(height - strip) {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                let color = match self.strip.get(x) {
                    _ if x.abs_diff(here) <= width / 640 => [255; 3],
                    Some(Some(confidence)) => Colormap::Inferno.color(0.35 + 0.6 * confidence.clamp(0.0, 1.0)),
                    Some(None) => [90; 3],
                    None => [35; 3],
                };
                pixel.copy_from_slice(&color);
            }
        }
        Ok(Picture::from_rgb8(width, height, pixels)?)
    }
}

/// `share` of the second picture over the first.
fn mixed(first: Picture, second: Picture, share: f32) -> Result<Picture> {
    if share >= 1.0 {
        return Ok(second);
    }
    let (width, height) = first.size();
    let mut pixels = first.into_pixels();
    for (below, &above) in pixels.iter_mut().zip(second.pixels()) {
        *below = (f32::from(*below) + (f32::from(above) - f32::from(*below)) * share + 0.5) as u8;
    }
    Ok(Picture::from_rgb8(width, height, pixels)?)
}
