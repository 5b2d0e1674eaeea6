//! The world of the scenes: its guarantees about splits, masks and sounds, tested on generated stamps.
#![allow(clippy::unwrap_used)]

#[path = "common/stamps.rs"]
mod stamps;
#[path = "../src/world/mod.rs"]
#[allow(dead_code, unused_imports)] // each program uses only a part
mod world;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::{Rgba, RgbaImage};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use soundsight::data::random::{Purpose, stream};
use soundsight::eval::{Benchmark, GroundTruth, locate_media, read_samples};
use soundsight::{Picture, Waveform};
use stamps::pictures::{self, write_png};
use stamps::{colour, ellipse, stamps, tone, wav};
use world::{BackgroundPlan, Backgrounds, Kind, SAMPLE_RATE, Split, Variation, World, WorldConfig, repeated_piece};

const SPLITS: [Split; 2] = [Split::Train, Split::HeldOut];
const SIDE: usize = 64;
const CONFIG: WorldConfig = WorldConfig { side: SIDE, seconds: 1.5, seed: 3, num_unheard: 3, photographs: Vec::new() };

/// The world that most tests look at.
fn open() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| World::open(stamps().path(), &CONFIG).unwrap());
    &WORLD
}

fn rng(number: u64) -> ChaCha8Rng {
    stream(number, Purpose::Augmentation, 0, 0)
}

/// The error message of a world that cannot be opened.
fn refusal(stamps: &Path, config: &WorldConfig) -> String {
    format!("{:#}", World::open(stamps, config).err().unwrap())
}

#[test]
fn pairs_become_classes_with_spoken_names() {
    let world = open();
    let names: Vec<_> = ('a'..='l').map(|letter| format!("class {letter}")).collect();
    assert_eq!(world.names(), names);
    assert_eq!(world.classes.iter().filter(|class| class.unheard).count(), CONFIG.num_unheard);
    // Soundless pictures in a folder with classes might show the same kind of object.
    assert_eq!(SPLITS.map(|split| world.soundless(split).len()), [8, 2]);
}

#[test]
fn everything_repeats_from_the_seed() {
    let folder = stamps();
    let draw = |config: &WorldConfig, number: u64| {
        let world = World::open(folder.path(), config).unwrap();
        let mut rng = rng(number);
        let scene = world.scene(Split::Train, 3, Some(5), &mut rng);
        let placed: Vec<_> = scene.placed.into_iter().map(|placed| (placed.class, placed.mask)).collect();
        (scene.picture, placed, world.sound(5, Split::HeldOut, &mut rng))
    };
    let first = draw(&CONFIG, 1);
    assert!(first == draw(&CONFIG, 1));
    assert!(first.0 != draw(&CONFIG, 2).0 && first.2 != draw(&CONFIG, 2).2);

    let unheard = |seed| {
        let world = World::open(folder.path(), &WorldConfig { seed, ..CONFIG }).unwrap();
        world.classes.iter().map(|class| class.unheard).collect::<Vec<_>>()
    };
    assert_eq!(unheard(3), unheard(3));
    assert!((0..5).any(|seed| unheard(seed) != unheard(3)));
}

#[test]
fn combinations_of_the_splits_are_disjoint() {
    let world = open();
    let number = world.classes.len();
    let partners = |class: usize| (0..number).filter(|&other| world.combinations.is_held_out(class, other)).count();
    // Of the eleven others, those at distances 1 and 6 on the circle of twelve.
    assert_eq!((0..number).map(partners).collect::<Vec<_>>(), vec![3; number]);

    let mut pairs = [BTreeSet::new(), BTreeSet::new()];
    for (split, pairs) in SPLITS.into_iter().zip(&mut pairs) {
        let mut rng = rng(4);
        for must in (0..number).cycle().take(600) {
            let count = rng.random_range(2..=3);
            let scene = world.scene(split, count, Some(must), &mut rng);
            let mut classes: Vec<_> = scene.placed.iter().map(|placed| placed.class).collect();
            classes.sort_unstable();
            classes.dedup();
            assert_eq!(classes.len(), count, "{split:?}");
            assert!(classes.contains(&must));
            let held_out = classes
                .iter()
                .flat_map(|&a| classes.iter().map(move |&b| (a, b)))
                .filter(|&(a, b)| a < b && world.combinations.is_held_out(a, b))
                .count();
            assert_eq!(held_out > 0, split == Split::HeldOut, "{classes:?}");
            if count == 2 {
                pairs.insert((classes[0], classes[1]));
            }
        }
    }
    assert!(pairs[0].is_disjoint(&pairs[1]));
    // 12 · 3 / 2 of the 66 pairs are held out; all of them occur, and nearly all of the others.
    assert_eq!(pairs[1].len(), 18);
    assert!(pairs[0].len() > 40, "{}", pairs[0].len());
}

