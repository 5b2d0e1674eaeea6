//! Audio-grounded contrastive learning (ACL): "Can CLIP Help Sound Source Localization?" (Park et al., WACV 2024,
//! arXiv 2311.04066).
//!
//! 1. [`Beats`](crate::beats::Beats) encodes the sound, or another [`AudioEncoder`].
//! 2. The [`AudioTokenizer`] turns its features into one token, in the space of CLIP's word embeddings.
//! 3. CLIP's text tower encodes the prompt "A photo of {token}". Optionally, a [`PromptNet`] learns a prompt for each picture.
//! 4. CLIPSeg segments the picture with this embedding.
//! 5. The [`ImageMasker`] turns the logits into a heatmap.
//!
//! Only the tokenizer and the masker are trained, and the [`PromptNet`] where there is one.
//!
//! ```
//! use soundsight::Localizer;
//!
//! // `Localizer` runs all stages; `Acl` gives access to each of them.
//! let localizer = Localizer::load("tests/fixtures/alt")?;
//! let acl = localizer.acl();
//! assert_eq!(acl.audio_tokenizer.token_dim(), acl.config().clipseg.text_config.hidden_size);
//! # Ok::<(), soundsight::Error>(())
//! ```

mod audio_encoder;
mod audio_tokenizer;
mod config;
mod load;
mod masker;
mod model;
mod prompt;
mod prompt_net;

pub use audio_encoder::AudioEncoder;
pub use audio_tokenizer::AudioTokenizer;
#[cfg(feature = "train")]
pub(crate) use audio_tokenizer::l2_normalize;
pub use config::{AclConfig, ModelConfig, PromptIds};
#[cfg(feature = "train")]
pub(crate) use masker::cosine;
pub use masker::{ImageMasker, feature_mask, masked_features};
pub use model::{Acl, ImageFeatures, TrainedHead};
pub use prompt::Prompt;
pub use prompt_net::PromptNet;
