//! The audio encoders that a model directory may contain.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which audio encoder a model has: `audio_encoder` in the `acl` part of `config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AudioEncoderKind {
    /// [`Beats`](crate::beats::Beats), that of the published model.
    #[default]
    Beats,
    /// [`Ast`](crate::ast::Ast).
    Ast,
}

impl AudioEncoderKind {
    /// `beats` or `ast`: the name of its part of `config.json`, and of its file without the extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Beats => "beats",
            Self::Ast => "ast",
        }
    }

    /// The possible names of its weights in a model directory, in order of preference.
    pub(super) fn file_names(self) -> [&'static str; 3] {
        match self {
            Self::Beats => ["beats.safetensors", "beats.gguf", "beats.pt"],
            Self::Ast => ["ast.safetensors", "ast.gguf", "ast.bin"],
        }
    }
}

impl fmt::Display for AudioEncoderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
