//! The audio-driven embeddings of a training step: one for each sound, or one for each pair of a picture and a sound.

use candle_core::{DType, Tensor};

use super::part::Part;
use super::step_input::{Activations, StepNegatives};
use crate::acl::{Acl, AudioTokenizer};
use crate::error::Result;
use crate::nn::recompute;

/// Embeds the sounds of a step, as its B pictures require.
pub(super) struct SoundEmbedder<'a> {
    pub(super) acl: &'a Acl,
    /// The vectors of the pictures' prompts, `[B, M, H]`; `None` for a fixed prompt.
    pub(super) vectors: Option<Tensor>,
    /// The precision of the text tower.
    pub(super) dtype: DType,
    pub(super) activations: Activations,
}

impl SoundEmbedder<'_> {
    /// From the features `[B, T, 3D]` of the sounds of a part of the batch: their embeddings `[B, P]`, each for its own
    /// picture, and those of all N sounds, `[N, P]`, or `[B, N, P]` for each picture; in f32.
    pub(super) fn embed_batch(
        &self,
        part: &Part,
        features: &Tensor,
        dropout: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let tokens = self.tokens(features, dropout)?;
        if self.vectors.is_some() {
            // Other processes need these sounds for their pictures, so that tokens are exchanged instead of embeddings.
            let audio = self.embed(&part.gather(&tokens)?)?;
            return Ok((with_own_sounds(&audio, part.first())?.squeeze(1)?, audio));
        }
        let own = self.embed(&tokens)?;
        let audio = part.gather(&own)?;
        Ok((own, audio))
    }

    /// The embeddings of K sounds that belong to no picture: `[K, P]`, or `[B, K, P]` for each picture, in f32.
    pub(super) fn embed_negatives(&self, negatives: &StepNegatives) -> Result<Tensor> {
        self.embed(&self.tokens(&negatives.features, negatives.dropout.as_ref())?)
    }

    /// The audio tokens `[N, H]` of sounds given as features `[N, T, 3D]`, with the noise of the dropout.
    fn tokens(&self, features: &Tensor, dropout: Option<&Tensor>) -> Result<Tensor> {
        self.acl.audio_tokenizer.forward_dropout(features, dropout.map(keep_mask).transpose()?.as_ref())
    }

    /// Tokens `[N, H]` → `[N, P]`, or `[B, N, P]` for each picture, in f32.
    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let tokens = tokens.to_dtype(self.dtype)?;
        let Some(vectors) = &self.vectors else { return Ok(self.acl.audio_embedding(&tokens)?.to_dtype(DType::F32)?) };
        // As rows of one matrix, because only one tensor can pass through a recomputation.
        let ((sounds, width), shape) = (tokens.dims2()?, vectors.dims3()?);
        let inputs = Tensor::cat(&[&tokens, &vectors.reshape(((), width))?], 0)?;
        let acl = self.acl.clone(); // shares the weights
        let embed = move |inputs: &Tensor| {
            let vectors = inputs.narrow(0, sounds, inputs.dim(0)? - sounds)?.reshape(shape)?;
            acl.audio_embedding_of_pairs(&inputs.narrow(0, 0, sounds)?, &vectors)
        };
        let embeddings = match self.activations {
            Activations::Store => embed(&inputs)?,
            Activations::Recompute => recompute(&inputs, embed)?,
        };
        Ok(embeddings.to_dtype(DType::F32)?)
    }
}

/// The entries `[B, 1, …]` of `pairs` `[B, N, …]` in which each picture meets its own sound; that of the first is `first`.
pub(super) fn with_own_sounds(pairs: &Tensor, first: usize) -> Result<Tensor> {
    let own = (0..pairs.dim(0)?).map(|b| pairs.narrow(0, b, 1)?.narrow(1, first + b, 1));
    Ok(Tensor::cat(&own.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// Turns uniform noise into the factors of the hidden units: 0 for dropped ones, 1/(1 − p) for the others.
fn keep_mask(noise: &Tensor) -> Result<Tensor> {
    let keep = noise.ge(AudioTokenizer::DROPOUT)?.to_dtype(noise.dtype())?;
    Ok((keep * (1.0 / (1.0 - AudioTokenizer::DROPOUT)))?)
}
