//! Gathers from pairs what a calibration of the presence is fitted to.

use super::presence::{Evidence, PresenceCalibration};
use super::{Embedding, Localizer};
use crate::audio::Waveform;
use crate::error::Result;
use crate::image::Picture;

/// The number of pairs that are compared with each other.
const CHUNK: usize = 16;

/// A sound and a picture that shows its source.
#[derive(Clone, Debug)]
pub struct LabelledPair {
    /// The sound.
    pub sound: Waveform,
    /// The picture.
    pub picture: Picture,
    /// What makes the sound, if known: sounds with the same label are not taken for absent in each other's pictures.
    pub label: Option<String>,
}

/// The evidence for sounds whose source is in the picture, and for sounds whose source is not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairEvidence {
    /// Each picture with its own sound.
    pub present: Vec<Evidence>,
    /// Each picture with the sound of another pair.
    pub elsewhere: Vec<Evidence>,
    /// Each picture with each of the sounds that belong to no picture, by sound.
    pub negatives: Vec<Vec<Evidence>>,
}

impl PairEvidence {
    /// Fits a calibration in which all kinds of absent sounds count, each as often as there is evidence for it. See
    /// [`PresenceCalibration::fit`].
    ///
    /// # Errors
    /// As [`PresenceCalibration::fit`].
    pub fn calibrate(&self, false_alarms: f64) -> Result<PresenceCalibration> {
        let absent: Vec<Evidence> = self.elsewhere.iter().chain(self.negatives.iter().flatten()).copied().collect();
        PresenceCalibration::fit(&self.present, &absent, false_alarms)
    }
}

impl Localizer {
    /// Localizes in each picture its own sound, the sound of another pair and each of `negatives`, sounds that belong to no
    /// picture such as silence and noise. The pairs must not have been trained on.
    ///
    /// The other sound is that of the next pair of the same 16 with another label. Memory does not grow with the
    /// number of pairs.
    ///
    /// # Errors
    /// The first error among `pairs`; as [`Localizer::localize_pair`].
    pub fn gather_evidence(
        &self,
        pairs: impl IntoIterator<Item = Result<LabelledPair>>,
        negatives: &[Waveform],
    ) -> Result<PairEvidence> {
        let negatives = self.embed_audio_batch(negatives)?;
        let mut gathered = PairEvidence { negatives: vec![Vec::new(); negatives.len()], ..Default::default() };
        let mut pairs = pairs.into_iter();
        loop {
            let chunk = pairs.by_ref().take(CHUNK).collect::<Result<Vec<_>>>()?;
            if chunk.is_empty() {
                return Ok(gathered);
            }
            self.gather_chunk(chunk, &negatives, &mut gathered)?;
        }
    }

    fn gather_chunk(
        &self,
        chunk: Vec<LabelledPair>,
        negatives: &[Embedding],
        gathered: &mut PairEvidence,
    ) -> Result<()> {
        let (mut sounds, mut pictures, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for LabelledPair { sound, picture, label } in chunk {
            sounds.push(sound);
            pictures.push(picture);
            labels.push(label);
        }
        let (sounds, images) = (self.embed_audio_batch(&sounds)?, self.encode_image_batch(&pictures)?);
        let count = sounds.len();
        let (mut questions, mut others) = (Vec::new(), Vec::new());
        for (i, image) in images.iter().enumerate() {
            questions.push((&sounds[i], image));
            questions.extend(negatives.iter().map(|negative| (negative, image)));
            let differs = |j: &usize| labels[i].is_none() || labels[*j] != labels[i];
            others.extend((1..count).map(|step| (i + step) % count).find(differs).map(|j| (&sounds[j], image)));
        }
        let evidence = |questions: &[_]| -> Result<Vec<Evidence>> {
            Ok(self.localize_batch(questions)?.iter().map(|heatmap| heatmap.evidence()).collect())
        };
        for of_picture in evidence(&questions)?.chunks_exact(1 + negatives.len()) {
            gathered.present.push(of_picture[0]);
            gathered.negatives.iter_mut().zip(&of_picture[1..]).for_each(|(kind, evidence)| kind.push(*evidence));
        }
        gathered.elsewhere.extend(evidence(&others)?);
        Ok(())
    }
}
