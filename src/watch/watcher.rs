//! Moments from frames and samples as they come.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use rayon::prelude::*;

use super::changes::SoundChanges;
use super::moment::Moment;
use super::motion::{Flow, Thumbnail, is_cut};
use super::options::{LEVEL_SECONDS, WatchOptions};
use super::sound::{SoundTrack, Window};
use crate::audio::{MAX_SAMPLE_RATE, Waveform};
use crate::error::{Error, Result};
use crate::image::Picture;
use crate::localizer::{Embedding, EncodedImage, Heatmap, Localizer};
use crate::video::CLOCK_TOLERANCE;

/// Finds where it sounds while frames and samples arrive: the form for cameras and robots.
pub struct Watcher<'a> {
    localizer: &'a Localizer,
    options: WatchOptions,
    sound: SoundTrack,
    /// Unless changes of the sound are to be ignored.
    changes: Option<SoundChanges>,
    /// What was heard, by the index of the window; window k is centred on k · hop.
    heard: BTreeMap<u64, Heard>,
    /// Frames that have not been looked at yet.
    arrived: Vec<(f64, Picture)>,
    /// Moments in the order of time: settled ones that later moments still need, then the others.
    seen: VecDeque<Seen>,
    /// How many of `seen` are settled.
    settled: usize,
    last_time: Option<f64>,
    /// Whether the last settled moment sounded.
    sounding: bool,
    finished: bool,
}

/// A window of sound.
struct Heard {
    embedding: Embedding,
    level: f32,
    /// The times between which the sound does not change.
    steady: Range<f64>,
}

