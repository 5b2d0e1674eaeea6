//! A model that predicts the heatmaps of a benchmark from its pictures and sounds.

use std::collections::HashMap;
use std::path::PathBuf;

use soundsight::eval::{
    Benchmark, Media, Negative, NegativePrediction, Prediction, Predictor, SIZE, Sample, locate_media, read_sound,
};
use soundsight::{Embedding, Heatmap, Localizer, Picture, Result, Waveform};

/// Encodes each picture once, and localizes in it its own sound, silence, noise, and the sound of another sample.
pub struct Model {
    localizer: Localizer,
    benchmark: Benchmark,
    data: PathBuf,
    /// Silence and noise.
    everywhere: Vec<(Negative, Embedding)>,
}

impl Model {
    pub fn new(localizer: Localizer, benchmark: Benchmark, data: PathBuf) -> Result<Self> {
        let mut everywhere = Vec::new();
        for kind in Negative::ALL {
            if let Some(sound) = kind.sound(localizer.audio_seconds())? {
                everywhere.push((kind, localizer.embed_audio(&sound)?));
            }
        }
        Ok(Self { localizer, benchmark, data, everywhere })
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
        let sounds = self.localizer.embed_audio_batch(&sounds)?;

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
            let negatives: Vec<(Negative, &Embedding)> = everywhere.chain(offscreen).collect();

            let asked = std::iter::once(sound).chain(negatives.iter().map(|(_, sound)| *sound));
            let answers = self.localizer.localize_batch(&asked.map(|sound| (sound, image)).collect::<Vec<_>>())?;
            let (own, others) = (&answers[0], &answers[1..]);
            let negative = |((kind, _), answer): ((Negative, _), &Heatmap)| {
                Ok(NegativePrediction { kind, heatmap: answer.resized(SIZE)?, presence: answer.presence() })
            };
            predictions.push(Prediction {
                heatmap: own.resized(SIZE)?,
                confidence: Some(own.confidence),
                presence: own.presence(),
                negatives: negatives.into_iter().zip(others).map(negative).collect::<Result<_>>()?,
            });
        }
        Ok(predictions)
    }
}
