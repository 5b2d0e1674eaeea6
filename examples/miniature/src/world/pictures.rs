//! Pictures in files. (`image::open` would compile every decoder of `image` into this program, and `save` every encoder.)

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageBuffer, ImageResult, PixelWithColorType};

/// The picture in the file `path`, of any format.
pub fn read_picture(path: &Path) -> ImageResult<DynamicImage> {
    image::load_from_memory(&std::fs::read(path)?)
}

/// The PNG file of a picture with 8 bits per channel.
pub fn png<P: PixelWithColorType<Subpixel = u8>>(picture: &ImageBuffer<P, Vec<u8>>) -> ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(PngEncoder::new(&mut bytes))?;
    Ok(bytes)
}
