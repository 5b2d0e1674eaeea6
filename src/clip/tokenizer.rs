//! Text → token ids: CLIP's byte-level byte-pair encoding, as transformers' `CLIPTokenizer` does it.
//!
//! Reimplements the [byte table], the [word pattern], the [merging] and the [encoding] of CLIP's own tokenizer.
//! Encoding takes these steps:
//!
//! 1. The text is normalised: Unicode NFC, one space for each run of whitespace, lower case.
//! 2. It is split into words: English contractions, runs of letters, single digits, and runs of anything else.
//! 3. The UTF-8 bytes of each word are written as printable characters, the last one followed by `</w>`.
//! 4. Pairs are merged in the order of the merges.
//! 5. The start and end tokens are added.
//!
//! The `tokenizers` crate implements the steps. Only the vocabulary and the merges are taken from a `tokenizer.json`,
//! as in transformers.
//!
//! A small model may have a `tokenizer.json` of the type `WordLevel` instead, which is a vocabulary of whole words and
//! phrases. Any other word is an error.
//!
//! [byte table]: https://github.com/openai/CLIP/blob/2558ec83f8fdfd5b500bf0c7255d1f53b5dbf588/clip/simple_tokenizer.py#L15-L35
//! [word pattern]: https://github.com/openai/CLIP/blob/2558ec83f8fdfd5b500bf0c7255d1f53b5dbf588/clip/simple_tokenizer.py#L78
//! [merging]: https://github.com/openai/CLIP/blob/2558ec83f8fdfd5b500bf0c7255d1f53b5dbf588/clip/simple_tokenizer.py#L80-L119
//! [encoding]: https://github.com/openai/CLIP/blob/2558ec83f8fdfd5b500bf0c7255d1f53b5dbf588/clip/simple_tokenizer.py#L121-L127
//!
//! ```
//! use soundsight::clip::tokenizer::ClipTokenizer;
//!
//! let json = br#"{"model": {"type": "WordLevel", "vocab": {
//!     "<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "polar bear": 3}}}"#;
//! let tokenizer = ClipTokenizer::from_json("tokenizer.json", json)?;
//! assert_eq!(tokenizer.encode("A polar bear")?, [0, 2, 3, 1]);
//! assert!(tokenizer.encode("a walrus").is_err());
//! # Ok::<(), soundsight::Error>(())
//! ```

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::{Lowercase, NFC, NormalizerWrapper, Sequence as Normalizers};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer, TruncationParams};

use super::word_list::WordList;
use crate::error::{Error, Result};

/// The token before every text.
const BOS: &str = "<|startoftext|>";
/// The token after every text; it also replaces anything that the vocabulary lacks.
const EOS: &str = "<|endoftext|>";
/// The mark of a token that ends a word.
const END_OF_WORD: &str = "</w>";
/// What counts as one word.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The maximum number of tokens in the published models, including the start and end tokens.
pub const MAX_LENGTH: usize = 77;

/// A vocabulary: the id of each token.
type Vocabulary = HashMap<String, u32>;

/// CLIP's tokenizer.
#[derive(Debug, Clone)]
pub struct ClipTokenizer {
    encoder: Encoder,
    bos_id: u32,
    eos_id: u32,
}

/// From text to ids.
#[derive(Debug, Clone)]
enum Encoder {
    /// Byte-pair encoding; the library truncates, and adds the start and end tokens.
    BytePairs(Box<Tokenizer>),
    /// Whole words, truncated to `max_length` tokens including the start and end tokens.
    Words { list: WordList, max_length: usize },
}

impl ClipTokenizer {
    /// Reads `tokenizer.json` from a model directory or, if there is none, `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// [`Error::Io`] when neither exists or a file cannot be read; [`Error::Format`] as [`ClipTokenizer::from_file`]
    /// and [`ClipTokenizer::from_vocab_and_merges`].
    pub fn from_dir(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let single = folder.join("tokenizer.json");
        if single.is_file() {
            Self::from_file(single)
        } else {
            Self::from_vocab_and_merges(folder.join("vocab.json"), folder.join("merges.txt"))
        }
    }

