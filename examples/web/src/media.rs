//! Sounds and pictures.

use soundsight::{Picture as Pixels, Waveform};
use wasm_bindgen::prelude::*;

use crate::{message, message_about};

/// A decoded sound.
#[wasm_bindgen]
pub struct Sound {
    pub(crate) waveform: Waveform,
}

#[wasm_bindgen]
impl Sound {
    /// Decodes the first `seconds` of the sound file `name` with these bytes.
    #[wasm_bindgen(js_name = fromFile)]
    pub fn from_file(name: &str, bytes: &[u8], seconds: f64) -> Result<Self, JsError> {
        let waveform = Waveform::from_bytes_window(bytes, 0.0, seconds).map_err(message_about(name))?;
        Ok(Self { waveform })
    }

    /// A sound from mono samples.
    #[wasm_bindgen(js_name = fromSamples)]
    pub fn from_samples(samples: Vec<f32>, rate: u32) -> Result<Self, JsError> {
        Ok(Self { waveform: Waveform::from_samples(samples, rate).map_err(message)? })
    }

    /// The samples, mono.
    #[wasm_bindgen(getter)]
    pub fn samples(&self) -> Vec<f32> {
        self.waveform.samples().to_vec()
    }

    /// Samples per second.
    #[wasm_bindgen(getter)]
    pub fn rate(&self) -> u32 {
        self.waveform.sample_rate()
    }

    /// The length in seconds of the file that the sound is the beginning of.
    #[wasm_bindgen(getter, js_name = fileSeconds)]
    pub fn file_seconds(&self) -> f64 {
        self.waveform.clip_seconds()
    }
}

/// A decoded picture.
#[wasm_bindgen]
pub struct Picture {
    pub(crate) pixels: Pixels,
}

#[wasm_bindgen]
impl Picture {
    /// Decodes the picture file `name` with these bytes.
    #[wasm_bindgen(js_name = fromFile)]
    pub fn from_file(name: &str, bytes: &[u8]) -> Result<Self, JsError> {
        Ok(Self { pixels: Pixels::from_bytes(bytes).map_err(message_about(name))? })
    }

    /// A picture from what a canvas holds: red, green, blue and opacity of each pixel.
    #[wasm_bindgen(js_name = fromRgba)]
    pub fn from_rgba(width: usize, height: usize, rgba: &[u8]) -> Result<Self, JsError> {
        Ok(Self { pixels: rgb(width, height, rgba)? })
    }

    /// The width in pixels.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.pixels.width()
    }

    /// The height in pixels.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.pixels.height()
    }

    /// The picture at another size, in the form of a canvas.
    pub fn rgba(&self, width: usize, height: usize) -> Result<Vec<u8>, JsError> {
        let small = self.pixels.resize(width, height).map_err(message)?;
        Ok(small.pixels().chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect())
    }
}

/// The pixels of a canvas without their opacity.
pub(crate) fn rgb(width: usize, height: usize, rgba: &[u8]) -> Result<Pixels, JsError> {
    let pixels = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Pixels::from_rgb8(width, height, pixels).map_err(message)
}
