//! The files of a model; reading and writing model directories.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::checkpoint::Checkpoint;
use super::encoder_kind::AudioEncoderKind;
use super::source::ModelSource;
use crate::error::{Error, Result};
use crate::files::{link_or_copy, write_atomically, write_json};

/// The possible names of each part of a model directory, in order of preference; for the audio encoder see
/// [`AudioEncoderKind`].
const CLIPSEG_NAMES: [&str; 3] = ["clipseg.safetensors", "clipseg.gguf", "clipseg.bin"];
const ACL_NAMES: [&str; 3] = ["acl.safetensors", "acl.gguf", "acl.pth"];
const CONFIG_NAME: &str = "config.json";
/// The file of a model directory with the calibration of its answers.
const PRESENCE_NAME: &str = "presence.json";

/// The opened files of a model, and its configuration as JSON.
#[derive(Debug)]
pub struct ModelFiles {
    /// Where the files were found; never [`ModelSource::Auto`].
    pub source: ModelSource,
    /// The source as text: the directory, or the name of the published or embedded model.
    pub name: String,
    /// Which audio encoder the model has.
    pub audio_encoder: AudioEncoderKind,
    /// The weights of the audio encoder.
    pub audio: Checkpoint,
    /// The weights of the grounder.
    pub clipseg: Checkpoint,
    /// The weights trained by ACL: `audio_proj.*`, `masker_i.*`, and `prompt_net.*` where the prompt is learned.
    pub acl: Checkpoint,
    /// The configuration of the audio encoder, a JSON object: from `config.json` or, if absent there, from the BEATs
    /// checkpoint. For AST it is what the `config.json` of its checkpoint contains.
    pub audio_config: Value,
    /// The CLIPSeg configuration, a JSON object as in `config.json` on the Hub.
    pub clipseg_config: Value,
    /// The ACL configuration, a JSON object. `None` for the published defaults.
    pub acl_config: Option<Value>,
    /// The names of the classes that the model was trained on, if `config.json` lists them (`"classes": ["dog", …]`): a
    /// small model supports a closed set. Where BEATs has a tagging head for as many classes, they are in its order.
    pub classes: Option<Vec<String>>,
    /// The tokenizer, if the model has one. Only text prompts need it.
    pub tokenizer: Option<TokenizerFiles>,
    /// The calibration of [`Heatmap::presence`](crate::Heatmap::presence), a JSON object, if the model has one.
    pub presence: Option<Value>,
}

/// The files of a CLIP tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizerFiles {
    /// `tokenizer.json`, which contains everything.
    Json(PathBuf),
    /// The vocabulary and the merges of the byte-pair encoding, in two files.
    VocabMerges {
        /// `vocab.json`.
        vocab: PathBuf,
        /// `merges.txt`.
        merges: PathBuf,
    },
    /// A `tokenizer.json` in memory.
    Memory {
        /// Represents the file in error messages.
        name: PathBuf,
        /// The contents of the file.
        json: Cow<'static, [u8]>,
    },
    /// A `vocab.json` and a `merges.txt` in memory.
    MemoryVocabMerges {
        /// Represents the folder of the files in error messages.
        folder: PathBuf,
        /// The contents of `vocab.json`.
        vocab: Vec<u8>,
        /// The contents of `merges.txt`.
        merges: Vec<u8>,
    },
}

impl ModelFiles {
    /// Opens the files of the model directory `folder`.
    ///
    /// The directory contains `config.json` = {"beats": {…}, "clipseg": {…}, "acl": {…}, "classes": […]} and the
    /// weights: `beats.safetensors`, `clipseg.safetensors` and `acl.safetensors`, or the same with the extension
    /// `.gguf`, or the published pickles `beats.pt`, `clipseg.bin` and `acl.pth`. If there are several, the first of
    /// these is used. It may also contain `tokenizer.json`, or `vocab.json` with `merges.txt`, and `presence.json`, the
    /// calibration of the presence. In the configuration, `beats` is optional if the BEATs checkpoint contains its own,
    /// `acl` is optional with the published defaults, and `classes` is always optional.
    ///
    /// With `"audio_encoder": "ast"` in the part `acl`, the audio encoder is AST: the configuration has a part `ast` in place
    /// of `beats`, and the weights are in `ast.safetensors`, `ast.gguf` or `ast.bin`.
    ///
    /// # Errors
    /// [`Error::Format`] naming everything that is missing from the folder, or what is wrong with `config.json` or a
    /// file of weights; [`Error::Io`] when a file cannot be read.
    pub fn from_directory(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
        let parts = file(CONFIG_NAME).map(|path| read_config(&path)).transpose()?;
        let audio_encoder = audio_encoder(&folder.join(CONFIG_NAME), parts.as_ref())?;
        let [config, audio, clipseg, acl] =
            required(folder, audio_encoder, |name| file(name).is_some())?.map(|name| folder.join(name));
        let vocab_merges =
            || Some(TokenizerFiles::VocabMerges { vocab: file("vocab.json")?, merges: file("merges.txt")? });
        let files = Self::new(
            folder.into(),
            parts.unwrap_or_default(),
            &config,
            Checkpoint::open(audio)?,
            Checkpoint::open(clipseg)?,
            Checkpoint::open(acl)?,
            file("tokenizer.json").map(TokenizerFiles::Json).or_else(vocab_merges),
        )?;
        let presence = file(PRESENCE_NAME).map(|path| read_config(&path).map(Value::Object)).transpose()?;
        Ok(Self { presence, ..files })
    }

