//! Scenes as files for `evaluate`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{GrayImage, Luma};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use soundsight::data::random::{Purpose, stream};
use soundsight::eval::SIZE;

use super::pictures::png;
use super::sound::wav;
use super::{Scene, Split, World};

/// A scene, and the sound of one of its objects.
pub struct Question {
    /// The picture, the two objects in it and their masks.
    pub scene: Scene,
    /// The index in `scene.placed` of the sounding object.
    pub sounding: usize,
    /// Its sound.
    pub sound: Vec<f32>,
}

impl World {
    /// The `number`-th held-out scene of two objects, of which the one of `class` sounds; always the same for the same
    /// `seed`.
    pub fn question(&self, class: usize, number: usize, seed: u64) -> Question {
        let mut rng: ChaCha8Rng = stream(seed, Purpose::Validation, 1, number as u64);
        let scene = self.scene(Split::HeldOut, 2, Some(class), &mut rng);
        let sounding = scene.placed.iter().position(|placed| placed.class == class).unwrap_or_default();
        Question { sounding, sound: self.sound(class, Split::HeldOut, &mut rng), scene }
    }

    /// Writes `questions` into the new folder `folder`, in the layouts of VGG-SS and of AVSBench at once:
    /// `vggss.json`, `frames/<id>.png`, `audio/<id>.wav`; `gt_masks/<id>.png`, `visual_frames/<id>.png`,
    /// `audio_wav/<id>.wav`. An id is the question's number and the sounding class's name.
    ///
    /// # Errors
    /// `folder` exists and is not empty, or cannot be written; there is then nothing new in it.
    pub fn export(&self, folder: &Path, questions: impl IntoIterator<Item = Question>) -> Result<()> {
        let parent = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let taken = folder.exists() && std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_some());
        ensure!(!taken, "{}: expected a new or an empty folder, found a non-empty one", folder.display());
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        // Write the thousands of files to a temporary folder, and rename it at the end.
        let draft = tempfile::Builder::new()
            .prefix(".soundsight-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot write to {}", parent.display()))?;
        self.export_to(draft.path(), questions).with_context(|| format!("cannot write {}", folder.display()))?;
        let permissions = std::fs::metadata(draft.path().join(FRAMES))?.permissions();
        std::fs::set_permissions(draft.path(), permissions)?;
        std::fs::rename(draft.path(), folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Renamed, so there is nothing to remove.
        let _ = draft.keep();
        Ok(())
    }

    fn export_to(&self, folder: &Path, questions: impl IntoIterator<Item = Question>) -> Result<()> {
        for name in [FRAMES, "audio", "gt_masks", "visual_frames", "audio_wav"] {
            std::fs::create_dir(folder.join(name))?;
        }
        let mut annotations: Vec<Value> = Vec::new();
        for (number, question) in questions.into_iter().enumerate() {
            let sounding = &question.scene.placed[question.sounding];
            let (name, mask) = (&self.classes[sounding.class].name, &sounding.mask);
            let id = format!("{number:04}-{}", name.replace(' ', "-"));
            let frame = folder.join(FRAMES).join(format!("{id}.png"));
            std::fs::write(&frame, png(&question.scene.picture)?)?;
            std::fs::hard_link(&frame, folder.join("visual_frames").join(format!("{id}.png")))?;
            let audio = folder.join("audio").join(format!("{id}.wav"));
            std::fs::write(&audio, wav(&question.sound)?)?;
            std::fs::hard_link(&audio, folder.join("audio_wav").join(format!("{id}.wav")))?;
            std::fs::write(folder.join("gt_masks").join(format!("{id}.png")), png(&enlarged(mask, self.side()))?)?;
            annotations.push(json!({
                "file": id,
                "class": name,
                "bbox": [bounds(mask, self.side())],
            }));
        }
        std::fs::write(folder.join("vggss.json"), serde_json::to_vec_pretty(&annotations)?)?;
        Ok(())
    }
}

const FRAMES: &str = "frames";

/// The mask at the benchmarks' size: white where the object is.
fn enlarged(mask: &[bool], side: usize) -> GrayImage {
    let nearest = |at: u32| (2 * at as usize + 1) * side / (2 * SIZE);
    GrayImage::from_fn(SIZE as u32, SIZE as u32, |x, y| {
        Luma([if mask[nearest(y) * side + nearest(x)] { 255 } else { 0 }])
    })
}

/// Left, top, right and bottom of the mask, as fractions of the side.
fn bounds(mask: &[bool], side: usize) -> [f64; 4] {
    let inside = || (0..mask.len()).filter(|&at| mask[at]);
    let range = |along: fn(usize, usize) -> usize| {
        let (first, last) = inside().fold((side, 0), |(first, last), at| {
            let place = along(at, side);
            (first.min(place), last.max(place + 1))
        });
        [first, last].map(|place| place as f64 / side as f64)
    };
    let ([left, right], [top, bottom]) = (range(|at, side| at % side), range(|at, side| at / side));
    [left, top, right, bottom]
}
