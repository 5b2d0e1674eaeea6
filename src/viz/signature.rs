//! Detects a failed localizer from its masks alone, without ground truth.

use std::fmt;

use serde::Serialize;

/// A mask that covers more than this fraction of its picture counts as full.
const FULL: f64 = 0.99;
/// A mask that covers less than this fraction of its picture counts as empty.
const EMPTY: f64 = 0.001;
/// The localizer has failed if more than this fraction of its masks are full, or more than this fraction are empty.
const MOST: f64 = 0.5;
/// The localizer ignores the sound if the mean overlap of a picture's masks for different sounds exceeds this.
const SAME: f64 = 0.9;

/// Statistics of the masks of many pictures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MaskStatistics {
    /// The mean fraction of its picture that a mask covers.
    pub area: f64,
    /// The fraction of masks that cover more than 99 % of their picture.
    pub full: f64,
    /// The fraction of masks that cover less than 0.1 % of their picture.
    pub empty: f64,
    /// The mean overlap (intersection over union) of a picture's masks for its own sound and for another sound; 1 if
    /// the sound has no effect. `None` if no picture was tested with another sound.
    pub alike: Option<f64>,
}

/// A typical failure of a localizer. Its [`Display`](fmt::Display) output explains the failure and suggests remedies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureSignature {
    /// Most masks cover their whole picture.
    CoversEverything,
    /// Most masks are empty.
    CoversNothing,
    /// A picture's mask is the same for every sound.
    IgnoresTheSound,
}

impl MaskStatistics {
    /// How the localizer fails, if it does. If several signatures match, returns the one that explains the others.
    pub fn failure(&self) -> Option<FailureSignature> {
        if self.full > MOST {
            Some(FailureSignature::CoversEverything)
        } else if self.empty > MOST {
            Some(FailureSignature::CoversNothing)
        } else if self.alike.is_some_and(|alike| alike > SAME) {
            Some(FailureSignature::IgnoresTheSound)
        } else {
            None
        }
    }

    /// One line that describes the failure, with the figure that reveals it, its meaning and possible remedies; `None`
    /// if there is no failure.
    pub fn warning(&self) -> Option<String> {
        let failure = self.failure()?;
        let figure = match failure {
            FailureSignature::CoversEverything => format!("{:.0} % of the masks", self.full * 100.0),
            FailureSignature::CoversNothing => format!("{:.0} % of the masks", self.empty * 100.0),
            FailureSignature::IgnoresTheSound => format!("overlap {:.2}", self.alike.unwrap_or(1.0)),
        };
        Some(failure.to_string().replacen(':', &format!(" ({figure}):"), 1))
    }
}

impl fmt::Display for FailureSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CoversEverything => {
                "the mask covers everything: it does not localize anything; try a smaller positive area, a larger \
                 weight of the area loss, or a smaller b of the masker"
            }
            Self::CoversNothing => {
                "the mask is empty: masked pictures are black, so nothing can be learned from them; try a larger \
                 positive area, or a larger b of the masker"
            }
            Self::IgnoresTheSound => {
                "the mask is the same for any sound: it shows what is salient, not what sounds; try larger batches, \
                 longer training, larger weights of ACL_I and ACL_F, and check that sounds and pictures match"
            }
        })
    }
}

/// Collects [`MaskStatistics`], picture by picture.
#[derive(Clone, Debug, Default)]
pub struct MaskTally {
    num_masks: usize,
    area: f64,
    num_full: usize,
    num_empty: usize,
    num_overlaps: usize,
    overlap: f64,
}

impl MaskTally {
    /// Adds a picture: `area` is the fraction of it that the mask for its own sound covers, `overlaps` are the overlaps
    /// ([`mask_overlap`]) of this mask with those for other sounds.
    pub fn add(&mut self, area: f64, overlaps: impl IntoIterator<Item = f64>) {
        self.num_masks += 1;
        self.area += area;
        self.num_full += usize::from(area > FULL);
        self.num_empty += usize::from(area < EMPTY);
        for overlap in overlaps {
            self.num_overlaps += 1;
            self.overlap += overlap;
        }
    }

    /// The statistics of all pictures added; `None` if there are none.
    pub fn finish(&self) -> Option<MaskStatistics> {
        let share = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        Some(MaskStatistics {
            area: share(self.area, self.num_masks)?,
            full: share(self.num_full as f64, self.num_masks)?,
            empty: share(self.num_empty as f64, self.num_masks)?,
            alike: share(self.overlap, self.num_overlaps),
        })
    }
}

/// The intersection over union of two masks, from their areas and the area of their intersection; 1 if both are empty.
pub fn mask_overlap(area: f64, other: f64, common: f64) -> f64 {
    let union = area + other - common;
    if union > 0.0 { common / union } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(masks: &[(f64, &[f64])]) -> Option<FailureSignature> {
        let mut tally = MaskTally::default();
        masks.iter().for_each(|(area, overlaps)| tally.add(*area, overlaps.iter().copied()));
        let statistics = tally.finish().unwrap();
        assert_eq!(statistics.failure().is_some(), statistics.warning().is_some());
        statistics.failure()
    }

    #[test]
    fn each_failure_has_its_name() {
        let healthy: (f64, &[f64]) = (0.2, &[0.1, 0.3]);
        assert_eq!(failure(&[healthy; 3]), None);
        // A failure affects most pictures, not just a few. Full or empty masks are alike as well, but take precedence.
        assert_eq!(failure(&[healthy, healthy, (1.0, &[1.0])]), None);
        assert_eq!(failure(&[healthy, (1.0, &[1.0]), (0.995, &[1.0])]), Some(FailureSignature::CoversEverything));
        assert_eq!(failure(&[healthy, (0.0, &[1.0]), (0.0005, &[1.0])]), Some(FailureSignature::CoversNothing));
        assert_eq!(failure(&[(0.2, &[0.95, 1.0]), (0.3, &[0.9])]), Some(FailureSignature::IgnoresTheSound));
        assert_eq!(failure(&[(0.2, &[])]), None, "tested with one sound only");
        assert_eq!(MaskTally::default().finish(), None);
    }

    #[test]
    fn a_warning_has_the_figure_the_meaning_and_the_way_out() {
        let statistics = MaskStatistics { area: 0.3, full: 0.0, empty: 0.0, alike: Some(0.973) };
        let warning = statistics.warning().unwrap();
        assert!(warning.starts_with("the mask is the same for any sound (overlap 0.97): "), "{warning}");
        let warning = MaskStatistics { full: 0.75, ..statistics }.warning().unwrap();
        assert!(warning.starts_with("the mask covers everything (75 % of the masks): "), "{warning}");
        assert!(warning.contains("; try ") && !warning.contains('\n'), "{warning}");
    }

    #[test]
    fn overlap_is_intersection_over_union() {
        assert_eq!(mask_overlap(0.25, 0.5, 0.25), 0.5);
        assert_eq!(
            (mask_overlap(0.25, 0.5, 0.0), mask_overlap(0.0, 0.0, 0.0), mask_overlap(0.0, 0.5, 0.0)),
            (0.0, 1.0, 0.0)
        );
    }
}
