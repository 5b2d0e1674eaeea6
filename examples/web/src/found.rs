//! A heatmap, and what is made of it.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::json;
use soundsight::Heatmap;
use soundsight::viz::{OverlayOptions, overlay};
use wasm_bindgen::prelude::*;

use crate::media::Picture;
use crate::message;

/// Where a sound comes from.
#[wasm_bindgen]
pub struct Found {
    heatmap: Heatmap,
    size: (usize, usize),
}

impl Found {
    /// A heatmap of a picture of this size (width, height).
    pub(crate) fn new(heatmap: Heatmap, size: (usize, usize)) -> Self {
        Self { heatmap, size }
    }
}

#[wasm_bindgen]
impl Found {
    /// The logits, row by row.
    #[wasm_bindgen(getter)]
    pub fn logits(&self) -> Vec<f32> {
        self.heatmap.logits.clone()
    }

    /// The scores in 0..1, row by row.
    #[wasm_bindgen(getter)]
    pub fn scores(&self) -> Vec<f32> {
        self.heatmap.scores.clone()
    }

    /// How well sound and place fit, a cosine in −1..1.
    #[wasm_bindgen(getter)]
    pub fn confidence(&self) -> f32 {
        self.heatmap.confidence
    }

    /// JSON: `confidence`, `presence` (the probability that the picture shows the source; null if the model is not
    /// calibrated), `present` (whether that is enough), `threshold`, and in pixels of the picture `peak`, `area` and `boxes` of the scores ≥
    /// `threshold`.
    pub fn json(&self, threshold: f32) -> Result<String, JsError> {
        let map = self.heatmap.score_map(self.size.0, self.size.1).map_err(message)?;
        let findings = map.findings(threshold).map_err(message)?;
        Ok(json!({
            "confidence": self.heatmap.confidence,
            "presence": self.heatmap.presence(),
            "present": self.heatmap.is_present(),
            "threshold": threshold,
            "peak": findings.peak,
            "area": findings.area,
            "boxes": findings.boxes,
        })
        .to_string())
    }

    /// The heatmap over the picture, a PNG of the picture's size.
    pub fn overlay(&self, picture: &Picture, threshold: f32, opacity: f32) -> Result<Vec<u8>, JsError> {
        let options = OverlayOptions { threshold, opacity, ..Default::default() };
        let map = self.heatmap.score_map(self.size.0, self.size.1).map_err(message)?;
        overlay(&picture.pixels, &map, &options).and_then(|drawn| drawn.to_png()).map_err(message)
    }

    /// The scores as a grey PNG of 16 bits and of the picture's size, in which 65,535 stands for a score of 1.
    #[wasm_bindgen(js_name = heatmapPng)]
    pub fn heatmap_png(&self) -> Result<Vec<u8>, JsError> {
        let (width, height) = self.size;
        let map = self.heatmap.score_map(width, height).map_err(message)?;
        let scores = map.rows(0..height).map_err(message)?;
        let bytes: Vec<u8> =
            scores.into_iter().flat_map(|score| ((score * 65_535.0).round() as u16).to_ne_bytes()).collect();
        let mut png = Vec::new();
        // The sizes of pictures fit in 16 bits.
        PngEncoder::new(&mut png)
            .write_image(&bytes, width as u32, height as u32, ExtendedColorType::L16)
            .map_err(|error| JsError::new(&error.to_string()))?;
        Ok(png)
    }
}
