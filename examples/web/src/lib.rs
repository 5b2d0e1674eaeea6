//! soundsight for JavaScript: the part of the browser page that is compiled to WebAssembly.
//!
//! It runs in a worker, which holds one model for as long as it lives; `page/worker.js` is its only user. Every error is
//! the library's message. Results with several fields are JSON in the form that the command `soundsight` prints.

mod files;
mod found;
mod media;
mod model;
mod watch;

use std::path::Path;

use soundsight::Error;
use soundsight::error::chain;
use soundsight::viz::Colormap;
use wasm_bindgen::prelude::*;

/// Runs once, when the module is loaded.
#[wasm_bindgen(start)]
fn start() {
    // A panic would otherwise be a bare "unreachable", which says nothing.
    std::panic::set_hook(Box::new(|panic| wasm_bindgen::throw_str(&panic.to_string())));
}

/// The colours of the scores 0 to 1 in 256 steps: red, green, blue.
#[wasm_bindgen]
pub fn colors() -> Vec<u8> {
    (0..=255u8).flat_map(|step| Colormap::default().color(f32::from(step) / 255.0)).collect()
}

/// The message of an error.
fn message(error: Error) -> JsError {
    JsError::new(&chain(&error))
}

/// The message of an error about the contents of a file, which the library knows by its bytes alone.
fn message_about(name: &str) -> impl Fn(Error) -> JsError + '_ {
    move |error| {
        message(match error {
            Error::Audio { expected, found, .. } => Error::Audio { origin: name.into(), expected, found },
            Error::Image { expected, found, .. } => Error::Image { origin: name.into(), expected, found },
            Error::Io { action, source, .. } => Error::Io { path: Path::new(name).into(), action, source },
            other => other,
        })
    }
}
