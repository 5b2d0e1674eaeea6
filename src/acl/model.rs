//! The whole model, stage by stage.

use candle_core::{D, DType, Tensor};

use super::audio_tokenizer::AudioTokenizer;
use super::config::{ModelConfig, PromptIds};
use super::masker::{ImageMasker, cosine, masked_features};
use super::prompt::Prompt;
use crate::beats::Beats;
use crate::clipseg::ClipSeg;
use crate::error::Result;
use crate::nn::Weights;

/// What is kept of a picture, for any number of sounds.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// The activations that the decoder reads, reduced to its width, deepest first; each `[B, 1 + G·G, R]`.
    pub reduced: Vec<Tensor>,
    /// The output of the deepest vision block that a mask needs, `[B, 1 + G·G, D]`; the rest of the tower, for image
    /// embedding and dense features, goes on from here.
    pub deepest: Tensor,
}

/// What ACL trains, the AudioTokenizer and the image-level masker; everything else is frozen.
#[derive(Clone, Debug)]
pub struct TrainedHead {
    /// From audio features to the audio token.
    pub audio_tokenizer: AudioTokenizer,
    /// From logits to the heatmap.
    pub masker: ImageMasker,
}

impl TrainedHead {
    /// The parts with the weights `audio_proj.…` and `masker_i.…` of `weights`, in the sizes of `config`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the builder has no such tensors.
    pub fn new<'a>(config: &ModelConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        let features = config.acl.audio_blocks.len() * config.beats.encoder_embed_dim;
        let token = config.clipseg.text_config.hidden_size;
        Ok(Self {
            audio_tokenizer: AudioTokenizer::new(features, token, weights.pp("audio_proj"))?,
            masker: ImageMasker::new(weights.pp("masker_i"))?,
        })
    }
}

/// The ACL model. Its parts are public: each is useful alone.
#[derive(Clone, Debug)]
pub struct Acl {
    config: ModelConfig,
    /// The audio encoder.
    pub beats: Beats,
    /// The grounder.
    pub clipseg: ClipSeg,
    /// From audio features to the audio token.
    pub audio_tokenizer: AudioTokenizer,
    /// From logits to the heatmap.
    pub masker: ImageMasker,
    prompt: Prompt,
}

impl Acl {
    /// The model with the weights of three sources, named as in the published checkpoints: BEATs, CLIPSeg, and ACL's
    /// own (`audio_proj.…`, `masker_i.…`). `prompt` are the token ids around the audio token.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for settings that contradict each other,
    /// [`Error::Candle`](crate::Error::Candle) when a source has no such tensors.
    pub fn new<'a>(
        config: &ModelConfig,
        prompt: &PromptIds,
        beats: impl Into<Weights<'a>>,
        clipseg: impl Into<Weights<'a>>,
        acl: impl Into<Weights<'a>>,
    ) -> Result<Self> {
        config.validate()?;
        let (beats, clipseg) = (Beats::new(&config.beats, beats)?, ClipSeg::new(&config.clipseg, clipseg)?);
        Self::from_parts(config, prompt, beats, clipseg, TrainedHead::new(config, acl)?)
    }

    /// The model from parts that were built before, all after `config`.
    ///
    /// # Errors
    /// As [`Prompt::new`].
    pub fn from_parts(
        config: &ModelConfig,
        prompt: &PromptIds,
        beats: Beats,
        clipseg: ClipSeg,
        head: TrainedHead,
    ) -> Result<Self> {
        let prompt = Prompt::new(prompt, &clipseg.clip.text_model)?;
        let TrainedHead { audio_tokenizer, masker } = head;
        Ok(Self { config: config.clone(), beats, clipseg, audio_tokenizer, masker, prompt })
    }

    /// The same encoders with another trained head; the encoders' weights are shared, not copied.
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

    /// What BEATs hears in a normalised fbank `[B, T, M]`: the outputs of the `audio_blocks` side by side, `[B, N, 3D]`.
    ///
    /// # Errors
    /// As [`Beats::forward`].
    pub fn audio_features(&self, fbank: &Tensor) -> Result<Tensor> {
        let blocks = &self.config.acl.audio_blocks;
        let needed = blocks.iter().max().map_or(0, |block| block + 1);
        let output = self.beats.forward_blocks(fbank, needed)?;
        let states: Vec<&Tensor> = blocks.iter().map(|block| &output.hidden_states[block + 1]).collect();
        Ok(Tensor::cat(&states, D::Minus1)?)
    }

    /// Audio tokens `[B, H]` of audio features `[B, N, 3D]`.
    ///
    /// # Errors
    /// As [`AudioTokenizer::forward`].
    pub fn audio_token(&self, features: &Tensor) -> Result<Tensor> {
        self.audio_tokenizer.forward(features)
    }

    /// Audio-driven embeddings `[B, P]`: the prompt with audio tokens `[B, H]` in their place, read by the text tower.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for another width.
    pub fn audio_embedding(&self, tokens: &Tensor) -> Result<Tensor> {
        let embeddings = self.prompt.inject(tokens)?;
        let last = vec![self.prompt.num_tokens() - 1; tokens.dim(0)?];
        self.clipseg.clip.embed_text_embeddings(&embeddings, &last)
    }

    /// Encodes normalised pictures `[B, 3, S, S]` as far as masks need it.
    ///
    /// # Errors
    /// As [`VisionTower::forward`](crate::clip::VisionTower::forward).
    pub fn image_features(&self, pixels: &Tensor) -> Result<ImageFeatures> {
        let blocks = self.config.clipseg.num_mask_blocks();
        let output = self.clipseg.clip.vision_model.forward_blocks(pixels, blocks)?;
        let deepest = output.hidden_states[self.num_kept_blocks()].clone();
        Ok(ImageFeatures { reduced: self.clipseg.reduce(&output)?, deepest })
    }

    /// How many vision blocks lie before [`ImageFeatures::deepest`]: those that masks need, but never the last one,
    /// which the dense features pass differently.
    fn num_kept_blocks(&self) -> usize {
        self.config.clipseg.num_mask_blocks().min(self.clipseg.clip.vision_model.num_blocks() - 1)
    }

    /// The hidden state before the last vision block, `[B, 1 + G·G, D]`.
    fn before_last_block(&self, image: &ImageFeatures) -> Result<Tensor> {
        let tower = &self.clipseg.clip.vision_model;
        let states = tower.run_blocks(&image.deepest, self.num_kept_blocks()..tower.num_blocks() - 1)?;
        Ok(states.into_iter().next_back().unwrap_or_else(|| image.deepest.clone()))
    }

    /// Raw logits `[B, S, S]` of embeddings `[B, P]` in as many pictures; in `f32`.
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

    /// How well what the mask covers fits the sound, in [−1, 1]: `cos(v, a)` for v the
    /// [masked features](masked_features) of dense features `[B, G·G, P]` under logits `[B, S, S]`, and a the
    /// embeddings `[B, P]`; → `[B]`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when the shapes do not fit.
    pub fn confidence(&self, dense: &Tensor, logits: &Tensor, embeddings: &Tensor) -> Result<Tensor> {
        let dense = dense.to_dtype(DType::F32)?;
        let v = masked_features(&dense, &logits.unsqueeze(1)?)?.squeeze(1)?;
        cosine(&v, &embeddings.to_dtype(DType::F32)?)
    }
}
