//! A model that predicts the heatmaps of a benchmark from its pictures and sounds.

use std::collections::HashMap;
use std::path::PathBuf;

use soundsight::eval::{
    Benchmark, Media, Negative, NegativePrediction, Prediction, Predictor, SIZE, Sample, locate_media, read_sound,
};
use soundsight::{Embedding, EncodedImage, Error, Heatmap, Localizer, Picture, Result, Waveform};

/// Encodes each picture once, and localizes in it its own sound, silence, noise, and the sound of another sample.
pub struct Model {
    localizer: Localizer,
    benchmark: Benchmark,
    data: PathBuf,
    /// How many sources of each sound are localized on their own; `None` localizes the sound as a whole.
    sources: Option<usize>,
    /// Silence and noise.
    everywhere: Vec<(Negative, Sound)>,
}

/// A sound to look for.
struct Sound {
    waveform: Waveform,
    /// `None` where its sources are localized instead.
    embedding: Option<Embedding>,
}

/// What was found of one sound.
struct Answer {
    heatmap: Vec<f32>,
    confidence: f32,
    presence: Option<f32>,
}

impl Answer {
    fn of(found: &Heatmap) -> Result<Self> {
        Ok(Self { heatmap: found.resized(SIZE)?, confidence: found.confidence, presence: found.presence() })
    }

    /// Everything that sounds: the larger of the scores of each pixel, and of the confidences and presences.
    fn or(mut self, other: Self) -> Self {
        self.heatmap.iter_mut().zip(other.heatmap).for_each(|(score, other)| *score = score.max(other));
        let presence = self.presence.zip(other.presence).map(|(one, other)| one.max(other));
        Self { confidence: self.confidence.max(other.confidence), presence, ..self }
    }
}

impl Model {
    pub fn new(localizer: Localizer, benchmark: Benchmark, data: PathBuf, sources: Option<usize>) -> Result<Self> {
        let mut model = Self { localizer, benchmark, data, sources, everywhere: Vec::new() };
        for kind in Negative::ALL {
            if let Some(sound) = kind.sound(model.localizer.audio_seconds())? {
                let sounds = model.hear(vec![sound])?;
                model.everywhere.extend(sounds.into_iter().map(|sound| (kind, sound)));
            }
        }
        Ok(model)
    }

    fn hear(&self, waveforms: Vec<Waveform>) -> Result<Vec<Sound>> {
        let embeddings: Vec<Option<Embedding>> = match self.sources {
            None => self.localizer.embed_audio_batch(&waveforms)?.into_iter().map(Some).collect(),
            Some(_) => vec![None; waveforms.len()],
        };
        let sounds = waveforms.into_iter().zip(embeddings);
        Ok(sounds.map(|(waveform, embedding)| Sound { waveform, embedding }).collect())
    }

    /// The answer to each of the sounds.
    fn find(&self, sounds: &[&Sound], image: &EncodedImage) -> Result<Vec<Answer>> {
        let Some(count) = self.sources else {
            let embeddings = sounds.iter().filter_map(|sound| sound.embedding.as_ref());
            let pairs: Vec<_> = embeddings.map(|embedding| (embedding, image)).collect();
            return self.localizer.localize_batch(&pairs)?.iter().map(Answer::of).collect();
        };
        let together = |sound: &&Sound| -> Result<Answer> {
            let found = self.localizer.localize_sources(&sound.waveform, image, count)?;
            let answers = found.iter().map(|(_, heatmap)| Answer::of(heatmap)).collect::<Result<Vec<_>>>()?;
            let answer = answers.into_iter().reduce(Answer::or);
            answer.ok_or_else(|| Error::argument("sources of a sound", "at least one", 0))
        };
        sounds.iter().map(together).collect()
    }
}

impl Predictor for Model {
    type Input = (Picture, Waveform);

    fn load(&self, sample: &Sample) -> Result<Option<Self::Input>> {
        let Media { picture: Some(picture), sound: Some(sound) } = locate_media(self.benchmark, &self.data, sample)
        else {
            return Ok(None);
        };
        Ok(Some((Picture::open(picture)?, read_sound(self.benchmark, &sound)?)))
    }

    fn predict(&self, batch: Vec<(&Sample, Self::Input)>) -> Result<Vec<Prediction>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (samples, media): (Vec<&Sample>, Vec<Self::Input>) = batch.into_iter().unzip();
        let (pictures, sounds): (Vec<Picture>, Vec<Waveform>) = media.into_iter().unzip();
        let sounds = self.hear(sounds)?;

        // Samples of the same picture are adjacent.
        let mut named: Vec<(&str, Picture)> = samples.iter().map(|s| s.picture.as_str()).zip(pictures).collect();
        named.dedup_by(|a, b| a.0 == b.0);
        let (names, pictures): (Vec<&str>, Vec<Picture>) = named.into_iter().unzip();
        let images = self.localizer.encode_image_batch(&pictures)?;
        let images: HashMap<&str, _> = names.into_iter().zip(images).collect();

        let mut predictions = Vec::with_capacity(samples.len());
        for (sample, sound) in samples.iter().zip(&sounds) {
            let image = &images[sample.picture.as_str()];
            let is_elsewhere = |s: &&Sample| {
                let differs = s.picture != sample.picture && s.sound != sample.sound;
                differs && (s.class.is_none() || s.class != sample.class)
            };
            let offscreen = samples.iter().position(is_elsewhere).map(|i| (Negative::Offscreen, &sounds[i]));
            let everywhere = self.everywhere.iter().map(|(kind, sound)| (*kind, sound));
            let (kinds, negatives): (Vec<Negative>, Vec<&Sound>) = everywhere.chain(offscreen).unzip();

            let asked: Vec<&Sound> = std::iter::once(sound).chain(negatives).collect();
            let mut answers = self.find(&asked, image)?;
            let Answer { heatmap, confidence, presence } = answers.remove(0);
            let negative = |(kind, answer): (Negative, Answer)| NegativePrediction {
                kind,
                heatmap: answer.heatmap,
                presence: answer.presence,
            };
            let negatives = kinds.into_iter().zip(answers).map(negative).collect();
            predictions.push(Prediction { heatmap, confidence: Some(confidence), presence, negatives });
        }
        Ok(predictions)
    }
}