/// A frame on its way to a moment.
struct Seen {
    time: f64,
    /// At the network's size, until it is encoded.
    picture: Option<Picture>,
    /// Until it is localized.
    image: Option<EncodedImage>,
    /// What this moment says alone.
    heatmap: Option<Heatmap>,
    size: (usize, usize),
    thumbnail: Thumbnail,
    cut: bool,
    /// Flows to the frame before and back, unless there was a cut or moments are not combined.
    motion: Option<(Flow, Flow)>,
    /// The index of its window.
    window: u64,
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
        let changes = if options.sound_changes { SoundChanges::new(sample_rate)? } else { None };
        Ok(Self {
            localizer,
            options,
            changes,
            sound: SoundTrack::new(sample_rate),
            heard: BTreeMap::new(),
            arrived: Vec::new(),
            seen: VecDeque::new(),
            settled: 0,
            last_time: None,
            sounding: false,
            finished: false,
        })
    }

    /// Feeds the next samples, mono; the first sample of all is at time 0. Returns the moments that are now known.
    ///
    /// Samples are kept until the frames around them have been seen, so sound that is fed far ahead of the frames needs
    /// memory.
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
        if self.last_time.is_some_and(|last| last < time && self.slot(last) == self.slot(time)) {
            self.last_time = Some(time);
        } else {
            self.hold_frame(time, picture)?;
        }
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

    /// What [`Watcher::finish`] does.
    pub(super) fn end(&mut self) -> Result<Vec<Moment>> {
        self.finished = true;
        self.sound.end();
        self.advance()
    }

    /// Takes samples, without computing anything.
    pub(super) fn hold_sound(&mut self, samples: &[f32]) -> Result<()> {
        self.sound.push(samples)
    }

    /// Drops the frames that are not before the end of the sound so far, and returns its time.
    pub(super) fn drop_unheard(&mut self) -> f64 {
        let end = self.sound.seconds();
        self.arrived.retain(|(time, _)| *time < end);
        while self.seen.back().is_some_and(|seen| seen.heatmap.is_none() && seen.time >= end) {
            self.seen.pop_back();
        }
        end
    }

    /// Silence follows the last sample.
    pub(super) fn end_sound(&mut self) {
        self.sound.end();
    }

    /// Takes a frame that is a moment, without computing anything.
    pub(super) fn hold_frame(&mut self, time: f64, picture: Picture) -> Result<()> {
        if !(time.is_finite() && time >= 0.0 && self.last_time.is_none_or(|last| time > last)) {
            let expected = format!("later than the last frame at {} s", self.last_time.unwrap_or(0.0));
            return Err(Error::argument("time", expected, time));
        }
        self.last_time = Some(time);
        self.arrived.push((time, picture));
        Ok(())
    }

    /// Computes everything that can be computed.
    pub(super) fn advance(&mut self) -> Result<Vec<Moment>> {
        self.look()?;
        self.hear_and_see()?;
        self.locate()?;
        let moments = self.settle()?;
        self.forget();
        Ok(moments)
    }

    /// The number of the period of 1/`rate` that `time` is in: the first frame in each becomes a moment.
    fn slot(&self, time: f64) -> f64 {
        ((time + CLOCK_TOLERANCE) * self.options.rate).floor()
    }

    /// The time that no further moment is before.
    fn next_time(&self) -> f64 {
        let next_slot = |last| (self.slot(last) + 1.0) / self.options.rate - CLOCK_TOLERANCE;
        if self.finished { f64::INFINITY } else { self.last_time.map_or(0.0, next_slot) }
    }

    /// The radius of the smoothing, in seconds.
    fn radius(&self) -> f64 {
        self.options.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.radius)
    }

    /// Compares the frames that have arrived with those before them.
    fn look(&mut self) -> Result<()> {
        let (side, hop) = (self.localizer.acl().config().acl.image_size, self.options.hop());
        let small = |(time, picture): (f64, Picture)| -> Result<Seen> {
            let size = picture.size();
            // Resized once for the network and for the thumbnail.
            let picture = picture.resize(side, side)?;
            let thumbnail = Thumbnail::new(&picture)?;
            let window = (time / hop).round() as u64;
            let (picture, image, heatmap) = (Some(picture), None, None);
            Ok(Seen { time, picture, image, heatmap, size, thumbnail, cut: false, motion: None, window })
        };
        let mut arrived =
            std::mem::take(&mut self.arrived).into_par_iter().map(small).collect::<Result<Vec<Seen>>>()?;
        let combines = self.options.smoothing.is_some();
        let change = |i: usize| {
            let before = if i == 0 { self.seen.back() } else { arrived.get(i - 1) }?;
            Some(changes(&before.thumbnail, &arrived[i].thumbnail, combines))
        };
        let changes: Vec<_> = (0..arrived.len()).into_par_iter().map(change).collect();
        for (seen, change) in arrived.iter_mut().zip(changes) {
            (seen.cut, seen.motion) = change.unwrap_or_default();
        }
        self.seen.extend(arrived);
        Ok(())
    }

    /// Embeds the windows and encodes the frames that are complete.
    fn hear_and_see(&mut self) -> Result<()> {
        let hop = self.options.hop();
        let waiting = self.seen.iter().filter(|seen| seen.heatmap.is_none()).map(|seen| seen.window);
        let mut needed: Vec<u64> = waiting.filter(|k| !self.heard.contains_key(k)).collect();
        needed.dedup(); // ascending, as the times of the frames
        needed.retain(|&k| self.sound.reaches(k as f64 * hop + self.options.reach()));
        let windows = needed.par_iter().map(|&k| self.window(k as f64 * hop)).collect::<Result<Vec<_>>>()?;
        let (windows, steady): (Vec<Waveform>, Vec<Range<f64>>) = windows.into_iter().unzip();
        let new: Vec<usize> = (0..self.seen.len()).filter(|&i| self.seen[i].picture.is_some()).collect();
        let pictures: Vec<Picture> = new.iter().filter_map(|&i| self.seen[i].picture.take()).collect();
        let localizer = self.localizer;
        let (embeddings, images) =
            rayon::join(|| localizer.embed_audio_batch(&windows), || localizer.encode_image_batch(&pictures));
        for ((&k, embedding), steady) in needed.iter().zip(embeddings?).zip(steady) {
            let level = self.sound.level(k as f64 * hop, LEVEL_SECONDS);
            self.heard.insert(k, Heard { embedding, level, steady });
        }
        for (i, image) in new.into_iter().zip(images?) {
            self.seen[i].image = Some(image);
        }
        Ok(())
    }

    /// The sound around `time`, and the times between which it does not change.
    fn window(&self, time: f64) -> Result<(Waveform, Range<f64>)> {
        let rate = self.sound.rate();
        let mut window = self.sound.window(time, self.options.window, self.changes.as_ref())?;
        if self.options.repeat {
            window.repeat((self.localizer.audio_seconds() * f64::from(rate)).round() as usize);
        }
        let Window { samples, steady } = window;
        Ok((Waveform::from_samples(samples, rate)?, steady))
    }

    /// Localizes in every frame whose sound is known.
    fn locate(&mut self) -> Result<()> {
        let known = |seen: &Seen| seen.image.is_some() && self.heard.contains_key(&seen.window);
        let ready: Vec<usize> = (0..self.seen.len()).filter(|&i| known(&self.seen[i])).collect();
        let pair = |&i: &usize| {
            let seen = &self.seen[i];
            Some((&self.heard.get(&seen.window)?.embedding, seen.image.as_ref()?))
        };
        let pairs: Vec<(&Embedding, &EncodedImage)> = ready.iter().filter_map(pair).collect();
        for (i, heatmap) in ready.into_iter().zip(self.localizer.localize_batch(&pairs)?) {
            self.seen[i].heatmap = Some(heatmap);
            self.seen[i].image = None;
        }
        Ok(())
    }

    /// Turns every frame whose neighbours are localized into a moment.
    fn settle(&mut self) -> Result<Vec<Moment>> {
        let radius = self.radius();
        let mut count = 0;
        let known = self.seen.iter().take_while(|seen| seen.heatmap.is_some()).count();
        let next = self.next_time();
        while self.settled + count < known {
            let end = self.seen[self.settled + count].time + radius + CLOCK_TOLERANCE;
            let neighbours = self.seen.iter().take_while(|seen| seen.time <= end).count();
            if neighbours > known || (next <= end && radius > 0.0) {
                break;
            }
            count += 1;
        }
        let range = self.settled..self.settled + count;
        let mut moments = range.clone().into_par_iter().map(|i| self.moment(i)).collect::<Result<Vec<_>>>()?;
        self.settled = range.end;
        for moment in &mut moments {
            self.sounding = self.options.gate.decide(self.sounding, &moment.heatmap, moment.level);
            moment.sounding = self.sounding;
        }
        Ok(moments)
    }

    /// The moment of frame `i`, from its logits and those around it.
    fn moment(&self, i: usize) -> Result<Moment> {
        let seen = &self.seen[i];
        let Some(own) = &seen.heatmap else {
            return Err(Error::argument("moment", "a localized frame", i));
        };
        let mut logits = own.logits.clone();
        let mut confidence = own.confidence;
        if let Some(smoothing) = &self.options.smoothing {
            let mut total = 1.0;
            for (j, flow) in self.neighbours(i, smoothing.radius) {
                let other = &self.seen[j];
                let Some(heatmap) = &other.heatmap else { continue };
                let weight = smoothing.weight(other.time - seen.time, heatmap.confidence - own.confidence);
                if smoothing.follow_motion {
                    flow.add_moved(&heatmap.logits, heatmap.size, weight, &mut logits);
                } else {
                    logits.iter_mut().zip(&heatmap.logits).for_each(|(sum, logit)| *sum += weight * logit);
                }
                confidence += weight * heatmap.confidence;
                total += weight;
            }
            logits.iter_mut().for_each(|sum| *sum /= total);
            confidence /= total;
        }
        let level = self.heard.get(&seen.window).map_or(f32::NEG_INFINITY, |heard| heard.level);
        let heatmap = own.with_logits(logits, confidence)?;
        Ok(Moment { time: seen.time, heatmap, level, sounding: false, cut: seen.cut, size: seen.size })
    }

    /// The frames within `radius` seconds of frame `i` in the same shot and under the same sound, each with the flow from
    /// `i` to it.
    fn neighbours(&self, i: usize, radius: f64) -> Vec<(usize, Flow)> {
        let steady = self.heard.get(&self.seen[i].window).map(|heard| &heard.steady);
        let near = |j: usize| {
            let time = self.seen[j].time;
            let same_sound = steady.is_none_or(|steady| steady.contains(&time));
            same_sound && (time - self.seen[i].time).abs() <= radius + CLOCK_TOLERANCE
        };
        let mut found: Vec<(usize, Flow)> = Vec::new();
        for j in (0..i).rev().take_while(|&j| near(j)) {
            let Some((to, _)) = &self.seen[j + 1].motion else { break };
            let flow = found.last().map_or_else(|| to.clone(), |(_, flow)| flow.then(to));
            found.push((j, flow));
        }
        let before = found.len();
        for j in (i + 1..self.seen.len()).take_while(|&j| near(j)) {
            let Some((_, from)) = &self.seen[j].motion else { break };
            let flow = found[before..].last().map_or_else(|| from.clone(), |(_, flow)| flow.then(from));
            found.push((j, flow));
        }
        found
    }

    /// Drops what no later moment needs.
    fn forget(&mut self) {
        let radius = self.radius();
        let next = self.seen.get(self.settled).map_or(f64::INFINITY, |seen| seen.time);
        // The last frame stays: the next one is compared with it.
        while self.settled > 1 && self.seen[0].time < next - radius - 1.0 / self.options.rate {
            self.seen.pop_front();
            self.settled -= 1;
        }
        let first = self.seen.front().map_or(0, |seen| seen.window);
        self.heard = self.heard.split_off(&first);
        let earliest = first as f64 * self.options.hop() - self.options.reach();
        self.sound.forget_before(earliest);
    }
}

