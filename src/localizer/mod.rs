//! The high-level interface: load a model once, encode each sound and each picture once, and combine them freely.
//!
//! ```
//! use soundsight::{Localizer, Picture, Waveform};
//!
//! # fn main() -> soundsight::Result<()> {
//! let localizer = Localizer::load("tests/fixtures/alt")?; // a model of random weights
//! let whistle = localizer.embed_audio(&Waveform::open("tests/fixtures/alt/clip.wav")?)?;
//! let picture = localizer.encode_image(&Picture::open("tests/fixtures/alt/frame.png")?)?;
//! let found = localizer.localize(&whistle, &picture)?;
//! assert_eq!(found.scores.len(), found.size * found.size);
//!
//! // A sound from memory; two sounds in the same picture.
//! let hum = Waveform::from_samples((0..16_000).map(|i| (i as f32 * 0.03).sin()).collect(), 16_000)?;
//! let hum = localizer.embed_audio(&hum)?;
//! let both = localizer.localize_batch(&[(&whistle, &picture), (&hum, &picture)])?;
//! assert!(both[0] != both[1]);
//! # Ok(())
//! # }
//! ```

mod batch;
mod calibrate;
mod heatmap;
mod load;
mod presence;
mod sources;
#[cfg(feature = "text")]
mod text;
mod tiles;

use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

pub use calibrate::{LabelledPair, PairEvidence};
pub use heatmap::Heatmap;
pub use load::{LocalizerBuilder, select_device};
#[cfg(feature = "eval")]
pub(crate) use presence::smallest_threshold;
pub use presence::{Evidence, PresenceCalibration};
pub use sources::{Separation, Source};
pub use tiles::{MAX_ACROSS, MAX_TILES, TiledImage};

use crate::acl::{Acl, ImageFeatures};
use crate::audio::{AudioFrontend, Waveform};
#[cfg(feature = "text")]
use crate::clip::tokenizer::ClipTokenizer;
use crate::error::{Error, Result};
use crate::image::{NormalizeOptions, Picture};
use crate::nn::{Interpolation, resize};
use crate::weights::{AudioEncoderKind, ModelSource};

/// Side in pixels of the heatmaps that benchmarks score.
const BENCHMARK_SIDE: usize = 224;

/// A loaded model with its pre- and post-processing. It is immutable and can be shared between threads.
#[derive(Debug)]
pub struct Localizer {
    name: String,
    source: Option<ModelSource>,
    acl: Acl,
    frontend: AudioFrontend,
    normalize: NormalizeOptions,
    #[cfg(feature = "text")]
    tokenizer: Option<ClipTokenizer>,
    /// The offset b/w of the masker, which is added to the logits of a heatmap.
    offset: f32,
    calibration: Option<PresenceCalibration>,
    classes: Option<Vec<String>>,
    device: Device,
    dtype: DType,
}

/// The embedding of a sound or a text in CLIP's common space; it describes what to look for.
///
/// In a model whose [prompt is learned](crate::acl::AclConfig::prompt_vectors), a sound is embedded anew in each picture. Its
/// `Embedding` then carries the audio token, from which [`Localizer::localize`] and the like compute the embedding.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[1, P]`, or the audio token `[1, H]`.
    tensor: Tensor,
    depends_on_picture: bool,
}

impl Embedding {
    /// An embedding from a tensor `[1, P]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape.
    pub fn from_tensor(tensor: Tensor) -> Result<Self> {
        match *tensor.dims() {
            [1, _] => Ok(Self { tensor, depends_on_picture: false }),
            ref found => Err(Error::shape("embedding", "[1, P]", found)),
        }
    }

    /// The embedding as a tensor `[1, P]`; the audio token `[1, H]` if it [depends on the picture](Self::depends_on_picture).
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Whether the embedding is computed for each picture anew: that of a sound in a model whose prompt is learned.
    pub fn depends_on_picture(&self) -> bool {
        self.depends_on_picture
    }
}

/// An encoded picture, reusable for many sounds.
#[derive(Clone, Debug)]
pub struct EncodedImage {
    features: ImageFeatures,
    /// Computed when a confidence is first needed, because masks do not need the rest of the tower.
    dense: OnceLock<Tensor>,
    /// The vectors of the picture's prompt, `[1, M, H]`, if it is learned; computed when they are first needed.
    prompt: OnceLock<Option<Tensor>>,
    width: usize,
    height: usize,
}

impl EncodedImage {
    /// The picture's width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The picture's height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The features that the model's later stages read.
    pub fn features(&self) -> &ImageFeatures {
        &self.features
    }
}

impl Localizer {
    /// Loads a local model in `f32` on the CPU. `source` is a model directory, `"acl-vit16"` (the published weights in
    /// the Hub's cache), `"embedded"`, or `"auto"`, the first of the latter two that exists. Use [`Localizer::builder`]
    /// for other options, such as downloading.
    ///
    /// # Errors
    /// As [`LocalizerBuilder::load`].
    pub fn load(source: impl Into<ModelSource>) -> Result<Self> {
        Self::builder(source).load()
    }