    /// Opens the files of a model directory that are in memory, by name (`"config.json"`, `"beats.gguf"` …); see
    /// [`ModelFiles::from_directory`]. Other files are ignored. `folder` represents the directory in error messages.
    ///
    /// # Errors
    /// [`Error::Format`] as for [`ModelFiles::from_directory`].
    pub fn from_memory(folder: impl AsRef<Path>, mut files: BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG_NAME);
        let parts = files.get(CONFIG_NAME).map(|text| parse_config(&path, text)).transpose()?;
        let audio_encoder = audio_encoder(&path, parts.as_ref())?;
        let [_, audio, clipseg, acl] = required(folder, audio_encoder, |name| files.contains_key(name))?;
        let mut take = |name: &str| files.remove(name);
        let mut open = |name: &str| Checkpoint::from_bytes(folder.join(name), take(name).unwrap_or_default());
        let (audio, clipseg, acl) = (open(audio)?, open(clipseg)?, open(acl)?);
        let tokenizer = match (take("tokenizer.json"), take("vocab.json"), take("merges.txt")) {
            (Some(json), ..) => Some(TokenizerFiles::Memory { name: folder.join("tokenizer.json"), json: json.into() }),
            (None, Some(vocab), Some(merges)) => {
                Some(TokenizerFiles::MemoryVocabMerges { folder: folder.into(), vocab, merges })
            }
            _ => None,
        };
        let presence = take(PRESENCE_NAME).map(|text| parse_config(&folder.join(PRESENCE_NAME), &text));
        let files = Self::new(folder.into(), parts.unwrap_or_default(), &path, audio, clipseg, acl, tokenizer)?;
        Ok(Self { presence: presence.transpose()?.map(Value::Object), ..files })
    }

    /// Combines opened files and the contents of their `config.json`; its path `config` is for error messages.
    pub(super) fn new(
        source: ModelSource,
        mut parts: Map<String, Value>,
        config: &Path,
        audio: Checkpoint,
        clipseg: Checkpoint,
        acl: Checkpoint,
        tokenizer: Option<TokenizerFiles>,
    ) -> Result<Self> {
        let audio_encoder = audio_encoder(config, Some(&parts))?;
        let mut object = |name: &str| match parts.remove(name) {
            Some(part) if part.is_object() => Ok(Some(part)),
            Some(part) => Err(wrong_config(config, &format!("an object as \"{name}\""), part)),
            None => Ok(None),
        };
        let (audio_config, clipseg_config, acl_config) =
            (object(audio_encoder.name())?, object("clipseg")?, object("acl")?);
        let clipseg_config = clipseg_config.ok_or_else(|| wrong_config(config, "a \"clipseg\" part", "none"))?;
        let audio_config = audio_config.or_else(|| audio.config().cloned()).ok_or_else(|| match audio_encoder {
            AudioEncoderKind::Beats => {
                wrong_config(config, "a \"beats\" part, or a BEATs checkpoint with its own (`cfg`)", "neither")
            }
            AudioEncoderKind::Ast => wrong_config(config, "an \"ast\" part: the config.json of the checkpoint", "none"),
        })?;
        // Directories written before the first release call them "things".
        let classes = parts.remove("classes").or_else(|| parts.remove("things"));
        let classes = classes.map(serde_json::from_value).transpose();
        let classes = classes.map_err(|error| wrong_config(config, "a list of names as \"classes\"", error))?;
        Ok(Self {
            name: source.to_string(),
            source,
            audio_encoder,
            audio,
            clipseg,
            acl,
            audio_config,
            clipseg_config,
            acl_config,
            classes,
            tokenizer,
            presence: None,
        })
    }

    /// Makes the existing `folder` a model directory that contains everything but ACL's own weights and the calibration,
    /// which belongs to them: links to the frozen weights and the tokenizer (or copies, from memory or on another disk),
    /// and `config.json`. Existing files are left unchanged.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read or the folder cannot be written.
    pub fn link_frozen(&self, folder: &Path) -> Result<()> {
        let parts = [(&self.audio, self.audio_encoder.file_names()), (&self.clipseg, CLIPSEG_NAMES)];
        for (checkpoint, [safetensors, gguf, pickle]) in parts {
            let name = match checkpoint.path().extension().and_then(|extension| extension.to_str()) {
                Some("safetensors") => safetensors,
                Some("gguf") => gguf,
                _ => pickle,
            };
            checkpoint.place_at(&folder.join(name))?;
        }
        self.place_tokenizer(folder)?;
        let path = folder.join(CONFIG_NAME);
        if path.exists() {
            return Ok(());
        }
        self.write_config(folder)
    }

    /// Writes the model's `config.json` into the existing `folder`, replacing any previous one.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written.
    pub fn write_config(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CONFIG_NAME);
        let mut config = serde_json::Map::new();
        config.insert(self.audio_encoder.name().to_owned(), self.audio_config.clone());
        config.insert("clipseg".to_owned(), self.clipseg_config.clone());
        if let Some(acl) = &self.acl_config {
            config.insert("acl".to_owned(), acl.clone());
        }
        if let Some(classes) = &self.classes {
            config.insert("classes".to_owned(), classes.clone().into());
        }
        write_json(&path, &Value::Object(config))
    }

    /// Writes the model's calibration of the presence, if it has one, as `presence.json` into the existing `folder`, replacing
    /// any previous one. It belongs to the model's own weights: with other ones it would be wrong.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be written.
    pub fn write_presence(&self, folder: &Path) -> Result<()> {
        self.presence.as_ref().map_or(Ok(()), |presence| write_presence(folder, presence))
    }

    /// Places the model's tokenizer in the existing `folder`, as links or copies. Existing files are left unchanged.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read or the folder cannot be written.
    pub fn place_tokenizer(&self, folder: &Path) -> Result<()> {
        let single = folder.join("tokenizer.json");
        match &self.tokenizer {
            None => {}
            Some(TokenizerFiles::Json(path)) => link_or_copy(path, &single)?,
            Some(TokenizerFiles::VocabMerges { vocab, merges }) => {
                link_or_copy(vocab, &folder.join("vocab.json"))?;
                link_or_copy(merges, &folder.join("merges.txt"))?;
            }
            Some(TokenizerFiles::Memory { json, .. }) => place_bytes(json, &single)?,
            Some(TokenizerFiles::MemoryVocabMerges { vocab, merges, .. }) => {
                place_bytes(vocab, &folder.join("vocab.json"))?;
                place_bytes(merges, &folder.join("merges.txt"))?;
            }
        }
        Ok(())
    }
}

