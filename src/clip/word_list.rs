//! A vocabulary of whole words, for models with few of them.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// The number of known words that an error lists.
const NUM_HINTS: usize = 12;

/// Token ids of words and of phrases ("polar bear": one token), in lower case.
#[derive(Debug, Clone)]
pub(super) struct WordList {
    ids: HashMap<String, u32>,
    /// The number of words in the longest phrase.
    longest: usize,
}

impl WordList {
    /// Creates a list with these entries. They may include the start and end tokens.
    pub(super) fn new(ids: HashMap<String, u32>) -> Self {
        let longest = ids.keys().map(|entry| entry.split(' ').count()).max().unwrap_or(1);
        Self { ids, longest }
    }

    /// The ids of the words of `text`. Where several phrases match, the longest one is used.
    ///
    /// # Errors
    /// [`Error::Argument`] for a word that is not in the list.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let text = text.to_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let (mut ids, mut place) = (Vec::new(), 0);
        while let Some(word) = words.get(place) {
            let longest = self.longest.min(words.len() - place);
            let phrase = (1..=longest).rev().find_map(|count| {
                let id = self.ids.get(&words[place..place + count].join(" "))?;
                Some((*id, count))
            });
            let (id, count) = phrase.ok_or_else(|| self.unknown(word))?;
            ids.push(id);
            place += count;
        }
        Ok(ids)
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The error for `word`; it lists the entries that share the longest beginnings with it.
    fn unknown(&self, word: &str) -> Error {
        let alike = |entry: &str| entry.chars().zip(word.chars()).take_while(|(a, b)| a == b).count();
        let mut known: Vec<&str> =
            self.ids.keys().map(String::as_str).filter(|entry| !entry.starts_with('<')).collect();
        known.sort_by(|a, b| alike(b).cmp(&alike(a)).then(a.cmp(b)));
        known.truncate(NUM_HINTS);
        let expected = format!("words that this model knows: {}, … ({} in all)", known.join(", "), self.ids.len());
        Error::argument("text", expected, format!("\"{word}\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> WordList {
        let entries = ["<|startoftext|>", "a", "photo", "of", "bear", "polar bear", "polar"];
        WordList::new(entries.into_iter().zip(0..).map(|(entry, id)| (entry.to_string(), id)).collect())
    }

    #[test]
    fn phrases_are_one_token_and_the_longest_counts() {
        assert_eq!(list().encode("A photo  of a Polar BEAR").unwrap(), [1, 2, 3, 1, 5]);
        assert_eq!(list().encode("polar photo bear").unwrap(), [6, 2, 4]);
        assert_eq!(list().encode(" ").unwrap(), [0u32; 0]);
    }

    #[test]
    fn an_unknown_word_is_named_with_known_ones() {
        match list().encode("a photo of beans").unwrap_err() {
            Error::Argument { what, expected, found } => {
                assert_eq!((what.as_str(), found.as_str()), ("text", "\"beans\""));
                assert!(expected.contains("bear") && !expected.contains('<'), "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }
}