/// Whether there is a cut between two frames, and the flows to the frame before and back: only if moments are combined, and
/// not across a cut.
fn changes(before: &Thumbnail, frame: &Thumbnail, combines: bool) -> (bool, Option<(Flow, Flow)>) {
    let back = || combines.then(|| Flow::between(before, frame));
    let (to, from) = rayon::join(|| Flow::between(frame, before), back);
    let cut = is_cut(to.residual, frame.color_distance(before));
    (cut, from.filter(|_| !cut).map(|from| (to, from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_does_not_grow_with_the_length_of_a_film() {
        let localizer = Localizer::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/alt")).unwrap();
        let rate = 4000;
        let options = WatchOptions { rate: 0.5, ..Default::default() };
        let bound = (options.latency() + 3.0) * f64::from(rate);
        let mut watcher = Watcher::new(&localizer, rate, options).unwrap();
        let (mut count, mut most) = (0, 0);
        for second in 0..600_u16 {
            let shade = (second % 200) as u8;
            let picture = Picture::from_rgb8(4, 4, vec![shade; 48]).unwrap();
            count += watcher.push_frame(f64::from(second), picture).unwrap().len();
            count += watcher.push_sound(&vec![0.1; rate as usize]).unwrap().len();
            assert!(watcher.seen.len() <= 4 && watcher.heard.len() <= 4, "at {second} s");
            most = most.max(watcher.sound.num_kept());
        }
        assert!((most as f64) < bound, "{most} samples were kept, {bound} expected");
        assert_eq!(count + watcher.finish().unwrap().len(), 300);
    }
}
