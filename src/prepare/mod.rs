//! From films to the folders that training and the benchmarks read.
//!
//! A [`Preparation`] takes films from folders, archives and lists ([`FilmList`]). From each it takes a span as a
//! [`Recipe`] says: its sound as mono WAV of 16 kHz, and one or several pictures. It needs `ffmpeg`, as [`crate::video`].
//!
//! | in the output folder | |
//! |---|---|
//! | `audio/<id>.wav`, `frames/<id>.jpg` | sounds and pictures; folders and endings are those of the [`Layout`] |
//! | `<split>.csv` | the samples, for training and evaluation: `id,label`; with several pictures a sample `audio,image,label` |
//! | `flaws.csv` | films that are flawed, `id,flaw,used,film,reason`: the kind is a [`FlawKind`] |
//! | `summary.json` | counts and lengths: a [`Summary`] |
//! | `contact.png` | some of the pictures with their names |
//! | `.prepare/` | what was done already |
//!
//! Films are prepared in parallel, by several threads and by several processes ([`Shard`](crate::data::Shard)). A run that
//! is killed at any moment leaves no incomplete file, and the next run continues from there. The result is the same, byte
//! for byte.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//!
//! use soundsight::data::Shard;
//! use soundsight::prepare::{FilmList, Outcome, Pictures, Preparation, Recipe};
//! use soundsight::video::Ffmpeg;
//!
//! // The test set of VGGSound, with the pictures that VGG-SS annotates.
//! let list = FilmList::read(Path::new("vggsound.csv"))?.select("test")?;
//! let recipe = Recipe { pictures: Pictures::Number { number: 125, rate: 25.0 }, ..Recipe::default() };
//! let films = ["vggsound_00.tar.gz".into(), "vggsound_01.tar.gz".into()];
//! let preparation =
//!     Preparation::new(&films, Some(&list), Path::new("VGGSound"), recipe, Shard::WHOLE, Ffmpeg::default())?;
//! if let Outcome::Finished(summary) = preparation.run(8, &AtomicBool::new(false), &|| ())? {
//!     println!("{} of {} films", summary.used, summary.wanted);
//! }
//! # Ok::<(), soundsight::Error>(())
//! ```

mod cut;
mod flaw;
mod journal;
mod list;
mod plan;
mod recipe;
mod record;
mod run;
mod sheet;
mod source;
mod summary;

pub use cut::{SAMPLE_RATE, SILENCE};
pub use flaw::{Flaw, FlawKind};
pub use list::{FilmList, Listed};
pub use recipe::{Layout, Pictures, Recipe};
pub use run::{Outcome, Preparation};
pub use source::MAX_MEMBER_BYTES;
pub use summary::Summary;