/// The audio encoder that the parts of `config.json` name.
fn audio_encoder(config: &Path, parts: Option<&Map<String, Value>>) -> Result<AudioEncoderKind> {
    let Some(name) = parts.and_then(|parts| parts.get("acl")?.get("audio_encoder")) else {
        return Ok(AudioEncoderKind::default());
    };
    AudioEncoderKind::deserialize(name)
        .map_err(|_| wrong_config(config, "\"beats\" or \"ast\" as \"audio_encoder\" in \"acl\"", name))
}

/// The names of the configuration and of the three files of weights, of those that exist in `folder`.
fn required(folder: &Path, encoder: AudioEncoderKind, exists: impl Fn(&str) -> bool) -> Result<[&'static str; 4]> {
    let audio_names = encoder.file_names();
    let part = |names: [&'static str; 3]| names.into_iter().find(|name| exists(name)).ok_or_else(|| names.join(" or "));
    let config = Some(CONFIG_NAME).filter(|name| exists(name)).ok_or_else(|| CONFIG_NAME.to_owned());
    match (config, part(audio_names), part(CLIPSEG_NAMES), part(ACL_NAMES)) {
        (Ok(config), Ok(audio), Ok(clipseg), Ok(acl)) => Ok([config, audio, clipseg, acl]),
        (config, audio, clipseg, acl) => {
            let missing: Vec<String> = [config, audio, clipseg, acl].into_iter().filter_map(Result::err).collect();
            let names = [audio_names, CLIPSEG_NAMES, ACL_NAMES].map(|names| names.join(" or "));
            let expected = format!("{CONFIG_NAME}, {}", names.join(", "));
            Err(Error::format(folder, "model directory", expected, format!("no {}", missing.join(", no "))))
        }
    }
}

/// Writes a calibration as `presence.json` into the model directory `folder`.
pub(crate) fn write_presence(folder: &Path, presence: &Value) -> Result<()> {
    write_json(&folder.join(PRESENCE_NAME), presence)
}

/// Writes `bytes` to `target`. An existing `target` is left unchanged.
fn place_bytes(bytes: &[u8], target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    write_atomically(target, |writer| writer.write_all(bytes).map_err(Error::io(target, "write")))
}

/// Reads a JSON object from a file.
pub(super) fn read_config(path: &Path) -> Result<Map<String, Value>> {
    parse_config(path, &std::fs::read(path).map_err(Error::io(path, "read"))?)
}

/// Parses a JSON object from the contents of a file.
pub(super) fn parse_config(path: &Path, text: &[u8]) -> Result<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(wrong_config(path, "a JSON object", other)),
        Err(error) => Err(wrong_config(path, "a JSON object", error)),
    }
}

fn wrong_config(path: &Path, expected: &str, found: impl ToString) -> Error {
    Error::format(path, "configuration", expected, found)
}
