//! Helpers for the tests of weights and of model directories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use soundsight::error::Error;
use soundsight::weights::Checkpoint;

/// The file `name` among the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights").join(name)
}

/// The fixture `name`, opened.
pub fn open(name: &str) -> Checkpoint {
    Checkpoint::open(fixture(name)).unwrap()
}

/// The tensor `name`, with the number type that it has in the file.
pub fn read(checkpoint: &Checkpoint, name: &str) -> Tensor {
    let dtype = checkpoint.entries()[name].dtype();
    checkpoint.tensor(name, &Device::Cpu, dtype).unwrap()
}

/// The numbers of a tensor, in order.
pub fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Asserts an [`Error::Format`] that names the file `path` and contains `found`.
#[track_caller]
pub fn assert_format(error: Error, path: &Path, found: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains(found), "{text} lacks {found}");
}

/// The tensors `names` of `state.bin`.
pub fn tensors(names: &[&str]) -> BTreeMap<String, Tensor> {
    let state = open("state.bin");
    names.iter().map(|name| ((*name).to_owned(), read(&state, name))).collect()
}
