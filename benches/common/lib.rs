//! The stages of a localization in a form that can be timed, for `stages.rs` and for the comparison with the peers.

pub mod flop;

use std::hint::black_box;

use anyhow::Result;
use candle_core::{Device, Tensor};
use serde::Deserialize;
use soundsight::Waveform;
use soundsight::acl::{Acl, ImageFeatures};
use soundsight::audio::AudioFrontend;

/// A part of a localization that is timed separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Waveform → normalised filterbank.
    Fbank,
    /// Filterbank → features for the tokenizer.
    Beats,
    /// Features → audio token.
    Tokenizer,
    /// Audio token → audio-driven embedding.
    Text,
    /// Pixels → the hidden states that masks need.
    Vision,
    /// Pixels → every hidden state, as the published code computes them.
    VisionAll,
    /// The rest of the vision tower, for confidences.
    Dense,
    /// Picture and embedding → logits.
    Decoder,
    /// Waveform and pixels → logits, the two towers in parallel.
    Localize,
}

impl Stage {
    /// Every stage, in the order of a localization.
    pub const ALL: [Stage; 9] = [
        Stage::Fbank,
        Stage::Beats,
        Stage::Tokenizer,
        Stage::Text,
        Stage::Vision,
        Stage::VisionAll,
        Stage::Dense,
        Stage::Decoder,
        Stage::Localize,
    ];
}

/// The inputs of a localization.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// B sounds.
    pub waveforms: Vec<Waveform>,
    /// The duration in seconds to which the sounds are cut or padded.
    pub seconds: f64,
    /// Normalised pixels `[B, 3, S, S]`.
    pub pixels: Tensor,
}

impl Inputs {
    /// The front end that cuts or pads to this duration.
    pub fn frontend(&self, acl: &Acl) -> Result<AudioFrontend> {
        let config = soundsight::audio::AudioFrontendConfig { seconds: self.seconds, ..acl.config().acl.frontend() };
        Ok(AudioFrontend::new(config)?)
    }

    /// The numbers of tokens in the two towers.
    pub fn tokens(&self, acl: &Acl) -> Result<flop::Tokens> {
        let (frontend, config) = (self.frontend(acl)?, acl.config());
        let patch = config.beats.input_patch_size;
        let audio = (frontend.num_frames() / patch) * (frontend.num_mel_bins() / patch);
        Ok(flop::Tokens { audio, grid: self.pixels.dim(2)? / config.clipseg.vision_config.patch_size })
    }
}

/// One execution of a stage.
pub type Job = Box<dyn FnMut() -> Result<()>>;

/// A job that runs `f` and waits until the device has finished.
fn job<T>(device: &Device, f: impl Fn() -> soundsight::Result<T> + 'static) -> Job {
    let device = device.clone();
    Box::new(move || {
        black_box(f()?);
        Ok(device.synchronize()?)
    })
}

/// `stage` of a localization of `inputs`. The results of earlier stages are replaced by random values, on which speed
/// does not depend.
pub fn stage_job(acl: &Acl, stage: Stage, inputs: &Inputs) -> Result<Job> {
    let (config, tokens, frontend) = (acl.config().clone(), inputs.tokens(acl)?, inputs.frontend(acl)?);
    let (acl, Inputs { waveforms, pixels, .. }) = (acl.clone(), inputs.clone());
    let (batch, device, dtype) = (pixels.dim(0)?, pixels.device().clone(), pixels.dtype());
    let random = |shape: &[usize]| Tensor::randn(0f32, 1.0, shape, &device)?.to_dtype(dtype);
    let features = |width| random(&[batch, 1 + tokens.grid * tokens.grid, width]);
    let image = || -> Result<ImageFeatures> {
        let reduced = config.clipseg.extract_layers.iter().map(|_| features(config.clipseg.reduce_dim));
        let deepest = features(config.clipseg.vision_config.hidden_size)?;
        Ok(ImageFeatures { reduced: reduced.collect::<candle_core::Result<_>>()?, deepest })
    };
    Ok(match stage {
        Stage::Fbank => job(&Device::Cpu, move || frontend.forward_batch(&waveforms, &Device::Cpu)),
        Stage::Beats => {
            let fbank = frontend.forward_batch(&waveforms, &device)?.to_dtype(dtype)?;
            job(&device, move || acl.audio_features(&fbank))
        }
        Stage::Tokenizer => {
            let width = config.acl.audio_blocks.len() * config.beats.encoder_embed_dim;
            let features = random(&[batch, tokens.audio, width])?;
            job(&device, move || acl.audio_token(&features))
        }
        Stage::Text => {
            let token = random(&[batch, config.clipseg.text_config.hidden_size])?;
            job(&device, move || acl.audio_embedding(&token))
        }
        Stage::Vision => job(&device, move || acl.image_features(&pixels)),
        Stage::VisionAll => job(&device, move || acl.clipseg.clip.vision_model.forward(&pixels)),
        Stage::Dense => {
            let image = image()?;
            job(&device, move || acl.dense_features(&image))
        }
        Stage::Decoder => {
            let (image, condition) = (image()?, random(&[batch, config.clipseg.projection_dim])?);
            job(&device, move || acl.logits(&image, &condition))
        }
        Stage::Localize => job(&device, move || localize(&acl, &frontend, &waveforms, &pixels)),
    })
}

/// Logits `[B, S, S]` of sounds in pictures, with both towers in parallel as in
/// [`soundsight::Localizer::localize_pair`].
pub fn localize(
    acl: &Acl,
    frontend: &AudioFrontend,
    waveforms: &[Waveform],
    pixels: &Tensor,
) -> soundsight::Result<Tensor> {
    let hear = || {
        let fbank = frontend.forward_batch(waveforms, pixels.device())?.to_dtype(pixels.dtype())?;
        let features = acl.audio_features(&fbank)?;
        acl.audio_embedding(&acl.audio_token(&features)?)
    };
    let (embedding, image) = rayon::join(hear, || acl.image_features(pixels));
    acl.logits(&image?, &embedding?)
}
