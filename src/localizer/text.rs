//! Texts in place of sounds.

use candle_core::Tensor;

use super::{Embedding, Localizer};
use crate::acl::{AclConfig, PromptIds};
use crate::clip::tokenizer::ClipTokenizer;
use crate::error::{Error, Result};
use crate::weights::TokenizerFiles;

impl Localizer {
    /// The same localizer, reading texts with `tokenizer`: what a localizer [from parts](Localizer::from_parts) lacks.
    pub fn with_tokenizer(self, tokenizer: ClipTokenizer) -> Self {
        Self { tokenizer: Some(tokenizer), ..self }
    }

    /// Reads a text in place of a sound: the whole prompt ("a photo of a dog"), nothing is added.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] when the model came without one, [`Error::Argument`] for a word that its vocabulary lacks.
    pub fn embed_text(&self, prompt: &str) -> Result<Embedding> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::NoTokenizer { model: self.name.clone() });
        };
        let ids = tokenizer.encode(prompt)?;
        let end = ids.len() - 1;
        let ids = Tensor::from_vec(ids, (1, end + 1), &self.device)?;
        Ok(Embedding { tensor: self.acl.clipseg.clip.embed_text(&ids, &[end])? })
    }
}

/// The tokenizer of a model's files.
pub(super) fn open(files: &TokenizerFiles) -> Result<ClipTokenizer> {
    match files {
        TokenizerFiles::Json(path) => ClipTokenizer::from_file(path),
        TokenizerFiles::VocabMerges { vocab, merges } => ClipTokenizer::from_vocab_and_merges(vocab, merges),
        TokenizerFiles::Memory { name, json } => ClipTokenizer::from_json(name, json),
    }
}

/// The prompt's ids: known, or from the tokenizer, word by word around the audio token.
pub(super) fn prompt_ids(config: &AclConfig, tokenizer: Option<&ClipTokenizer>) -> Result<PromptIds> {
    if let Some(ids) = config.known_prompt_ids() {
        return Ok(ids);
    }
    let Some(tokenizer) = tokenizer else {
        return Err(Error::config(
            "acl.prompt",
            "a prompt with known ids, or a model with a tokenizer",
            &config.prompt,
        ));
    };
    let (before, after) = config.prompt.split_once("{}").unwrap_or((&config.prompt, ""));
    let (mut before, after) = (tokenizer.encode(before)?, tokenizer.encode(after)?);
    before.pop(); // the end token belongs behind the audio token,
    Ok(PromptIds { before, after: after.into_iter().skip(1).collect() }) // the start token before it
}
