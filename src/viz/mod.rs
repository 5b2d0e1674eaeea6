//! Visualizes a localization: heatmap over the picture, mask, boxes, galleries.
//!
//! A [`ScoreMap`] spreads the scores of a localization, whatever their resolution, over a picture's own pixels; all
//! else (peak, area, boxes, the written files, the overlay) is measured and drawn there, so that everything agrees to
//! the pixel. Work goes in bands of rows: a picture of hundreds of megapixels never needs as many floats.

mod outline;
mod overlay;
mod panel;
mod regions;
mod scores;
mod signature;

pub use overlay::{Colormap, OverlayOptions, overlay};
pub use panel::panel;
pub use regions::{BoundingBox, Findings, MIN_BOX_FRACTION, Peak};
pub use scores::ScoreMap;
pub use signature::{FailureSignature, MaskStatistics, MaskTally, mask_overlap};

/// Rows that are computed at a time.
const BAND: usize = 128;
