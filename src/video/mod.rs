//! Films in and out, through the programs `ffmpeg` and `ffprobe` that the user has installed (version 4.4 or later).
//!
//! They run as child processes and are read and written over pipes: nothing is held in memory but a few frames, and
//! there is no temporary copy of the film. Times are in seconds from the beginning of the film.
//!
//! - [`Film::open`] reads what a film contains: its length, its size as displayed, its tracks.
//! - [`Film::frames`] decodes pictures with their true times, also where the frame rate varies: upright, with square
//!   pixels, at any rate and size.
//! - [`Film::sound`] decodes the sound track to mono, sample by sample in step with the pictures.
//! - [`FilmWriter`] writes a film of pictures, with the sound of another.
//!
//! `ffmpeg` is started such that it opens local files only. A name is never taken for an option, an address or a
//! pattern, and lists of files (playlists) are refused. Dropping an iterator or a writer ends its process.
//!
//! ```no_run
//! use soundsight::video::{Film, FilmWriter, FrameOptions, WriterOptions};
//!
//! let film = Film::open("birds.mp4")?;
//! println!("{:.1} s, {} × {} pixels", film.info().seconds, film.info().width, film.info().height);
//!
//! // The same film, mirrored.
//! let mut mirrored = FilmWriter::create("mirrored.mp4", WriterOptions::like(&film))?;
//! for frame in film.frames(&FrameOptions::default())? {
//!     let frame = frame?;
//!     mirrored.write(frame.time, &frame.picture.flip_horizontal())?;
//! }
//! mirrored.finish()?;
//! # Ok::<(), soundsight::Error>(())
//! ```

mod ffmpeg;
mod film;
mod frames;
mod matroska;
mod part;
mod probe;
mod process;
mod sound;
mod writer;

pub use ffmpeg::Ffmpeg;
pub use film::Film;
pub(crate) use frames::{CLOCK_TOLERANCE, MAX_RATE};
pub use frames::{Frame, FrameOptions, Frames};
pub use probe::{FilmInfo, SoundInfo};
#[cfg(feature = "prepare")]
pub(crate) use probe::{MOVING_PICTURES, PICTURE_TRACK};
pub use sound::Sound;
pub use writer::{FilmWriter, WriterOptions};
