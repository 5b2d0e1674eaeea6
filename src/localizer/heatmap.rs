//! The result of a localization.

use candle_core::{Device, Tensor};

use super::presence::PresenceCalibration;
use crate::error::{Error, Result};
use crate::nn::{Interpolation, resize, sigmoid_in_place};
use crate::viz::ScoreMap;

/// Where in a picture a sound comes from: S × S values over the whole picture, row by row from the top left.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    /// Raw logits of the decoder.
    pub logits: Vec<f32>,
    /// `σ(logits + b/w)` in [0, 1]: how strongly each pixel belongs to the sound.
    pub scores: Vec<f32>,
    /// How well the masked region matches the sound: a cosine in [−1, 1].
    pub confidence: f32,
    /// The side S.
    pub size: usize,
    pub(super) offset: f32,
    pub(super) calibration: Option<PresenceCalibration>,
}

impl Heatmap {
    pub(super) fn new(logits: Vec<f32>, scores: Vec<f32>, size: usize, confidence: f32, offset: f32) -> Result<Self> {
        // Both have to be checked: the masker can turn finite logits into NaN scores, the sigmoid infinite logits into
        // finite scores.
        let values = logits.iter().chain(&scores).chain([&confidence, &offset]);
        if values.into_iter().any(|value| !value.is_finite()) {
            let details = "choose a higher precision, or check the model's weights".to_string();
            return Err(Error::NonFinite { what: "the heatmap".to_string(), details });
        }
        Ok(Self { logits, scores, confidence, size, offset, calibration: None })
    }

    /// The same heatmap with other logits (a square of any size) and another confidence.
    pub(crate) fn with_logits(&self, logits: Vec<f32>, confidence: f32) -> Result<Self> {
        let mut scores = logits.clone();
        sigmoid_in_place(&mut scores, self.offset);
        let size = logits.len().isqrt();
        let changed = Self::new(logits, scores, size, confidence, self.offset)?;
        Ok(Self { calibration: self.calibration, ..changed })
    }

    /// The probability in [0, 1] that the picture shows the source of the sound, if as many sounds have their source in the
    /// picture as not. `None` when the model has no [`PresenceCalibration`].
    pub fn presence(&self) -> Option<f32> {
        Some(self.calibration?.presence(self.evidence()))
    }

    /// Whether the picture shows the source of the sound: whether the [presence](Heatmap::presence) reaches the threshold of
    /// the model's calibration, which was chosen for a rate of false alarms. `None` when the model has none.
    pub fn is_present(&self) -> Option<bool> {
        Some(self.presence()? >= self.calibration?.threshold)
    }

    /// The calibration that [`Heatmap::presence`] uses.
    pub fn calibration(&self) -> Option<&PresenceCalibration> {
        self.calibration.as_ref()
    }

    /// The heatmap at `side` × `side`, as benchmarks evaluate it: the sigmoid of bicubically resized logits (a =
    /// −0.75).
    ///
    /// # Errors
    /// [`Error::Shape`] for a side of 0.
    pub fn resized(&self, side: usize) -> Result<Vec<f32>> {
        let logits = Tensor::from_slice(&self.logits, (self.size, self.size), &Device::Cpu)?;
        let mut scores = resize(&logits, side, side, Interpolation::Bicubic)?.flatten_all()?.to_vec1::<f32>()?;
        sigmoid_in_place(&mut scores, self.offset);
        Ok(scores)
    }

    /// The score of each pixel of a `width` × `height` picture, for drawing and for measurements in its pixels.
    ///
    /// # Errors
    /// [`Error::Argument`] for a size that no picture has.
    pub fn score_map(&self, width: usize, height: usize) -> Result<ScoreMap> {
        ScoreMap::from_logits(&self.logits, (self.size, self.size), (width, height), self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_makes_no_heatmap() {
        let made = |logit, score, confidence, offset| Heatmap::new(vec![logit], vec![score], 1, confidence, offset);
        made(0.0, 0.5, 0.1, 0.0).unwrap();
        for broken in [f32::NAN, f32::INFINITY] {
            for made in [
                made(broken, 0.5, 0.1, 0.0),
                made(0.0, broken, 0.1, 0.0),
                made(0.0, 0.5, broken, 0.0),
                made(0.0, 0.5, 0.1, broken),
            ] {
                assert!(matches!(made, Err(Error::NonFinite { .. })), "{made:?}");
            }
        }
    }
}
