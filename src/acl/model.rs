//! The whole model, stage by stage.
//!
//! Reimplements the [audio-driven embedding], the [decoder pass], the [masked features] and the [dense features] of
//! ACL.
//!
//! [audio-driven embedding]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/models.py#L77-L96
//! [decoder pass]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/models.py#L116-L161
//! [masked features]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/models.py#L196-L231
//! [dense features]: https://github.com/swimmiing/ACL-SSL/blob/0cc5bcc1c9c49c5bbd2a3ada0cc99ec81068cd17/modules/CLIPSeg/clipseg_for_audio.py#L134-L182

use candle_core::{D, DType, Tensor};

use super::audio_encoder::AudioEncoder;
use super::audio_tokenizer::AudioTokenizer;
use super::config::{ModelConfig, PromptIds};
use super::masker::{ImageMasker, cosine, masked_features};
use super::prompt::Prompt;
use crate::clipseg::ClipSeg;
use crate::error::{Error, Result};
use crate::nn::Weights;

/// The encoding of a picture, reusable for any number of sounds.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// The activations that the decoder reads, reduced to its width, deepest first; each `[B, 1 + G·G, R]`.
    pub reduced: Vec<Tensor>,
    /// The output of the deepest vision block that a mask needs, `[B, 1 + G·G, D]`. Image embeddings and dense features
    /// are computed from it by the rest of the tower.
    pub deepest: Tensor,
}

/// The parts that ACL trains: the AudioTokenizer and the image-level masker. Everything else is frozen.
#[derive(Clone, Debug)]
pub struct TrainedHead {
    /// Maps audio features to the audio token.
    pub audio_tokenizer: AudioTokenizer,
    /// Maps logits to the heatmap.
    pub masker: ImageMasker,
}

impl TrainedHead {
    /// Creates both parts from the tensors `audio_proj.…` and `masker_i.…` of `weights`, with the sizes in `config`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when `weights` lacks one of the tensors.
    pub fn new<'a>(config: &ModelConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        let (_, width) = config.audio_encoder_size();
        let features = config.acl.audio_blocks.len() * width;
        Ok(Self {
            audio_tokenizer: AudioTokenizer::new(features, config.audio_token_dim(), weights.pp("audio_proj"))?,
            masker: ImageMasker::new(weights.pp("masker_i"))?,
        })
    }
}

/// The ACL model. Its parts are public because each is useful on its own.
#[derive(Clone, Debug)]
pub struct Acl {
    config: ModelConfig,
    /// The audio encoder.
    pub audio_encoder: AudioEncoder,
    /// The grounder.
    pub clipseg: ClipSeg,
    /// Maps audio features to the audio token.
    pub audio_tokenizer: AudioTokenizer,
    /// Maps logits to the heatmap.
    pub masker: ImageMasker,
    /// `None` where no text tower reads the audio token.
    prompt: Option<Prompt>,
}

