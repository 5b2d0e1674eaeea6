//! Films and cameras: moments as frames and samples come.

use soundsight::watch::{Smoothing, WatchOptions, Watcher};
use wasm_bindgen::prelude::*;

use crate::media::rgb;
use crate::message;
use crate::model::Model;

/// Takes frames and samples, and gives moments.
#[wasm_bindgen]
pub struct Watch {
    /// `None` once it is finished.
    watcher: Option<Watcher<'static>>,
    latency: f64,
}

/// What is known of one frame.
#[wasm_bindgen]
pub struct Moment(soundsight::watch::Moment);

#[wasm_bindgen]
impl Watch {
    /// Watches with `rate` moments a second, each with the sound around it, taken every `hop` seconds; the sound has
    /// `sample_rate` samples a second. Moments within `smoothing` seconds are combined (0: none).
    #[wasm_bindgen(constructor)]
    pub fn new(model: &Model, sample_rate: u32, rate: f64, hop: f64, smoothing: f64) -> Result<Self, JsError> {
        let smoothing = (smoothing > 0.0).then(|| Smoothing { radius: smoothing, ..Default::default() });
        let options = WatchOptions { rate, hop: Some(hop), smoothing, ..Default::default() };
        let latency = options.latency();
        let watcher = Watcher::new(model.localizer, sample_rate, options).map_err(message)?;
        Ok(Self { watcher: Some(watcher), latency })
    }

    /// How much later than its frame a moment is known, in seconds.
    #[wasm_bindgen(getter)]
    pub fn latency(&self) -> f64 {
        self.latency
    }

    /// Takes the next samples, mono.
    pub fn sound(&mut self, samples: &[f32]) -> Result<Vec<Moment>, JsError> {
        self.feed(|watcher| watcher.push_sound(samples))
    }

    /// Takes the next frame, seen at `time` in seconds, in the form of a canvas.
    pub fn frame(&mut self, time: f64, width: usize, height: usize, rgba: &[u8]) -> Result<Vec<Moment>, JsError> {
        let picture = rgb(width, height, rgba)?;
        self.feed(|watcher| watcher.push_frame(time, picture))
    }

    /// The moments that are left at the end.
    pub fn finish(&mut self) -> Result<Vec<Moment>, JsError> {
        let left = self.watcher.take().map(Watcher::finish).transpose().map_err(message)?;
        Ok(left.into_iter().flatten().map(Moment).collect())
    }

    fn feed(
        &mut self,
        feed: impl FnOnce(&mut Watcher<'static>) -> soundsight::Result<Vec<soundsight::watch::Moment>>,
    ) -> Result<Vec<Moment>, JsError> {
        let moments = self.watcher.as_mut().map(feed).transpose().map_err(message)?;
        Ok(moments.into_iter().flatten().map(Moment).collect())
    }
}

#[wasm_bindgen]
impl Moment {
    /// The logits after smoothing, row by row.
    #[wasm_bindgen(getter)]
    pub fn logits(&self) -> Vec<f32> {
        self.0.heatmap.logits.clone()
    }

    /// The level of the sound, in dB of full scale.
    #[wasm_bindgen(getter)]
    pub fn level(&self) -> f32 {
        self.0.level
    }

    /// JSON, as a line of the timeline that `soundsight localize FILM` writes.
    pub fn json(&self, threshold: f32) -> Result<String, JsError> {
        self.0.to_json(threshold).map_err(message)
    }
}
