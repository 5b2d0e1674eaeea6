//! Moments from frames and samples as they come.

use std::collections::{BTreeMap, VecDeque};

use rayon::prelude::*;

use super::moment::Moment;
use super::motion::{Flow, Thumbnail};
use super::options::{Smoothing, WatchOptions};
use super::sound::SoundTrack;
use crate::audio::{MAX_SAMPLE_RATE, Waveform};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::localizer::{Embedding, EncodedImage, Heatmap, Localizer};

/// The level of a moment is measured over this many seconds of sound.
const LEVEL_SECONDS: f64 = 0.2;
/// Added before rounding down to a slot, so that a frame at exactly k/rate belongs to slot k.
const SLOT_EPS: f64 = 1e-6;

/// Finds where it sounds while frames and samples arrive: the form for cameras and robots.
pub struct Watcher<'a> {
    localizer: &'a Localizer,
    options: WatchOptions,
    sound: SoundTrack,
    /// What was heard, by the index of the window; window k is centred on k · hop.
    heard: BTreeMap<i64, Heard>,
    /// Moments in the order of time: settled ones that later moments still need, then the others.
    seen: VecDeque<Seen>,
    /// How many of `seen` are settled.
    settled: usize,
    last_time: Option<f64>,
    finished: bool,
}

/// A window of sound.
struct Heard {
    embedding: Embedding,
    vector: Vec<f32>,
    level: f32,
}

/// A frame on its way to a moment.
struct Seen {
    time: f64,
    /// Until it is encoded.
    picture: Option<Picture>,
    /// Until it is localized.
    image: Option<EncodedImage>,
    /// What this moment says alone.
    heatmap: Option<Heatmap>,
    size: (usize, usize),
    thumbnail: Thumbnail,
    cut: bool,
    /// Flows to the frame before and back, unless there was a cut.
    motion: Option<(Flow, Flow)>,
    /// The index of its window.
    window: i64,
}

impl<'a> Watcher<'a> {
    /// Starts to watch; the sound has `sample_rate` samples per second.
    ///
    /// # Errors
    /// [`Error::Argument`] for an option or a rate out of its range.
    pub fn new(localizer: &'a Localizer, sample_rate: u32, options: WatchOptions) -> Result<Self> {
        options.validate()?;
        if sample_rate == 0 || sample_rate > MAX_SAMPLE_RATE {
            return Err(Error::argument("sample rate", format!("1 to {MAX_SAMPLE_RATE} Hz"), sample_rate));
        }
        Ok(Self {
            localizer,
            options,
            sound: SoundTrack::new(sample_rate),
            heard: BTreeMap::new(),
            seen: VecDeque::new(),
            settled: 0,
            last_time: None,
            finished: false,
        })
    }

    /// Feeds the next samples, mono; the first sample of all is at time 0. Returns the moments that are now known.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a sample that is NaN or infinite; the errors of [`Localizer::localize_pair`].
    pub fn push_sound(&mut self, samples: &[f32]) -> Result<Vec<Moment>> {
        self.hold_sound(samples)?;
        self.advance()
    }

    /// Feeds the next frame, seen at `time` in seconds. Returns the moments that are now known.
    ///
    /// # Errors
    /// [`Error::Argument`] for a time that is not later than the last one; the errors of
    /// [`Localizer::localize_pair`].
    pub fn push_frame(&mut self, time: f64, picture: Picture) -> Result<Vec<Moment>> {
        self.hold_frame(time, picture)?;
        self.advance()
    }

    /// Returns the remaining moments. Silence follows the last sample.
    ///
    /// # Errors
    /// The errors of [`Localizer::localize_pair`].
    pub fn finish(mut self) -> Result<Vec<Moment>> {
        self.end()
    }

    /// The first sample is at `time` instead of 0.
    pub(super) fn begin_at(&mut self, time: f64) {
        self.sound.begin_at(time);
    }

    /// Whether the sound up to `time` is there.
    pub(super) fn has_heard(&self, time: f64) -> bool {
        self.sound.reaches(time)
    }

    pub(super) fn end(&mut self) -> Result<Vec<Moment>> {
        self.finished = true;
        self.sound.end();
        self.advance()
    }

    pub(super) fn hold_sound(&mut self, samples: &[f32]) -> Result<()> {
        self.sound.push(samples)
    }

    pub(super) fn end_sound(&mut self) {
        self.sound.end();
    }

