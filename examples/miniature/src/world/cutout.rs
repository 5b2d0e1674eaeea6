//! Pictures with transparency that can be drawn at any size and angle.

use image::imageops::{FilterType, crop_imm, resize};
use image::{Rgba, RgbaImage};

/// The scale between levels of the pyramid, small enough that sampling never skips a pixel.
const SHRINK: f32 = 0.7;

/// The longer side of the smallest level, in pixels.
const SMALLEST: u32 = 8;

/// A picture cut out of its background, in several sizes.
pub struct CutOut {
    /// The levels, from the largest to the smallest; colours are premultiplied by alpha.
    levels: Vec<RgbaImage>,
    /// The size of the original picture, without transparent margins.
    width: f32,
    height: f32,
    /// The fraction of that rectangle that is more than half opaque, in 0..1.
    pub opaque: f32,
}

/// How a cut-out is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// The longer side before turning, in pixels.
    pub extent: f32,
    /// Mirrored left to right.
    pub flip: bool,
    /// Radians, clockwise.
    pub angle: f32,
}

/// A change of colours: c ↦ M·c + offset.
#[derive(Clone, Copy, Debug)]
pub struct Tint {
    matrix: [[f32; 3]; 3],
    offset: f32,
}

impl Tint {
    pub const NONE: Self = Self { matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], offset: 0.0 };

    /// Brightness and contrast are factors, with the contrast centred at medium grey; the hue is rotated about the grey
    /// axis by `hue` radians.
    pub fn new(brightness: f32, contrast: f32, hue: f32) -> Self {
        let (sin, cos) = hue.sin_cos();
        let third = (1.0 - cos) / 3.0;
        let cross = sin / 3.0_f32.sqrt();
        // Rodrigues' rotation about (1, 1, 1) / √3.
        let (a, b, c) = (cos + third, third - cross, third + cross);
        let matrix = [[a, b, c], [c, a, b], [b, c, a]].map(|row| row.map(|v| v * brightness * contrast));
        Self { matrix, offset: 0.5 * (1.0 - contrast) * brightness }
    }

    /// Transforms `pixel`, which is premultiplied and remains so.
    fn apply(&self, [red, green, blue, alpha]: [f32; 4]) -> [f32; 4] {
        let [r, g, b] =
            self.matrix.map(|[m, n, o]| (m * red + n * green + o * blue + self.offset * alpha).clamp(0.0, alpha));
        [r, g, b, alpha]
    }
}

/// A part of a picture: premultiplied RGBA in 0..1, row by row.
pub struct Patch {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[f32; 4]>,
}

impl Patch {
    /// The number of pixels that are more than half opaque.
    pub fn num_opaque(&self) -> usize {
        self.pixels.iter().filter(|pixel| pixel[3] > 0.5).count()
    }
}

impl CutOut {
    /// Prepares `picture` to be drawn up to about `longest` pixels; larger is possible, but blurred.
    pub fn new(picture: &RgbaImage, longest: usize) -> Self {
        let picture = trimmed(picture);
        let (width, height) = picture.dimensions();
        let opaque = picture.pixels().filter(|pixel| pixel.0[3] > 127).count() as f32 / (width * height) as f32;
        let mut premultiplied = picture;
        for Rgba([red, green, blue, alpha]) in premultiplied.pixels_mut() {
            for colour in [red, green, blue] {
                *colour = ((u16::from(*colour) * u16::from(*alpha) + 127) / 255) as u8;
            }
        }
        let mut levels = Vec::new();
        let mut size = (width.max(height) as f32).min(longest as f32);
        loop {
            let scale = size / width.max(height) as f32;
            let scaled = |side: u32| ((side as f32 * scale).round() as u32).max(1);
            levels.push(match levels.last() {
                None if scale == 1.0 => premultiplied.clone(),
                _ => resize(&premultiplied, scaled(width), scaled(height), FilterType::Triangle),
            });
            size *= SHRINK;
            if size < SMALLEST as f32 {
                break;
            }
        }
        Self { levels, width: width as f32, height: height as f32, opaque }
    }

    /// The ratio of the longer side to the shorter.
    pub fn elongation(&self) -> f32 {
        self.width.max(self.height) / self.width.min(self.height)
    }

    /// Width and height of the upright rectangle around the posed cut-out, in the unit of the pose's extent.
    pub fn bounds(&self, pose: &Pose) -> (f32, f32) {
        let (width, height) = self.size(pose);
        let (sin, cos) = pose.angle.sin_cos();
        let side = |along: f32, across: f32| along * cos.abs() + across * sin.abs();
        (side(width, height), side(height, width))
    }

