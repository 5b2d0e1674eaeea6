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
use super::prompt_net::PromptNet;
use crate::clipseg::ClipSeg;
use crate::error::{Error, Result};
use crate::nn::Weights;

/// The encoding of a picture, reusable for any number of sounds.
#[derive(Clone, Debug)]
pub struct ImageFeatures {
    /// The activations that the decoder reads, reduced to its width, deepest first; each `[B, 1 + G·G, R]`.
    pub reduced: Vec<Tensor>,
    /// The output of the deepest vision block that a mask needs, `[B, 1 + G·G, D]`. Image embeddings and dense features
    /// are computed from it by the rest of the tower. It is the one before the last block where prompts are
    /// [learned](super::AclConfig::prompt_vectors), because masks then need the image embedding.
    pub deepest: Tensor,
}

/// The parts that are trained: the AudioTokenizer, the image-level masker and, where the prompt is learned, the net that makes
/// it. Everything else is frozen.
#[derive(Clone, Debug)]
pub struct TrainedHead {
    /// Maps audio features to the audio token.
    pub audio_tokenizer: AudioTokenizer,
    /// Maps logits to the heatmap.
    pub masker: ImageMasker,
    /// Maps a picture to the vectors of its prompt; `None` for a [fixed prompt](super::AclConfig::prompt_vectors).
    pub prompt_net: Option<PromptNet>,
}