#[test]
fn backgrounds_and_variations_keep_to_their_split() {
    for split in SPLITS {
        let mut rng = rng(5);
        let mut kinds = BTreeSet::new();
        for _ in 0..1000 {
            let plan = BackgroundPlan::draw(split, 4, &mut rng);
            assert_eq!(plan.split(), Some(split), "{plan:?}");
            if let Kind::Crop { picture, .. } = plan.kind {
                assert!(picture < 4);
            }
            kinds.insert(format!("{:?}", plan.kind));
            let variation = Variation::draw(split, &mut rng);
            assert_eq!(variation.split(), Some(split), "{variation:?}");
        }
        // Four painted kinds, and the crops of four pictures, sharp and blurred.
        assert_eq!(kinds.len(), 12);
    }
}

/// Photographs made here, in two folders: grey stripes whose red tells them apart.
fn photographs(folder: &Path) -> Vec<PathBuf> {
    let folders = ["wallpapers", "textures/deep"].map(|name| folder.join(name));
    for (number, folder) in folders.iter().enumerate() {
        std::fs::create_dir_all(folder).unwrap();
        for picture in 0..8 {
            let red = (10 * (8 * number + picture)) as u8;
            let grey = |x: u32| if (x / 40).is_multiple_of(2) { 60 } else { 160 };
            let path = folder.join(format!("{picture}.png"));
            write_png(image::RgbImage::from_fn(400, 300, |x, _| image::Rgb([red, grey(x), grey(x)])), path);
        }
        // Of no use as a background.
        write_png(image::RgbImage::from_pixel(400, 300, image::Rgb([9; 3])), folder.join("flat.png"));
        let small = image::RgbImage::from_fn(20, 20, |x, _| image::Rgb([(12 * x) as u8; 3]));
        write_png(small, folder.join("small.png"));
    }
    vec![folder.join("wallpapers"), folder.join("textures")]
}

#[test]
fn photographs_are_backgrounds_of_their_split() {
    let (stamps, pictures) = (stamps(), tempfile::tempdir().unwrap());
    let config = WorldConfig { photographs: photographs(pictures.path()), ..CONFIG };
    let world = World::open(stamps.path(), &config).unwrap();
    let counts = SPLITS.map(|split| world.photographs(split).unwrap().counts());
    assert_eq!(counts, [vec![6, 6], vec![2, 2]]);

    // The reds of the backgrounds of many scenes, where no tint, edge or distractor changed them.
    let world = world.with_backgrounds(Backgrounds::Photographs);
    let reds = SPLITS.map(|split| {
        let mut rng = rng(11);
        let red = |_| {
            let canvas = world.backdrop(split, SIDE, SIDE, &mut rng);
            let [red, green, blue] = canvas.pixels[SIDE * SIDE / 2].map(|value| (value * 255.0).round() as u8);
            ([60, 160].contains(&green) && green == blue && red.is_multiple_of(10)).then_some(red)
        };
        (0..400).filter_map(red).collect::<BTreeSet<u8>>()
    });
    assert_eq!((reds[0].len(), reds[1].len()), (12, 4), "{reds:?}");
    assert!(reds[0].is_disjoint(&reds[1]), "{reds:?}");

    // A world without photographs is the same as one that does not use them.
    let (plain, drawn) = (open(), world.with_backgrounds(Backgrounds::Drawn));
    assert!(drawn.photographs(Split::Train).is_none());
    let picture = |world: &World| world.scene(Split::Train, 2, Some(1), &mut rng(12)).picture;
    assert!(picture(plain) == picture(&drawn));
    assert!(picture(plain) != picture(&world));

    let few = tempfile::tempdir().unwrap();
    let config = WorldConfig { photographs: vec![few.path().to_path_buf()], ..CONFIG };
    assert!(refusal(stamps.path(), &config).contains("expected at least 4 photographs (JPEG or PNG), found 0"));
    std::fs::write(few.path().join("a.jpg"), "no picture").unwrap();
    assert!(refusal(stamps.path(), &config).contains("a.jpg: expected a JPEG or PNG picture"));
}

