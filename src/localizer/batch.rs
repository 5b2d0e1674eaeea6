//! Processes many samples in one call.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Embedding, EncodedImage, Heatmap, Localizer};
use crate::acl::ImageFeatures;
use crate::audio::Waveform;
use crate::error::{Error, Result};
use crate::image::Picture;

/// The number of samples that an accelerator processes together. It bounds the memory, not the size of a call.
const AT_ONCE: usize = 8;

impl Localizer {
    /// Embeds many sounds. Each result equals that of [`Localizer::embed_audio`] up to rounding.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device has no memory left.
    pub fn embed_audio_batch(&self, waveforms: &[Waveform]) -> Result<Vec<Embedding>> {
        self.shared_out(waveforms.len(), |range| self.embed_together(&waveforms[range]))
    }

    pub(super) fn embed_together(&self, waveforms: &[Waveform]) -> Result<Vec<Embedding>> {
        let features = self.acl.audio_features(&self.fbank(waveforms)?)?;
        self.embed_tokens(&self.acl.audio_token(&features)?)
    }

    /// The embeddings of sounds given as audio tokens `[B, H]` (see [`Acl::audio_token`](crate::acl::Acl::audio_token)).
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokens have another width.
    pub fn embed_tokens(&self, tokens: &Tensor) -> Result<Vec<Embedding>> {
        let depends_on_picture = self.acl.prompt_net.is_some();
        let batch = if depends_on_picture { tokens.clone() } else { self.acl.audio_embedding(tokens)? };
        (0..batch.dim(0)?).map(|i| Ok(Embedding { tensor: batch.narrow(0, i, 1)?, depends_on_picture })).collect()
    }

    /// Encodes many pictures. Each result equals that of [`Localizer::encode_image`] up to rounding.
    ///
    /// # Errors
    /// As [`Localizer::pixels`].
    pub fn encode_image_batch(&self, pictures: &[Picture]) -> Result<Vec<EncodedImage>> {
        self.shared_out(pictures.len(), |range| self.encode_together(&pictures[range]))
    }

    pub(super) fn encode_together(&self, pictures: &[Picture]) -> Result<Vec<EncodedImage>> {
        let batch = self.acl.image_features(&self.pixels(pictures)?)?;
        let image = |(i, picture): (usize, &Picture)| {
            // A copy, so that one picture does not keep its whole batch alive.
            let own = |t: &Tensor| t.narrow(0, i, 1)?.force_contiguous();
            let reduced = batch.reduced.iter().map(own).collect::<candle_core::Result<_>>()?;
            let features = ImageFeatures { reduced, deepest: own(&batch.deepest)? };
            let (width, height) = picture.size();
            Ok(EncodedImage { features, dense: OnceLock::new(), prompt: OnceLock::new(), width, height })
        };
        pictures.iter().enumerate().map(image).collect()
    }

    /// Localizes many pairs. Each result equals that of [`Localizer::localize`] up to rounding.
    ///
    /// # Errors
    /// As [`Localizer::localize`].
    pub fn localize_batch(&self, pairs: &[(&Embedding, &EncodedImage)]) -> Result<Vec<Heatmap>> {
        // Computed first and once per picture, because otherwise several threads would compute the same features.
        let mut images: Vec<&EncodedImage> = pairs.iter().map(|(_, image)| *image).collect();
        images.sort_unstable_by_key(|image| std::ptr::from_ref(*image));
        images.dedup_by(|a, b| std::ptr::eq(*a, *b));
        self.shared_out(images.len(), |range| images[range].iter().map(|image| self.complete(image)).collect())?;
        self.shared_out(pairs.len(), |range| self.localize_together(&pairs[range]))
    }

    pub(super) fn localize_together(&self, pairs: &[(&Embedding, &EncodedImage)]) -> Result<Vec<Heatmap>> {
        let embeddings = self.embeddings(pairs)?;
        let logits = self.logits(pairs, &embeddings)?;
        let heatmap = |(i, ((_, image), embedding)): (usize, (&(&Embedding, &EncodedImage), &Tensor))| {
            let own = logits.narrow(0, i, 1)?;
            let confidence = self.acl.confidence(&self.dense_features(image)?, &own, embedding)?;
            self.heatmap(&own, confidence.to_vec1::<f32>()?[0])
        };
        pairs.iter().zip(&embeddings).enumerate().map(heatmap).collect()
    }