    pub(super) fn hold_frame(&mut self, time: f64, picture: Picture) -> Result<()> {
        if !(time.is_finite() && time >= 0.0 && self.last_time.is_none_or(|last| time > last)) {
            let expected = format!("later than the last frame at {} s", self.last_time.unwrap_or(0.0));
            return Err(Error::argument("time", expected, time));
        }
        let slot = |time: f64| (time * self.options.rate + SLOT_EPS).floor();
        if self.last_time.is_some_and(|last| slot(last) == slot(time)) {
            self.last_time = Some(time);
            return Ok(());
        }
        self.last_time = Some(time);
        let thumbnail = Thumbnail::new(&picture)?;
        let mut motion = None;
        let mut cut = false;
        if let Some(before) = self.seen.back() {
            let (to, from) = rayon::join(
                || Flow::between(&thumbnail, &before.thumbnail),
                || Flow::between(&before.thumbnail, &thumbnail),
            );
            cut = super::is_cut(to.residual, thumbnail.color_distance(&before.thumbnail));
            motion = (!cut).then_some((to, from));
        }
        self.seen.push_back(Seen {
            time,
            size: picture.size(),
            picture: Some(picture),
            image: None,
            heatmap: None,
            thumbnail,
            cut,
            motion,
            window: (time / self.options.hop()).round() as i64,
        });
        Ok(())
    }

    /// Computes everything that can be computed.
    pub(super) fn advance(&mut self) -> Result<Vec<Moment>> {
        self.hear_and_see()?;
        self.locate()?;
        let moments = self.settle()?;
        self.forget();
        Ok(moments)
    }

