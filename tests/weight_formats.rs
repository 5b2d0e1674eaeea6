//! Weights in fewer bits: the loss of accuracy, exact conversions, and invalid files.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::fixture;
use soundsight::acl::{Acl, ModelConfig};
use soundsight::nn::{instruction_set, multiplies_bf16};
use soundsight::weights::{Checkpoint, Matrices, ModelFiles, Precision, WeightFormat, save_as};
use soundsight::{Error, Heatmap, Localizer, Picture, Waveform};

const MODELS: [&str; 2] = ["mini", "alt"];
const FORMATS: [WeightFormat; 3] = [WeightFormat::F16, WeightFormat::Bf16, WeightFormat::Q8_0];

/// The heatmap of the fixture `name` by the model in `folder`, with its matrices in this form.
fn heatmap(folder: &Path, matrices: impl Into<Matrices>, name: &str) -> Heatmap {
    let Matrices { format, precision } = matrices.into();
    let localizer = Localizer::builder(folder.to_str().unwrap()).weights(format).precision(precision).load().unwrap();
    let sound = Waveform::open(fixture(name).join("clip.wav")).unwrap();
    let picture = Picture::open(fixture(name).join("frame.png")).unwrap();
    localizer.localize_pair(&sound, &picture).unwrap()
}

/// The largest and the mean difference between two heatmaps.
fn differences(a: &Heatmap, b: &Heatmap) -> (f32, f32) {
    assert_eq!(a.scores.len(), b.scores.len());
    let all: Vec<f32> = a.scores.iter().zip(&b.scores).map(|(a, b)| (a - b).abs()).collect();
    (all.iter().copied().fold(0.0, f32::max), all.iter().sum::<f32>() / all.len() as f32)
}

/// The fixture model `name`, with its weights written in `format`.
fn converted(name: &str, format: WeightFormat) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::from_directory(fixture(name)).unwrap();
    let ending = if format == WeightFormat::Q8_0 { "gguf" } else { "safetensors" };
    for (part, checkpoint) in [("beats", &files.audio), ("clipseg", &files.clipseg), ("acl", &files.acl)] {
        save_as(checkpoint, folder.path().join(format!("{part}.{ending}")), format).unwrap();
    }
    files.write_config(folder.path()).unwrap();
    folder
}

#[test]
fn heatmaps_change_little() {
    for name in MODELS {
        let full = heatmap(&fixture(name), WeightFormat::F32, name);
        assert_eq!(differences(&full, &heatmap(&fixture(name), WeightFormat::AsStored, name)).0, 0.0);
        // With random weights, attention is sharper than in trained models, and single pixels change more.
        for (format, tolerance) in FORMATS.into_iter().zip([5e-4, 4e-3, 8e-3]) {
            let (largest, mean) = differences(&full, &heatmap(&fixture(name), format, name));
            assert!(mean > 0.0 && mean < tolerance, "{name} {format:?}: {mean} on average, {largest} at most");
        }
    }
}

#[test]
fn less_precision_changes_little_and_only_where_bf16_is_multiplied() {
    let tiles = matches!(instruction_set(), "AMX" | "portable tiles");
    for name in MODELS {
        for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::Q8_0] {
            let highest = heatmap(&fixture(name), format, name);
            for (precision, tolerance) in [(Precision::High, 1e-4), (Precision::Medium, 8e-3)] {
                let (largest, mean) =
                    differences(&highest, &heatmap(&fixture(name), Matrices { format, precision }, name));
                // Products with f32 alone differ from the highest precision by being `High`.
                let has_effect = match precision {
                    Precision::Medium => tiles || multiplies_bf16() && format != WeightFormat::Q8_0,
                    _ => tiles && format == WeightFormat::F32,
                };
                let as_expected = if has_effect { mean > 0.0 && mean < tolerance } else { largest == 0.0 };
                assert!(as_expected, "{name} {format:?} {precision:?}: {mean} on average, {largest} at most");
            }
        }
    }
}

