//! What is taken from each film, and where it is written.

use serde::{Deserialize, Serialize};

use super::flaw::FlawKind;
use super::list::is_plain_name;
use crate::error::{Error, Result};

/// The longest span, in seconds. Spans are held in memory.
pub(super) const MAX_SECONDS: f64 = 3600.0;
/// The largest number of pictures of a span.
const MAX_PICTURES: u32 = 1000;

/// Where sounds and pictures are written below the output folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// `audio/<id>.wav` and `frames/<id>.jpg`: for training, VGG-SS and SoundNet-Flickr.
    #[default]
    Pairs,
    /// `extend_audio/<id>.wav` and `extend_frames/<id>.jpg`: for the Extended benchmarks.
    Extended,
    /// `audio_wav/<id>.wav` with the sound in both of two channels, and `visual_frames/<id>_<number>.png`.
    Avsbench,
}

impl Layout {
    /// The folder of the sounds.
    pub fn sounds(self) -> &'static str {
        match self {
            Self::Pairs => "audio",
            Self::Extended => "extend_audio",
            Self::Avsbench => "audio_wav",
        }
    }

    /// The folder of the pictures.
    pub fn pictures(self) -> &'static str {
        match self {
            Self::Pairs => "frames",
            Self::Extended => "extend_frames",
            Self::Avsbench => "visual_frames",
        }
    }
}

/// Which pictures of a span to take. Each is the one whose time is nearest to the wanted time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pictures {
    /// The one in the middle of the span.
    #[default]
    Middle,
    /// The one at `number / rate` seconds after the first picture of the span: frame 125 at 25 Hz is the one after 5 s.
    /// Frames are counted from 0.
    Number {
        /// The number, from 0.
        number: u32,
        /// The frame rate at which frames are counted, Hz; the film's own rate may be another.
        rate: f64,
    },
    /// This many, in the middle of as many equal parts of the span. They are numbered from 1: `<id>_1`.
    Several(u32),
    /// The last one of each second of the span, as in AVSBench, numbered from 1.
    EachSecond,
}

impl Pictures {
    /// Whether there is a single picture, which is named like the sound.
    pub fn is_single(self) -> bool {
        matches!(self, Self::Middle | Self::Number { .. })
    }

    /// The times of the pictures in a span of `seconds` seconds, of which the film has `there`, from the beginning of the
    /// span, in ascending order. `step` is the length of a frame in seconds.
    pub(super) fn times(self, seconds: f64, there: f64, step: f64) -> Vec<f64> {
        match self {
            Self::Middle => vec![there / 2.0],
            Self::Number { number, rate } => vec![f64::from(number) / rate],
            Self::Several(count) => (0..count).map(|n| (f64::from(n) + 0.5) / f64::from(count) * there).collect(),
            Self::EachSecond => (1..=(seconds + 1e-9) as u32).map(|n| f64::from(n) - step).collect(),
        }
    }
}

/// What is taken from each film. Films that were prepared with the same recipe give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Where it is written.
    pub layout: Layout,
    /// Which pictures of the span to take.
    pub pictures: Pictures,
    /// The split of samples for which the list names none (`train`).
    pub split: String,
    /// Where the span begins in films for which the list names no start, in seconds (0).
    pub from: f64,
    /// How long the span is, in seconds (10).
    pub seconds: f64,
    /// How long the span must be at least, in seconds, where the film ends before it (half of `seconds`).
    pub min_seconds: f64,
    /// Whether films whose span is silent are used; they are listed as flawed in any case.
    pub keep_silent: bool,
    /// Whether films whose picture does not change are used; they are listed as flawed in any case.
    pub keep_still: bool,
    /// Whether pictures are PNG, without loss, and not JPEG of quality 95. Those of AVSBench always are.
    pub png: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            pictures: Pictures::default(),
            split: "train".into(),
            from: 0.0,
            seconds: 10.0,
            min_seconds: 5.0,
            keep_silent: false,
            keep_still: false,
            png: false,
        }
    }
}

