//! Pictures as the bytes of PNG files. (`save` would compile every encoder of `image` into this program, and `open` every
//! decoder.)

use image::codecs::png::PngEncoder;
use image::{ImageBuffer, ImageResult, PixelWithColorType};

/// The PNG file of a picture with 8 bits per channel.
pub fn png<P: PixelWithColorType<Subpixel = u8>>(picture: &ImageBuffer<P, Vec<u8>>) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(PngEncoder::new(&mut bytes))?;
    Ok(bytes)
}
