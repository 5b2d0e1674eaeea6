//! The prompt and the insertion of the audio token.
//!
//! Reimplements the insertion in ACL's [`encode_audio`].
//!
//! [`encode_audio`]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/CLIPSeg/clipseg_for_audio.py#L87-L95

use candle_core::Tensor;

use super::config::PromptIds;
use crate::clip::TextTower;
use crate::error::{Error, Result};

/// The embeddings of a prompt's fixed words, without the placeholder `{}`.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The start token and the words before the audio token, `[1, N₁, H]`.
    before: Tensor,
    /// The words after the audio token, and the end token, `[1, N₂, H]`.
    after: Tensor,
}

impl Prompt {
    /// Looks up the words of `ids` in the text tower's embeddings.
    ///
    /// # Errors
    /// [`Error::Config`] when the prompt is too long for the tower, or has no ids before or after the audio token, and
    /// [`Error::Candle`] for an id outside the vocabulary.
    pub fn new(ids: &PromptIds, text: &TextTower) -> Result<Self> {
        let length = ids.before.len() + 1 + ids.after.len();
        if length > text.max_tokens() || ids.before.is_empty() || ids.after.is_empty() {
            let expected = format!("ids before and after the audio token, at most {} in all", text.max_tokens());
            return Err(Error::config("acl.prompt", expected, length));
        }
        let embed = |ids: &[u32]| text.embed_tokens(&Tensor::from_slice(ids, (1, ids.len()), text.device())?);
        Ok(Self { before: embed(&ids.before)?, after: embed(&ids.after)? })
    }

    /// Inserts audio tokens `[B, H]` into the prompt and returns token embeddings `[B, N₁ + M + 1 + N₂, H]`, with M learned
    /// `vectors` `[B, M, H]` directly before the audio token, or none.
    ///
    /// # Errors
    /// [`Error::Candle`] when the tokens have another width than H, or the vectors do not fit the tokens.
    pub fn inject(&self, vectors: Option<&Tensor>, tokens: &Tensor) -> Result<Tensor> {
        let (batch, width) = tokens.dims2()?;
        let spread = |t: &Tensor| t.broadcast_as((batch, t.dim(1)?, width));
        let (before, token, after) = (spread(&self.before)?, tokens.unsqueeze(1)?, spread(&self.after)?);
        let parts: Vec<&Tensor> = [Some(&before), vectors, Some(&token), Some(&after)].into_iter().flatten().collect();
        Ok(Tensor::cat(&parts, 1)?)
    }
}
