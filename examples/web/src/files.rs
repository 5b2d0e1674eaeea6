//! The files of a model, as they arrive.

use std::collections::BTreeMap;

use soundsight::weights::ModelFiles;
use soundsight::{Error, Localizer};
use wasm_bindgen::prelude::*;

use crate::message;
use crate::model::Model;

/// Collects the files of a model directory, piece by piece.
#[wasm_bindgen]
#[derive(Default)]
pub struct Files {
    contents: BTreeMap<String, Vec<u8>>,
}

#[wasm_bindgen]
impl Files {
    /// No files yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for the file `name` of `size` bytes; an error if the browser does not grant it.
    pub fn announce(&mut self, name: String, size: usize) -> Result<(), JsError> {
        let contents = self.contents.entry(name).or_default();
        contents.clear();
        contents.try_reserve_exact(size).map_err(|_| {
            let megabytes = size / 1_000_000;
            JsError::new(&format!("the browser does not grant {megabytes} MB of memory for the model"))
        })
    }

    /// Appends a piece to the file `name`.
    pub fn append(&mut self, name: &str, piece: &[u8]) {
        if let Some(contents) = self.contents.get_mut(name) {
            contents.extend_from_slice(piece);
        }
    }

    /// Loads the model, called `name`. The memory of the files is free afterwards.
    pub fn load(self, name: &str) -> Result<Model, JsError> {
        let load = || -> Result<Model, Error> {
            let mut files = ModelFiles::from_memory(name, self.contents)?;
            // Not "./embedded", which a folder of this name would be.
            files.name = name.to_owned();
            let localizer = Localizer::builder(&files.source).load_files(&files)?;
            Ok(Model::new(localizer, files.classes))
        };
        load().map_err(message)
    }
}
