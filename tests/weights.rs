//! Weight files: PyTorch's files are read exactly, and errors for invalid files say what is wrong.
//!
//! The fixtures come from `benches/peers/fixtures_weights.py`.

#![allow(clippy::unwrap_used)]

#[path = "common/weights_support.rs"]
mod weights_support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use soundsight::error::{Error, Result};
use soundsight::weights::{Checkpoint, save_safetensors};
use weights_support::{assert_format, fixture, floats, open, read, tensors};

#[track_caller]
fn assert_unreadable(name: &str, found: &str) {
    assert_format(Checkpoint::open(fixture(name)).unwrap_err(), &fixture(name), found);
}

// --- reading ---

#[test]
fn pickles_and_safetensors_are_identical() {
    let expected = open("state.safetensors");
    for name in ["state.bin", "state_protocol4.bin", "state_repacked.bin"] {
        let checkpoint = open(name);
        assert_eq!(checkpoint.entries().len(), 27, "{name}");
        assert!(checkpoint.entries().keys().eq(expected.entries().keys()), "{name}");
        for (tensor, entry) in expected.entries() {
            let (ours, theirs) = (read(&checkpoint, tensor), read(&expected, tensor));
            assert_eq!(checkpoint.entries()[tensor].shape(), entry.shape(), "{name} {tensor}");
            assert_eq!((ours.dims(), ours.dtype()), (theirs.dims(), theirs.dtype()), "{name} {tensor}");
            assert_eq!(floats(&ours), floats(&theirs), "{name} {tensor}");
        }
    }
}

#[test]
fn what_lies_in_memory_reads_like_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["state.bin", "state.safetensors", "beats.pt"] {
        let (file, bytes) = (open(name), std::fs::read(fixture(name)).unwrap());
        let memory = Checkpoint::from_bytes("in memory", bytes.clone()).unwrap();
        assert!(memory.entries().keys().eq(file.entries().keys()), "{name}");
        for tensor in file.entries().keys() {
            assert_eq!(floats(&read(&memory, tensor)), floats(&read(&file, tensor)), "{name} {tensor}");
        }
        assert_eq!((memory.metadata(), memory.config()), (file.metadata(), file.config()));
        #[cfg(feature = "train")]
        assert_eq!(memory.sha256().unwrap(), file.sha256().unwrap());
        for (kind, checkpoint) in [("memory", &memory), ("file", &file)] {
            let target = folder.path().join(format!("{kind}-{name}"));
            checkpoint.place_at(&target).unwrap();
            assert!(std::fs::read(&target).unwrap() == bytes, "{kind} {name}");
        }
        let cut = Checkpoint::from_bytes("in memory", bytes[..bytes.len() - 1].to_vec());
        assert!(matches!(&cut, Err(Error::Format { path, .. }) if path == Path::new("in memory")), "{cut:?}");
    }
    // Existing files are kept.
    let target = folder.path().join("memory-beats.pt");
    std::fs::write(&target, "mine").unwrap();
    Checkpoint::from_bytes("x", std::fs::read(fixture("state.bin")).unwrap()).unwrap().place_at(&target).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
}

