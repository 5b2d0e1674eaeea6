//! How the things and the camera of a shot move. Lengths are fractions of the picture's side.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Kind;

/// How far a thing may reach beyond the picture's border.
const BEYOND: f32 = 0.04;
/// Two things keep to their sides of the picture's middle, and their middles this far from it.
const FROM_MIDDLE: Range<f32> = 0.08..0.2;

/// Along each axis, per second.
const SPEED: Range<f32> = 0.06..0.16;

/// Radians to either side.
const TURN: f32 = 0.4;
/// Powers of two: 0.7 to 1.4 times as large.
const GROWTH: f32 = 0.5;
/// The duration of a whole turn or growth, to and fro, in seconds.
const SWING: Range<f32> = 4.0..9.0;

/// How far the camera pans to either side,
const PAN: Range<f32> = 0.12..0.25;
/// in which direction, in radians,
const PAN_ANGLE: Range<f32> = -0.35..0.35;
/// and for how many seconds, to and fro.
const PANNING: Range<f32> = 8.0..14.0;

/// How far things that cross go to either side,
const CROSSING: Range<f32> = 0.22..0.36;
/// how far beside the picture's middle,
const ASIDE: f32 = 0.05;
/// and for how many seconds, to and fro.
const CROSSING_TIME: Range<f32> = 9.0..12.0;
/// Things whose middles are nearer than this are crossing.
const NEAR: f32 = 0.4;

/// A wide background is larger than the picture by this factor: the camera stays within.
pub const WIDE: f32 = 1.0 + 2.0 * PAN.end;

/// A quantity that goes to and fro.
#[derive(Clone, Copy)]
struct Course {
    middle: f32,
    reach: f32,
    /// In seconds.
    period: f32,
    /// In periods.
    phase: f32,
    /// At an even speed, reflected at both ends; otherwise as a sine.
    reflected: bool,
}

impl Course {
    const fn still(middle: f32) -> Self {
        Self { middle, reach: 0.0, period: 1.0, phase: 0.0, reflected: false }
    }

    fn at(&self, time: f64) -> f32 {
        let turns = time as f32 / self.period + self.phase;
        let wave = if self.reflected { 1.0 - 4.0 * (turns.rem_euclid(1.0) - 0.5).abs() } else { (TAU * turns).sin() };
        self.middle + self.reach * wave
    }
}

/// Where a thing is at a moment.
pub struct Place {
    /// Across and down, in the camera's picture.
    pub middle: [f32; 2],
    /// Radians, added to the pose's angle.
    pub turn: f32,
    /// A factor of the pose's extent.
    pub growth: f32,
}

struct Path {
    middle: [Course; 2],
    turn: Course,
    /// A power of two.
    growth: Course,
}

/// The motion of two things and of the camera.
pub struct Motion {
    paths: [Path; 2],
    camera: [Course; 2],
    crossing: bool,
}

impl Motion {
    /// A motion for two things, of which half the width and half the height are given.
    pub fn draw(kind: Kind, halves: [[f32; 2]; 2], rng: &mut ChaCha8Rng) -> Self {
        let camera = match kind {
            Kind::Pan => {
                let (reach, angle) = (rng.random_range(PAN), rng.random_range(PAN_ANGLE));
                let (period, phase) = (rng.random_range(PANNING), rng.random());
                [angle.cos(), angle.sin()].map(|along| Course {
                    middle: 0.0,
                    reach: reach * along,
                    period,
                    phase,
                    reflected: false,
                })
            }
            _ => [Course::still(0.0); 2],
        };
        let paths = if kind == Kind::Cross { crossing(halves, rng) } else { apart(kind, halves, &camera, rng) };
        Self { paths, camera, crossing: kind == Kind::Cross }
    }

    /// Where the middle of the camera's picture is, from the middle of the background.
    pub fn camera(&self, time: f64) -> [f32; 2] {
        self.camera.map(|course| course.at(time))
    }

    /// Where the things are.
    pub fn places(&self, time: f64) -> [Place; 2] {
        let camera = self.camera(time);
        [0, 1].map(|thing| {
            let path = &self.paths[thing];
            let middle = [0, 1].map(|axis: usize| path.middle[axis].at(time) - camera[axis]);
            Place { middle, turn: path.turn.at(time), growth: path.growth.at(time).exp2() }
        })
    }

    /// Whether one of the things may be hidden behind the other.
    pub fn crosses(&self, time: f64) -> bool {
        let [one, other] = self.places(time).map(|place| place.middle);
        self.crossing && (one[0] - other[0]).hypot(one[1] - other[1]) < NEAR
    }
}

/// Where the middle of a thing may be, of which half the length is given.
fn inside(half: f32) -> Range<f32> {
    let half = half.min(0.5 + BEYOND) - BEYOND;
    half..1.0 - half
}

/// Two things on different sides of the picture.
fn apart(kind: Kind, halves: [[f32; 2]; 2], camera: &[Course; 2], rng: &mut ChaCha8Rng) -> [Path; 2] {
    let (parted, swapped, gap) = (rng.random_range(0..2), rng.random_range(0..2), rng.random_range(FROM_MIDDLE));
    [0, 1].map(|thing: usize| {
        let middle = [0, 1].map(|axis: usize| {
            let mut room = inside(halves[thing][axis]);
            match (axis == parted, thing == swapped) {
                (true, true) => room.end = 0.5 - gap,
                (true, false) => room.start = 0.5 + gap,
                (false, _) => {}
            }
            let (middle, reach) = ((room.start + room.end) / 2.0, (room.end - room.start) / 2.0);
            if kind == Kind::Drift {
                let reach = reach.max(0.0);
                // A reflection at every moment would be a tremble.
                let period = (4.0 * reach / rng.random_range(SPEED)).max(2.0);
                return Course { middle, reach, period, phase: rng.random(), reflected: true };
            }
            // Half of what the camera's way takes of the picture is taken of the room.
            let reach = (reach - camera[axis].reach.abs() / 2.0).max(0.0);
            Course::still(middle + reach * rng.random_range(-1.0..1.0))
        });
        let mut swing = |reach: f32| {
            let reach = if kind == Kind::TurnAndGrow { reach } else { 0.0 };
            Course { middle: 0.0, reach, period: rng.random_range(SWING), phase: rng.random(), reflected: false }
        };
        Path { middle, turn: swing(TURN), growth: swing(GROWTH) }
    })
}

/// Two things that go to and fro, in opposite directions.
fn crossing(halves: [[f32; 2]; 2], rng: &mut ChaCha8Rng) -> [Path; 2] {
    let (along, first) = (rng.random_range(0..2), rng.random_range(0..2));
    let (period, phase) = (rng.random_range(CROSSING_TIME), rng.random_range(0.1..0.3));
    [0, 1].map(|thing: usize| {
        let middle = [0, 1].map(|axis: usize| {
            let room = inside(halves[thing][axis]);
            if axis != along {
                let aside = 0.5 + rng.random_range(-ASIDE..ASIDE);
                return Course::still(aside.max(room.start).min(room.end));
            }
            let reach = (0.5 - room.start).clamp(CROSSING.start, CROSSING.end);
            let phase = if thing == first { phase } else { phase + 0.5 };
            Course { middle: 0.5, reach, period, phase, reflected: false }
        });
        Path { middle, turn: Course::still(0.0), growth: Course::still(0.0) }
    })
}
