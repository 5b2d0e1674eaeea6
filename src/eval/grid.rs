//! The pixel grid that heatmaps and ground truths share.

/// Height and width of heatmaps and ground truths.
pub const SIZE: usize = 224;
/// Number of pixels of a heatmap.
pub const PIXELS: usize = SIZE * SIZE;

/// Describes the first value of a heatmap that is not finite, and its position.
pub(super) fn non_finite(heatmap: &[f32]) -> Option<String> {
    let at = heatmap.iter().position(|value| !value.is_finite())?;
    Some(format!("{} at row {}, column {}", heatmap[at], at / SIZE, at % SIZE))
}
