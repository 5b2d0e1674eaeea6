//! The frozen network that hears: BEATs or AST.

use candle_core::Tensor;

use super::config::ModelConfig;
use crate::ast::Ast;
use crate::beats::Beats;
use crate::error::{Error, Result};
use crate::nn::Weights;
use crate::weights::AudioEncoderKind;

/// The audio encoder of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AudioEncoder {
    /// The encoder of the published model.
    Beats(Beats),
    /// The Audio Spectrogram Transformer.
    Ast(Ast),
}

impl From<Beats> for AudioEncoder {
    fn from(beats: Beats) -> Self {
        Self::Beats(beats)
    }
}

impl From<Ast> for AudioEncoder {
    fn from(ast: Ast) -> Self {
        Self::Ast(ast)
    }
}

impl AudioEncoder {
    /// Creates the encoder that `config` names from `weights`.
    ///
    /// # Errors
    /// As [`Beats::new`] and [`Ast::new`].
    pub fn new<'a>(config: &ModelConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        Ok(match config.acl.audio_encoder {
            AudioEncoderKind::Beats => Self::Beats(Beats::new(&config.beats, weights)?),
            AudioEncoderKind::Ast => Self::Ast(Ast::new(&config.ast, weights)?),
        })
    }

    /// Which encoder this is.
    pub fn kind(&self) -> AudioEncoderKind {
        match self {
            Self::Beats(_) => AudioEncoderKind::Beats,
            Self::Ast(_) => AudioEncoderKind::Ast,
        }
    }

    /// BEATs, if this is the encoder.
    pub fn beats(&self) -> Option<&Beats> {
        match self {
            Self::Beats(beats) => Some(beats),
            Self::Ast(_) => None,
        }
    }

    /// The outputs of the first `num_blocks` blocks for a normalised fbank `[B, T, M]`, each `[B, N, D]`: one token for each
    /// patch. AST's class token and distillation token, which belong to no place in the sound, are left out.
    ///
    /// # Errors
    /// As [`Beats::forward`] and [`Ast::forward`].
    pub fn block_outputs(&self, fbank: &Tensor, num_blocks: usize) -> Result<Vec<Tensor>> {
        match self {
            Self::Beats(beats) => Ok(beats.forward_blocks(fbank, num_blocks)?.hidden_states.split_off(1)),
            Self::Ast(ast) => {
                let patches = |state: &Tensor| {
                    let special = Ast::NUM_SPECIAL_TOKENS;
                    Ok(state.narrow(1, special, state.dim(1)? - special)?)
                };
                ast.forward_blocks(fbank, num_blocks)?.hidden_states[1..].iter().map(patches).collect()
            }
        }
    }

    /// The number of classes of the tagging head, if there is one; AST's is not read.
    pub fn num_classes(&self) -> Option<usize> {
        let config = self.beats()?.config();
        config.finetuned_model.then_some(config.predictor_class)
    }

    /// The probability of each class in sounds given as normalised fbanks `[B, T, M]`, `[B, classes]`.
    ///
    /// # Errors
    /// [`Error::Config`] when the encoder has no tagging head; as [`Beats::forward`] and [`Beats::tag`].
    pub fn tag(&self, fbank: &Tensor) -> Result<Tensor> {
        match self {
            Self::Beats(beats) => beats.tag(&beats.forward(fbank)?),
            Self::Ast(_) => {
                Err(Error::config("acl.audio_encoder", "beats, which can have a tagging head", self.kind()))
            }
        }
    }
}
