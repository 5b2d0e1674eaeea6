//! Landscapes painted by a program, and the shadows of what stands on them.

use soundsight::data::random::{Purpose, stream};

use crate::world::{Canvas, Clouds, Patch};

/// Three colours of the sky (zenith, horizon, clouds) and three of the ground (far, near, blades).
pub struct Landscape {
    sky: [[f32; 3]; 3],
    ground: [[f32; 3]; 3],
    /// Where the ground begins, as a fraction of the height.
    horizon: f32,
    hills: f32,
    /// How far a lake reaches down from there, in the same unit.
    water: f32,
}

/// Green, with hills.
pub const MEADOW: Landscape = Landscape {
    sky: [[0.30, 0.55, 0.86], [0.80, 0.90, 0.97], [0.98, 0.98, 1.00]],
    ground: [[0.50, 0.66, 0.38], [0.28, 0.47, 0.16], [0.52, 0.68, 0.27]],
    horizon: 0.46,
    hills: 0.10,
    water: 0.0,
};

/// Dry and wide, in the evening.
pub const SAVANNA: Landscape = Landscape {
    sky: [[0.48, 0.52, 0.72], [0.98, 0.80, 0.56], [0.99, 0.90, 0.78]],
    ground: [[0.80, 0.68, 0.42], [0.62, 0.47, 0.22], [0.86, 0.74, 0.44]],
    horizon: 0.42,
    hills: 0.04,
    water: 0.0,
};

/// Grey, with a lake.
pub const SHORE: Landscape = Landscape {
    sky: [[0.55, 0.66, 0.74], [0.84, 0.88, 0.88], [0.93, 0.94, 0.94]],
    ground: [[0.56, 0.58, 0.36], [0.40, 0.46, 0.24], [0.62, 0.66, 0.40]],
    horizon: 0.38,
    hills: 0.0,
    water: 0.16,
};

/// Draws the shadow of a patch of `size` pixels whose lower edge has its middle at `feet`.
pub fn shade(canvas: &mut Canvas, feet: (f32, f32), size: (usize, usize)) {
    let shadow = ellipse(size.0 as f32 * 0.95, size.1 as f32 * 0.12);
    let place = ((feet.0 - shadow.width as f32 / 2.0) as i32, (feet.1 - 0.6 * shadow.height as f32) as i32);
    canvas.blend(&shadow, place);
}

/// A soft dark ellipse.
fn ellipse(width: f32, height: f32) -> Patch {
    let (width, height) = (width.ceil() as usize, height.ceil() as usize);
    let from_middle = |at: usize, length: usize| (at as f32 + 0.5) / length as f32 * 2.0 - 1.0;
    let pixel = |at: usize| {
        let distance = from_middle(at % width, width).hypot(from_middle(at / width, height));
        [0.0, 0.0, 0.0, 0.55 * (1.0 - distance).clamp(0.0, 1.0).powf(0.7)]
    };
    Patch { width, height, pixels: (0..width * height).map(pixel).collect() }
}

fn mix(from: [f32; 3], to: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|c| from[c] + (to[c] - from[c]) * share.clamp(0.0, 1.0))
}

impl Landscape {
    /// Paints `width` × `height` pixels; `number` decides the details.
    pub fn paint(&self, number: u64, (width, height): (usize, usize)) -> Canvas {
        let mut rng = stream(number, Purpose::Augmentation, 1, 0);
        let [clouds, hills, patches, blades] = [0.3, 0.4, 0.12, 0.008].map(|period| Clouds::new(period, &mut rng));
        let sky = |x: f32, y: f32| {
            let [zenith, horizon, cloud] = self.sky;
            let sky = mix(zenith, horizon, (y / self.horizon).powf(1.5));
            // Clouds are wider than high, and thin out towards the horizon.
            let cover = (clouds.at(x, (y * 1.8).min(1.0)) - 0.5).max(0.0) * 3.0 * (1.0 - y / self.horizon * 0.6);
            mix(sky, cloud, cover)
        };
        let land = |x: f32, y: f32, depth: f32| {
            let [far, near, blade] = self.ground;
            let ground = mix(far, near, depth + 0.5 * (patches.at(x, y * y) - 0.5));
            // Grass is fine horizontally, longer vertically, and fades with distance.
            mix(ground, blade, 0.9 * depth * (blades.at(x, y * 0.35) - 0.25))
        };
        let water = |x: f32, y: f32, depth: f32| {
            let [zenith, horizon, _] = self.sky;
            let surface = mix(horizon, zenith, 0.3 + depth);
            mix(surface, [0.12, 0.22, 0.26], 0.5 * (blades.at(x * 0.12, y) - 0.2))
        };
        Canvas::new(width, height, |x, y| {
            let (x, y) = ((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
            let ridge = self.horizon - self.hills * (hills.at(x, 0.3) - 0.3);
            let bank = self.horizon + self.water * (0.8 + 0.4 * hills.at(x, 0.8));
            let depth = ((y - ridge) / (1.0 - ridge)).max(0.0).sqrt();
            // Edges are a pixel wide.
            let beyond = |edge: f32| ((y - edge) * height as f32 + 0.5).clamp(0.0, 1.0);
            let below = if self.water > 0.0 {
                mix(water(x, y, depth), land(x, y, depth), beyond(bank))
            } else {
                land(x, y, depth)
            };
            mix(sky(x, y.min(self.horizon)), below, beyond(ridge))
        })
    }
}