    /// How many windows to each side are averaged.
    fn hearing_radius(&self) -> i64 {
        let radius = self.options.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.hearing);
        (radius / self.options.hop() + SLOT_EPS) as i64
    }

    /// Embeds the windows and encodes the frames that are complete.
    fn hear_and_see(&mut self) -> Result<()> {
        let (radius, hop) = (self.hearing_radius(), self.options.hop());
        let mut needed: Vec<i64> = Vec::new();
        for seen in self.seen.iter().filter(|seen| seen.heatmap.is_none()) {
            let around = seen.window - radius..=seen.window + radius;
            needed.extend(around.filter(|k| *k >= 0 && !self.heard.contains_key(k)));
        }
        needed.sort_unstable();
        needed.dedup();
        needed.retain(|&k| self.sound.reaches(k as f64 * hop + self.options.window / 2.0));
        let windows = needed.iter().map(|&k| self.window(k as f64 * hop)).collect::<Result<Vec<_>>>()?;
        let new: Vec<usize> = (0..self.seen.len()).filter(|&i| self.seen[i].picture.is_some()).collect();
        let pictures: Vec<Picture> = new.iter().filter_map(|&i| self.seen[i].picture.take()).collect();
        let localizer = self.localizer;
        let (embeddings, images) =
            rayon::join(|| localizer.embed_audio_batch(&windows), || localizer.encode_image_batch(&pictures));
        for (&k, embedding) in needed.iter().zip(embeddings?) {
            let vector = embedding.tensor().flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()?;
            let level = self.sound.level(k as f64 * hop, LEVEL_SECONDS);
            self.heard.insert(k, Heard { embedding, vector, level });
        }
        for (i, image) in new.into_iter().zip(images?) {
            self.seen[i].image = Some(image);
        }
        Ok(())
    }

    /// The sound around `time`.
    fn window(&self, time: f64) -> Result<Waveform> {
        let fill = self.options.repeat.then(|| self.localizer.audio_seconds());
        self.sound.window(time, self.options.window, fill)
    }

    /// Localizes in every frame whose sounds are known.
    fn locate(&mut self) -> Result<()> {
        let mut ready: Vec<usize> = Vec::new();
        let mut embeddings = Vec::new();
        for (i, seen) in self.seen.iter().enumerate() {
            if seen.image.is_some()
                && let Some(embedding) = self.mixed_embedding(seen.window)?
            {
                ready.push(i);
                embeddings.push(embedding);
            }
        }
        let images: Vec<EncodedImage> = ready.iter().filter_map(|&i| self.seen[i].image.take()).collect();
        let pairs: Vec<_> = embeddings.iter().zip(&images).collect();
        for (i, heatmap) in ready.into_iter().zip(self.localizer.localize_batch(&pairs)?) {
            self.seen[i].heatmap = Some(heatmap);
        }
        Ok(())
    }

    /// The weighted mean of the embeddings around window `k`; `None` while one of them is missing.
    fn mixed_embedding(&self, k: i64) -> Result<Option<Embedding>> {
        let radius = self.hearing_radius();
        let around: Option<Vec<(i64, &Heard)>> =
            ((k - radius).max(0)..=k + radius).map(|j| Some((j, self.heard.get(&j)?))).collect();
        let (Some(around), Some(center)) = (around, self.heard.get(&k)) else { return Ok(None) };
        let Some(smoothing) = self.options.smoothing.as_ref().filter(|_| radius > 0) else {
            return Ok(Some(center.embedding.clone()));
        };
        let mut sum = center.embedding.tensor().zeros_like()?;
        let mut total = 0.0;
        for (j, heard) in around {
            let apart = (j - k) as f64 * self.options.hop();
            let weight = weight(smoothing, apart, smoothing.hearing, &center.vector, &heard.vector);
            sum = (sum + (heard.embedding.tensor() * weight)?)?;
            total += weight;
        }
        Ok(Some(Embedding::from_tensor((sum / total)?)?))
    }

    /// Turns every frame whose neighbours are localized into a moment.
    fn settle(&mut self) -> Result<Vec<Moment>> {
        let radius = self.options.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.seeing);
        let mut count = 0;
        let known = self.seen.iter().take_while(|seen| seen.heatmap.is_some()).count();
        let last = self.seen.back().map_or(f64::NEG_INFINITY, |seen| seen.time);
        while self.settled + count < known {
            let end = self.seen[self.settled + count].time + radius;
            // The neighbours are complete once a frame is beyond them.
            let neighbours = self.seen.iter().take_while(|seen| seen.time <= end + SLOT_EPS).count();
            if neighbours > known || !(self.finished || last > end + SLOT_EPS || radius == 0.0) {
                break;
            }
            count += 1;
        }
        let range = self.settled..self.settled + count;
        let moments = range.clone().into_par_iter().map(|i| self.moment(i)).collect::<Result<Vec<_>>>()?;
        self.settled = range.end;
        Ok(moments)
    }

    /// The moment of frame `i`, from its logits and those around it.
    fn moment(&self, i: usize) -> Result<Moment> {
        let seen = &self.seen[i];
        let Some(own) = &seen.heatmap else {
            return Err(Error::argument("moment", "a localized frame", i));
        };
        let mut logits = own.logits.clone();
        let mut confidence = f64::from(own.confidence);
        let mut total = 1.0;
        if let Some(smoothing) = self.options.smoothing.as_ref().filter(|smoothing| smoothing.seeing > 0.0) {
            for (j, flow) in self.neighbours(i, smoothing.seeing) {
                let other = &self.seen[j];
                let (Some(heatmap), Some(here), Some(there)) =
                    (&other.heatmap, self.heard.get(&seen.window), self.heard.get(&other.window))
                else {
                    continue;
                };
                let apart = other.time - seen.time;
                let weight = weight(smoothing, apart, smoothing.seeing, &here.vector, &there.vector);
                match flow.filter(|_| smoothing.follow_motion) {
                    Some(flow) => flow.add_moved(&heatmap.logits, heatmap.size, weight as f32, &mut logits),
                    None => logits.iter_mut().zip(&heatmap.logits).for_each(|(sum, v)| *sum += weight as f32 * v),
                }
                confidence += weight * f64::from(heatmap.confidence);
                total += weight;
            }
            logits.iter_mut().for_each(|sum| *sum /= total as f32);
        }
        let level = self.heard.get(&seen.window).map_or(f32::NEG_INFINITY, |heard| heard.level);
        let heatmap = own.with_logits(logits, (confidence / total) as f32)?;
        Ok(Moment { time: seen.time, heatmap, level, cut: seen.cut, evidence: 0.0, sounding: false, size: seen.size })
    }

    /// The frames within `radius` seconds of frame `i` in the same shot, each with the flow from `i` to it.
    fn neighbours(&self, i: usize, radius: f64) -> Vec<(usize, Option<Flow>)> {
        let near = |j: usize| (self.seen[j].time - self.seen[i].time).abs() <= radius + SLOT_EPS;
        let mut found = Vec::new();
        let mut flow: Option<Flow> = None;
        for j in (0..i).rev().take_while(|&j| near(j)) {
            let Some((to, _)) = &self.seen[j + 1].motion else { break };
            flow = Some(flow.map_or_else(|| to.clone(), |flow| flow.then(to)));
            found.push((j, flow.clone()));
        }
        flow = None;
        for j in (i + 1..self.seen.len()).take_while(|&j| near(j)) {
            let Some((_, from)) = &self.seen[j].motion else { break };
            flow = Some(flow.map_or_else(|| from.clone(), |flow| flow.then(from)));
            found.push((j, flow.clone()));
        }
        found
    }

    /// Drops what no later moment needs.
    fn forget(&mut self) {
        let radius = self.options.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.seeing);
        let next = self.seen.get(self.settled).map_or(f64::INFINITY, |seen| seen.time);
        // The last frame stays: the next one is compared with it.
        while self.settled > 1 && self.seen[0].time < next - radius - 1.0 / self.options.rate {
            self.seen.pop_front();
            self.settled -= 1;
        }
        let first = self.seen.front().map_or(0, |seen| seen.window) - self.hearing_radius();
        self.heard = self.heard.split_off(&first);
        let hop = self.options.hop();
        self.sound.forget_before(first as f64 * hop - self.options.window / 2.0 - LEVEL_SECONDS);
    }
}

/// The weight of a moment `apart` seconds away, see [`Smoothing`].
fn weight(smoothing: &Smoothing, apart: f64, radius: f64, here: &[f32], there: &[f32]) -> f64 {
    let near = (-2.0 * (apart / radius).powi(2)).exp();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(here, there) / (dot(here, here) * dot(there, there)).sqrt().max(f64::MIN_POSITIVE);
    near * ((cosine - 1.0) / f64::from(smoothing.tolerance)).exp()
}