    /// Reads the vocabulary of a `tokenizer.json`, and its merges unless it is of the type `WordLevel`.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is not a tokenizer of these types in JSON,
    /// lacks the start or end token, or merges tokens that it does not list.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_json(&path, &read(path.as_ref())?)
    }

    /// Parses the content of a `tokenizer.json` in memory; error messages call it `name`.
    ///
    /// # Errors
    /// [`Error::Format`] as [`ClipTokenizer::from_file`].
    pub fn from_json(name: impl AsRef<Path>, json: &[u8]) -> Result<Self> {
        /// The part of the file that is read.
        #[derive(Deserialize)]
        struct Content {
            model: Model,
        }
        #[derive(Deserialize)]
        struct Model {
            #[serde(rename = "type")]
            kind: Option<String>,
            vocab: Vocabulary,
            merges: Option<Vec<Merge>>,
        }
        /// Files from before 2024 join both tokens with a space.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Merge {
            Joined(String),
            Pair(String, String),
        }

        let path = name.as_ref();
        let expected = "JSON with model.vocab and model.merges of a byte-pair encoding";
        let Model { kind, vocab, merges } = parse::<Content>(path, json, expected)?.model;
        if kind.as_deref() == Some("WordLevel") {
            let (bos_id, eos_id) = special_ids(&vocab, path)?;
            let encoder = Encoder::Words { list: WordList::new(vocab), max_length: MAX_LENGTH };
            return Ok(Self { encoder, bos_id, eos_id });
        }
        let merges = merges.ok_or_else(|| Error::format(path, "tokenizer", expected, "no model.merges"))?;
        let merges = merges.into_iter().enumerate().map(|(index, merge)| match merge {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Joined(pair) => split_merge(path, &format!("merge {index}"), &pair),
        });
        let merges = merges.collect::<Result<Merges>>()?;
        Self::new(vocab, merges, path, path)
    }

    /// Reads `vocab.json` (an object, token → id) and `merges.txt` (one pair per line, after an optional version line).
    ///
    /// # Errors
    /// [`Error::Io`] when one of them cannot be read; [`Error::Format`] when one has the wrong format, the start or end
    /// token is missing, or a merge names a token that the vocabulary lacks.
    pub fn from_vocab_and_merges(vocab: impl AsRef<Path>, merges: impl AsRef<Path>) -> Result<Self> {
        let (vocab_path, merges_path) = (vocab.as_ref(), merges.as_ref());
        let (vocab, merges) = (read(vocab_path)?, read(merges_path)?);
        Self::from_vocab_and_merges_bytes((vocab_path, &vocab), (merges_path, &merges))
    }

    /// As [`ClipTokenizer::from_vocab_and_merges`], from the contents of the two files. Each is paired with a name that
    /// represents it in error messages.
    ///
    /// # Errors
    /// [`Error::Format`] as [`ClipTokenizer::from_vocab_and_merges`].
    pub fn from_vocab_and_merges_bytes(vocab: (&Path, &[u8]), merges: (&Path, &[u8])) -> Result<Self> {
        let ((vocab_path, vocab), (merges_path, merges)) = (vocab, merges);
        let vocab = parse::<Vocabulary>(vocab_path, vocab, "a JSON object, token → id")?;
        let text = std::str::from_utf8(merges)
            .map_err(|error| Error::format(merges_path, "tokenizer", "UTF-8 text, a pair a line", error))?;
        let merges = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
            .map(|(index, line)| split_merge(merges_path, &format!("line {}", index + 1), line))
            .collect::<Result<Merges>>()?;
        Self::new(vocab, merges, vocab_path, merges_path)
    }

    /// Combines the parts; the paths are for error messages.
    fn new(vocab: Vocabulary, merges: Merges, vocab_path: &Path, merges_path: &Path) -> Result<Self> {
        let (bos_id, eos_id) = special_ids(&vocab, vocab_path)?;
        // Some unknown tokens make the library slice out of bounds, so they are rejected here.
        for (left, right) in &merges {
            for token in [left, right, &format!("{left}{right}")] {
                if !vocab.contains_key(token) {
                    return Err(Error::format(
                        merges_path,
                        "tokenizer",
                        "merges of tokens in the vocabulary",
                        format!("the merge \"{left} {right}\", but no token \"{token}\""),
                    ));
                }
            }
        }
        let tokenizer = assemble(vocab, merges, bos_id, eos_id)
            .map_err(|error| Error::format(vocab_path, "tokenizer", "a byte-pair vocabulary", error))?;
        Self { encoder: Encoder::BytePairs(Box::new(tokenizer)), bos_id, eos_id }.with_max_length(MAX_LENGTH)
    }

    /// Truncates texts to `max_length` tokens, including the start and end tokens. The default is [`MAX_LENGTH`].
    ///
    /// # Errors
    /// [`Error::Argument`] for a length below 2.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self> {
        // The start and end tokens need two places.
        if max_length < 2 {
            return Err(Error::argument("max_length", "at least 2 (start and end)", max_length));
        }
        match &mut self.encoder {
            Encoder::Words { max_length: current, .. } => *current = max_length,
            Encoder::BytePairs(tokenizer) => {
                tokenizer
                    .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
                    .map_err(|error| Error::argument("max_length", "a length that the tokenizer takes", error))?;
            }
        }
        Ok(self)
    }

    /// The ids of a text: the start token, its tokens and the end token. A text that is too long is truncated before
    /// the end token.
    ///
    /// # Errors
    /// [`Error::Argument`] for a word that a vocabulary of whole words lacks; byte-pair encoding accepts any text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.encoder {
            Encoder::Words { list, max_length } => {
                let mut ids = vec![self.bos_id];
                ids.extend(list.encode(text)?);
                ids.truncate(max_length - 1);
                ids.push(self.eos_id);
                Ok(ids)
            }
            Encoder::BytePairs(tokenizer) => {
                let encoding = tokenizer
                    .encode_fast(text, true)
                    .map_err(|error| Error::argument("text", "a text that the tokenizer can encode", error))?;
                Ok(encoding.get_ids().to_vec())
            }
        }
    }

    /// The id of the start token; 49,406 in the published vocabulary.
    pub fn bos_id(&self) -> u32 {
        self.bos_id
    }

    /// The id of the end token; 49,407 in the published vocabulary.
    pub fn eos_id(&self) -> u32 {
        self.eos_id
    }

    /// The number of tokens; 49,408 in the published vocabulary.
    pub fn vocab_size(&self) -> usize {
        match &self.encoder {
            Encoder::Words { list, .. } => list.len(),
            Encoder::BytePairs(tokenizer) => tokenizer.get_vocab_size(true),
        }
    }
}