impl Recipe {
    /// Checks all settings.
    ///
    /// # Errors
    /// [`Error::Argument`] for one that is out of range.
    pub fn validate(&self) -> Result<()> {
        let Self { from, seconds, min_seconds, .. } = *self;
        if !is_plain_name(&self.split) {
            return Err(Error::argument("split", "a name that any file can have", &self.split));
        }
        if !(from >= 0.0 && from.is_finite()) {
            return Err(Error::argument("from", "0 s or more", from));
        }
        if !(seconds > 0.0 && seconds <= MAX_SECONDS) {
            return Err(Error::argument("seconds", format!("more than 0, at most {MAX_SECONDS}"), seconds));
        }
        if !(min_seconds > 0.0 && min_seconds <= seconds) {
            return Err(Error::argument("min_seconds", format!("more than 0, at most {seconds}"), min_seconds));
        }
        match self.pictures {
            Pictures::Number { rate, .. } if !(rate > 0.0 && rate <= 1000.0) => {
                Err(Error::argument("rate", "more than 0, at most 1000 Hz", rate))
            }
            Pictures::Number { number, rate } if f64::from(number) / rate >= seconds => {
                let found = format!("frame {number} at {rate} Hz, after {:.3} s", f64::from(number) / rate);
                Err(Error::argument("frame", format!("one within the span of {seconds} s"), found))
            }
            Pictures::Several(count) if !(1..=MAX_PICTURES).contains(&count) => {
                Err(Error::argument("pictures", format!("1 to {MAX_PICTURES}"), count))
            }
            Pictures::EachSecond if seconds < 1.0 => Err(Error::argument("seconds", "at least 1", seconds)),
            _ => Ok(()),
        }
    }

    /// The path of the sound below the output folder.
    pub(super) fn sound_name(&self, id: &str) -> String {
        format!("{}/{id}.wav", self.layout.sounds())
    }

    /// The paths of the pictures below the output folder.
    pub(super) fn picture_names(&self, id: &str, count: usize) -> Vec<String> {
        let ending = if self.is_png() { "png" } else { "jpg" };
        let folder = self.layout.pictures();
        match self.pictures.is_single() {
            true => vec![format!("{folder}/{id}.{ending}")],
            false => (1..=count).map(|number| format!("{folder}/{id}_{number}.{ending}")).collect(),
        }
    }

    /// Whether films with a flaw of this kind are used.
    pub(super) fn tolerates(&self, kind: FlawKind) -> bool {
        match kind {
            FlawKind::Silent => self.keep_silent,
            FlawKind::Still => self.keep_still,
            _ => false,
        }
    }

    pub(super) fn is_png(&self) -> bool {
        self.png || self.layout == Layout::Avsbench
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_pictures() {
        let number = Pictures::Number { number: 125, rate: 25.0 };
        assert_eq!(number.times(10.0, 9.0, 0.04), [5.0]);
        assert_eq!(Pictures::Middle.times(10.0, 9.0, 0.04), [4.5]);
        assert_eq!(Pictures::Several(2).times(10.0, 8.0, 0.04), [2.0, 6.0]);
        let each = Pictures::EachSecond.times(3.0, 3.0, 0.25);
        assert_eq!(each, [0.75, 1.75, 2.75]);
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let usual = Recipe::default();
        usual.validate().unwrap();
        let number = |number, rate| Pictures::Number { number, rate };
        for (recipe, name) in [
            (Recipe { split: "../train".into(), ..usual.clone() }, "split"),
            (Recipe { from: -1.0, ..usual.clone() }, "from"),
            (Recipe { seconds: 0.0, ..usual.clone() }, "seconds"),
            (Recipe { seconds: f64::NAN, ..usual.clone() }, "seconds"),
            (Recipe { min_seconds: 11.0, ..usual.clone() }, "min_seconds"),
            (Recipe { pictures: number(250, 25.0), ..usual.clone() }, "frame"),
            (Recipe { pictures: number(1, 0.0), ..usual.clone() }, "rate"),
            (Recipe { pictures: Pictures::Several(0), ..usual.clone() }, "pictures"),
            (Recipe { pictures: Pictures::EachSecond, seconds: 0.5, min_seconds: 0.5, ..usual.clone() }, "seconds"),
        ] {
            let error = recipe.validate().unwrap_err();
            assert!(matches!(&error, Error::Argument { what, .. } if what == name), "{error:?}");
        }
    }
}
