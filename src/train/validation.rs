//! The metrics and sample pictures of an ACL validation.

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::losses;
use super::metrics::{MetricBits, Metrics, accumulate, from_bits, to_bits};
use super::objective::Validation;
use super::step::StepTerms;
use crate::acl::Acl;
use crate::error::{Error, Result};
use crate::image::{NormalizeOptions, Picture};
use crate::viz::{MaskStatistics, MaskTally, OverlayOptions, ScoreMap, mask_overlap, overlay};

/// The number of sample pictures, one for each of the first pairs.
const NUM_PICTURES: usize = 8;

const MASK_AREA: &str = "mask_area";
const MASKS_FULL: &str = "masks_full";
const MASKS_EMPTY: &str = "masks_empty";
const MASKS_ALIKE: &str = "masks_alike";

/// The measurements of the batches of one process.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    batches: Vec<Measured>,
    /// The pictures of the first pairs, by the number of the batch and the place in it.
    pictures: Vec<(usize, usize, Drawn)>,
}

/// The measurements of a batch.
#[derive(Clone, Serialize, Deserialize)]
struct Measured {
    index: usize,
    num_pairs: usize,
    metrics: MetricBits,
}

/// A sample picture in a form that can be sent.
#[derive(Clone, Serialize, Deserialize)]
struct Drawn {
    name: String,
    size: (usize, usize),
    pixels: Vec<u8>,
}

impl Tally {
    /// Adds batch number `index` of B pairs: their ids, their pictures `[B, 3, S, S]` in f32, and the outputs of `acl` for
    /// them.
    pub(super) fn add(
        &mut self,
        index: usize,
        ids: &[String],
        pixels: &Tensor,
        terms: &StepTerms,
        acl: &Acl,
    ) -> Result<()> {
        let mut metrics = vec![("loss".to_string(), f64::from(terms.loss.to_scalar::<f32>()?))];
        metrics.extend(terms.metrics()?);
        metrics.extend(retrieval(terms)?);
        metrics.extend(masks(&terms.logits, acl.masker.offset()?)?);
        self.batches.push(Measured { index, num_pairs: ids.len(), metrics: to_bits(&metrics) });
        let missing = NUM_PICTURES.saturating_sub(self.pictures.len());
        for (b, id) in ids.iter().enumerate().take(missing) {
            let logits = terms.logits.get(b)?.get(b)?;
            let picture = draw(&pixels.get(b)?, &logits, &acl.config().acl.normalize(), acl.masker.offset()?)?;
            let drawn = Drawn { name: id.clone(), size: picture.size(), pixels: picture.pixels().to_vec() };
            self.pictures.push((index, b, drawn));
        }
        Ok(())
    }

    /// The means over all pairs of all processes, in the order of the batches: to the last digit those of one process.
    ///
    /// # Errors
    /// [`Error::Config`] when there was no batch.
    pub(super) fn finish(tallies: Vec<Self>) -> Result<Validation> {
        let (mut batches, mut pictures) = (Vec::new(), Vec::new());
        for tally in tallies {
            batches.extend(tally.batches);
            pictures.extend(tally.pictures);
        }
        if batches.is_empty() {
            return Err(Error::config("validation", "batches of at least two pairs that can be read", "none"));
        }
        batches.sort_by_key(|batch| batch.index);
        let mut sums = Metrics::new();
        for batch in &batches {
            let weighted = from_bits(&batch.metrics).into_iter();
            accumulate(&mut sums, weighted.map(|(name, value)| (name, value * batch.num_pairs as f64)));
        }
        let pairs = batches.iter().map(|batch| batch.num_pairs).sum::<usize>() as f64;
        let mut metrics: Metrics = sums.into_iter().map(|(name, sum)| (name, sum / pairs)).collect();
        // A random guess is right once per batch on average, regardless of the batch size.
        metrics.push(("retrieval_chance".to_string(), batches.len() as f64 / pairs));
        pictures.sort_by_key(|(index, place, _)| (*index, *place));
        let picture = |(_, _, Drawn { name, size: (width, height), pixels })| {
            Ok((name, Picture::from_rgb8(width, height, pixels)?))
        };
        let pictures = pictures.into_iter().take(NUM_PICTURES).map(picture).collect::<Result<_>>()?;
        Ok(Validation { metrics, pictures })
    }
}

