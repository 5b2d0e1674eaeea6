//! BEATs: audio pre-training with acoustic tokenizers (Chen et al., arXiv 2212.09058).
//!
//! The encoder consists of a patch embedding over the normalised fbank, a convolutional position embedding, and a
//! transformer whose attention has a gated relative position bias. It can be used on its own: [`Beats::forward`]
//! returns every hidden state, and [`Beats::tag`] classifies the sound if the checkpoint was fine-tuned.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use soundsight::beats::{Beats, BeatsConfig};
//!
//! // A small encoder with weights of zero; `Acl::load` reads a published one.
//! let config = BeatsConfig { encoder_layers: 2, embed_dim: 32, encoder_embed_dim: 32, ..BeatsConfig::default() };
//! let config = BeatsConfig { encoder_ffn_embed_dim: 64, encoder_attention_heads: 4, ..config };
//! let beats = Beats::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
//! let fbank = Tensor::zeros((1, 98, 128), DType::F32, &Device::Cpu)?;
//! let output = beats.forward(&fbank)?;
//! assert_eq!(output.hidden_states.len(), 3); // the input of the first block, and the output of both
//! assert_eq!(output.hidden_states[2].dims(), [1, 6 * 8, 32]);
//! # Ok::<(), soundsight::Error>(())
//! ```
//!
//! Parameter names are those of the published checkpoints (`encoder.layers.0.self_attn.q_proj.weight` …).
//!
//! Deviation: the published code divides the queries by 32, subtracts the row maximum and multiplies by 32 again. This
//! prevents overflow in half precision and otherwise only affects rounding. Here the softmax itself prevents overflow.

mod config;
mod encoder;
mod model;

pub use config::BeatsConfig;
pub use model::{Beats, BeatsOutput};