impl Acl {
    /// Creates the model from three sources of weights, with the tensor names of the published checkpoints: the audio
    /// encoder, CLIPSeg and ACL's own (`audio_proj.…`, `masker_i.…`). `prompt` contains the token ids around the audio
    /// token; without a [text tower](super::AclConfig::text_tower) it is not used.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that contradict each other,
    /// [`Error::Candle`](crate::Error::Candle) when a source lacks one of the tensors.
    pub fn new<'a>(
        config: &ModelConfig,
        prompt: &PromptIds,
        audio: impl Into<Weights<'a>>,
        clipseg: impl Into<Weights<'a>>,
        acl: impl Into<Weights<'a>>,
    ) -> Result<Self> {
        config.validate()?;
        let (audio, clipseg) = (AudioEncoder::new(config, audio)?, ClipSeg::new(&config.clipseg, clipseg)?);
        Self::from_parts(config, prompt, audio, clipseg, TrainedHead::new(config, acl)?)
    }

    /// Creates the model from existing parts, which must have been built with `config`.
    ///
    /// # Errors
    /// As [`Prompt::new`].
    pub fn from_parts(
        config: &ModelConfig,
        prompt: &PromptIds,
        audio_encoder: impl Into<AudioEncoder>,
        clipseg: ClipSeg,
        head: TrainedHead,
    ) -> Result<Self> {
        let prompt = match config.acl.text_tower {
            true => Some(Prompt::new(prompt, &clipseg.clip.text_model)?),
            false => None,
        };
        let TrainedHead { audio_tokenizer, masker } = head;
        let audio_encoder = audio_encoder.into();
        Ok(Self { config: config.clone(), audio_encoder, clipseg, audio_tokenizer, masker, prompt })
    }

    /// A model with the same encoders and another trained head. The encoders' weights are shared, not copied.
    #[must_use]
    pub fn with_trained_head(&self, head: TrainedHead) -> Self {
        let TrainedHead { audio_tokenizer, masker } = head;
        Self { audio_tokenizer, masker, ..self.clone() }
    }

    /// The configuration that the model was built with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Side G of the grid of patches.
    pub fn grid(&self) -> usize {
        self.config.acl.image_size / self.config.clipseg.vision_config.patch_size
    }

    /// Audio features `[B, N, 3D]` of a normalised fbank `[B, T, M]`: the concatenated outputs of the audio encoder's
    /// `audio_blocks`.
    ///
    /// # Errors
    /// As [`AudioEncoder::block_outputs`].
    pub fn audio_features(&self, fbank: &Tensor) -> Result<Tensor> {
        let blocks = &self.config.acl.audio_blocks;
        let needed = blocks.iter().max().map_or(0, |block| block + 1);
        let outputs = self.audio_encoder.block_outputs(fbank, needed)?;
        let states: Vec<&Tensor> = blocks.iter().map(|block| &outputs[*block]).collect();
        Ok(Tensor::cat(&states, D::Minus1)?)
    }

    /// Audio tokens `[B, H]` of audio features `[B, N, 3D]`; of width P instead without a
    /// [text tower](super::AclConfig::text_tower).
    ///
    /// # Errors
    /// As [`AudioTokenizer::forward`].
    pub fn audio_token(&self, features: &Tensor) -> Result<Tensor> {
        self.audio_tokenizer.forward(features)
    }

    /// Audio-driven embeddings `[B, P]`: the text tower's encoding of the prompt with audio tokens `[B, H]` inserted.
    /// Without a [text tower](super::AclConfig::text_tower), tokens `[B, P]` are the embeddings.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tokens have another width.
    pub fn audio_embedding(&self, tokens: &Tensor) -> Result<Tensor> {
        let width = self.config.audio_token_dim();
        if !matches!(*tokens.dims(), [_, found] if found == width) {
            return Err(Error::shape("audio tokens", format!("[B, {width}]"), tokens.dims()));
        }
        let Some(prompt) = &self.prompt else { return Ok(tokens.clone()) };
        let embeddings = prompt.inject(tokens)?;
        let last = vec![prompt.num_tokens() - 1; tokens.dim(0)?];
        self.clipseg.clip.embed_text_embeddings(&embeddings, &last)
    }

    /// Encodes normalised pictures `[B, 3, S, S]` with the blocks that masks need.
    ///
    /// # Errors
    /// As [`VisionTower::forward`](crate::clip::VisionTower::forward).
    pub fn image_features(&self, pixels: &Tensor) -> Result<ImageFeatures> {
        let blocks = self.config.clipseg.num_mask_blocks();
        let output = self.clipseg.clip.vision_model.forward_blocks(pixels, blocks)?;
        let deepest = output.hidden_states[self.num_kept_blocks()].clone();
        Ok(ImageFeatures { reduced: self.clipseg.reduce(&output)?, deepest })
    }

    /// The number of vision blocks up to [`ImageFeatures::deepest`]: those that masks need, but never the last one,
    /// because dense features use that block without mixing tokens.
    fn num_kept_blocks(&self) -> usize {
        self.config.clipseg.num_mask_blocks().min(self.clipseg.clip.vision_model.num_blocks() - 1)
    }

    /// The hidden state before the last vision block, `[B, 1 + G·G, D]`.
    fn before_last_block(&self, image: &ImageFeatures) -> Result<Tensor> {
        let tower = &self.clipseg.clip.vision_model;
        let states = tower.run_blocks(&image.deepest, self.num_kept_blocks()..tower.num_blocks() - 1)?;
        Ok(states.into_iter().next_back().unwrap_or_else(|| image.deepest.clone()))
    }

    /// Raw logits `[B, S, S]` in `f32` for embeddings `[B, P]`, each with its own picture.
    ///
    /// # Errors
    /// As [`Decoder::forward`](crate::clipseg::Decoder::forward).
    pub fn logits(&self, image: &ImageFeatures, embeddings: &Tensor) -> Result<Tensor> {
        Ok(self.clipseg.decoder.forward(&image.reduced, embeddings)?.to_dtype(DType::F32)?)
    }

    /// Image embeddings `[B, P]` in CLIP's common space.
    ///
    /// # Errors
    /// As [`VisionTower::run_blocks`](crate::clip::VisionTower::run_blocks).
    pub fn image_embedding(&self, image: &ImageFeatures) -> Result<Tensor> {
        self.clipseg.clip.embed_image_before_last(&self.before_last_block(image)?)
    }

    /// Dense features `[B, G·G, P]`: an embedding in CLIP's common space for every patch.
    ///
    /// # Errors
    /// As [`VisionTower::run_blocks`](crate::clip::VisionTower::run_blocks).
    pub fn dense_features(&self, image: &ImageFeatures) -> Result<Tensor> {
        self.clipseg.clip.dense_features(&self.before_last_block(image)?)
    }

    /// How well the masked region matches the sound: `cos(v, a)` in [−1, 1], `[B]`, where v are the
    /// [masked features](masked_features) of dense features `[B, G·G, P]` for logits `[B, S, S]`, and a are the
    /// embeddings `[B, P]`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the shapes do not fit.
    pub fn confidence(&self, dense: &Tensor, logits: &Tensor, embeddings: &Tensor) -> Result<Tensor> {
        let dense = dense.to_dtype(DType::F32)?;
        let v = masked_features(&dense, &logits.unsqueeze(1)?)?.squeeze(1)?;
        cosine(&v, &embeddings.to_dtype(DType::F32)?)
    }
}
