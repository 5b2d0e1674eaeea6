//! How well a model follows the sources of synthetic films.

use anyhow::Result;
use rayon::prelude::*;
use serde_json::{Value, json};
use soundsight::data::random::{Purpose, stream};
use soundsight::eval::NUM_THRESHOLDS;
use soundsight::watch::{Gate, Moment, WatchOptions, Watcher};
use soundsight::{Localizer, Waveform};

use crate::films::{FilmSettings, Kind, Rendered, Span, SyntheticFilm};
use crate::measure::{centre, count_hits, mean_inside, peak, which};
use crate::statistics::auroc;
use crate::world::{SAMPLE_RATE, Split, World};

/// A switch of the source counts as followed within this many seconds.
const SWITCH_SECONDS: f64 = 1.0;
/// Moments this close to a change of what sounds are not asked whether something sounds: echoes ring on.
const EDGE_SECONDS: f64 = 0.15;

/// A film, and what its analysed frames show.
pub struct Scored<'w> {
    film: SyntheticFilm<'w>,
    kind: Kind,
    /// Time and truth of each analysed frame.
    frames: Vec<(f64, Rendered)>,
}

/// How heatmaps come about.
#[derive(Clone)]
pub enum Method {
    /// From the moment's own sound and frame and, with smoothing, its neighbours.
    Watch(WatchOptions),
    /// As a still: each frame with a whole sound of what sounds in it.
    Still,
    /// The heatmap of the first moment, held.
    First(WatchOptions),
    /// A blob in the middle.
    Centre,
}

/// What a method says of one moment.
struct Answer {
    heatmap: Vec<f32>,
    moment: Option<Moment>,
}

/// Shares in 0..1, except where said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// One thing sounds: the peak is inside it.
    pub peak: f64,
    /// One of two things sounds: the mean is higher on it.
    pub which: f64,
    /// IoU of at least one half at the threshold that suits all best.
    pub ciou: f64,
    /// Both sound: the peak is inside one of them.
    pub both: f64,
    /// How well the evidence tells moments with something in the picture that sounds from the others.
    pub auroc: f64,
    pub auroc_silent: f64,
    pub auroc_absent: f64,
    /// The decision: F1.
    pub f1: f64,
    /// Direct changes of the source that the peak follows within a second.
    pub switched: f64,
    /// The median time that it takes, in seconds.
    pub switch_seconds: f64,
    /// The mean distance of the peaks of neighbouring moments on things at rest, in percent of the picture's side.
    pub jitter: f64,
    /// Cuts found, cuts that are none, cuts missed.
    pub cuts: [usize; 3],
}

/// Held-out films of every kind in turn.
pub fn films<'w>(world: &'w World, count: usize, settings: &FilmSettings, split: Split, seed: u64) -> Vec<Scored<'w>> {
    let kinds = Kind::ALL;
    let film = |index: usize| {
        let kind = kinds[index % kinds.len()];
        let film = world.film(split, kind, settings, &mut stream(seed, Purpose::Validation, 9, index as u64));
        let frames = (0..film.num_frames()).map(|frame| (film.time(frame), film.frame(frame))).collect();
        Scored { film, kind, frames }
    };
    (0..count).into_par_iter().map(film).collect()
}