#[test]
fn files_in_fewer_bits_say_the_same_as_memory_in_fewer_bits() {
    for name in MODELS {
        let full = heatmap(&fixture(name), WeightFormat::F32, name);
        for format in FORMATS {
            let folder = converted(name, format);
            let memory = heatmap(&fixture(name), format, name);
            for kept in [WeightFormat::AsStored, WeightFormat::F32, format] {
                let (off, _) = differences(&memory, &heatmap(folder.path(), kept, name));
                // In memory, 8-bit weights are multiplied in integers. What this rounds is small beside the 8 bits.
                let in_floats = (format, kept) == (WeightFormat::Q8_0, WeightFormat::F32);
                let allowed = match instruction_set() {
                    _ if in_floats => differences(&full, &memory).0 / 10.0,
                    // All weights but those in f16 are multiplied in tiles, which rounds differently.
                    "AMX" | "portable tiles" => 1e-5,
                    _ => 0.0,
                };
                assert!(off <= allowed, "{name} {format:?} kept as {kept:?}: off by {off}");
            }
            // Converting back to 32 bits loses nothing more.
            let files = ModelFiles::from_directory(folder.path()).unwrap();
            let path = folder.path().join("full.safetensors");
            save_as(&files.audio, &path, WeightFormat::F32).unwrap();
            let back = Checkpoint::open(&path).unwrap();
            for (tensor, entry) in back.entries() {
                assert_eq!((entry.dtype(), entry.is_quantized()), (DType::F32, false));
                let [a, b] = [&back, &files.audio].map(|file| file.tensor(tensor, &Device::Cpu, DType::F32).unwrap());
                assert_eq!(common::max_difference(&a, &b), 0.0, "{tensor}");
            }
        }
    }
}

#[test]
fn eight_bits_are_eight_bits() {
    let folder = converted("mini", WeightFormat::Q8_0);
    let (small, large) = (ModelFiles::from_directory(folder.path()).unwrap(), fixture("mini/beats.safetensors"));
    let large = Checkpoint::open(large).unwrap();
    let mut quantized = 0;
    for (name, entry) in small.audio.entries() {
        assert_eq!(entry.shape(), large.entries()[name].shape(), "{name}");
        let [a, b] = [&small.audio, &large].map(|file| file.tensor(name, &Device::Cpu, DType::F32).unwrap());
        let off = common::max_difference(&a, &b);
        let largest: f32 = b.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
        match entry.is_quantized() {
            true => assert!(off > 0.0 && off < largest / 250.0, "{name}: off by {off} of {largest}"),
            false => assert!(off <= largest / 2000.0, "{name}: off by {off} of {largest}"),
        }
        quantized += usize::from(entry.is_quantized());
    }
    assert!(quantized > 3);
    assert_eq!(small.audio.metadata()["general.architecture"], "acl");
}

#[test]
fn computing_in_half_precision_takes_no_other_format() {
    let files = ModelFiles::from_directory(fixture("mini")).unwrap();
    let config = ModelConfig::from_files(&files).unwrap();
    let prompt = config.acl.known_prompt_ids().unwrap();
    for format in FORMATS {
        let error = Acl::load(&config, &prompt, &files, &Device::Cpu, DType::F16, format).unwrap_err();
        assert!(matches!(&error, Error::Argument { what, .. } if what == "format of weights"), "{error}");
        // A localizer computes in f32 on the CPU.
        let localizer = Localizer::builder(&files.source).dtype(DType::F16).weights(format).load_files(&files).unwrap();
        assert_eq!(localizer.dtype(), DType::F32);
    }
}

// --- files that are not GGUF ---

/// A GGUF file with these parts after the magic number.
fn gguf(parts: &[&[u8]]) -> Vec<u8> {
    [b"GGUF".as_slice()].iter().chain(parts).flat_map(|part| part.iter().copied()).collect()
}

