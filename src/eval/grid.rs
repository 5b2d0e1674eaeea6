//! The pixel grid that heatmaps and ground truths share.

/// Height and width of heatmaps and ground truths.
pub const SIZE: usize = 224;
/// Pixels of a heatmap.
pub const PIXELS: usize = SIZE * SIZE;

/// The first value of a heatmap that is not finite, and its place.
pub(super) fn non_finite(heatmap: &[f32]) -> Option<String> {
    let at = heatmap.iter().position(|value| !value.is_finite())?;
    Some(format!("{} at row {}, column {}", heatmap[at], at / SIZE, at % SIZE))
}