impl Scored<'_> {
    /// What sounds at `time`.
    fn span_at(&self, time: f64) -> Option<&Span> {
        self.film.script().iter().find(|span| span.start <= time && time < span.end)
    }

    fn watch(&self, localizer: &Localizer, options: &WatchOptions) -> Result<Vec<Moment>> {
        let mut watcher = Watcher::new(localizer, SAMPLE_RATE, options.clone())?;
        let mut moments = watcher.push_sound(self.film.sound())?;
        for (time, frame) in &self.frames {
            moments.extend(watcher.push_frame(*time, frame.picture.clone())?);
        }
        moments.extend(watcher.finish()?);
        Ok(moments)
    }

    fn answers(&self, localizer: &Localizer, world: &World, method: &Method) -> Result<Vec<Answer>> {
        let answer = |moment: Moment| Answer { heatmap: moment.heatmap.scores.clone(), moment: Some(moment) };
        Ok(match method {
            Method::Watch(options) => self.watch(localizer, options)?.into_iter().map(answer).collect(),
            Method::Still => {
                let mut answers = Vec::new();
                for (index, (time, frame)) in self.frames.iter().enumerate() {
                    let heatmap = match self.span_at(*time).map(|span| &span.sounding[..]) {
                        Some([thing]) => {
                            let mut rng = stream(5, Purpose::Validation, 10, index as u64);
                            let sound = world.sound(self.film.things()[*thing].class, Split::HeldOut, &mut rng);
                            localizer
                                .localize_pair(&Waveform::from_samples(sound, SAMPLE_RATE)?, &frame.picture)?
                                .scores
                        }
                        _ => vec![0.0; frame.picture.width().pow(2)],
                    };
                    answers.push(Answer { heatmap, moment: None });
                }
                answers
            }
            Method::First(options) => {
                let moments = self.watch(localizer, options)?;
                let first = moments.first().map_or(Vec::new(), |moment| moment.heatmap.scores.clone());
                moments.iter().map(|_| Answer { heatmap: first.clone(), moment: None }).collect()
            }
            Method::Centre => {
                let side = self.frames[0].1.picture.width();
                let centre = centre(side);
                self.frames.iter().map(|_| Answer { heatmap: centre.clone(), moment: None }).collect()
            }
        })
    }
}

/// Asks `method` about all films.
pub fn measure(localizer: &Localizer, world: &World, films: &[Scored], method: &Method) -> Result<Outcome> {
    let answers = films.par_iter().map(|film| film.answers(localizer, world, method)).collect::<Result<Vec<_>>>()?;
    let gate = match method {
        Method::Watch(options) => options.gate.clone(),
        _ => Gate::default(),
    };
    let mut tally = Tally { gate, ..Default::default() };
    for (scored, answers) in films.iter().zip(&answers) {
        tally.film(scored, answers);
    }
    Ok(tally.outcome())
}

/// Where a thing is seen in a frame.
fn mask(frame: &Rendered, thing: usize) -> Option<&[bool]> {
    frame.masks.iter().find(|(other, _)| *other == thing).map(|(_, mask)| mask.as_slice())
}

/// What the gate compares with its thresholds.
fn evidence(moment: &Moment, gate: &Gate) -> f32 {
    if moment.level < gate.level { -1.0 } else { moment.heatmap.confidence }
}

#[derive(Default)]
struct Tally {
    gate: Gate,
    single: Vec<bool>,
    which: Vec<f64>,
    both: Vec<bool>,
    hits: [usize; NUM_THRESHOLDS],
    present: Vec<f32>,
    silent: Vec<f32>,
    absent: Vec<f32>,
    /// Rightly sounding, wrongly sounding, missed.
    decisions: [usize; 3],
    /// Cuts found, cuts that are none, cuts missed.
    cuts: [usize; 3],
    switches: Vec<Option<f64>>,
    steps: Vec<f64>,
}

impl Tally {
    fn film(&mut self, scored: &Scored, answers: &[Answer]) {
        let mut last: Option<(usize, (f64, f64))> = None;
        let mut last_time = 0.0;
        for ((time, frame), answer) in scored.frames.iter().zip(answers) {
            let Some(span) = scored.span_at(*time) else { continue };
            let top = peak(&answer.heatmap).unwrap_or(0);
            match span.sounding[..] {
                [thing] => {
                    if let Some(own) = mask(frame, thing) {
                        let side = frame.picture.width();
                        let place = ((top % side) as f64 / side as f64, (top / side) as f64 / side as f64);
                        self.single(frame, thing, own, &answer.heatmap);
                        let before = last.filter(|(before, _)| *before == thing);
                        if let (Kind::Still, Some((_, before))) = (scored.kind, before) {
                            self.steps.push((place.0 - before.0).hypot(place.1 - before.1));
                        }
                        last = Some((thing, place));
                    }
                }
                [_, _] => {
                    let inside = |thing: &usize| mask(frame, *thing).is_some_and(|mask| mask[top]);
                    self.both.push(span.sounding.iter().any(inside));
                    last = None;
                }
                _ => last = None,
            }
            if let Some(moment) = &answer.moment {
                if (time - span.start).min(span.end - time) >= EDGE_SECONDS {
                    self.decision(span, moment);
                }
                let cut = scored.film.cuts().iter().any(|cut| last_time < *cut && *cut <= *time);
                match (moment.cut, cut) {
                    (true, true) => self.cuts[0] += 1,
                    (true, false) => self.cuts[1] += 1,
                    (false, true) => self.cuts[2] += 1,
                    (false, false) => {}
                }
                last_time = *time;
            }
        }
        self.switches(scored, answers);
    }

