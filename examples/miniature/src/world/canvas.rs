//! The canvas of a scene.

use image::{Rgb, RgbImage};

use super::cutout::Patch;

/// An unfinished picture: RGB in 0..1, row by row.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[f32; 3]>,
}

impl Canvas {
    /// Creates a canvas in which every pixel has the colour that `paint` returns for its (x, y).
    pub fn new(width: usize, height: usize, mut paint: impl FnMut(usize, usize) -> [f32; 3]) -> Self {
        let pixels = (0..width * height).map(|at| paint(at % width, at / width)).collect();
        Self { width, height, pixels }
    }

    /// The pixels of `patch` that are on the canvas when its top left corner is at `place`:
    /// `(index on the canvas, pixel)`.
    pub fn under<'a>(
        &self,
        patch: &'a Patch,
        (left, top): (i32, i32),
    ) -> impl Iterator<Item = (usize, &'a [f32; 4])> + use<'a> {
        let (width, height) = (self.width as i32, self.height as i32);
        patch.pixels.iter().enumerate().filter_map(move |(at, pixel)| {
            let (x, y) = (left + (at % patch.width) as i32, top + (at / patch.width) as i32);
            ((0..width).contains(&x) && (0..height).contains(&y)).then(|| ((y * width + x) as usize, pixel))
        })
    }

    /// Draws `patch` over the canvas.
    pub fn blend(&mut self, patch: &Patch, place: (i32, i32)) {
        for (at, pixel) in self.under(patch, place) {
            blend(&mut self.pixels[at], *pixel);
        }
    }

    /// The `width` × `height` pixels from (`left`, `top`) on, which may lie between pixels.
    pub fn window(&self, (left, top): (f32, f32), (width, height): (usize, usize)) -> Self {
        let (column, row) = (left.floor(), top.floor());
        let (across, down) = (left - column, top - row);
        let at = |x: i32, y: i32| {
            let (x, y) = (x.clamp(0, self.width as i32 - 1), y.clamp(0, self.height as i32 - 1));
            &self.pixels[y as usize * self.width + x as usize]
        };
        Self::new(width, height, |x, y| {
            let (x, y) = (x as i32 + column as i32, y as i32 + row as i32);
            let (a, b, c, d) = (at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1));
            std::array::from_fn(|i| {
                let (upper, lower) = (a[i] + (b[i] - a[i]) * across, c[i] + (d[i] - c[i]) * across);
                upper + (lower - upper) * down
            })
        })
    }

    pub fn to_picture(&self) -> RgbImage {
        let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            Rgb(self.pixels[y as usize * self.width + x as usize].map(byte))
        })
    }
}

/// Composites a premultiplied colour over another.
pub fn blend(under: &mut [f32; 3], [red, green, blue, alpha]: [f32; 4]) {
    for (under, over) in under.iter_mut().zip([red, green, blue]) {
        *under = over + *under * (1.0 - alpha);
    }
}
