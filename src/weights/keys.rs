//! Tensor names: how the names in a file map to the published ones, and which published tensors are not weights.
//!
//! This crate uses the published names, so there is little to map: only the names that newer versions of PyTorch use
//! for weight normalization.
//!
//! ```
//! use soundsight::weights::keys;
//!
//! assert_eq!(keys::published("conv.parametrizations.weight.original0"), "conv.weight_g");
//! assert!(keys::matches("decoder.*", "decoder.layers.0.weight"));
//! ```

/// Tensors in published files that no model uses: tables of positions 0, 1, 2 … and counters of training steps. These
/// are [patterns](matches()), as for [`crate::weights::Checkpoint::load`].
pub const IGNORABLE: &[&str] = &["*position_ids", "*num_batches_tracked"];

/// Position tables. They are small, and every element is added to the hidden states.
const POSITIONS: &[&str] = &["*position_embedding.weight", "*relative_attention_bias.weight"];

/// Equivalent endings: that of newer PyTorch versions, and that of the published checkpoints.
const ENDINGS: &[(&str, &str)] =
    &[(".parametrizations.weight.original0", ".weight_g"), (".parametrizations.weight.original1", ".weight_v")];

/// The published name of the tensor that is called `name` in a file.
///
/// Weight normalization (magnitude g and direction v of a weight) is stored as `weight_g` and `weight_v` in the
/// published BEATs checkpoints, and as `parametrizations.weight.original0` and `original1` by newer PyTorch.
pub fn published(name: &str) -> String {
    let rename = |&(ending, published)| name.strip_suffix(ending).map(|stem: &str| format!("{stem}{published}"));
    ENDINGS.iter().find_map(rename).unwrap_or_else(|| name.to_owned())
}

/// Whether the two-dimensional tensor `name` is a matrix that may be compressed: the weight of a linear layer or the
/// table of token embeddings.
pub(super) fn is_matrix(name: &str) -> bool {
    matches("*.weight", name) && !POSITIONS.iter().any(|pattern| matches(pattern, name))
}

/// Whether `name` matches `pattern`. Each `*` in the pattern matches any sequence of characters, including dots.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_normalization_has_one_name() {
        assert_eq!(published("encoder.pos_conv.0.parametrizations.weight.original0"), "encoder.pos_conv.0.weight_g");
        assert_eq!(published("encoder.pos_conv.0.parametrizations.weight.original1"), "encoder.pos_conv.0.weight_v");
        for name in ["encoder.pos_conv.0.weight_g", "parametrizations.weight.original0", "original0", ""] {
            assert_eq!(published(name), name);
        }
    }

    #[test]
    fn positions_are_no_matrices() {
        for (name, expected) in [
            ("clip.text_model.embeddings.token_embedding.weight", true),
            ("encoder.layers.0.fc1.weight", true),
            ("encoder.layers.0.fc1.bias", false),
            ("clip.text_model.embeddings.position_embedding.weight", false),
            ("encoder.layers.0.self_attn.relative_attention_bias.weight", false),
        ] {
            assert_eq!(is_matrix(name), expected, "{name}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("", "", true),
            ("*", "anything", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("a.*", "a.b.c", true),
            ("a.*", "b.a.c", false),
            ("a.*.c", "a.x.y.c", true),
            ("a.*.c", "a.c", false),
            ("a*a", "a", false),
            ("*x*y*", "1x2y3", true),
            ("*x*y*", "1y2x3", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
