//! A picture to draw on.

use std::ops::Range;

use soundsight::{Picture, Result};

/// The side of a dot of the digits, in pixels.
const DOT: usize = 3;
/// The height of digits, in pixels.
pub const TEXT_HEIGHT: usize = 5 * DOT;

pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    pub fn new(width: usize, height: usize, color: [u8; 3]) -> Self {
        Self { width, height, pixels: color.repeat(width * height) }
    }

    /// Fills a rectangle; what lies outside the canvas is left out.
    pub fn fill(&mut self, columns: Range<usize>, rows: Range<usize>, color: [u8; 3]) {
        let (left, right) = (columns.start.min(self.width), columns.end.min(self.width));
        for row in rows.start.min(self.height)..rows.end.min(self.height) {
            let line = &mut self.pixels[(row * self.width + left) * 3..(row * self.width + right) * 3];
            line.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&color));
        }
    }

    /// Puts a picture with its top left corner at (`x`, `y`); what lies outside the canvas is left out.
    pub fn paste(&mut self, picture: &Picture, x: usize, y: usize) {
        let width = picture.width().min(self.width.saturating_sub(x));
        let rows = picture.pixels().chunks_exact(picture.width() * 3).take(self.height.saturating_sub(y));
        for (row, source) in rows.enumerate() {
            let start = ((y + row) * self.width + x) * 3;
            self.pixels[start..start + width * 3].copy_from_slice(&source[..width * 3]);
        }
    }

    /// Writes digits, colons and full stops with their top left corner at (`x`, `y`).
    pub fn text(&mut self, text: &str, x: usize, y: usize, color: [u8; 3]) {
        for (place, character) in text.chars().enumerate() {
            let left = x + place * 4 * DOT;
            for (row, bits) in glyph(character).into_iter().enumerate() {
                for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                    let (x, y) = (left + column * DOT, y + row * DOT);
                    self.fill(x..x + DOT, y..y + DOT, color);
                }
            }
        }
    }

    pub fn into_picture(self) -> Result<Picture> {
        Picture::from_rgb8(self.width, self.height, self.pixels)
    }
}

/// Five rows of three dots.
fn glyph(character: char) -> [u8; 5] {
    match character {
        '0' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [7, 1, 7, 4, 7],
        '3' => [7, 1, 7, 1, 7],
        '4' => [5, 5, 7, 1, 1],
        '5' => [7, 4, 7, 1, 7],
        '6' => [7, 4, 7, 5, 7],
        '7' => [7, 1, 1, 1, 1],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 7],
        ':' => [0, 2, 0, 2, 0],
        '.' => [0, 0, 0, 0, 2],
        _ => [0; 5],
    }
}
