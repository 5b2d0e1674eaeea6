//! The first example of the README.
#![allow(clippy::unwrap_used)]

mod common;

use common::program::{example, names_in, stdout};
use common::{fixture, pictures};

#[test]
fn localize_says_where_and_how_sure_and_writes_three_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let mut localize = example("localize");
    localize.current_dir(&folder).args([fixture("mini/clip.wav"), fixture("mini/frame.png"), fixture("mini")]);
    let text = stdout(&mut localize);
    for word in ["where: (", "with score", "how sure: ", "out/frame.overlay.png"] {
        assert!(text.contains(word), "{text}");
    }
    let out = folder.path().join("out");
    assert_eq!(names_in(&out), ["frame.heatmap.png", "frame.mask.png", "frame.overlay.png"]);
    for name in names_in(&out) {
        assert_eq!(pictures::size(out.join(&name)), (96, 96), "{name}");
    }
}
