//! The picture of a timeline: thumbnails, waveform, confidence and when it sounds.

use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;
use soundsight::Picture;
use soundsight::video::{Film, FrameOptions};
use soundsight::viz::{OverlayOptions, overlay};
use soundsight::watch::Moment;

use super::canvas::{Canvas, TEXT_HEIGHT};

/// The picture's width in pixels.
const WIDTH: usize = 1600;
/// Thumbnails next to each other; each shows the most confident moment of its part of the film.
const THUMBNAILS: usize = 8;
/// The heights of the waveform, of the confidence and of the axis.
const WAVEFORM: usize = 110;
const CONFIDENCE: usize = 110;
const AXIS: usize = 34;
/// The space between the parts.
const GAP: usize = 8;

const BACKGROUND: [u8; 3] = [18, 18, 22];
const PANEL: [u8; 3] = [30, 30, 36];
const SOUNDING: [u8; 3] = [74, 46, 30];
const WAVE: [u8; 3] = [120, 150, 190];
const CURVE: [u8; 3] = [250, 160, 60];
const CUT: [u8; 3] = [110, 110, 120];
const TEXT: [u8; 3] = [190, 190, 196];

/// Collects what the picture shows. Its memory does not grow with the number of thumbnails and columns.
pub struct TimelinePicture {
    film: Film,
    from: f64,
    end: f64,
    overlay: OverlayOptions,
    columns: Vec<Column>,
    /// The most confident moment of each part of the film.
    peaks: Vec<Option<Moment>>,
    last: usize,
}

/// What one column of pixels shows.
#[derive(Clone, Copy, Default)]
struct Column {
    confidence: f32,
    sounding: bool,
    cut: bool,
    /// Whether a moment falls into this column or before it.
    known: bool,
    /// The lowest and the highest sample.
    wave: (f32, f32),
}

impl TimelinePicture {
    pub fn new(film: &Film, from: f64, end: f64, threshold: f32) -> Self {
        let (columns, peaks) = (vec![Column::default(); WIDTH], vec![None; THUMBNAILS]);
        let overlay = OverlayOptions { threshold, ..Default::default() };
        Self { film: film.clone(), from, end, overlay, columns, peaks, last: 0 }
    }

    /// The position of `time` between the left and the right border, in `0..count`.
    fn place(&self, time: f64, count: usize) -> usize {
        (((time - self.from) / (self.end - self.from) * count as f64).max(0.0) as usize).min(count - 1)
    }

    pub fn add(&mut self, moment: &Moment) {
        let here = self.place(moment.time, WIDTH);
        let column = Column {
            confidence: moment.heatmap.confidence,
            sounding: moment.sounding,
            cut: moment.cut,
            known: true,
            wave: (0.0, 0.0),
        };
        let before = Column { cut: false, ..self.columns[self.last] };
        if here > self.last + 1 {
            self.columns[self.last + 1..here].fill(before);
        }
        self.columns[here] = column;
        self.last = here;
        let part = self.place(moment.time, THUMBNAILS);
        let peak = &mut self.peaks[part];
        if moment.sounding && peak.as_ref().is_none_or(|best| best.heatmap.confidence < moment.heatmap.confidence) {
            *peak = Some(moment.clone());
        }
    }