impl TrainedHead {
    /// Creates the parts from the tensors `audio_proj.…`, `masker_i.…` and, for a learned prompt, `prompt_net.…` of `weights`,
    /// with the sizes in `config`.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) when `weights` lacks one of the tensors.
    pub fn new<'a>(config: &ModelConfig, weights: impl Into<Weights<'a>>) -> Result<Self> {
        let weights = weights.into();
        let (_, width) = config.audio_encoder_size();
        let features = config.acl.audio_blocks.len() * width;
        let prompt_net = match config.acl.prompt_vectors {
            0 => None,
            count => {
                let (image, word) = (config.clipseg.projection_dim, config.clipseg.text_config.hidden_size);
                Some(PromptNet::new(image, word, count, weights.pp("prompt_net"))?)
            }
        };
        Ok(Self {
            audio_tokenizer: AudioTokenizer::new(features, config.audio_token_dim(), weights.pp("audio_proj"))?,
            masker: ImageMasker::new(weights.pp("masker_i"))?,
            prompt_net,
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
    /// Maps a picture to the vectors of its prompt; `None` for a [fixed prompt](super::AclConfig::prompt_vectors).
    pub prompt_net: Option<PromptNet>,
    /// `None` where no text tower reads the audio token.
    prompt: Option<Prompt>,
}

impl Acl {
    /// Creates the model from three sources of weights, with the tensor names of the published checkpoints: the audio
    /// encoder, CLIPSeg and ACL's own (as in [`TrainedHead::new`]). `prompt` contains the token ids around the audio
    /// token; without a [text tower](super::AclConfig::text_tower) it is not used, and of one that is
    /// [learned](super::AclConfig::prompt_vectors) only the start and the end token are.
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
        let text = &clipseg.clip.text_model;
        let prompt = match (config.acl.text_tower, config.acl.prompt_vectors) {
            (false, _) => None,
            (true, 0) => Some(Prompt::new(prompt, text)?),
            (true, _) => Some(Prompt::new(&prompt.without_words(), text)?),
        };
        let TrainedHead { audio_tokenizer, masker, prompt_net } = head;
        let audio_encoder = audio_encoder.into();
        Ok(Self { config: config.clone(), audio_encoder, clipseg, audio_tokenizer, masker, prompt_net, prompt })
    }

    /// A model with the same encoders and another trained head. The encoders' weights are shared, not copied.
    #[must_use]
    pub fn with_trained_head(&self, head: TrainedHead) -> Self {
        let TrainedHead { audio_tokenizer, masker, prompt_net } = head;
        Self { audio_tokenizer, masker, prompt_net, ..self.clone() }
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
    /// [`Error::Shape`] when the tokens have another width; [`Error::Config`] for a model whose
    /// [prompt is learned](super::AclConfig::prompt_vectors): there, a sound has no embedding without a picture
    /// ([`Acl::audio_embedding_in`]).
    pub fn audio_embedding(&self, tokens: &Tensor) -> Result<Tensor> {
        self.audio_embedding_with(tokens, None)
    }

    /// Audio-driven embeddings `[B, P]` of audio tokens `[B, H]`, each in its own picture: with
    /// [their prompts](Acl::prompt_vectors) where those are learned, and as [`Acl::audio_embedding`] otherwise.
    ///
    /// # Errors
    /// As [`Acl::prompt_vectors`] and [`Acl::audio_embedding_with`].
    pub fn audio_embedding_in(&self, tokens: &Tensor, image: &ImageFeatures) -> Result<Tensor> {
        self.audio_embedding_with(tokens, self.prompt_vectors(image)?.as_ref())
    }

    /// Audio-driven embeddings `[B, P]` of audio tokens `[B, H]`, each with the `vectors` `[B, M, H]` of its prompt: the text
    /// tower's encoding of `[start] [V₁] … [V_M] [audio token] [end]` (SouPLe, arXiv 2603.22732).
    ///
    /// # Errors
    /// [`Error::Shape`] when tokens or vectors have another width, or differ in number; [`Error::Config`] for vectors where the
    /// prompt is fixed, or none where it is learned.
    pub fn audio_embedding_with(&self, tokens: &Tensor, vectors: Option<&Tensor>) -> Result<Tensor> {
        let width = self.config.audio_token_dim();
        let count = match *tokens.dims() {
            [count, found] if found == width => count,
            ref found => return Err(Error::shape("audio tokens", format!("[B, {width}]"), found)),
        };
        let num_vectors = self.config.acl.prompt_vectors;
        match vectors {
            None if num_vectors == 0 => {}
            None => {
                return Err(Error::config("acl.prompt_vectors", "0 to embed a sound without a picture", num_vectors));
            }
            Some(_) if num_vectors == 0 => {
                return Err(Error::config("acl.prompt_vectors", "at least 1 for a prompt of vectors", num_vectors));
            }
            Some(vectors) if vectors.dims() == [count, num_vectors, width] => {}
            Some(vectors) => {
                let expected = format!("[{count}, {num_vectors}, {width}]");
                return Err(Error::shape("vectors of prompts", expected, vectors.dims()));
            }
        }
        let Some(prompt) = &self.prompt else { return Ok(tokens.clone()) };
        let embeddings = prompt.inject(vectors, tokens)?;
        let last = vec![embeddings.dim(1)? - 1; count];
        self.clipseg.clip.embed_text_embeddings(&embeddings, &last)
    }

    /// Audio-driven embeddings `[B, N, P]` of N sounds under each of B pictures, from audio tokens `[N, H]` and the `vectors`
    /// of the pictures' prompts `[B, M, H]`: B · N passes through the text tower.
    ///
    /// # Errors
    /// As [`Acl::audio_embedding_with`].
    pub fn audio_embedding_of_pairs(&self, tokens: &Tensor, vectors: &Tensor) -> Result<Tensor> {
        let ((sounds, width), (pictures, count, _)) = (tokens.dims2()?, vectors.dims3()?);
        let pairs = pictures * sounds;
        let tokens = tokens.unsqueeze(0)?.broadcast_as((pictures, sounds, width))?.reshape((pairs, width))?;
        let vectors = vectors.unsqueeze(1)?.broadcast_as((pictures, sounds, count, width))?;
        let embeddings = self.audio_embedding_with(&tokens, Some(&vectors.reshape((pairs, count, width))?))?;
        Ok(embeddings.reshape((pictures, sounds, embeddings.dim(1)?))?)
    }

    /// The vectors `[B, M, H]` of the pictures' prompts, in the precision of the towers; `None` where
    /// [the prompt is fixed](super::AclConfig::prompt_vectors).
    ///
    /// # Errors
    /// As [`Acl::image_embedding`].
    pub fn prompt_vectors(&self, image: &ImageFeatures) -> Result<Option<Tensor>> {
        let Some(net) = &self.prompt_net else { return Ok(None) };
        let vectors = net.forward(&self.image_embedding(image)?)?;
        Ok(Some(vectors.to_dtype(image.deepest.dtype())?))
    }

    /// Encodes normalised pictures `[B, 3, S, S]` with the blocks that masks need.
    ///
    /// # Errors
    /// As [`VisionTower::forward`](crate::clip::VisionTower::forward).
    pub fn image_features(&self, pixels: &Tensor) -> Result<ImageFeatures> {
        let blocks = self.config.clipseg.num_mask_blocks().max(self.num_kept_blocks());
        let output = self.clipseg.clip.vision_model.forward_blocks(pixels, blocks)?;
        let deepest = output.hidden_states[self.num_kept_blocks()].clone();
        Ok(ImageFeatures { reduced: self.clipseg.reduce(&output)?, deepest })
    }

    /// The number of vision blocks up to [`ImageFeatures::deepest`]: those that masks need (all, if a prompt depends on the
    /// picture), but never the last one, because dense features use that block without mixing tokens.
    fn num_kept_blocks(&self) -> usize {
        let but_one = self.clipseg.clip.vision_model.num_blocks() - 1;
        match self.prompt_net {
            None => self.config.clipseg.num_mask_blocks().min(but_one),
            Some(_) => but_one,
        }
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
