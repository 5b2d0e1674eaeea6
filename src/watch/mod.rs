//! Where it sounds in a film, from moment to moment.
//!
//! A [`Moment`] is an analysed frame: its heatmap, whether something in the picture sounds, whether the picture was cut.
//! The sound of a moment is a window around it. Neighbouring moments are then combined ([`Smoothing`]), and a threshold
//! with hysteresis decides what sounds ([`Gate`]); [`WatchOptions`] has all settings.
//!
//! - [`Localizer::watch`](crate::Localizer::watch) analyses a film on disk (which needs `ffmpeg`; see
//!   [`video`](crate::video)).
//! - [`Watcher`] is fed with frames and samples as they come, from a camera and a microphone, and gives the same moments.
//! - [`TimelineWriter`] and [`HeatmapWriter`] write moments to files.
//!
//! Memory use does not depend on the length of the film.
//!
//! ```
//! use soundsight::watch::{WatchOptions, Watcher};
//! use soundsight::{Localizer, Picture, Waveform};
//!
//! # fn main() -> soundsight::Result<()> {
//! let localizer = Localizer::load("tests/fixtures/alt")?; // a model of random weights
//! let sound = Waveform::open("tests/fixtures/alt/clip.wav")?;
//! let picture = Picture::open("tests/fixtures/alt/frame.png")?;
//!
//! // A camera with 10 pictures per second, of which 5 are analysed.
//! let mut watcher = Watcher::new(&localizer, sound.sample_rate(), WatchOptions::default())?;
//! let mut moments = Vec::new();
//! for (n, samples) in sound.samples().chunks(sound.sample_rate() as usize / 10).take(20).enumerate() {
//!     moments.extend(watcher.push_frame(n as f64 / 10.0, picture.clone())?);
//!     moments.extend(watcher.push_sound(samples)?);
//! }
//! moments.extend(watcher.finish()?);
//!
//! assert_eq!(moments.len(), 10);
//! for moment in &moments {
//!     let peak = moment.findings(0.5)?.peak;
//!     println!("{:.1} s: {} at ({}, {})", moment.time, moment.sounding, peak.x, peak.y);
//! }
//! # Ok(())
//! # }
//! ```

mod changes;
mod film;
mod level;
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