    /// The embedding `[1, P]` of each pair. Those that depend on the picture are computed together.
    fn embeddings(&self, pairs: &[(&Embedding, &EncodedImage)]) -> Result<Vec<Tensor>> {
        let mut embeddings: Vec<Tensor> = pairs.iter().map(|(embedding, _)| embedding.tensor.clone()).collect();
        let dependent: Vec<usize> = (0..pairs.len()).filter(|i| pairs[*i].0.depends_on_picture).collect();
        if dependent.is_empty() {
            return Ok(embeddings);
        }
        let tokens = Tensor::cat(&dependent.iter().map(|i| &embeddings[*i]).collect::<Vec<_>>(), 0)?;
        let vectors = dependent.iter().map(|i| self.prompt_vectors(pairs[*i].1)).collect::<Result<Option<Vec<_>>>>()?;
        let vectors = vectors.map(|vectors| Tensor::cat(&vectors, 0)).transpose()?;
        let batch = self.acl.audio_embedding_with(&tokens, vectors.as_ref())?;
        for (row, i) in dependent.into_iter().enumerate() {
            embeddings[i] = batch.narrow(0, row, 1)?;
        }
        Ok(embeddings)
    }

    /// Localizes many sounds, each in its own picture. Each result equals that of [`Localizer::localize_pair`] up to
    /// rounding. To use a sound or a picture more than once, encode it once and call [`Localizer::localize_batch`].
    ///
    /// A CPU processes as many pairs at a time as it has threads, other devices eight. Memory use depends on this
    /// number and not on the number of pairs.
    ///
    /// # Errors
    /// As [`Localizer::localize_pair`]; [`Error::Argument`] when the numbers of sounds and pictures differ.
    pub fn localize_pairs(&self, waveforms: &[Waveform], pictures: &[Picture]) -> Result<Vec<Heatmap>> {
        if waveforms.len() != pictures.len() {
            return Err(Error::argument(
                "pictures",
                format!("{}, one for each sound", waveforms.len()),
                pictures.len(),
            ));
        }
        self.shared_out(waveforms.len(), |range| match (&waveforms[range.clone()], &pictures[range]) {
            ([waveform], [picture]) => Ok(vec![self.localize_pair(waveform, picture)?]),
            (waveforms, pictures) => {
                let (embeddings, images) = (self.embed_together(waveforms)?, self.encode_together(pictures)?);
                self.localize_together(&embeddings.iter().zip(&images).collect::<Vec<_>>())
            }
        })
    }

    /// The raw logits `[B, S, S]` of pairs with these embeddings, each `[1, P]`, in `f32`.
    fn logits(&self, pairs: &[(&Embedding, &EncodedImage)], embeddings: &[Tensor]) -> Result<Tensor> {
        let layers = pairs.first().map_or(0, |(_, image)| image.features.reduced.len());
        let stack = |tensors: Vec<&Tensor>| Tensor::cat(&tensors, 0);
        let reduced = (0..layers).map(|l| stack(pairs.iter().map(|(_, image)| &image.features.reduced[l]).collect()));
        let features = ImageFeatures {
            reduced: reduced.collect::<candle_core::Result<_>>()?,
            deepest: stack(pairs.iter().map(|(_, image)| &image.features.deepest).collect())?,
        };
        self.acl.logits(&features, &stack(embeddings.iter().collect())?)
    }

    /// Calls `work` for all of `len` samples. On a CPU every thread takes single samples, because threads wait less for
    /// each other than when they share the rows of a product. Other devices take [`AT_ONCE`] samples together.
    fn shared_out<T: Send>(&self, len: usize, work: impl Fn(Range<usize>) -> Result<Vec<T>> + Sync) -> Result<Vec<T>> {
        let parts: Vec<Vec<T>> = match self.device.is_cpu() {
            true => (0..len).into_par_iter().with_max_len(1).map(|i| work(i..i + 1)).collect::<Result<_>>()?,
            false => (0..len).step_by(AT_ONCE).map(|i| work(i..len.min(i + AT_ONCE))).collect::<Result<_>>()?,
        };
        Ok(parts.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers the path of accelerators, which a CPU does not take because it processes single samples.
    #[test]
    fn samples_together_are_what_they_are_alone() {
        let localizer = Localizer::load(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/alt")).unwrap();
        let tone = |i: usize| (0..8000).map(|t| (t as f32 * 0.02 * (i + 1) as f32).sin() * 0.3).collect();
        let sounds: Vec<Waveform> = (0..3).map(|i| Waveform::from_samples(tone(i), 16_000).unwrap()).collect();
        let shade = |i: usize| (0..48 * 32 * 3).map(|p| (p * (i + 3) % 251) as u8).collect();
        let pictures: Vec<Picture> = (0..3).map(|i| Picture::from_rgb8(48, 32, shade(i)).unwrap()).collect();
        let embeddings = localizer.embed_together(&sounds).unwrap();
        let images = localizer.encode_together(&pictures).unwrap();
        let pairs: Vec<_> = embeddings.iter().zip(&images).collect();
        let together = localizer.localize_together(&pairs).unwrap();
        let alone = localizer.localize_pairs(&sounds, &pictures).unwrap();
        assert!(alone[0].logits != alone[2].logits);
        for (together, alone) in together.iter().zip(&alone) {
            assert!((together.confidence - alone.confidence).abs() < 1e-5);
            for (x, y) in together.logits.iter().zip(&alone.logits) {
                assert!((x - y).abs() < 1e-5, "{x} and {y}");
            }
        }
    }
}