    /// Draws the picture, with the waveform up to `until`, and writes it.
    pub fn write(mut self, path: &Path, until: f64) -> Result<()> {
        self.listen(until)?;
        let info = self.film.info();
        let width = WIDTH / THUMBNAILS;
        let height = (width * info.height / info.width.max(1)).clamp(width / 4, width * 2);
        let waveform = height + GAP;
        let confidence = waveform + WAVEFORM + GAP;
        let axis = confidence + CONFIDENCE;
        let mut canvas = Canvas::new(WIDTH, axis + AXIS, BACKGROUND);
        canvas.fill(0..WIDTH, waveform..waveform + WAVEFORM, PANEL);
        canvas.fill(0..WIDTH, confidence..axis, PANEL);
        let loudest = self.columns.iter().map(|column| column.wave.1.max(-column.wave.0)).fold(1e-3, f32::max);
        // The scale of the confidence: what is there, with 0 and at least up to 0.3.
        let highest = self.columns.iter().map(|column| column.confidence).fold(0.3, f32::max);
        let lowest = self.columns.iter().map(|column| column.confidence).fold(0.0, f32::min);
        let height_of =
            |value: f32| confidence + ((highest - value) / (highest - lowest) * (CONFIDENCE - 3) as f32) as usize;
        let mut before = None;
        for (x, column) in self.columns.iter().enumerate() {
            if column.sounding {
                canvas.fill(x..x + 1, waveform..axis, SOUNDING);
            }
            if column.cut {
                canvas.fill(x..x + 1, waveform..axis, CUT);
            }
            let up = |sample: f32| waveform + ((0.5 - 0.46 * sample / loudest) * WAVEFORM as f32) as usize;
            canvas.fill(x..x + 1, up(column.wave.1)..up(column.wave.0) + 1, WAVE);
            if column.known {
                let y = height_of(column.confidence);
                let (top, bottom) = before.map_or((y, y), |last: usize| (last.min(y), last.max(y)));
                canvas.fill(x..x + 1, top..bottom + 2, CURVE);
                before = Some(y);
            }
        }
        let zero = height_of(0.0);
        canvas.fill(0..WIDTH, zero..zero + 1, CUT);
        // The scale: the top of the panel, and 0 unless it would run into the former.
        canvas.text(&format!("{highest:.2}"), 4, confidence + 4, TEXT);
        if zero > confidence + 2 * TEXT_HEIGHT {
            canvas.text("0", 4, zero - TEXT_HEIGHT - 4, TEXT);
        }
        self.draw_axis(&mut canvas, axis);
        self.draw_thumbnails(&mut canvas, width, height)?;
        Ok(canvas.into_picture()?.write_png(path)?)
    }

    /// Reads the sound up to `until` once more for the waveform.
    fn listen(&mut self, until: f64) -> Result<()> {
        let Some(rate) = self.film.info().sound.as_ref().map(|sound| f64::from(sound.sample_rate)) else {
            return Ok(());
        };
        let mut position = 0_u64;
        for samples in self.film.sound(self.from, Some(until))? {
            // A damaged film is reported by the analysis; the picture shows what could be read.
            let Ok(samples) = samples else { break };
            for sample in samples {
                let place = self.place(self.from + position as f64 / rate, WIDTH);
                let wave = &mut self.columns[place].wave;
                *wave = (wave.0.min(sample), wave.1.max(sample));
                position += 1;
            }
        }
        Ok(())
    }

    fn draw_axis(&self, canvas: &mut Canvas, top: usize) {
        let seconds = self.end - self.from;
        let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0];
        let step = steps.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(7200.0);
        let mut tick = (self.from / step).ceil();
        while tick * step <= self.end {
            let x = self.place(tick * step, WIDTH);
            canvas.fill(x..x + 1, top..top + 8, TEXT);
            canvas.text(&clock(tick * step, step), x + 4, top + 12, TEXT);
            tick += 1.0;
        }
    }

    fn draw_thumbnails(&self, canvas: &mut Canvas, width: usize, height: usize) -> Result<()> {
        let thumbnail = |peak: &Option<Moment>| -> Result<Option<Picture>> {
            let Some(moment) = peak else { return Ok(None) };
            let options = FrameOptions { from: moment.time, ..Default::default() };
            // A thumbnail that cannot be read is left out.
            let Some(Ok(frame)) = self.film.frames(&options)?.next() else { return Ok(None) };
            let small = frame.picture.resize(width - 2, height)?;
            let scores = moment.heatmap.score_map(small.width(), small.height())?;
            Ok(Some(overlay(&small, &scores, &self.overlay)?))
        };
        // Each is decoded by a process of its own, from the last key frame on.
        let thumbnails = self.peaks.par_iter().map(thumbnail).collect::<Result<Vec<_>>>()?;
        for (place, (peak, thumbnail)) in self.peaks.iter().zip(thumbnails).enumerate() {
            let (Some(moment), Some(thumbnail)) = (peak, thumbnail) else { continue };
            canvas.paste(&thumbnail, place * width + 1, 0);
            let x = self.place(moment.time, WIDTH);
            canvas.fill(x..x + 2, height..height + GAP, CURVE);
        }
        Ok(())
    }
}

/// Minutes and seconds, with tenths where ticks are less than a second apart.
fn clock(seconds: f64, step: f64) -> String {
    let tenths = if step < 1.0 { format!(".{}", (seconds * 10.0).round() as u64 % 10) } else { String::new() };
    let whole = (seconds + 1e-6) as u64;
    match whole / 3600 {
        0 => format!("{}:{:02}{tenths}", whole / 60, whole % 60),
        hours => format!("{hours}:{:02}:{:02}", whole / 60 % 60, whole % 60),
    }
}