#[test]
fn scenes_of_every_size_have_the_same_photographs() {
    let (stamps, pictures) = (stamps(), tempfile::tempdir().unwrap());
    let photographs = photographs(pictures.path());
    // Flat only where it is reduced.
    let checkered = |x: u32, y: u32| image::Luma([if (x + y).is_multiple_of(2) { 100 } else { 120 }]);
    write_png(image::GrayImage::from_fn(760, 570, checkered), photographs[0].join("checkered.png"));
    for side in [SIDE, 2 * SIDE] {
        let world =
            World::open(stamps.path(), &WorldConfig { side, photographs: photographs.clone(), ..CONFIG }).unwrap();
        assert_eq!(SPLITS.map(|split| world.photographs(split).unwrap().counts()), [vec![6, 6], vec![2, 2]]);
        let small = world.with_side(SIDE).scene(Split::Train, 2, Some(1), &mut rng(5));
        assert_eq!((small.picture.dimensions(), small.placed[0].mask.len()), ((64, 64), SIDE * SIDE));
    }
}

#[test]
fn masks_are_disjoint_and_show_their_class() {
    let world = open();
    for split in SPLITS {
        let mut rng = rng(6);
        for number in 0..200 {
            let scene = world.scene(split, 1 + number % 4, None, &mut rng);
            let mut times = vec![0; SIDE * SIDE];
            for placed in &scene.placed {
                assert_eq!(placed.mask.len(), SIDE * SIDE);
                let area = placed.mask.iter().filter(|&&on| on).count();
                // An object is at least 30 % long and 60 % visible, unless four did not fit and were made smaller.
                assert!(area > 60, "{area} pixels");
                let (mut right, mut inner) = (0, 0);
                for (at, times) in times.iter_mut().enumerate() {
                    *times += usize::from(placed.mask[at]);
                    let neighbours = [at.wrapping_sub(SIDE), at.wrapping_sub(1), at, at + 1, at + SIDE];
                    if neighbours.iter().all(|&at| placed.mask.get(at) == Some(&true)) {
                        let [red, _, blue] =
                            scene.picture.get_pixel((at % SIDE) as u32, (at / SIDE) as u32).0.map(i32::from);
                        inner += 1;
                        // Each is recognised by the sign of red minus blue, which colour jitter never reverses.
                        right += usize::from((red > blue) == (colour(placed.class)[0] > colour(placed.class)[2]));
                    }
                }
                assert!(inner > 20 && right * 20 >= inner * 19, "{right} of {inner} pixels have the class's colour");
            }
            assert!(times.iter().all(|&times| times <= 1), "masks overlap");
        }
    }
}

#[test]
fn a_world_without_soundless_pictures_has_scenes_too() {
    let folder = stamps();
    std::fs::remove_dir_all(folder.path().join("plants")).unwrap();
    let world = World::open(folder.path(), &CONFIG).unwrap();
    assert_eq!(SPLITS.map(|split| world.soundless(split).len()), [0, 0]);
    let mut rng = rng(7);
    for _ in 0..50 {
        assert_eq!(world.scene(Split::HeldOut, 2, None, &mut rng).placed.len(), 2);
    }
}

