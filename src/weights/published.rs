//! The published model `acl-vit16`: its files in the Hub's cache, or on the Hub.

use std::path::PathBuf;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::hub::{Download, Hub, HubFile, Repo, RepoKind};
use super::model_files::{ModelFiles, TokenizerFiles, read_config};
use super::source::ModelSource;
use crate::error::{Error, Result};

const CLIPSEG: Repo = Repo { kind: RepoKind::Model, id: "CIDAS/clipseg-rd64-refined" };
const ACL: Repo = Repo { kind: RepoKind::Space, id: "swimmiing/ACL-SSL-zeroshot-demo" };
const BEATS_MIRROR: Repo =
    Repo { kind: RepoKind::Model, id: "WeiChihChen/BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2" };

// What makes up `acl-vit16`; of several sources for one file, the first that has it counts.
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

/// The files of the published model: those of the cache, and what is missing from the Hub if `download` says so.
pub(super) fn files(hub: &Hub, mut download: Download<'_>) -> Result<ModelFiles> {
    let mut get = |sources: &[HubFile]| get(hub, sources, &mut download);
    // The small file first: a Hub that cannot be reached shows before a gigabyte is on its way.
    let config = get(CLIPSEG_CONFIG)?;
    let acl = get(ACL_WEIGHTS)?;
    let beats = Checkpoint::open(get(BEATS_WEIGHTS)?)?;
    let clipseg = get(CLIPSEG_WEIGHTS)?;
    // Optional: without a tokenizer everything but text prompts works.
    let vocab_merges = get(VOCAB).and_then(|vocab| Ok(TokenizerFiles::VocabMerges { vocab, merges: get(MERGES)? }));
    let beats_config = beats.config().cloned().ok_or_else(|| {
        Error::format(beats.path(), "BEATs checkpoint", "its configuration (`cfg`) beside the tensors", "none")
    })?;
    Ok(ModelFiles {
        name: ModelSource::Published.to_string(),
        source: ModelSource::Published,
        beats,
        clipseg: Checkpoint::open(clipseg)?,
        acl: Checkpoint::open(acl)?,
        beats_config,
        clipseg_config: Value::Object(read_config(&config)?),
        acl_config: None,
        classes: None,
        tokenizer: vocab_merges.ok(),
    })
}

/// One file out of the cache, or else from the network.
fn get(hub: &Hub, sources: &[HubFile], download: &mut Download<'_>) -> Result<PathBuf> {
    if let Some(path) = sources.iter().find_map(|source| hub.cached(source)) {
        return Ok(path);
    }
    let why = match download {
        Download::Never => "downloading it was not asked for".to_owned(),
        Download::IfMissing(_) if hub.offline => "HF_HUB_OFFLINE keeps it from being downloaded".to_owned(),
        #[cfg(not(feature = "hub"))]
        Download::IfMissing(_) => "this program was built without the feature `hub`, which downloads".to_owned(),
        #[cfg(feature = "hub")]
        Download::IfMissing(progress) => match super::download::first(hub, sources, &mut **progress)? {
            Ok(path) => return Ok(path),
            Err(why) => why,
        },
    };
    let wanted: Vec<String> = sources.iter().map(|source| format!("{} ({})", source.file, source.repo.id)).collect();
    let (name, cache) = (ModelSource::Published, hub.cache.display());
    // What happened, then three ways out.
    let reason = format!(
        "model `{name}`: {} is not in the cache {cache}: {why}\n\
         - With a network: ask for `{name}` by name and let it be downloaded (1 GB, once); HF_ENDPOINT names a mirror, \
         HF_TOKEN gives access to closed repositories.\n\
         - From another machine: run `hf download {}` and `hf download --repo-type space {} --include 'pretrain/*'` there, \
         and copy its cache here (HF_HUB_CACHE).\n\
         - From files: `soundsight convert --beats F --clipseg F --acl F --out DIR`, then DIR is \
         the model.",
        wanted.join(" or "),
        CLIPSEG.id,
        ACL.id,
    );
    Err(Error::ModelUnavailable { reason })
}