fn u32s<const N: usize>(numbers: [u32; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn u64s<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A name as encoded in GGUF.
fn text(name: &str) -> Vec<u8> {
    [u64s([name.len() as u64]), name.as_bytes().to_vec()].concat()
}

#[track_caller]
fn unreadable(bytes: Vec<u8>, found: &str) {
    let error = Checkpoint::from_bytes("x.gguf", bytes).unwrap_err();
    assert!(matches!(&error, Error::Format { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("x.gguf") && message.contains(found), "{message} lacks {found}");
}

#[test]
fn a_small_file_reads() {
    let head = [u32s([3]), u64s([1, 3])].concat();
    let alignment = [text("general.alignment"), u32s([4, 64])].concat();
    let array = [text("words"), u32s([9, 8]), u64s([2]), text("a"), text("b")].concat();
    let numbers = [text("numbers"), u32s([9, 5]), u64s([3]), u32s([1, 2, 3])].concat();
    let tensor = [text("t"), u32s([2]), u64s([3, 2]), u32s([0]), u64s([0])].concat();
    let mut bytes = gguf(&[&head, &alignment, &array, &numbers, &tensor]);
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend([1f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()));
    let file = Checkpoint::from_bytes("x.gguf", bytes.clone()).unwrap();
    let tensor = file.tensor("t", &Device::Cpu, DType::F32).unwrap();
    assert_eq!(tensor.to_vec2::<f32>().unwrap(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    for len in 4..bytes.len() {
        let error = Checkpoint::from_bytes("x.gguf", bytes[..len].to_vec()).unwrap_err();
        assert!(matches!(&error, Error::Format { .. }), "{len}: {error:?}");
    }
}

#[test]
fn files_that_lie_are_errors_that_say_so() {
    unreadable(gguf(&[&u32s([1]), &u64s([0, 0])]), "version 1");
    unreadable(b"GGUX0000".to_vec(), "begins with");
    // Every count is larger than the file.
    unreadable(gguf(&[&u32s([3]), &u64s([u64::MAX, 0])]), "ends too early");
    unreadable(gguf(&[&u32s([3]), &u64s([0, u64::MAX])]), "ends too early");
    unreadable(gguf(&[&u32s([3]), &u64s([0, 1]), &u64s([u64::MAX])]), "a name or text of");
    unreadable(gguf(&[&u32s([3]), &u64s([0, 1]), &u64s([1000])]), "ends too early");
    let array = |kind: u32, count: u64| [text("a"), u32s([9, kind]), u64s([count])].concat();
    for (kind, count) in [(4, u64::MAX), (12, u64::MAX / 8), (8, u64::MAX), (0, 100)] {
        unreadable(gguf(&[&u32s([3]), &u64s([0, 1]), &array(kind, count)]), "ends too early");
    }
    unreadable(gguf(&[&u32s([3]), &u64s([0, 1]), &array(9, 1)]), "metadata of type 9");
    unreadable(gguf(&[&u32s([3]), &u64s([0, 1]), &text("a"), &u32s([77])]), "metadata of type 77");
    let alignment = |to: u32| [u32s([3]), u64s([0, 1]), text("general.alignment"), u32s([4, to])].concat();
    unreadable(gguf(&[&alignment(0)]), "aligned to 0");
    unreadable(gguf(&[&alignment(48)]), "aligned to 48");

    let tensor = |dims: &[u64], kind: u32, offset: u64| {
        let dims = [u32s([dims.len() as u32]), dims.iter().flat_map(|dim| dim.to_le_bytes()).collect()].concat();
        gguf(&[&u32s([3]), &u64s([1, 0]), &text("t"), &dims, &u32s([kind]), &u64s([offset]), &[0; 64]])
    };
    unreadable(tensor(&[1; 5], 0, 0), "`t` of 5 dimensions");
    unreadable(tensor(&[4], 2, 0), "`t` of type 2");
    unreadable(tensor(&[33], 8, 0), "`t` of shape [33]");
    unreadable(tensor(&[u64::MAX, 2], 0, 0), "`t` of shape");
    unreadable(tensor(&[1 << 40], 0, 0), "`t` beyond the end");
    unreadable(tensor(&[1 << 62], 0, 0), "`t` beyond the end");
    unreadable(tensor(&[4], 0, u64::MAX), "`t` beyond the end");
    unreadable(tensor(&[4], 0, 1 << 20), "`t` beyond the end");
    let twice = [text("t"), u32s([1]), u64s([1]), u32s([0]), u64s([0])].concat();
    unreadable(gguf(&[&u32s([3]), &u64s([2, 0]), &twice, &twice, &[0; 64]]), "`t` twice");
}