#[test]
fn known_values() {
    // Independent of both readers: the numbers in the program that wrote the files.
    for name in ["state.bin", "state.safetensors"] {
        let state = open(name);
        let int =
            |tensor: &str| read(&state, tensor).flatten_all().unwrap().to_dtype(DType::I64).unwrap().to_vec1::<i64>();
        assert_eq!(int("i64").unwrap(), [-(1 << 40), -1, 0, 1 << 62]);
        assert_eq!(int("i32").unwrap(), [-(1 << 31), 7]);
        assert_eq!(int("i16").unwrap(), [-300, 300]);
        assert_eq!(int("u8").unwrap(), [0, 255]);
        assert_eq!(int("bool").unwrap(), [1, 0, 1]);
        assert_eq!(int("embeddings.position_ids").unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(state.entries()["scalar"].shape(), [0usize; 0]);
        assert_eq!(state.entries()["empty"].shape(), [0, 3]);
        assert_eq!(state.entries()["every_other"].shape(), [3, 2]);
        assert_eq!(state.entries()["bf16"].dtype(), DType::BF16);
        let (tied, transposed) = (read(&state, "tied"), read(&state, "transposed"));
        assert_eq!(floats(&tied.t().unwrap()), floats(&transposed));
        assert_eq!(floats(&tied.get(2).unwrap()), floats(&read(&state, "row")));
    }
    let small = open("small.pt");
    assert_eq!(read(&small, "weight").to_vec2::<f32>().unwrap(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
}

#[test]
fn the_published_layouts() {
    for name in ["beats.pt", "beats_parametrized.pt"] {
        let beats = open(name);
        let names: Vec<&String> = beats.entries().keys().collect();
        assert_eq!(names, ["encoder.pos_conv.0.weight_g", "encoder.pos_conv.0.weight_v", "post_extract_proj.bias"]);
        assert_eq!(floats(&read(&beats, "encoder.pos_conv.0.weight_g")), [0.0, 1.0, 2.0, 3.0]);
        let expected = serde_json::json!({
            "embed_dim": 512, "conv_bias": false, "deep_norm": true, "layer_wise_gradient_decay_ratio": 0.6,
            "activation_fn": "gelu", "label_dict": null, "sizes": [1, 2.5, -3], "pair": [1, "two"],
            "wide": 1_099_511_627_776_i64,
        });
        assert_eq!(beats.config(), Some(&expected));
        assert_eq!(beats.metadata()["label_dict"], serde_json::json!({"0": "/m/09x0r", "1": "/m/05zppz"}));
    }
    let acl = open("acl.pth");
    let names: Vec<&String> = acl.entries().keys().collect();
    assert_eq!(names, ["audio_proj.fc1.bias", "audio_proj.fc1.weight", "masker_i.b", "masker_i.w"]);
    assert_eq!(acl.config(), None);
    assert_eq!(open("state.safetensors").metadata()["made_by"], "fixtures_weights.py");
}

#[test]
fn conversion_while_loading() {
    let state = open("state.bin");
    let half = state.tensor("tied", &Device::Cpu, DType::F16).unwrap();
    assert_eq!(half.dtype(), DType::F16);
    let expected = read(&state, "tied").to_dtype(DType::F16).unwrap();
    assert_eq!(floats(&half), floats(&expected));
    let wide = state.tensor("f16_transposed", &Device::Cpu, DType::F32).unwrap();
    assert_eq!((wide.dtype(), wide.dims()), (DType::F32, &[2, 3][..]));
    let error = state.tensor("tide", &Device::Cpu, DType::F32).unwrap_err();
    assert!(matches!(&error, Error::Weights { problems, .. } if problems == &["missing `tide`"]), "{error:?}");
}

// --- writing ---

#[test]
fn saved_files_read_back_and_repeat_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tensors(&["u8", "f16", "bf16", "f64", "i64", "i32", "i16", "tied", "transposed", "scalar", "empty"]);
    let metadata = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1 \"quoted\"".to_owned())]);
    let paths = ["one", "two"].map(|name| folder.path().join(name));
    for path in &paths {
        save_safetensors(path, &tensors, &metadata).unwrap();
    }
    let bytes = std::fs::read(&paths[0]).unwrap();
    assert_eq!(bytes, std::fs::read(&paths[1]).unwrap());

    let ours = Checkpoint::open(&paths[0]).unwrap();
    assert_eq!(ours.metadata()["a"], "1 \"quoted\"");
    // The format's own library reads the same tensors, all of them aligned.
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), tensors.len());
    for (name, tensor) in &tensors {
        let view = theirs.tensor(name).unwrap();
        assert_eq!(view.shape(), tensor.dims());
        let at = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(at % tensor.dtype().size_in_bytes(), 0, "{name}");
        assert_eq!(floats(&read(&ours, name)), floats(tensor), "{name}");
    }
    let f16: Vec<u8> = theirs.tensor("f16").unwrap().data().to_vec();
    let expected: Vec<half::f16> = tensors["f16"].flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(f16, expected.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>());
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing/out.safetensors");
    let error = save_safetensors(&missing, &tensors(&["tied"]), &BTreeMap::new()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, action: "write", .. } if *path == missing), "{error:?}");
    let path = folder.path().join("out.safetensors");
    std::fs::write(&path, "before").unwrap();
    let reserved = BTreeMap::from([("__metadata__".to_owned(), tensors(&["tied"]).remove("tied").unwrap())]);
    let error = save_safetensors(&path, &reserved, &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
}

// --- bad files ---

#[test]
fn not_a_file_of_weights() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(folder.path().join("nothing.pt")).unwrap_err();
    assert!(matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound), "{error:?}");
    let error = Checkpoint::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory),
        "{error:?}"
    );
    for (contents, found) in [
        ("", "an empty file"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:…", "git lfs pull"),
        ("<!DOCTYPE html>", "a web page"),
        ("just some text that is no model", "just some text"),
        ("PK\u{3}\u{4}", "ends too early"),
        ("PK\u{3}\u{4} and then nothing that a zip archive would end with", "without its directory"),
    ] {
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, contents).unwrap();
        assert_format(Checkpoint::open(&path).unwrap_err(), &path, found);
    }
}

