//! Text prompts in place of sounds.

use candle_core::Tensor;

use super::{Embedding, Localizer};
use crate::acl::{AclConfig, PromptIds};
use crate::clip::tokenizer::ClipTokenizer;
use crate::error::{Error, Result};
use crate::weights::TokenizerFiles;

impl Localizer {
    /// Sets the tokenizer for text prompts. A localizer created [from parts](Localizer::from_parts) has none.
    pub fn with_tokenizer(self, tokenizer: ClipTokenizer) -> Self {
        Self { tokenizer: Some(tokenizer), ..self }
    }

    /// Embeds a text in place of a sound. `prompt` is the complete prompt ("a photo of a dog").
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] when the model has no tokenizer, [`Error::Argument`] for a word that its vocabulary
    /// lacks.
    pub fn embed_text(&self, prompt: &str) -> Result<Embedding> {
        let Some(tokenizer) = &self.tokenizer else {
            return Err(Error::NoTokenizer { model: self.name.clone() });
        };
        let ids = tokenizer.encode(prompt)?;
        let end = ids.len() - 1;
        let ids = Tensor::from_vec(ids, (1, end + 1), &self.device)?;
        Embedding::from_tensor(self.acl.clipseg.clip.embed_text(&ids, &[end])?)
    }
}

/// The tokenizer of a model's files.
pub(super) fn open(files: &TokenizerFiles) -> Result<ClipTokenizer> {
    match files {
        TokenizerFiles::Json(path) => ClipTokenizer::from_file(path),
        TokenizerFiles::VocabMerges { vocab, merges } => ClipTokenizer::from_vocab_and_merges(vocab, merges),
        TokenizerFiles::Memory { name, json } => ClipTokenizer::from_json(name, json),
        TokenizerFiles::MemoryVocabMerges { folder, vocab, merges } => {
            let (vocab_name, merges_name) = (folder.join("vocab.json"), folder.join("merges.txt"));
            ClipTokenizer::from_vocab_and_merges_bytes((&vocab_name, vocab), (&merges_name, merges))
        }
    }
}

/// The ids of the prompt, either known or from the tokenizer.
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
    before.pop(); // the end token belongs after the audio token,
    Ok(PromptIds { before, after: after.into_iter().skip(1).collect() }) // the start token before it
}
