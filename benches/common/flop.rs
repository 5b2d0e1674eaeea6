//! The number of floating-point operations in each stage: two for every multiply-add of a matrix product or
//! convolution. Element-wise operations and unused results are not counted.

use soundsight::acl::ModelConfig;

use super::Stage;

/// The lengths of the sequences.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// N, BEATs' tokens.
    pub audio: usize,
    /// G, the side of the picture's grid of patches.
    pub grid: usize,
}

/// Multiplies `tokens` vectors by a matrix of `inputs` × `outputs`.
fn linear(tokens: usize, inputs: usize, outputs: usize) -> usize {
    2 * tokens * inputs * outputs
}

/// A transformer block: queries, keys, values and output; `q·kᵀ` and `w·v`; the feed-forward network.
fn block(tokens: usize, width: usize, intermediate: usize) -> usize {
    4 * linear(tokens, width, width) + 4 * tokens * tokens * width + 2 * linear(tokens, width, intermediate)
}

fn beats(config: &ModelConfig, tokens: usize) -> usize {
    let beats = &config.beats;
    let (width, patch) = (beats.encoder_embed_dim, beats.input_patch_size);
    let blocks = config.acl.audio_blocks.iter().max().map_or(0, |block| block + 1);
    let projection = if beats.embed_dim == width { 0 } else { linear(tokens, beats.embed_dim, width) };
    linear(tokens, patch * patch, beats.embed_dim)
        + projection
        + linear(tokens, beats.conv_pos * width / beats.conv_pos_groups, width)
        + blocks * block(tokens, width, beats.encoder_ffn_embed_dim)
}

fn tokenizer(config: &ModelConfig, tokens: usize) -> usize {
    let features = config.acl.audio_blocks.len() * config.beats.encoder_embed_dim;
    let token = config.clipseg.text_config.hidden_size;
    // Only the mean of the pairwise potential is needed: one vector instead of N.
    linear(tokens, features, features) + linear(tokens, features, token) + 3 * linear(tokens, token, token)
}

fn text(config: &ModelConfig) -> usize {
    let text = &config.clipseg.text_config;
    let prompt = config.acl.known_prompt_ids().map_or(0, |ids| ids.before.len() + 1 + ids.after.len());
    text.num_hidden_layers * block(prompt, text.hidden_size, text.intermediate_size)
        + linear(1, text.hidden_size, config.clipseg.projection_dim)
}

fn vision(config: &ModelConfig, grid: usize, blocks: usize) -> usize {
    let vision = &config.clipseg.vision_config;
    let patches = grid * grid;
    linear(patches, vision.num_channels * vision.patch_size * vision.patch_size, vision.hidden_size)
        + blocks * block(patches + 1, vision.hidden_size, vision.intermediate_size)
}

fn reduce(config: &ModelConfig, grid: usize) -> usize {
    let (clipseg, width) = (&config.clipseg, config.clipseg.vision_config.hidden_size);
    clipseg.extract_layers.len() * linear(grid * grid + 1, width, clipseg.reduce_dim)
}

fn dense(config: &ModelConfig, grid: usize) -> usize {
    let vision = &config.clipseg.vision_config;
    let (patches, width) = (grid * grid, vision.hidden_size);
    let before_last = vision.num_hidden_layers - 1;
    let blocks = before_last.saturating_sub(config.clipseg.num_mask_blocks());
    blocks * block(patches + 1, width, vision.intermediate_size)
        + 2 * linear(patches, width, width)
        + 2 * linear(patches, width, vision.intermediate_size)
        + linear(patches, width, config.clipseg.projection_dim)
}

fn decoder(config: &ModelConfig, grid: usize) -> usize {
    let clipseg = &config.clipseg;
    let (patches, width, patch) = (grid * grid, clipseg.reduce_dim, clipseg.vision_config.patch_size);
    let upsampling = if clipseg.use_complex_transposed_convolution {
        let kernel = patch / 4;
        linear(patches, 9 * width, width)
            + linear(patches, width, kernel * kernel * width / 2)
            + linear(patches * kernel * kernel, width / 2, kernel * kernel)
    } else {
        linear(patches, width, patch * patch)
    };
    2 * linear(1, clipseg.projection_dim, width)
        + clipseg.extract_layers.len() * block(patches + 1, width, clipseg.decoder_intermediate_size)
        + upsampling
}

/// The number of operations of `stage` for one pair; 0 for the filterbank.
pub fn of(config: &ModelConfig, stage: Stage, tokens: Tokens) -> u64 {
    let Tokens { audio, grid } = tokens;
    let masks = || vision(config, grid, config.clipseg.num_mask_blocks()) + reduce(config, grid);
    let flop = match stage {
        Stage::Fbank => 0,
        Stage::Beats => beats(config, audio),
        Stage::Tokenizer => tokenizer(config, audio),
        Stage::Text => text(config),
        Stage::Vision => masks(),
        Stage::VisionAll => vision(config, grid, config.clipseg.vision_config.num_hidden_layers),
        Stage::Dense => dense(config, grid),
        Stage::Decoder => decoder(config, grid),
        Stage::Localize => {
            beats(config, audio) + tokenizer(config, audio) + text(config) + masks() + decoder(config, grid)
        }
    };
    flop as u64
}