#[test]
fn bad_pickles() {
    assert_unreadable("bad_legacy.pt", "torch.save(torch.load(FILE");
    assert_unreadable("bad_compressed.pt", "compressed or encrypted");
    assert_unreadable("bad_big_endian.pt", "big-endian");
    assert_unreadable("bad_mixed.pt", "`group.name`, which is neither a tensor nor a dictionary");
    assert_unreadable("bad_list.pt", "something other than a dictionary");
    assert_unreadable("bad_expanded.pt", "strides [0]");
    assert_unreadable("bad_cycle.pt", "nested without end");
    assert_unreadable("bad_bomb.pt", "more values than any checkpoint holds");
}

#[test]
fn a_pickle_that_runs_a_command_is_refused_unrun() {
    assert_unreadable("bad_executes.pt", "`posix.system`");
    assert_unreadable("bad_executes.pt", "it was not run");
    assert!(!Path::new("soundsight-executed").exists());
}

/// Opens the file and reads every tensor in it.
fn exercise(path: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    for (name, entry) in checkpoint.entries() {
        checkpoint.tensor(name, &Device::Cpu, entry.dtype())?;
    }
    Ok(())
}

#[test]
fn every_truncation_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["small.pt", "beats.pt", "state.safetensors"] {
        let path = folder.path().join(name);
        let len = std::fs::copy(fixture(name), &path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        exercise(&path).unwrap();
        for len in (0..len).rev() {
            file.set_len(len).unwrap();
            let error = exercise(&path).expect_err(name);
            assert!(matches!(error, Error::Format { .. }), "{name} cut to {len}: {error:?}");
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let mut file = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    // A small generator, so that failures are reproducible.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for name in ["small.pt", "acl.pth", "state_repacked.bin", "state_protocol4.bin", "state.safetensors"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for round in 0..3000 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let at = random(bytes.len());
                damaged[at] = [0, 0xff, damaged[at] ^ (1 << random(8)), random(256) as u8][random(4)];
            }
            file.rewind().unwrap();
            file.write_all(&damaged).unwrap();
            refused += usize::from(exercise(&path).is_err());
        }
    }
    // The damage affects checked parts, but not every damaged file is rejected immediately.
    assert!((1500..13_500).contains(&refused), "{refused}");
}

#[test]
fn truncated_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    std::fs::copy(fixture("state.safetensors"), &path).unwrap();
    let state = Checkpoint::open(&path).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(2400).unwrap();
    let errors: Vec<Error> =
        state.entries().keys().filter_map(|name| state.tensor(name, &Device::Cpu, DType::F32).err()).collect();
    assert!(!errors.is_empty());
    for error in errors {
        assert_format(error, &path, "a shorter one");
    }
}

#[test]
fn safetensors_headers_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lies.safetensors");
    let file = |header: &str, len: u64, numbers: usize| {
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + numbers, 0);
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::open(&path)
    };
    let good = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let len = good.len() as u64;
    assert_eq!(file(good, len, 8).unwrap().entries()["w"].shape(), [2]);
    for (header, header_len, numbers, found) in [
        (good, len, 4, "4 bytes of numbers where the header announces 8"),
        (good, len, 9, "9 bytes of numbers where the header announces 8"),
        (good, u64::MAX, 8, "a header of 18446744073709551615 bytes"),
        (good, 99_999_999, 8, "a header of 99999999 bytes"),
        (good, len - 1, 8, "damaged header"),
        (r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, len, 8, "damaged header"),
        (r#"{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 74, 0, "damaged header"),
        (r#"{"w":{"dtype":"F32","shape":[0,9223372036854775807,4],"data_offsets":[0,0]}}"#, 76, 0, "`w` of shape [0, "),
        (r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, 55, 16, "damaged header"),
        (r#"{"w":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}"#, 58, 8, "`w` of type F8_E4M3"),
    ] {
        assert_format(file(header, header_len, numbers).unwrap_err(), &path, found);
    }
}

#[test]
fn one_tensor_under_two_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.safetensors");
    let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let names = ["c.weight_g", "c.parametrizations.weight.original0"];
    save_safetensors(&path, &names.map(|name| (name.to_owned(), one.clone())).into(), &BTreeMap::new()).unwrap();
    assert_format(Checkpoint::open(&path).unwrap_err(), &path, "one tensor named `c.weight_g`");
}