#[test]
fn sounds_are_audible_finite_and_of_exact_length() {
    let world = open();
    let expected = (CONFIG.seconds * f64::from(SAMPLE_RATE)) as usize;
    for split in SPLITS {
        let mut rng = rng(8);
        for class in (0..world.classes.len()).cycle().take(240) {
            let sound = world.sound(class, split, &mut rng);
            assert_eq!(sound.len(), expected);
            assert!(sound.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
            // At least -10 dB of 0.12 for a ninth of the time (0.2 s of 1.5 s, played faster).
            let effective = (sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32).sqrt();
            assert!(effective > 0.01, "{effective}");
        }
    }
}

#[test]
fn a_piece_is_audible_and_repeated() {
    let sound: Vec<f32> = (0..64_000).map(|at| if at < 32_000 { 0.0 } else { (at as f32 * 0.37).sin() }).collect();
    let mut rng = rng(10);
    for _ in 0..20 {
        let piece = repeated_piece(&sound, &mut rng);
        assert_eq!(piece.len(), sound.len());
        assert!(piece.iter().map(|sample| sample * sample).sum::<f32>() > 0.2 * 16_000.0);
        let period = (12_000..40_000).find(|&period| piece[period..].iter().zip(&piece).all(|(a, b)| a == b));
        assert!(period.is_some());
        assert!(sound.windows(1_000).any(|window| window == &piece[..1_000]));
    }
    assert_eq!(repeated_piece(&[0.5], &mut rng), [0.5]);
}

#[test]
fn speed_moves_the_pitch() {
    let world = open();
    let plain = Variation {
        speed: 1.0,
        offset: 0.0,
        gain_db: 0.0,
        looped: true,
        pause: 0.0,
        snr_db: 60.0,
        pink: false,
        tilt: 0.0,
        echoes: Vec::new(),
    };
    // One rising zero crossing per period of the tone of 200 + 90 · 11 Hz.
    let crossings = |variation: &Variation| {
        let sound = world.classes[11].recordings[0].varied(variation, SAMPLE_RATE as usize, &mut rng(9));
        sound.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count() as f32
    };
    assert!((crossings(&plain) - 1190.0).abs() < 15.0, "{}", crossings(&plain));
    let faster = Variation { speed: 1.1, ..plain };
    assert!((crossings(&faster) - 1309.0).abs() < 15.0, "{}", crossings(&faster));
}

#[test]
fn what_cannot_be_a_world_is_told() {
    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("missing");
    let message = refusal(&missing, &CONFIG);
    for part in ["missing", "expected a folder of stamps", "found nothing", "tuxpaint-stamps-default", "--stamps DIR"] {
        assert!(message.contains(part), "{message}");
    }
    let message = refusal(empty.path(), &CONFIG);
    for part in ["recording of the same name", "0 pictures", "tuxpaint-stamps-default", "--stamps DIR"] {
        assert!(message.contains(part), "{message}");
    }
    let file = empty.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(refusal(&file, &CONFIG).contains("found a file"));

    let folder = stamps();
    for (config, part) in [
        (WorldConfig { side: 8, ..CONFIG }, "side: expected 32 to"),
        (WorldConfig { seconds: f64::NAN, ..CONFIG }, "seconds: expected 0.5 to"),
        (WorldConfig { num_unheard: 7, ..CONFIG }, "num_unheard: expected at most half of the 12 classes, found 7"),
    ] {
        assert!(refusal(folder.path(), &config).contains(part), "{}", refusal(folder.path(), &config));
    }
}

#[test]
fn unreadable_stamps_are_named() {
    let folder = stamps();
    std::fs::write(folder.path().join("kind1/CLASS_b1.png"), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    let message = refusal(folder.path(), &CONFIG);
    assert!(message.contains("CLASS_b1.png: expected a whole PNG picture"), "{message}");

    let folder = stamps();
    std::fs::write(folder.path().join("kind1/CLASS_b1.wav"), "noise").unwrap();
    let message = refusal(folder.path(), &CONFIG);
    assert!(message.contains("recording of \"class b\"") && message.contains("CLASS_b1.wav"), "{message}");

    let folder = stamps();
    std::fs::write(folder.path().join("plants/tree3.png"), "").unwrap();
    assert!(refusal(folder.path(), &CONFIG).contains("tree3.png"));
}

#[test]
fn unusable_stamps_are_left_out_with_a_reason() {
    let folder = stamps();
    let still = folder.path().join("kind1/still");
    ellipse(&still.with_extension("png"), 60, 60, [1, 2, 3]);
    wav(&still.with_extension("wav"), [0.0; 8000].into_iter());
    let faint = folder.path().join("kind1/faint");
    write_png(RgbaImage::from_pixel(60, 60, Rgba([200, 0, 0, 60])), faint.with_extension("png"));
    tone(&faint.with_extension("wav"), 300.0, 1.0);
    let world = World::open(folder.path(), &CONFIG).unwrap();
    let reasons: Vec<_> = world.left_out.iter().map(|(stem, reason)| (stem.to_str().unwrap(), &reason[..])).collect();
    let expected =
        [("kind1/faint", "too thin or too transparent to have a mask"), ("kind1/still", "the recording is silent")];
    assert_eq!(reasons, expected);
    assert_eq!(world.classes.len(), 12);
}

#[test]
fn exported_questions_are_read_as_benchmarks() {
    let world = open();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("questions");
    let questions = || (0..6).map(|number| world.question(number, number, 2));
    world.export(&out, questions()).unwrap();
    let id = |number: usize| format!("{number:04}-class-{}", char::from(b'a' + number as u8));
    for (benchmark, annotations) in [(Benchmark::Vggss, "vggss.json"), (Benchmark::AvsbenchS4, "gt_masks")] {
        let samples = read_samples(benchmark, &out.join(annotations), None, None).unwrap();
        assert_eq!(samples.len(), 6);
        for ((number, question), sample) in questions().enumerate().zip(samples) {
            assert_eq!(sample.id, id(number));
            let media = locate_media(benchmark, &out, &sample);
            let picture = Picture::open(media.picture.unwrap()).unwrap();
            assert_eq!(picture.pixels(), question.scene.picture.as_raw().as_slice());
            let sound = Waveform::open(media.sound.unwrap()).unwrap();
            let apart = |(a, b): (&f32, &f32)| (a - b).abs();
            assert_eq!(sound.samples().len(), question.sound.len());
            assert!(sound.samples().iter().zip(&question.sound).map(apart).fold(0.0, f32::max) < 1e-4);

            let placed = &question.scene.placed[question.sounding];
            assert_eq!((placed.class, question.scene.placed.len()), (number, 2));
            match sample.truth {
                GroundTruth::Union(boxes) => {
                    let [left, top, right, bottom] = boxes[0].map(|at| at as f32 * SIDE as f32 / 224.0);
                    let rows: Vec<usize> = (0..SIDE * SIDE).filter(|&at| placed.mask[at]).map(|at| at / SIDE).collect();
                    // 64 pixels on 224: whole pixels lie at multiples of 3.5.
                    assert!(
                        (rows[0] as f32 - top).abs() < 0.3 && (rows[rows.len() - 1] as f32 + 1.0 - bottom).abs() < 0.3
                    );
                    assert!(left < right && left >= 0.0 && right <= SIDE as f32);
                    assert_eq!(sample.class, Some(world.classes[number].name.clone()));
                }
                GroundTruth::Mask(path) => {
                    let mask = pictures::read(path).into_luma8();
                    assert_eq!(mask.dimensions(), (224, 224));
                    for (x, y, pixel) in mask.enumerate_pixels() {
                        let at = (y as usize * 2 + 1) * SIDE / 448 * SIDE + (x as usize * 2 + 1) * SIDE / 448;
                        assert_eq!(pixel.0[0], if placed.mask[at] { 255 } else { 0 });
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let message = format!("{:#}", world.export(&out, questions()).unwrap_err());
    assert!(message.contains("questions: expected a new or an empty folder"), "{message}");
}

/// `cargo test --release --test miniature_world -- --ignored`
#[test]
#[ignore = "needs Debian's tuxpaint-stamps-default (2022.06.04)"]
fn the_stamps_of_tux_paint_make_82_classes() {
    let config = WorldConfig { side: SIDE, seconds: 3.0, seed: 0, num_unheard: 8, photographs: Vec::new() };
    let world = World::open(Path::new("/usr/share/tuxpaint/stamps"), &config).unwrap();
    assert_eq!((world.classes.len(), world.left_out.len()), (82, 14));
    let pictures: usize = world.classes.iter().map(|class| class.pictures.len()).sum();
    assert_eq!(pictures, 89);
    for name in world.names() {
        assert!(name.split(' ').count() <= 3 && name.chars().all(|c| c == ' ' || c.is_ascii_lowercase()), "{name}");
    }
    // An object in a scene of two covers about a twentieth of the picture, and never almost nothing.
    let mut rng = rng(10);
    let area = |mask: &[bool]| mask.iter().filter(|&&on| on).count() as f64 / mask.len() as f64;
    let areas: Vec<f64> = (0..2000)
        .flat_map(|_| world.scene(Split::HeldOut, 2, None, &mut rng).placed)
        .map(|placed| area(&placed.mask))
        .collect();
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    assert!((0.05..0.15).contains(&mean), "{mean}");
    assert!(areas.iter().all(|&area| area > 0.008), "{:?}", areas.iter().copied().reduce(f64::min));
    for (number, class) in world.classes.iter().enumerate() {
        let sound = world.sound(number, Split::Train, &mut rng);
        let effective = (sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32).sqrt();
        assert!(effective > 0.004, "{}: {effective}", class.name);
    }
}
