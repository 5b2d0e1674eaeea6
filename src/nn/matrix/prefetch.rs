//! Panels that will be needed soon.

use super::layout::NR;

/// The fewest strips between which panels are fetched.
const MIN_STRIPS: usize = 4;

/// Panels that the next product reads and the current one does not. They are brought into the second-level cache meanwhile,
/// a part of each with every strip of the current product: waiting for them would take up to a twentieth of the time.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    pub(super) panels: [&'a [f32]; 4],
    /// The length of the part of each panel.
    per_strip: usize,
}

impl<'a> Ahead<'a> {
    /// No panels yet. There is room for four that are `depth` rows long, and the current product has `strips` strips. If these
    /// are few, memory is already busy with the current panels, and nothing is fetched ahead.
    #[inline(always)]
    pub(super) fn new(depth: usize, strips: usize) -> Self {
        let per_strip = if strips < MIN_STRIPS { 0 } else { depth.div_ceil(strips) * NR };
        Self { panels: [&[]; 4], per_strip }
    }

    /// Asks the processor for the parts that belong to strip `t`, without waiting for them. Only x86-64 processors have a
    /// stable instruction for that; on others, nothing happens.
    #[inline(always)]
    pub(super) fn fetch(&self, t: usize) {
        for panel in self.panels {
            let end = panel.len().min((t + 1) * self.per_strip);
            let part = panel.get(t * self.per_strip..end).unwrap_or_default();
            #[cfg(target_arch = "x86_64")]
            super::native::prefetch(part);
            #[cfg(not(target_arch = "x86_64"))]
            let _ = part;
        }
    }
}
