//! What a training step takes besides its batch: noise, sounds that belong to no picture, and what to keep in memory.

use candle_core::Tensor;

/// The uniform noise of one step, in (0, 1), for B pictures and N sounds: as many, unless the pictures are a [`Part`](super::Part) of
/// the batch. It is passed in, so that a step can be repeated exactly.
#[derive(Clone, Debug)]
pub struct StepNoise {
    /// The noise of the masks whose areas are measured: picture b under sound n, `[B, N, S, S]`.
    pub all_pairs: Tensor,
    /// The noise of the masks by which the pictures are multiplied, `[B, 1, S, S]`.
    pub positive: Tensor,
    /// The noise of the dropout in the unary potential, `[B, T, H]` for T audio tokens: hidden units with noise below
    /// [`AudioTokenizer::DROPOUT`](crate::acl::AudioTokenizer::DROPOUT) are dropped. `None` disables dropout.
    pub dropout: Option<Tensor>,
    /// Sounds that belong to no picture (see [`NegativeSounds`](super::NegativeSounds)); the same in every process.
    pub negatives: Option<StepNegatives>,
}

/// The distance that the noise of masks keeps from 0 and 1, where its logarithm would be infinite.
pub const NOISE_MARGIN: f32 = 1e-4;

/// K sounds that belong to no picture, for one step, and their noise.
#[derive(Clone, Debug)]
pub struct StepNegatives {
    /// Audio features, `[K, N, 3D]`.
    pub features: Tensor,
    /// The noise of their masks, in (0, 1): picture b under sound k, `[B, K, S, S]`.
    pub masks: Tensor,
    /// The noise of the dropout, `[K, N, H]`, as in [`StepNoise::dropout`].
    pub dropout: Option<Tensor>,
}

/// How to keep the vision tower's activations for the masked pictures, which take most of the memory of a step, and the text
/// tower's for [learned prompts](crate::acl::AclConfig::prompt_vectors).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activations {
    /// Store them until the backward pass.
    #[default]
    Store,
    /// Store only the input of each block and run the block again in the backward pass: the same gradients with less
    /// memory, at the cost of another pass through the tower.
    Recompute,
}
