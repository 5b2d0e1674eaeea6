//! The published model `acl-vit16`: its files, in the Hub's cache or on the Hub.

use std::path::PathBuf;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::encoder_kind::AudioEncoderKind;
use super::hub::{Download, Hub, HubFile, Repo, RepoKind};
use super::model_files::{ModelFiles, TokenizerFiles, read_config};
use super::source::ModelSource;
use crate::error::{Error, Result};

const CLIPSEG: Repo = Repo { kind: RepoKind::Model, id: "CIDAS/clipseg-rd64-refined" };
const ACL: Repo = Repo { kind: RepoKind::Space, id: "swimmiing/ACL-SSL-zeroshot-demo" };
const BEATS_MIRROR: Repo =
    Repo { kind: RepoKind::Model, id: "WeiChihChen/BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2" };

// The files of `acl-vit16`. A file with several sources is taken from the first source that has it.
const CLIPSEG_CONFIG: &[HubFile] = &[HubFile { repo: CLIPSEG, file: "config.json" }];
const CLIPSEG_WEIGHTS: &[HubFile] =
    &[HubFile { repo: CLIPSEG, file: "model.safetensors" }, HubFile { repo: CLIPSEG, file: "pytorch_model.bin" }];
const BEATS_WEIGHTS: &[HubFile] = &[
    HubFile { repo: ACL, file: "pretrain/BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt" },
    HubFile { repo: BEATS_MIRROR, file: "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt" },
];
const ACL_WEIGHTS: &[HubFile] = &[HubFile { repo: ACL, file: "pretrain/Param_best.pth" }];
const VOCAB: &[HubFile] = &[HubFile { repo: CLIPSEG, file: "vocab.json" }];
const MERGES: &[HubFile] = &[HubFile { repo: CLIPSEG, file: "merges.txt" }];

/// The files of the published model: those in the cache, and, if `download` allows it, the missing ones from the Hub.
pub(super) fn files(hub: &Hub, mut download: Download<'_>) -> Result<ModelFiles> {
    let mut get = |sources: &[HubFile]| get(hub, sources, &mut download);
    // The small file first, so that an unreachable Hub is noticed before downloading a gigabyte.
    let config = get(CLIPSEG_CONFIG)?;
    let acl = get(ACL_WEIGHTS)?;
    let beats = Checkpoint::open(get(BEATS_WEIGHTS)?)?;
    let clipseg = get(CLIPSEG_WEIGHTS)?;
    // Optional: only text prompts need a tokenizer.
    let vocab_merges = get(VOCAB).and_then(|vocab| Ok(TokenizerFiles::VocabMerges { vocab, merges: get(MERGES)? }));
    let beats_config = beats.config().cloned().ok_or_else(|| {
        Error::format(beats.path(), "BEATs checkpoint", "a configuration (`cfg`) in addition to the tensors", "none")
    })?;
    Ok(ModelFiles {
        name: ModelSource::Published.to_string(),
        source: ModelSource::Published,
        audio_encoder: AudioEncoderKind::Beats,
        audio: beats,
        clipseg: Checkpoint::open(clipseg)?,
        acl: Checkpoint::open(acl)?,
        audio_config: beats_config,
        clipseg_config: Value::Object(read_config(&config)?),
        acl_config: None,
        classes: None,
        presence: None,
        tokenizer: vocab_merges.ok(),
    })
}

/// Finds one file in the cache, or else downloads it.
fn get(hub: &Hub, sources: &[HubFile], download: &mut Download<'_>) -> Result<PathBuf> {
    if let Some(path) = sources.iter().find_map(|source| hub.cached(source)) {
        return Ok(path);
    }
    let why = match download {
        Download::Never => "a download was not asked for".to_owned(),
        Download::IfMissing(_) if hub.offline => "HF_HUB_OFFLINE disables downloads".to_owned(),
        #[cfg(not(feature = "hub"))]
        Download::IfMissing(_) => "this program was built without the feature `hub`".to_owned(),
        #[cfg(feature = "hub")]
        Download::IfMissing(progress) => match super::download::first(hub, sources, &mut **progress)? {
            Ok(path) => return Ok(path),
            Err(why) => why,
        },
    };
    let wanted: Vec<String> = sources.iter().map(|source| format!("{} ({})", source.file, source.repo.id)).collect();
    let (name, cache) = (ModelSource::Published, hub.cache.display());
    // What happened, then three ways to get the model.
    let reason = format!(
        "model `{name}`: {} is not in the cache {cache}: {why}\n\
         - With a network: ask for `{name}` by name and allow the download (1 GB, once); HF_ENDPOINT selects a mirror, \
         HF_TOKEN gives access to restricted repositories.\n\
         - From another machine: run `hf download {}` and `hf download --repo-type space {} --include 'pretrain/*'` there, \
         and copy its cache here (HF_HUB_CACHE).\n\
         - From files: `soundsight convert --beats F --clipseg F --acl F --out DIR`, then use DIR as the model.",
        wanted.join(" or "),
        CLIPSEG.id,
        ACL.id,
    );
    Err(Error::ModelUnavailable { reason })
}
