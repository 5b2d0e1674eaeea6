//! Audio-grounded contrastive learning (ACL): "Can CLIP Help Sound Source Localization?" (Park et al., WACV 2024,
//! arXiv 2311.04066).
//!
//! [`Beats`](crate::beats::Beats) hears; the [`AudioTokenizer`] turns what it heard into one token of CLIP's text
//! language; the text tower reads "A photo of {token}"; CLIPSeg finds in the picture what that says; a masker turns its
//! logits into a heatmap. Only tokenizer and masker are trained.

mod audio_tokenizer;
mod config;
mod load;
mod masker;
mod model;
mod prompt;

pub use audio_tokenizer::AudioTokenizer;
#[cfg(feature = "train")]
pub(crate) use audio_tokenizer::l2_normalize;
pub use config::{AclConfig, ModelConfig, PromptIds};
pub use masker::{ImageMasker, feature_mask, masked_features};
pub use model::{Acl, ImageFeatures, TrainedHead};
pub use prompt::Prompt;
