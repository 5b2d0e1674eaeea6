//! Visualizes localizations: heatmaps over pictures, masks, bounding boxes, galleries.
//!
//! A [`ScoreMap`] interpolates the scores of a localization to the pixels of a picture. Everything else (peak, area,
//! boxes, overlays, written files) is computed from these pixels, so all results agree exactly. Pictures are processed
//! in bands of rows, so even one of hundreds of megapixels needs little memory.
//!
//! ```
//! use soundsight::Picture;
//! use soundsight::viz::{OverlayOptions, ScoreMap, overlay};
//!
//! # fn main() -> soundsight::Result<()> {
//! let picture = Picture::from_rgb8(64, 48, vec![128; 64 * 48 * 3])?;
//! // A heatmap of 2 × 2 scores, high at the lower right.
//! let scores = ScoreMap::from_heatmap(&[0.0, 0.0, 0.0, 1.0], (2, 2), picture.size())?;
//!
//! let findings = scores.findings(0.5)?;
//! assert!(findings.peak.x >= 32 && findings.peak.y >= 24);
//! assert_eq!(findings.boxes.len(), 1);
//!
//! let drawn = overlay(&picture, &scores, &OverlayOptions::default())?;
//! assert_eq!(drawn.size(), picture.size());
//! # Ok(())
//! # }
//! ```

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

/// The number of rows that are computed at a time.
const BAND: usize = 128;