/// The fractions of sounds that find their own picture in the batch.
fn retrieval(terms: &StepTerms) -> Result<Metrics> {
    // Embeddings [N, P], or [B, N, P] where they depend on the picture; matrices [pictures, sounds].
    let mut metrics = Metrics::new();
    if let Some(images) = &terms.masked_images {
        let similarities = losses::image_similarities(&terms.audio, images)?;
        metrics.push(("retrieval_i".to_string(), top_1(&similarities.t()?)?));
    }
    if let Some(features) = &terms.masked_features {
        // Unlike in the loss, each sound is compared with the features under its own mask.
        let similarities = losses::negative_similarities(&terms.audio, features)?;
        metrics.push(("retrieval_f".to_string(), top_1(&similarities.t()?)?));
    }
    Ok(metrics)
}

/// The fraction of rows of `[B, B]` whose largest entry is on the diagonal.
fn top_1(similarities: &Tensor) -> Result<f64> {
    let found = similarities.contiguous()?.argmax(D::Minus1)?.to_vec1::<u32>()?;
    let right = found.iter().enumerate().filter(|(row, column)| *row == **column as usize).count();
    Ok(right as f64 / found.len().max(1) as f64)
}

/// The statistics that reveal a failed localizer, of the masks of inference (σ(m + `offset`) ≥ ½) for logits
/// `[B, B, S, S]`.
fn masks(logits: &Tensor, offset: f32) -> Result<Metrics> {
    let batch = logits.dim(0)?;
    let masks = logits.flatten_from(2)?.ge(-offset)?.to_dtype(DType::F32)?; // [B, B, S·S]
    let mut tally = MaskTally::default();
    for b in 0..batch {
        let under_all = masks.get(b)?; // [B, S·S]
        let own = under_all.narrow(0, b, 1)?;
        let areas = under_all.mean(D::Minus1)?.to_vec1::<f32>()?;
        let common = under_all.broadcast_minimum(&own)?.mean(D::Minus1)?.to_vec1::<f32>()?;
        let own = f64::from(areas[b]);
        let others = areas.iter().zip(&common).enumerate().filter(|(n, _)| *n != b);
        tally.add(own, others.map(|(_, (other, common))| mask_overlap(own, f64::from(*other), f64::from(*common))));
    }
    let Some(MaskStatistics { area, full, empty, alike }) = tally.finish() else { return Ok(Metrics::new()) };
    let metrics = [MASK_AREA, MASKS_FULL, MASKS_EMPTY, MASKS_ALIKE].into_iter().map(str::to_string);
    Ok(metrics.zip([area, full, empty, alike.unwrap_or(0.0)]).collect())
}

/// Extracts the mask statistics from the metrics of an ACL validation, for [`MaskStatistics::failure`]. Returns `None`
/// if the metrics do not contain them.
pub fn mask_statistics(metrics: &Metrics) -> Option<MaskStatistics> {
    let metric = |wanted: &str| metrics.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    Some(MaskStatistics {
        area: metric(MASK_AREA)?,
        full: metric(MASKS_FULL)?,
        empty: metric(MASKS_EMPTY)?,
        alike: metric(MASKS_ALIKE),
    })
}

/// Draws the picture `[3, S, S]` as the network sees it, with the heatmap of `logits` `[S, S]` over it.
fn draw(pixels: &Tensor, logits: &Tensor, normalize: &NormalizeOptions, offset: f32) -> Result<Picture> {
    let (_, height, width) = pixels.dims3()?;
    let planes = pixels.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    let mut bytes = vec![0; 3 * width * height];
    for ((plane, channel), (mean, std)) in planes.iter().zip(0..).zip(normalize.mean.iter().zip(normalize.std)) {
        for (value, byte) in plane.iter().zip(bytes.iter_mut().skip(channel).step_by(3)) {
            *byte = ((value * std + mean) * 255.0).round() as u8;
        }
    }
    let (rows, columns) = logits.dims2()?;
    let logits = logits.flatten_all()?.to_vec1::<f32>()?;
    let scores = ScoreMap::from_logits(&logits, (columns, rows), (width, height), offset)?;
    overlay(&Picture::from_rgb8(width, height, bytes)?, &scores, &OverlayOptions::default())
}
