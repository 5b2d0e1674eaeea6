//! Where it sounds, from moment to moment.

mod film;
mod moment;
mod motion;
mod options;
mod sound;
mod timeline;
mod watcher;

pub use film::Moments;
pub use moment::Moment;
pub use options::{Gate, Smoothing, WatchOptions};
pub use timeline::{HeatmapWriter, TimelineWriter};
pub use watcher::Watcher;

/// The power that counts as silence: −100 dB.
const SILENCE_POWER: f32 = 1e-10;

/// Whether two neighbouring frames belong to different shots.
fn is_cut(residual: f32, color_distance: f32) -> bool {
    residual > 12.0 && color_distance > 0.4
}