    /// Creates a builder with options for loading a model.
    pub fn builder(source: impl Into<ModelSource>) -> LocalizerBuilder {
        LocalizerBuilder::new(source.into())
    }

    /// Creates a localizer from an existing model.
    ///
    /// # Errors
    /// [`Error::Config`] when the model's settings for sounds or pictures are invalid; [`Error::NonFinite`] and
    /// [`Error::Candle`] as [`ImageMasker::offset`](crate::acl::ImageMasker::offset).
    pub fn from_parts(name: impl Into<String>, acl: Acl, device: Device, dtype: DType) -> Result<Self> {
        let config = &acl.config().acl;
        let frontend = AudioFrontend::new(config.frontend())?;
        let normalize = config.normalize();
        normalize.validate()?;
        let offset = acl.masker.offset()?;
        Ok(Self {
            name: name.into(),
            source: None,
            frontend,
            normalize,
            #[cfg(feature = "text")]
            tokenizer: None,
            offset,
            calibration: None,
            classes: None,
            device,
            dtype,
            acl,
        })
    }

    /// Sets the calibration from which [`Heatmap::presence`] is computed. A model directory with a `presence.json` already
    /// has one; a localizer created [from parts](Localizer::from_parts) does not.
    ///
    /// # Errors
    /// As [`PresenceCalibration::validate`].
    pub fn with_calibration(self, calibration: PresenceCalibration) -> Result<Self> {
        calibration.validate()?;
        Ok(Self { calibration: Some(calibration), ..self })
    }

    /// Sets the names of the model's classes. A localizer created [from parts](Localizer::from_parts) has none.
    #[must_use]
    pub fn with_classes(self, classes: Vec<String>) -> Self {
        Self { classes: Some(classes), ..self }
    }

    /// The names of the classes that the model was trained on, if it lists them.
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// The calibration of the presence, if the model has one.
    pub fn calibration(&self) -> Option<&PresenceCalibration> {
        self.calibration.as_ref()
    }

    /// The name of the model: the directory or the name that it was loaded from, or the name given to
    /// [`Localizer::from_parts`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The source of the model. For [`ModelSource::Auto`] this is the source that was chosen. `None` for a model
    /// created [from parts](Localizer::from_parts).
    pub fn source(&self) -> Option<&ModelSource> {
        self.source.as_ref()
    }

    /// The underlying model, for access to single stages.
    pub fn acl(&self) -> &Acl {
        &self.acl
    }

    /// The device on which the model computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The precision that the model computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of seconds that the model reads from the beginning of a sound.
    pub fn audio_seconds(&self) -> f64 {
        self.acl.config().acl.audio_seconds
    }

    /// The normalised fbanks `[B, T, M]` of sounds of any rate and length.
    ///
    /// # Errors
    /// As [`AudioFrontend::forward_batch`].
    pub fn fbank(&self, waveforms: &[Waveform]) -> Result<Tensor> {
        Ok(self.frontend.forward_batch(waveforms, &self.device)?.to_dtype(self.dtype)?)
    }

