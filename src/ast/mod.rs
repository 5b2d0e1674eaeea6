//! AST: the Audio Spectrogram Transformer (Gong et al., arXiv 2104.01778).
//!
//! A vision transformer over the fbank: overlapping patches, a class token and a distillation token, position embeddings and
//! pre-norm blocks. It can be used on its own: [`Ast::forward`] returns every hidden state, and [`Ast::pooled`] describes the
//! whole sound.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::VarBuilder;
//! use soundsight::ast::{Ast, AstConfig};
//!
//! // A small encoder with weights of zero, for sounds of 64 frames.
//! let config = AstConfig { hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4, ..AstConfig::default() };
//! let config = AstConfig { intermediate_size: 64, max_length: 64, ..config };
//! let ast = Ast::new(&config, VarBuilder::zeros(DType::F32, &Device::Cpu))?;
//! let output = ast.forward(&Tensor::zeros((1, 64, 128), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(output.hidden_states.len(), 3); // the input of the first block, and the output of both
//! assert_eq!(output.hidden_states[2].dims(), [1, 2 + 12 * 5, 32]);
//! assert_eq!(ast.pooled(&output)?.dims(), [1, 32]);
//! # Ok::<(), soundsight::Error>(())
//! ```
//!
//! Parameter names are those of the published checkpoints, with or without the prefix `audio_spectrogram_transformer.`:
//! `ASTForAudioClassification` and `ASTModel` of Hugging Face's transformers, as `save_pretrained` writes them and the Hub
//! has them. The classifier is not read.
//!
//! The fbank is the one of [`AstConfig::frontend`], which differs from that of BEATs.

mod config;
mod encoder;
mod model;

pub use config::AstConfig;
pub use model::{Ast, AstOutput};
