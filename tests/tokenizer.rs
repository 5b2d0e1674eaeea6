//! CLIP's tokenizer compared with transformers' `CLIPTokenizer`. The fixtures come from
//! `benches/peers/fixtures_image.py`.
#![cfg(feature = "text")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use soundsight::Error;
use soundsight::clip::tokenizer::ClipTokenizer;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer").join(path)
}

#[derive(Deserialize)]
struct Expected {
    vocab_size: usize,
    bos: u32,
    eos: u32,
    cases: Vec<Case>,
    short: Short,
}

#[derive(Deserialize)]
struct Short {
    max_length: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

#[test]
fn every_text_gets_the_ids_of_transformers() {
    let expected = expected();
    assert!(expected.cases.len() >= 23);
    for folder in ["files", "single"] {
        let tokenizer = ClipTokenizer::from_dir(fixture(folder)).unwrap();
        assert_eq!(tokenizer.vocab_size(), expected.vocab_size);
        assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (expected.bos, expected.eos));
        for case in &expected.cases {
            assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{folder}: {:?}", case.text);
        }
        let tokenizer = tokenizer.with_max_length(expected.short.max_length).unwrap();
        for case in &expected.short.cases {
            assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{folder}, short: {:?}", case.text);
        }
    }
}

#[test]
fn merges_joined_by_a_space_are_the_same_merges() {
    let text = std::fs::read_to_string(fixture("single/tokenizer.json")).unwrap();
    let mut content: serde_json::Value = serde_json::from_str(&text).unwrap();
    for merge in content["model"]["merges"].as_array_mut().unwrap() {
        let pair: Vec<String> = serde_json::from_value(merge.clone()).unwrap();
        *merge = pair.join(" ").into();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, content.to_string()).unwrap();
    let tokenizer = ClipTokenizer::from_file(&path).unwrap();
    for case in expected().cases {
        assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{:?}", case.text);
    }
}

#[test]
fn too_short_a_length() {
    let tokenizer = ClipTokenizer::from_dir(fixture("files")).unwrap();
    assert_eq!(
        tokenizer.clone().with_max_length(2).unwrap().encode("a dog").unwrap(),
        [tokenizer.bos_id(), tokenizer.eos_id()]
    );
    let error = tokenizer.with_max_length(1).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, found, .. } if what == "max_length" && found == "1"), "{error}");
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = ClipTokenizer::from_dir(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == folder.path().join("vocab.json")), "{error}");
    std::fs::copy(fixture("files/vocab.json"), folder.path().join("vocab.json")).unwrap();
    let error = ClipTokenizer::from_dir(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if *path == folder.path().join("merges.txt")), "{error}");
}

/// The error of a tokenizer with these two files, which must be an [`Error::Format`] that names `file`.
#[track_caller]
fn refused(vocab: &str, merges: &[u8], file: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.json"), vocab).unwrap();
    std::fs::write(folder.path().join("merges.txt"), merges).unwrap();
    let error = ClipTokenizer::from_dir(folder.path()).unwrap_err();
    let message = error.to_string();
    let Error::Format { path, kind: "tokenizer", expected, found } = error else { panic!("{error:?}") };
    assert_eq!(path, folder.path().join(file));
    assert!(message.contains(file) && message.contains(&expected) && message.contains(&found), "{message}");
    (expected, found)
}

const VOCAB: &str = r#"{"a": 0, "b</w>": 1, "ab</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}"#;

#[test]
fn the_smallest_vocabulary_works() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("vocab.json"), VOCAB).unwrap();
    std::fs::write(folder.path().join("merges.txt"), "a b</w>\n").unwrap();
    let tokenizer = ClipTokenizer::from_dir(folder.path()).unwrap();
    // "z" is unknown and becomes the end token.
    assert_eq!(tokenizer.encode("AB aab z").unwrap(), [3, 2, 0, 2, 4, 4]);
}

#[test]
fn malformed_vocabularies() {
    let (_, found) = refused(r#"{"a": 0, "#, b"", "vocab.json");
    assert!(found.contains("EOF"), "{found}");
    refused(r#"["a", "b"]"#, b"", "vocab.json");
    refused(r#"{"a": -1}"#, b"", "vocab.json");
    let (expected, _) = refused(r#"{"a": 0, "<|startoftext|>": 1}"#, b"", "vocab.json");
    assert!(expected.contains("<|endoftext|>"), "{expected}");
}

#[test]
fn merges_of_unknown_tokens() {
    let (_, found) = refused(VOCAB, b"#version: 0.2\na b</w>\na unheard</w>\n", "merges.txt");
    assert!(found.contains("\"a unheard</w>\""), "{found}");
    // Both parts are known, but their merged token is not, and is longer than every token.
    let (_, found) = refused(VOCAB, b"<|startoftext|> <|endoftext|>\n", "merges.txt");
    assert!(found.contains("no token \"<|startoftext|><|endoftext|>\""), "{found}");
}

#[test]
fn malformed_merges() {
    let (_, found) = refused(VOCAB, b"#version: 0.2\na b</w>\nalone\n", "merges.txt");
    assert!(found.contains("line 3") && found.contains("alone"), "{found}");
    let (expected, _) = refused(VOCAB, b"a \xFF\xFE\n", "merges.txt");
    assert!(expected.contains("UTF-8"), "{expected}");
}

#[test]
fn malformed_single_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let merges = r#"{"model": {"vocab": {"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}, "merges": ["a"]}}"#;
    for (content, found_part) in
        [("{", "EOF"), ("{}", "model"), (r#"{"model": {"vocab": {}}}"#, "merges"), (merges, "merge 0")]
    {
        std::fs::write(&path, content).unwrap();
        let error = ClipTokenizer::from_dir(folder.path()).unwrap_err();
        let Error::Format { path: named, found, .. } = &error else { panic!("{error:?}") };
        assert_eq!(named, &path);
        assert!(found.contains(found_part), "{found}");
    }
}

#[test]
fn threads_may_share_a_tokenizer() {
    fn shareable<T: Send + Sync>() {}
    shareable::<ClipTokenizer>();
}

#[test]
fn a_list_of_words_gives_one_id_a_word_or_phrase_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let json = r#"{"model": {"type": "WordLevel", "vocab":
        {"<|startoftext|>": 0, "a": 1, "photo": 2, "of": 3, "sea lion": 4, "<|endoftext|>": 5}}}"#;
    std::fs::write(&path, json).unwrap();
    let tokenizer = ClipTokenizer::from_dir(folder.path()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.bos_id(), tokenizer.eos_id()), (6, 0, 5));
    assert_eq!(tokenizer.encode("A photo of a  Sea Lion").unwrap(), [0, 1, 2, 3, 1, 4, 5]);
    assert_eq!(tokenizer.encode("").unwrap(), [0, 5]);
    match tokenizer.encode("a photo of a sea").unwrap_err() {
        Error::Argument { what, expected, found } => {
            assert_eq!((what.as_str(), found.as_str()), ("text", "\"sea\""));
            assert!(expected.contains("sea lion"), "{expected}");
        }
        other => panic!("{other:?}"),
    }
    let short = tokenizer.with_max_length(3).unwrap();
    assert_eq!(short.encode("a photo of a sea lion").unwrap(), [0, 1, 5]);
    std::fs::write(&path, json.replace("<|endoftext|>", "end")).unwrap();
    assert!(matches!(ClipTokenizer::from_dir(folder.path()), Err(Error::Format { .. })));
}
