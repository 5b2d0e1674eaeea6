//! Pictures: reading, resizing, normalising, writing.
//!
//! A [`Picture`] is upright 8-bit RGB in memory, regardless of the file format. The pixels equal those of Pillow's
//! `ImageOps.exif_transpose(Image.open(path)).convert("RGB")`, and [`Picture::resize`] those of its
//! `resize(size, BICUBIC)`: the published network was trained and evaluated with both.
//!
//! ```
//! use soundsight::image::{NormalizeOptions, Picture};
//!
//! // Two pixels, red and blue; `Picture::open("dog.jpg")?` reads a file.
//! let picture = Picture::from_rgb8(2, 1, vec![255, 0, 0, 0, 0, 255])?;
//! let squeezed = picture.resize(352, 352)?;
//! let pixels = squeezed.to_tensor(&NormalizeOptions::default(), &candle_core::Device::Cpu)?;
//! assert_eq!(pixels.dims(), [3, 352, 352]);
//! # Ok::<(), soundsight::Error>(())
//! ```

mod decode;
mod encode;
mod formats;
mod jpeg;
mod limits;
mod normalize;
mod picture;
mod plausible;
mod resize;

#[cfg(feature = "eval")]
pub(crate) use encode::png_bytes;
pub(crate) use encode::write_png;
#[cfg(feature = "train")]
pub(crate) use formats::is_picture_extension;
pub use limits::{MAX_DECODED_BYTES, MAX_PIXELS, MAX_SIDE};
pub(crate) use limits::{SIZE_LIMITS, fits_limits};
pub use normalize::NormalizeOptions;
pub use picture::Picture;
pub(crate) use resize::Filter;
