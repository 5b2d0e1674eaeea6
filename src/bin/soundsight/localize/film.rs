//! `soundsight localize FILM`: where it sounds, from moment to moment.
#![allow(clippy::print_stdout)] // a program talks

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use indicatif::ProgressBar;
use soundsight::Localizer;
use soundsight::video::Film;
use soundsight::watch::{HeatmapWriter, Moment, TimelineWriter, WatchOptions};

use super::annotate::Annotator;
use super::film_options::FilmOptions;
use super::output::OutputOptions;
use super::timeline_picture::TimelinePicture;
use crate::model::ModelOptions;
use crate::program::interrupt::stop_on_ctrl_c;
use crate::program::progress::progress_bar;

/// Moments that wait to be painted, at most.
const QUEUE: usize = 8;

/// Analyses the film and writes what was asked for.
pub fn localize_film(path: &Path, model: &ModelOptions, output: &OutputOptions, options: &FilmOptions) -> Result<()> {
    let started = Instant::now();
    let film = Film::open(path).map_err(|error| match error {
        soundsight::Error::Film { .. } => anyhow!("no picture given, and no film to look at: {error}"),
        other => other.into(),
    })?;
    let stop = stop_on_ctrl_c()?;
    let end = options.to.map_or(film.info().seconds, |to| to.min(film.info().seconds));
    ensure!(
        options.from < end,
        "--from: expected less than {end} s, where the film or --to ends, found {}",
        options.from
    );
    std::fs::create_dir_all(&output.out)
        .with_context(|| format!("{}: cannot create the folder", output.out.display()))?;
    let job = Job { film: &film, end, output, options, stop };
    // Everything that cannot be written is reported before the work begins.
    let files = Files::new(path, &output.out);
    let timeline = TimelineWriter::create(&files.timeline)?;
    let heatmaps = options.save_heatmaps.as_ref().map(HeatmapWriter::create).transpose()?;
    let annotator = match options.no_film {
        true => None,
        false => Some(Annotator::new(&film, &files.film, end, output.threshold, options)?),
    };
    let localizer = model.load()?;
    let summary = job.run(&localizer, timeline, heatmaps, annotator, &files)?;
    if !output.json {
        let seconds = started.elapsed().as_secs_f64();
        println!("{}", summary.text((end - options.from) / seconds));
        println!("written     {}", files.listed(options));
    }
    Ok(())
}

/// The names of what is written.
struct Files {
    film: PathBuf,
    timeline: PathBuf,
    picture: PathBuf,
}

impl Files {
    fn new(film: &Path, folder: &Path) -> Self {
        let file = |ending: &str| {
            let mut name = film.file_stem().unwrap_or_default().to_os_string();
            name.push(ending);
            folder.join(name)
        };
        Self { film: file(".localized.mp4"), timeline: file(".timeline.jsonl"), picture: file(".timeline.png") }
    }

    fn listed(&self, options: &FilmOptions) -> String {
        let film = (!options.no_film).then_some(&self.film);
        let files = film.into_iter().chain([&self.timeline, &self.picture]).chain(&options.save_heatmaps);
        files.map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

struct Job<'a> {
    film: &'a Film,
    end: f64,
    output: &'a OutputOptions,
    options: &'a FilmOptions,
    stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Analyses on this thread and paints on another one.
    fn run(
        &self,
        localizer: &Localizer,
        timeline: TimelineWriter,
        heatmaps: Option<HeatmapWriter>,
        annotator: Option<Annotator>,
        files: &Files,
    ) -> Result<Summary> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel::<Moment>(QUEUE);
            let painting = annotator.map(|annotator| scope.spawn(move || annotator.paint(receiver)));
            let to_painter = painting.is_some().then_some(sender);
            let analysed = self.analyse(localizer, timeline, heatmaps, to_painter, files);
            // The painter ends once the sender is gone. Where both failed, they failed for the same reason.
            if let Some(painting) = painting {
                let annotator = painting.join().map_err(|_| anyhow!("the film could not be painted"))??;
                let finished = annotator.finish(analysed.as_ref().is_ok_and(|summary| !summary.unfinished));
                return analysed.and_then(|summary| finished.map(|()| summary));
            }
            analysed
        })
    }

    fn analyse(
        &self,
        localizer: &Localizer,
        mut timeline: TimelineWriter,
        mut heatmaps: Option<HeatmapWriter>,
        painter: Option<SyncSender<Moment>>,
        files: &Files,
    ) -> Result<Summary> {
        let FilmOptions { fps, window, from, to, no_smoothing, .. } = *self.options;
        let mut options = WatchOptions { rate: fps, window, ..Default::default() };
        if no_smoothing {
            options.smoothing = None;
            options.sound_changes = false;
        }
        let bar = self.bar(fps);
        let mut summary = Summary::default();
        let mut picture = TimelinePicture::new(self.film, from, self.end, self.output.threshold);
        let mut failed = None;
        for moment in localizer.watch_span(self.film, from, to, &options)? {
            let moment = match moment {
                Ok(moment) => moment,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            let line = moment.to_json(self.output.threshold)?;
            if self.output.json {
                bar.suspend(|| writeln!(std::io::stdout(), "{line}")).context("standard output: cannot write")?;
            }
            timeline.write(&line)?;
            if let Some(heatmaps) = &mut heatmaps {
                heatmaps.write(&moment)?;
            }
            summary.add(&moment);
            picture.add(&moment);
            bar.set_position(summary.moments as u64);
            if let Some(painter) = &painter
                && painter.send(moment).is_err()
            {
                summary.unfinished = true; // the painter has failed and says why
                break;
            }
            if self.stop.load(Ordering::Relaxed) {
                summary.unfinished = true;
                break;
            }
        }
        bar.finish_and_clear();
        drop(painter);
        if summary.moments == 0
            && let Some(error) = failed
        {
            return Err(error.into()); // there is nothing to keep
        }
        summary.unfinished |= failed.is_some();
        match summary.unfinished {
            true => timeline.finish_unfinished(summary.last)?,
            false => timeline.finish()?,
        }
        heatmaps.map(HeatmapWriter::finish).transpose()?;
        let until = if summary.unfinished { summary.last + 1.0 / fps } else { self.end };
        picture.write(&files.picture, until.min(self.end))?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(summary),
        }
    }

    fn bar(&self, fps: f64) -> ProgressBar {
        let moments = ((self.end - self.options.from) * fps).ceil() as usize;
        progress_bar(moments, "{wide_bar} {pos}/{len} moments, {eta} left")
    }
}

/// What the terminal shows at the end.
#[derive(Default)]
struct Summary {
    moments: usize,
    sounding: usize,
    cuts: usize,
    last: f64,
    unfinished: bool,
}

impl Summary {
    fn add(&mut self, moment: &Moment) {
        self.moments += 1;
        self.sounding += usize::from(moment.sounding);
        self.cuts += usize::from(moment.cut);
        self.last = moment.time;
    }

    fn text(&self, pace: f64) -> String {
        let Self { moments, sounding, cuts, .. } = self;
        let share = 100.0 * *sounding as f64 / (*moments).max(1) as f64;
        let mut text = format!("analysed    {moments} moments, {cuts} cuts; {pace:.1} × real time\n");
        if self.unfinished {
            text = format!("unfinished  stopped at {:.1} s; the files end there and say so\n", self.last) + &text;
        }
        text + &format!("sounding    {share:.0} % of the moments")
    }
}
