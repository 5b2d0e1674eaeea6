//! The model that is compiled into the program: `models/embedded`, a small model trained with this crate.

use super::model_files::ModelFiles;
#[cfg(not(feature = "embedded"))]
use crate::error::Error;
use crate::error::Result;

#[cfg(feature = "embedded")]
pub(super) fn files() -> Result<ModelFiles> {
    use std::path::Path;

    use super::checkpoint::Checkpoint;
    use super::model_files::{TokenizerFiles, parse_config};
    use super::source::ModelSource;

    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/embedded/", $name)).as_slice()
        };
    }

    let folder = Path::new("embedded");
    let open = |name: &str, bytes: &'static [u8]| Checkpoint::from_bytes(folder.join(name), bytes);
    let tokenizer =
        TokenizerFiles::Memory { name: folder.join("tokenizer.json"), json: file!("tokenizer.json").into() };
    let files = ModelFiles::new(
        ModelSource::Embedded,
        parse_config(&folder.join("config.json"), file!("config.json"))?,
        &folder.join("config.json"),
        open("beats.safetensors", file!("beats.safetensors"))?,
        open("clipseg.safetensors", file!("clipseg.safetensors"))?,
        open("acl.safetensors", file!("acl.safetensors"))?,
        Some(tokenizer),
    )?;
    let presence = parse_config(&folder.join("presence.json"), file!("presence.json"))?;
    Ok(ModelFiles { presence: Some(presence.into()), ..files })
}

#[cfg(not(feature = "embedded"))]
pub(super) fn files() -> Result<ModelFiles> {
    let reason = "model `embedded`: this program was built without the feature `embedded`, which compiles it in; \
                  use `acl-vit16` or a model directory instead";
    Err(Error::ModelUnavailable { reason: reason.to_owned() })
}