    /// A moment at which only `thing` sounds, which is seen at `own`.
    fn single(&mut self, frame: &Rendered, thing: usize, own: &[bool], heatmap: &[f32]) {
        self.single.push(own[peak(heatmap).unwrap_or(0)]);
        if let Some((_, other)) = frame.masks.iter().find(|(other, _)| *other != thing) {
            self.which.push(which(mean_inside(heatmap, own), mean_inside(heatmap, other)));
        }
        count_hits(&mut self.hits, heatmap, own);
    }

    /// Whether a moment says rightly that something in the picture sounds.
    fn decision(&mut self, span: &Span, moment: &Moment) {
        let evidence = evidence(moment, &self.gate);
        let truth = !span.sounding.is_empty();
        match (truth, span.off_screen) {
            (true, _) => self.present.push(evidence),
            (false, None) => self.silent.push(evidence),
            (false, Some(_)) => self.absent.push(evidence),
        }
        let [right, wrong, missed] = &mut self.decisions;
        *right += usize::from(truth && moment.sounding);
        *wrong += usize::from(!truth && moment.sounding);
        *missed += usize::from(truth && !moment.sounding);
    }

    /// How long after each direct change from one thing to the other the peak is inside the new one.
    fn switches(&mut self, scored: &Scored, answers: &[Answer]) {
        for pair in scored.film.script().windows(2) {
            let ([before], [after]) = (&pair[0].sounding[..], &pair[1].sounding[..]) else { continue };
            let things = scored.film.things();
            if before == after || things[*before].shot != things[*after].shot {
                continue;
            }
            let within =
                scored.frames.iter().zip(answers).filter(|((time, _), _)| (pair[1].start..pair[1].end).contains(time));
            let mut found = None;
            for ((time, frame), answer) in within {
                if mask(frame, *after).is_some_and(|mask| peak(&answer.heatmap).is_some_and(|top| mask[top])) {
                    found = Some(time - pair[1].start);
                    break;
                }
            }
            self.switches.push(found);
        }
    }

    fn outcome(&self) -> Outcome {
        let share = |values: &[bool]| values.iter().filter(|v| **v).count() as f64 / values.len().max(1) as f64;
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let [right, wrong, missed] = self.decisions;
        let mut seconds: Vec<f64> = self.switches.iter().map(|found| found.unwrap_or(f64::INFINITY)).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let others: Vec<f32> = self.silent.iter().chain(&self.absent).copied().collect();
        Outcome {
            peak: share(&self.single),
            which: mean(&self.which),
            ciou: self.hits.iter().max().copied().unwrap_or(0) as f64 / self.single.len().max(1) as f64,
            both: share(&self.both),
            auroc: auroc(&self.present, &others),
            auroc_silent: auroc(&self.present, &self.silent),
            auroc_absent: auroc(&self.present, &self.absent),
            f1: 2.0 * right as f64 / (2 * right + wrong + missed).max(1) as f64,
            switched: seconds.iter().filter(|s| **s <= SWITCH_SECONDS).count() as f64 / seconds.len().max(1) as f64,
            switch_seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
            jitter: 100.0 * mean(&self.steps),
            cuts: self.cuts,
        }
    }
}

impl Outcome {
    pub fn json(&self) -> Value {
        json!({"peak": self.peak, "which": self.which, "ciou": self.ciou, "both": self.both, "auroc": self.auroc,
               "auroc_silent": self.auroc_silent, "auroc_absent": self.auroc_absent, "f1": self.f1,
               "switched": self.switched, "switch_seconds": self.switch_seconds, "jitter": self.jitter, "cuts": self.cuts})
    }
}