    /// Normalised pixels `[B, 3, S, S]` of pictures of any size: resized to S × S regardless of their aspect ratio.
    ///
    /// # Errors
    /// As [`Picture::resize`] and [`Picture::to_tensor`]; [`Error::Argument`] for an empty batch.
    pub fn pixels(&self, pictures: &[Picture]) -> Result<Tensor> {
        if pictures.is_empty() {
            return Err(Error::argument("batch", "at least one picture", 0));
        }
        let side = self.acl.config().acl.image_size;
        let tensor = |p: &Picture| p.resize(side, side)?.to_tensor(&self.normalize, &self.device);
        let tensors = pictures.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&tensors, 0)?.to_dtype(self.dtype)?)
    }

    /// Embeds a sound.
    ///
    /// # Errors
    /// [`Error::Candle`] when the device has no memory left.
    pub fn embed_audio(&self, waveform: &Waveform) -> Result<Embedding> {
        on_workers(|| first(self.embed_together(std::slice::from_ref(waveform))?))
    }

    /// Encodes a picture.
    ///
    /// # Errors
    /// As [`Localizer::pixels`].
    pub fn encode_image(&self, picture: &Picture) -> Result<EncodedImage> {
        on_workers(|| first(self.encode_together(std::slice::from_ref(picture))?))
    }

    /// Finds the sound (or the text) in the picture.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when the result is NaN or infinite, which half precision can cause.
    pub fn localize(&self, embedding: &Embedding, image: &EncodedImage) -> Result<Heatmap> {
        on_workers(|| first(self.localize_together(&[(embedding, image)])?))
    }

    /// Encodes a sound and a picture in parallel, then localizes the sound.
    ///
    /// # Errors
    /// As [`Localizer::embed_audio`], [`Localizer::encode_image`] and [`Localizer::localize`].
    pub fn localize_pair(&self, waveform: &Waveform, picture: &Picture) -> Result<Heatmap> {
        let encode = || -> Result<EncodedImage> {
            let image = self.encode_image(picture)?;
            self.complete(&image)?;
            Ok(image)
        };
        on_workers(|| {
            let (embedding, image) = rayon::join(|| self.embed_audio(waveform), encode);
            self.localize(&embedding?, &image?)
        })
    }

    /// Dense features `[1, G·G, P]` of a picture, which confidences need. The rest of the vision tower is run on the
    /// first call, and the result is stored with the picture.
    ///
    /// # Errors
    /// As [`Acl::dense_features`].
    pub fn dense_features(&self, image: &EncodedImage) -> Result<Tensor> {
        if let Some(dense) = image.dense.get() {
            return Ok(dense.clone());
        }
        let dense = self.acl.dense_features(&image.features)?;
        // Two threads may compute this at the same time; their results are equal.
        Ok(image.dense.get_or_init(|| dense).clone())
    }

    /// The vectors `[1, M, H]` of a picture's prompt, if the model has learned to make it. They are computed on the first call
    /// and stored with the picture.
    fn prompt_vectors(&self, image: &EncodedImage) -> Result<Option<Tensor>> {
        if let Some(prompt) = image.prompt.get() {
            return Ok(prompt.clone());
        }
        let prompt = self.acl.prompt_vectors(&image.features)?;
        Ok(image.prompt.get_or_init(|| prompt).clone())
    }

    /// Computes everything that localizations store with a picture.
    fn complete(&self, image: &EncodedImage) -> Result<()> {
        self.prompt_vectors(image)?;
        self.dense_features(image).map(drop)
    }

    /// A heatmap from logits `[1, S, S]`.
    fn heatmap(&self, logits: &Tensor, confidence: f32) -> Result<Heatmap> {
        let size = logits.dim(1)?;
        let scores = self.acl.masker.heatmap(logits)?.flatten_all()?.to_vec1::<f32>()?;
        let heatmap = Heatmap::new(logits.flatten_all()?.to_vec1::<f32>()?, scores, size, confidence, self.offset)?;
        Ok(Heatmap { calibration: self.calibration, ..heatmap })
    }

    /// All intermediate tensors from a sound and a picture to their heatmap, named as in the exports of other
    /// implementations: fbank `[1, T, M]`, beats_features (or ast_features) `[1, N, 3D]`, audio_token `[1, H]`,
    /// audio_embedding `[1, P]`, image `[1, 3, S, S]`, logits and heatmap `[1, 1, S, S]`, heatmap224 (logits resized
    /// bicubically to the benchmarks' size, then the heatmap), image_embedding `[1, P]`, dense_features `[1, P, G, G]`; all
    /// `f32` on the CPU.
    ///
    /// # Errors
    /// As [`Localizer::localize_pair`].
    pub fn trace(&self, waveform: &Waveform, picture: &Picture) -> Result<Vec<(&'static str, Tensor)>> {
        let acl = &self.acl;
        let fbank = self.fbank(std::slice::from_ref(waveform))?;
        let features = acl.audio_features(&fbank)?;
        let token = acl.audio_token(&features)?;
        let pixels = self.pixels(std::slice::from_ref(picture))?;
        let image = acl.image_features(&pixels)?;
        let embedding = acl.audio_embedding_in(&token, &image)?;
        let logits = acl.logits(&image, &embedding)?.unsqueeze(1)?;
        let scored = acl.masker.heatmap(&resize(&logits, BENCHMARK_SIDE, BENCHMARK_SIDE, Interpolation::Bicubic)?)?;
        let dense = acl.dense_features(&image)?.transpose(1, 2)?;
        let (_, width, _) = dense.dims3()?;
        let features_name = match acl.audio_encoder.kind() {
            AudioEncoderKind::Beats => "beats_features",
            AudioEncoderKind::Ast => "ast_features",
        };
        let named = [
            ("fbank", fbank),
            (features_name, features),
            ("audio_token", token),
            ("audio_embedding", embedding),
            ("image", pixels),
            ("heatmap", acl.masker.heatmap(&logits)?),
            ("logits", logits),
            ("heatmap224", scored),
            ("image_embedding", acl.image_embedding(&image)?),
            ("dense_features", dense.reshape((1, width, acl.grid(), acl.grid()))?),
        ];
        let plain = |t: Tensor| t.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous();
        named.into_iter().map(|(name, tensor)| Ok((name, plain(tensor)?))).collect()
    }
}

/// Runs `work` on a worker of the thread pool. On the caller's thread, it would have to hand over each of its many products
/// to the pool, and wait, which takes longer than a small product itself.
fn on_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// The only element of a batch of one.
fn first<T>(batch: Vec<T>) -> Result<T> {
    batch.into_iter().next().ok_or_else(|| Error::argument("batch", "at least one", 0))
}
