//! The contact sheet: pictures with their names, to look at.

use std::path::Path;

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_7X13;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::{Baseline, Text};

use crate::error::Result;
use crate::image::Picture;

/// How many pictures there are at most.
pub(super) const MAX_SHOWN: usize = 48;
const COLUMNS: usize = 6;
/// The size of a picture, and the space around it and below it for two lines, in pixels.
const THUMBNAIL: (usize, usize) = (240, 180);
const GAP: usize = 8;
const CAPTION: usize = 36;
const LINE: usize = 15;
const CHARACTER: usize = 7;

const BACKGROUND: [u8; 3] = [18, 18, 22];
const NAME: Rgb888 = Rgb888::new(230, 230, 235);
const LABEL: Rgb888 = Rgb888::new(160, 160, 168);

/// A picture, its name, and what it is called.
pub(super) struct Shown<'a> {
    pub(super) picture: Picture,
    pub(super) name: &'a str,
    pub(super) label: &'a str,
}

/// Writes the pictures, in rows from the top left, as PNG; at least one of them.
pub(super) fn write_sheet(path: &Path, shown: &[Shown<'_>]) -> Result<()> {
    let cell = (THUMBNAIL.0 + GAP, THUMBNAIL.1 + CAPTION + GAP);
    let columns = shown.len().clamp(1, COLUMNS);
    let (width, height) = (columns * cell.0 + GAP, shown.len().div_ceil(columns) * cell.1 + GAP);
    let mut canvas = Canvas { width, height, pixels: BACKGROUND.repeat(width * height) };
    for (place, Shown { picture, name, label }) in shown.iter().enumerate() {
        let (x, y) = (GAP + place % columns * cell.0, GAP + place / columns * cell.1);
        let scale = (THUMBNAIL.0 as f64 / picture.width() as f64).min(THUMBNAIL.1 as f64 / picture.height() as f64);
        let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
        let small = picture.resize(side(picture.width()), side(picture.height()))?;
        canvas.paste(&small, x + (THUMBNAIL.0 - small.width()) / 2, y + (THUMBNAIL.1 - small.height()) / 2);
        canvas.write(name, x, y + THUMBNAIL.1 + 3, NAME);
        canvas.write(label, x, y + THUMBNAIL.1 + 3 + LINE, LABEL);
    }
    Picture::from_rgb8(width, height, canvas.pixels)?.write_png(path)
}

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    fn paste(&mut self, picture: &Picture, x: usize, y: usize) {
        for (row, line) in picture.pixels().chunks_exact(picture.width() * 3).enumerate() {
            let start = ((y + row) * self.width + x) * 3;
            self.pixels[start..start + line.len()].copy_from_slice(line);
        }
    }

    fn write(&mut self, text: &str, x: usize, y: usize, color: Rgb888) {
        let text: String = text.chars().take(THUMBNAIL.0 / CHARACTER).collect();
        let style = MonoTextStyle::new(&FONT_7X13, color);
        // Drawing on this canvas cannot fail.
        let _ = Text::with_baseline(&text, Point::new(x as i32, y as i32), style, Baseline::Top).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> std::result::Result<(), Self::Error> {
        for Pixel(Point { x, y }, color) in pixels {
            if let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y))
                && x < self.width
                && y < self.height
            {
                let start = (y * self.width + x) * 3;
                self.pixels[start..start + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}
