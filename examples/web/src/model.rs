//! The model: from sounds, texts and pictures to heatmaps.

use serde_json::json;
use soundsight::{Embedding, EncodedImage, Localizer};
use wasm_bindgen::prelude::*;

use crate::found::Found;
use crate::media::{Picture, Sound};
use crate::message;

/// A loaded model.
#[wasm_bindgen]
pub struct Model {
    pub(crate) localizer: &'static Localizer,
    /// The sounds that it knows, if it knows a closed set.
    classes: Option<Vec<String>>,
}

/// What to look for: a sound or a text.
#[wasm_bindgen]
pub struct Query(Embedding);

/// A picture that any number of sounds can be looked for in.
#[wasm_bindgen]
pub struct Scene(EncodedImage);

impl Model {
    pub(crate) fn new(localizer: Localizer, classes: Option<Vec<String>>) -> Self {
        // The watcher of a film borrows the localizer, and JavaScript knows no lifetimes: it lives as long as the worker.
        Self { localizer: Box::leak(Box::new(localizer)), classes }
    }
}

#[wasm_bindgen]
impl Model {
    /// JSON: `name`, `seconds` (how much it hears of a sound), `side` (of the pictures that it sees, in pixels),
    /// `prompt` with `{}` for a word, and `classes`, the names of what it knows (null if it was trained on anything).
    pub fn card(&self) -> String {
        let config = self.localizer.acl().config();
        json!({
            "name": self.localizer.name(),
            "seconds": self.localizer.audio_seconds(),
            "side": config.acl.image_size,
            "prompt": config.acl.prompt,
            "classes": self.classes,
        })
        .to_string()
    }

    /// The offset that is added to logits before the sigmoid.
    pub fn offset(&self) -> Result<f32, JsError> {
        self.localizer.acl().masker.offset().map_err(message)
    }

    /// Listens to a sound.
    pub fn hear(&self, sound: &Sound) -> Result<Query, JsError> {
        Ok(Query(self.localizer.embed_audio(&sound.waveform).map_err(message)?))
    }

    /// Reads a whole prompt, in place of a sound.
    pub fn read(&self, prompt: &str) -> Result<Query, JsError> {
        Ok(Query(self.localizer.embed_text(prompt).map_err(message)?))
    }

    /// Looks at a picture, once for all sounds.
    pub fn see(&self, picture: &Picture) -> Result<Scene, JsError> {
        let image = self.localizer.encode_image(&picture.pixels).map_err(message)?;
        // Now, so that the first sound takes no longer than the others.
        self.localizer.dense_features(&image).map_err(message)?;
        Ok(Scene(image))
    }

    /// Finds a sound in a picture.
    pub fn find(&self, query: &Query, scene: &Scene) -> Result<Found, JsError> {
        let heatmap = self.localizer.localize(&query.0, &scene.0).map_err(message)?;
        Ok(Found::new(heatmap, (scene.0.width(), scene.0.height())))
    }
}