/// The ids of the start and end tokens.
fn special_ids(vocab: &Vocabulary, path: &Path) -> Result<(u32, u32)> {
    let id = |token: &str| {
        vocab
            .get(token)
            .copied()
            .ok_or_else(|| Error::format(path, "tokenizer", format!("the token {token}"), "a vocabulary without it"))
    };
    Ok((id(BOS)?, id(EOS)?))
}

/// Builds the pipeline in the module's documentation for a checked vocabulary.
fn assemble(vocab: Vocabulary, merges: Merges, bos_id: u32, eos_id: u32) -> tokenizers::Result<Tokenizer> {
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
        .unk_token(EOS.into())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(END_OF_WORD.into())
        .build()?;
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".into()), " ")?;
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let normalizers: Vec<NormalizerWrapper> = vec![NFC.into(), spaces.into(), Lowercase.into()];
    let pre_tokenizers: Vec<PreTokenizerWrapper> = vec![words.into(), ByteLevel::new(false, true, true).into()];

    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)));
    tokenizer.with_post_processor(Some(
        RobertaProcessing::new((EOS.into(), eos_id), (BOS.into(), bos_id)).trim_offsets(false).add_prefix_space(false),
    ));
    // In a text, these two are parsed as the special tokens.
    tokenizer.add_special_tokens([BOS, EOS].map(|token| AddedToken::from(token, true)))?;
    Ok(tokenizer)
}

/// The pair in `text`, found in `path` at `place`.
fn split_merge(path: &Path, place: &str, text: &str) -> Result<(String, String)> {
    match text.split(' ').collect::<Vec<_>>()[..] {
        [left, right] if !left.is_empty() && !right.is_empty() => Ok((left.into(), right.into())),
        _ => Err(Error::format(path, "tokenizer", "two tokens with a space between", format!("{place}: \"{text}\""))),
    }
}

/// Reads a whole file.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(Error::io(path, "read"))
}

/// The JSON in the file `path` as `T`.
fn parse<T: serde::de::DeserializeOwned>(path: &Path, json: &[u8], expected: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::format(path, "tokenizer", expected, error))
}