    /// The whole cut-out.
    pub fn draw(&self, pose: &Pose, tint: &Tint) -> Patch {
        let (width, height) = self.bounds(pose);
        let [width, height] = [width, height].map(|side| side.ceil().max(1.0) as usize);
        self.draw_window(pose, tint, (width, height), (width as f32 / 2.0, height as f32 / 2.0))
    }

    /// The whole cut-out with its middle at (`x`, `y`), which may lie anywhere between pixels, and the place of the
    /// patch's top left corner.
    pub fn draw_at(&self, pose: &Pose, tint: &Tint, (x, y): (f32, f32)) -> (Patch, (i32, i32)) {
        let (width, height) = self.bounds(pose);
        // One pixel more on each side, because interpolation softens the edges.
        let span = |middle: f32, length: f32| {
            let first = (middle - length / 2.0).floor() - 1.0;
            (first, ((middle + length / 2.0).ceil() + 1.0 - first) as usize)
        };
        let ((left, width), (top, height)) = (span(x, width), span(y, height));
        let patch = self.draw_window(pose, tint, (width, height), (x - left, y - top));
        (patch, (left as i32, top as i32))
    }

    /// A window of `size` pixels that the cut-out's middle lies at `middle` of.
    pub fn draw_window(&self, pose: &Pose, tint: &Tint, size: (usize, usize), middle: (f32, f32)) -> Patch {
        let fits = |level: &&RgbaImage| level.width().max(level.height()) as f32 >= pose.extent;
        // Levels are sorted from large to small, so this is the smallest that is large enough.
        let level = self.levels.iter().rev().find(fits).unwrap_or(&self.levels[0]);
        let (width, height) = self.size(pose);
        let (sin, cos) = pose.angle.sin_cos();
        let mirror = if pose.flip { -1.0 } else { 1.0 };
        let (scale_x, scale_y) = (mirror * level.width() as f32 / width, level.height() as f32 / height);
        let (half_x, half_y) = (level.width() as f32 / 2.0 - 0.5, level.height() as f32 / 2.0 - 0.5);
        let mut pixels = Vec::with_capacity(size.0 * size.1);
        for y in 0..size.1 {
            let down = y as f32 + 0.5 - middle.1;
            for x in 0..size.0 {
                let right = x as f32 + 0.5 - middle.0;
                let u = (right * cos + down * sin) * scale_x + half_x;
                let v = (down * cos - right * sin) * scale_y + half_y;
                pixels.push(tint.apply(sample(level, u, v)));
            }
        }
        Patch { width: size.0, height: size.1, pixels }
    }

    /// Width and height in pixels, before rotation.
    fn size(&self, pose: &Pose) -> (f32, f32) {
        let scale = pose.extent / self.width.max(self.height);
        (self.width * scale, self.height * scale)
    }
}

/// `picture` without its transparent margins.
fn trimmed(picture: &RgbaImage) -> RgbaImage {
    let seen = || picture.enumerate_pixels().filter(|(.., pixel)| pixel.0[3] > 127);
    let bounds = |along: fn(u32, u32) -> u32| {
        let places = || seen().map(|(x, y, _)| along(x, y));
        Some((places().min()?, places().max()?))
    };
    match (bounds(|x, _| x), bounds(|_, y| y)) {
        (Some((left, right)), Some((top, bottom))) => {
            crop_imm(picture, left, top, right - left + 1, bottom - top + 1).to_image()
        }
        _ => picture.clone(),
    }
}

/// Bilinear interpolation in a picture that is transparent outside its bounds; 0..1.
fn sample(level: &RgbaImage, u: f32, v: f32) -> [f32; 4] {
    let (width, height) = (level.width() as i32, level.height() as i32);
    let (left, top) = (u.floor(), v.floor());
    let (across, down) = (u - left, v - top);
    let (left, top) = (left as i32, top as i32);
    if left < -1 || top < -1 || left >= width || top >= height {
        return [0.0; 4];
    }
    let bytes = level.as_raw();
    let mut mixed = [0.0; 4];
    for (x, y, weight) in [
        (left, top, (1.0 - across) * (1.0 - down)),
        (left + 1, top, across * (1.0 - down)),
        (left, top + 1, (1.0 - across) * down),
        (left + 1, top + 1, across * down),
    ] {
        if (0..width).contains(&x) && (0..height).contains(&y) {
            let at = (y * width + x) as usize * 4;
            for (mixed, &byte) in mixed.iter_mut().zip(&bytes[at..at + 4]) {
                *mixed += weight / 255.0 * f32::from(byte);
            }
        }
    }
    mixed
}
