//! Strict loading of a model from a weight file, and lookup of a model's files.
//!
//! The fixtures come from `benches/peers/fixtures_weights.py`.

#![allow(clippy::unwrap_used)]

#[path = "common/weights_support.rs"]
mod weights_support;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use soundsight::ModelSource;
use soundsight::acl::AclConfig;
use soundsight::error::{Error, Result};
use soundsight::weights::{Checkpoint, Download, Hub, ModelFiles, TokenizerFiles, save_safetensors};
use weights_support::{assert_format, fixture, floats, open, read, tensors};

/// Reads two tensors of `state.bin`, as a model would.
fn model(vb: VarBuilder<'_>) -> Result<[Tensor; 2]> {
    Ok([vb.get((5, 6), "tied")?, vb.pp("0").get((4, 3), "weight")?])
}

/// The two tensors that [`model`] reads, and the names of those that it does not read.
fn model_file(folder: &Path, extra: &[&str]) -> Checkpoint {
    let path = folder.join("model.safetensors");
    let names: Vec<&str> = ["tied", "0.weight"].iter().chain(extra).copied().collect();
    save_safetensors(&path, &tensors(&names), &BTreeMap::new()).unwrap();
    Checkpoint::open(path).unwrap()
}

fn problems<M>(result: Result<M>) -> Vec<String> {
    match result {
        Err(Error::Weights { problems, .. }) => problems,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("a model came out"),
    }
}

#[test]
fn a_model_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let file = model_file(folder.path(), &["embeddings.position_ids", "1.num_batches_tracked"]);
    let [tied, weight] = file.load(&Device::Cpu, DType::F32, &[], model).unwrap();
    assert_eq!(floats(&tied), floats(&read(&file, "tied")));
    assert_eq!(floats(&weight), floats(&read(&file, "0.weight")));
    let [tied, _] = file.load(&Device::Cpu, DType::BF16, &[], model).unwrap();
    assert_eq!(tied.dtype(), DType::BF16);
}

#[test]
fn unread_tensors_are_unexpected_unless_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = model_file(folder.path(), &["0.bias", "1.running_mean"]);
    let all = ["unexpected `0.bias` [4]", "unexpected `1.running_mean` [4]"];
    assert_eq!(problems(file.load(&Device::Cpu, DType::F32, &[], model)), all);
    assert_eq!(problems(file.load(&Device::Cpu, DType::F32, &["1.*"], model)), all[..1]);
    file.load(&Device::Cpu, DType::F32, &["*bias", "1.*"], model).unwrap();
}

#[test]
fn all_problems_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = model_file(folder.path(), &["0.bias"]);
    let mut whole = false;
    let result = file.load(&Device::Cpu, DType::F32, &[], |vb| {
        vb.get((6, 5), "tied")?;
        vb.get((4, 3), "0.weight")?;
        let stand_in = vb.get((2, 3), "more.weight")?;
        assert_eq!(floats(&stand_in), [0.0; 6]);
        vb.get((2, 3), "more.weight")?;
        vb.get(7, "more.bias")?;
        whole = true;
        Ok(())
    });
    assert_eq!(
        problems(result),
        [
            "`tied`: expected [6, 5], found [5, 6]",
            "missing `more.weight` [2, 3]",
            "missing `more.bias` [7]",
            "unexpected `0.bias` [4]"
        ]
    );
    assert!(whole);
    let error = file.load(&Device::Cpu, DType::F32, &[], |vb| Ok(vb.get(1, "x")?)).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("model.safetensors: the weights do not fit the model: missing `x` [1]; unexpected"),
        "{text}"
    );
}

#[test]
fn a_configuration_that_lies_about_the_weights_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = model_file(folder.path(), &[]);
    // Too wide: the placeholder would take 4 TB if the model copied it.
    let result = file.load(&Device::Cpu, DType::F32, &[], |vb| Ok(vb.get((1 << 20, 1 << 20), "tied")?.contiguous()?));
    assert_eq!(problems(result), ["`tied`: expected [1048576, 1048576], found [5, 6]"]);
    let result = file.load(&Device::Cpu, DType::F32, &[], |vb| Ok(vb.get((usize::MAX, 2), "tied")?.contiguous()?));
    assert_eq!(problems(result).len(), 1);
    // Too deep: an unlimited number of layers.
    let mut layers = 0;
    let result = file.load(&Device::Cpu, DType::F32, &[], |vb| {
        for layer in 0..usize::MAX {
            vb.pp(layer).get(1, "weight")?;
            layers = layer;
        }
        Ok(())
    });
    let problems = problems(result);
    assert!(layers < 100 && problems.len() < 100, "{layers} {}", problems.len());
    assert_eq!(problems.last().unwrap(), "and 1 more");
}

#[test]
fn a_number_is_a_number() {
    let state = open("state.bin");
    let result = state.load(&Device::Cpu, DType::F32, &["*"], |vb| Ok([vb.get(1, "scalar")?, vb.get((), "one")?]));
    let [one, scalar] = result.unwrap();
    assert_eq!((one.dims(), scalar.dims()), (&[1][..], &[][..]));
    assert_eq!(floats(&one), floats(&read(&state, "scalar")));
    let result = state.load(&Device::Cpu, DType::F32, &["*"], |vb| Ok(vb.get((1, 1), "one")?));
    assert_eq!(problems(result), ["`one`: expected [1, 1], found [1]"]);
}

#[test]
fn the_models_own_errors_pass_through() {
    let state = open("state.bin");
    let result: Result<()> =
        state.load(&Device::Cpu, DType::F32, &[], |_| Err(Error::config("num_layers", "at least 1", 0)));
    assert!(matches!(&result, Err(Error::Config { what, .. }) if what == "num_layers"), "{result:?}");
    let result = state.load(&Device::Cpu, DType::F32, &[], |vb| Ok(vb.get_unchecked("nothing")?));
    assert_eq!(problems(result), ["missing `nothing`"]);
}

// --- model directories ---

/// A folder with the files `names`, each copied from the fixture after the arrow: `beats.pt<beats.pt`.
fn directory(names: &[&str], config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let (name, source) = name.split_once('<').unwrap_or((name, "state.safetensors"));
        std::fs::copy(fixture(source), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    folder
}

const SAFETENSORS: [&str; 3] = ["beats.safetensors", "clipseg.safetensors", "acl.safetensors"];
const PICKLES: [&str; 3] = ["beats.pt<beats.pt", "clipseg.bin<state.bin", "acl.pth<acl.pth"];

fn file_name(checkpoint: &Checkpoint) -> &str {
    checkpoint.path().file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_directory_of_safetensors() {
    let folder = directory(
        &SAFETENSORS,
        r#"{"beats": {"embed_dim": 1}, "clipseg": {"reduce_dim": 2}, "acl": {"image_size": 96}}"#,
    );
    let name = folder.path().to_str().unwrap();
    let files = ModelFiles::resolve(name, &Hub::from_env(), Download::Never).unwrap();
    assert_eq!(files.name, name);
    assert_eq!(files.source, ModelSource::Directory(folder.path().into()));
    assert_eq!(files.audio_config["embed_dim"], 1);
    assert_eq!(files.clipseg_config["reduce_dim"], 2);
    assert_eq!(files.acl_config.as_ref().unwrap()["image_size"], 96);
    assert_eq!(files.tokenizer, None);
    assert_eq!([&files.audio, &files.clipseg, &files.acl].map(file_name), SAFETENSORS);
}

#[test]
fn a_directory_of_pickles_with_the_configuration_in_the_checkpoint() {
    let folder = directory(&PICKLES, r#"{"clipseg": {}}"#);
    let files = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!([&files.audio, &files.clipseg, &files.acl].map(file_name), ["beats.pt", "clipseg.bin", "acl.pth"]);
    assert_eq!(files.audio_config["embed_dim"], 512);
    assert_eq!(files.acl_config, None);
    // config.json takes precedence, and so does a safetensors file over a pickle.
    std::fs::write(folder.path().join("config.json"), r#"{"beats": {"embed_dim": 1}, "clipseg": {}}"#).unwrap();
    std::fs::copy(fixture("state.safetensors"), folder.path().join("clipseg.safetensors")).unwrap();
    let files = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!(files.audio_config["embed_dim"], 1);
    assert_eq!(file_name(&files.clipseg), "clipseg.safetensors");
}

#[test]
fn tokenizers_of_a_directory() {
    let folder = directory(&PICKLES, r#"{"clipseg": {}}"#);
    let tokenizer = || ModelFiles::from_directory(folder.path()).unwrap().tokenizer;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("vocab.json"), "{}").unwrap();
    assert_eq!(tokenizer(), None);
    std::fs::write(path("merges.txt"), "").unwrap();
    let expected = TokenizerFiles::VocabMerges { vocab: path("vocab.json"), merges: path("merges.txt") };
    assert_eq!(tokenizer(), Some(expected));
    std::fs::write(path("tokenizer.json"), "{}").unwrap();
    assert_eq!(tokenizer(), Some(TokenizerFiles::Json(path("tokenizer.json"))));
}

/// The files of a directory, by name.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let file =
        |entry: std::fs::DirEntry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    std::fs::read_dir(folder).unwrap().map(|entry| file(entry.unwrap())).collect()
}

#[test]
fn a_directory_in_memory() {
    let config = r#"{"clipseg": {"reduce_dim": 2}, "classes": ["dog"]}"#;
    let folder = directory(&PICKLES, config);
    std::fs::write(folder.path().join("notes.md"), "ignored").unwrap();
    let memory = || ModelFiles::from_memory("mine", contents(folder.path()));
    let (files, expected) = (memory().unwrap(), ModelFiles::from_directory(folder.path()).unwrap());
    assert_eq!(files.source, ModelSource::Directory("mine".into()));
    assert_eq!(files.name, "mine");
    for (ours, theirs) in [(&files.audio, &expected.audio), (&files.clipseg, &expected.clipseg)] {
        assert_eq!(file_name(ours), file_name(theirs));
        assert!(ours.entries().keys().eq(theirs.entries().keys()));
    }
    assert_eq!(files.acl.path(), Path::new("mine/acl.pth"));
    assert_eq!(
        (files.audio_config, files.clipseg_config, files.classes),
        (expected.audio_config, expected.clipseg_config, expected.classes)
    );
    assert_eq!(files.tokenizer, None);

    // Tokenizers, which can be written to a directory again.
    let (vocab, merges) = (b"{}".to_vec(), b"#version".to_vec());
    std::fs::write(folder.path().join("vocab.json"), &vocab).unwrap();
    std::fs::write(folder.path().join("merges.txt"), &merges).unwrap();
    let files = memory().unwrap();
    let copy = tempfile::tempdir().unwrap();
    files.place_tokenizer(copy.path()).unwrap();
    assert_eq!(
        contents(copy.path()),
        [("merges.txt".into(), merges.clone()), ("vocab.json".into(), vocab.clone())].into()
    );
    let expected = TokenizerFiles::MemoryVocabMerges { folder: "mine".into(), vocab, merges };
    assert_eq!(files.tokenizer, Some(expected));
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let expected = TokenizerFiles::Memory { name: "mine/tokenizer.json".into(), json: b"{}".into() };
    assert_eq!(memory().unwrap().tokenizer, Some(expected));

    // Errors are those of a directory.
    let mut lacking = contents(folder.path());
    lacking.remove("beats.pt");
    let error = ModelFiles::from_memory("mine", lacking).unwrap_err();
    assert_format(error, Path::new("mine"), "no beats.safetensors or beats.gguf or beats.pt");
    let mut cut = contents(folder.path());
    cut.insert("config.json".into(), b"{".into());
    assert_format(ModelFiles::from_memory("mine", cut).unwrap_err(), Path::new("mine/config.json"), "EOF");
}

#[test]
fn what_a_directory_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = ModelFiles::from_directory(folder.path()).unwrap_err();
    let all = ["beats.safetensors or beats.gguf or beats.pt", "clipseg.safetensors or clipseg.gguf or clipseg.bin"];
    let all = format!("{}, acl.safetensors or acl.gguf or acl.pth", all.join(", "));
    assert!(error.to_string().contains(&format!("expected config.json, {all}")), "{error}");
    assert_format(error, folder.path(), "no config.json, no beats.safetensors or beats.gguf or beats.pt, no clipseg");

    let folder = directory(&PICKLES[1..], r#"{"clipseg": {}}"#);
    assert_format(
        ModelFiles::from_directory(folder.path()).unwrap_err(),
        folder.path(),
        "no beats.safetensors or beats.gguf or beats.pt",
    );
}

#[test]
fn bad_configurations() {
    for (config, found) in [
        ("{", "EOF"),
        ("[1]", "[1]"),
        (r#"{"beats": {}}"#, "expected a \"clipseg\" part, found none"),
        (r#"{"clipseg": 3}"#, "expected an object as \"clipseg\", found 3"),
        (r#"{"clipseg": {}}"#, "a BEATs checkpoint with its own (`cfg`), found neither"),
    ] {
        let folder = directory(&SAFETENSORS, config);
        let error = ModelFiles::from_directory(folder.path()).unwrap_err();
        assert_format(error, &folder.path().join("config.json"), found);
    }
}

#[test]
fn bad_weights_in_a_directory() {
    let folder =
        directory(&["beats.pt<beats.pt", "clipseg.bin<bad_executes.pt", "acl.pth<acl.pth"], r#"{"clipseg": {}}"#);
    let error = ModelFiles::from_directory(folder.path()).unwrap_err();
    assert_format(error, &folder.path().join("clipseg.bin"), "`posix.system`");
    let folder = directory(&PICKLES[1..], r#"{"clipseg": {}}"#);
    std::fs::create_dir(folder.path().join("beats.safetensors")).unwrap();
    let error = ModelFiles::from_directory(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("beats.safetensors")), "{error:?}");
}

fn unavailable(model: impl Into<ModelSource>, hub: &Hub) -> String {
    match ModelFiles::resolve(model, hub, Download::Never).unwrap_err() {
        Error::ModelUnavailable { reason } => reason,
        error => panic!("{error:?}"),
    }
}

/// A Hub without any files or network.
fn nowhere(cache: &Path) -> Hub {
    Hub { cache: cache.to_path_buf(), endpoint: "http://127.0.0.1:9".into(), token: None, offline: false }
}

#[test]
fn neither_a_directory_nor_a_name() {
    let cache = tempfile::tempdir().unwrap();
    let hub = nowhere(cache.path());
    let reason = unavailable("acl-vit17", &hub);
    assert!(reason.contains("`acl-vit17`") && reason.contains("not a directory"), "{reason}");
    assert!(reason.contains("acl-vit16"), "{reason}");
    let reason = unavailable(fixture("beats.pt").to_str().unwrap(), &hub);
    assert!(reason.contains("a file, not a directory"), "{reason}");
    // A path is used as a path, whatever its name.
    let reason = unavailable(Path::new("auto"), &hub);
    assert!(reason.contains("`auto`: not a directory"), "{reason}");
}

/// A cache of the published files in the layout of the Hub's own clients.
fn fill_cache(cache: &Path) {
    for (repo, file, source) in [
        ("models--CIDAS--clipseg-rd64-refined", "config.json", None),
        ("models--CIDAS--clipseg-rd64-refined", "vocab.json", None),
        ("models--CIDAS--clipseg-rd64-refined", "merges.txt", None),
        ("models--CIDAS--clipseg-rd64-refined", "pytorch_model.bin", Some("state.bin")),
        ("spaces--swimmiing--ACL-SSL-zeroshot-demo", "pretrain/Param_best.pth", Some("acl.pth")),
        (
            "models--WeiChihChen--BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2",
            "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
            Some("beats.pt"),
        ),
    ] {
        let contents =
            source.map_or_else(|| b"{\"reduce_dim\": 64}".to_vec(), |name| std::fs::read(fixture(name)).unwrap());
        let path = cache.join(repo).join("snapshots/0123abcd").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
        std::fs::create_dir_all(cache.join(repo).join("refs")).unwrap();
        std::fs::write(cache.join(repo).join("refs/main"), "0123abcd").unwrap();
    }
}

#[test]
fn a_warm_cache_needs_no_network() {
    let cache = tempfile::tempdir().unwrap();
    fill_cache(cache.path());
    for offline in [false, true] {
        let hub = Hub { offline, ..nowhere(cache.path()) };
        let files = ModelFiles::resolve("acl-vit16", &hub, Download::Never).unwrap();
        assert_eq!(files.clipseg_config["reduce_dim"], 64);
        assert_eq!(files.audio_config["embed_dim"], 512);
        assert_eq!(file_name(&files.clipseg), "pytorch_model.bin");
        assert!(matches!(files.tokenizer, Some(TokenizerFiles::VocabMerges { .. })));
        let mut calls = 0;
        ModelFiles::resolve("acl-vit16", &hub, Download::IfMissing(&mut |_| calls += 1)).unwrap();
        assert_eq!(calls, 0);
    }
}

#[test]
fn auto_takes_the_published_weights_where_they_are_and_never_downloads() {
    let cache = tempfile::tempdir().unwrap();
    let hub = nowhere(cache.path());
    let mut calls = 0;
    let cold = ModelFiles::resolve("auto", &hub, Download::IfMissing(&mut |_| calls += 1));
    if cfg!(feature = "embedded") {
        let cold = cold.unwrap();
        assert_eq!((&*cold.name, &cold.source), ("embedded", &ModelSource::Embedded));
    } else {
        let Err(Error::ModelUnavailable { reason }) = cold else { panic!("{cold:?}") };
        assert!(reason.contains("not asked for") && reason.contains("ask for `acl-vit16` by name"), "{reason}");
        let reason = unavailable("embedded", &hub);
        assert!(reason.contains("without the feature `embedded`") && reason.contains("acl-vit16"), "{reason}");
    }
    assert_eq!(calls, 0);
    fill_cache(cache.path());
    let warm = ModelFiles::resolve("auto", &hub, Download::Never).unwrap();
    assert_eq!((&*warm.name, &warm.source), ("acl-vit16", &ModelSource::Published));

    // Incomplete weights count as missing, but an existing broken file is not silently ignored.
    let acl = cache.path().join("spaces--swimmiing--ACL-SSL-zeroshot-demo/snapshots/0123abcd/pretrain/Param_best.pth");
    std::fs::write(&acl, "no weights").unwrap();
    let broken = ModelFiles::resolve("auto", &hub, Download::Never);
    assert!(matches!(&broken, Err(Error::Format { path, .. }) if *path == acl), "{broken:?}");
    std::fs::remove_file(&acl).unwrap();
    let half = ModelFiles::resolve("auto", &hub, Download::Never);
    assert_eq!(half.is_ok(), cfg!(feature = "embedded"), "{half:?}");
}

#[test]
fn the_classes_that_a_model_knows_come_from_its_configuration() {
    let folder = directory(&PICKLES, r#"{"clipseg": {}, "classes": ["dog", "sea lion"]}"#);
    let files = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!(files.classes.as_deref(), Some(&["dog".to_owned(), "sea lion".to_owned()][..]));
    let linked = tempfile::tempdir().unwrap();
    files.link_frozen(linked.path()).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(linked.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["classes"], serde_json::json!(["dog", "sea lion"]));
    let folder = directory(&PICKLES, r#"{"clipseg": {}, "classes": "dog"}"#);
    let error = ModelFiles::from_directory(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Format { expected, .. } if expected.contains("classes")), "{error:?}");
}

#[test]
fn the_calibration_belongs_to_the_weights_that_it_was_fitted_for() {
    let folder = directory(&PICKLES, r#"{"clipseg": {}}"#);
    assert!(ModelFiles::from_directory(folder.path()).unwrap().presence.is_none());
    let calibration = serde_json::json!({"bias": 0.5, "threshold": 0.7});
    let path = folder.path().join("presence.json");
    std::fs::write(&path, calibration.to_string()).unwrap();
    let files = ModelFiles::from_directory(folder.path()).unwrap();
    assert_eq!(files.presence, Some(calibration.clone()));
    // Other weights will be put beside the frozen parts.
    let copy = tempfile::tempdir().unwrap();
    files.link_frozen(copy.path()).unwrap();
    assert!(!copy.path().join("presence.json").exists());
    files.write_presence(copy.path()).unwrap();
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(copy.path().join("presence.json")).unwrap()).unwrap();
    assert_eq!(written, calibration);
    std::fs::write(&path, "[]").unwrap();
    let error = ModelFiles::from_directory(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Format { path: found, .. } if *found == path), "{error:?}");
}

#[test]
fn configurations_from_before_the_first_release_still_read() {
    let config = r#"{"clipseg": {}, "acl": {"heatmap_size": 224, "image_size": 64}, "things": ["dog"]}"#;
    let folder = directory(&PICKLES, config);
    let files = ModelFiles::from_directory(folder.path()).unwrap();
    let acl: AclConfig = serde_json::from_value(files.acl_config.unwrap()).unwrap();
    assert_eq!(acl, AclConfig { image_size: 64, ..Default::default() });
    assert_eq!(files.classes.as_deref(), Some(&["dog".to_owned()][..]));
    let folder = directory(&PICKLES, r#"{"clipseg": {}, "classes": ["cat"], "things": ["dog"]}"#);
    assert_eq!(ModelFiles::from_directory(folder.path()).unwrap().classes.unwrap(), ["cat"]);
}

#[test]
fn a_cold_cache_says_how_to_get_the_weights() {
    let cache = tempfile::tempdir().unwrap();
    let hub = nowhere(cache.path());
    let reason = unavailable("acl-vit16", &hub);
    let (what, how) = reason.split_once('\n').unwrap();
    assert!(what.contains("config.json (CIDAS/clipseg-rd64-refined)"), "{what}");
    assert!(what.contains(cache.path().to_str().unwrap()), "{what}");
    assert!(what.contains("not asked for"), "{what}");
    assert_eq!(how.lines().count(), 3, "{how}");
    assert!(
        ["HF_ENDPOINT", "HF_TOKEN", "hf download", "soundsight convert"].iter().all(|hint| how.contains(hint)),
        "{how}"
    );

    // The missing file is named even if all others exist.
    fill_cache(cache.path());
    std::fs::remove_dir_all(cache.path().join("spaces--swimmiing--ACL-SSL-zeroshot-demo")).unwrap();
    let hub = Hub { offline: true, ..hub };
    let result = ModelFiles::resolve("acl-vit16", &hub, Download::IfMissing(&mut |_| ()));
    let Err(Error::ModelUnavailable { reason }) = result else { panic!("{result:?}") };
    assert!(reason.contains("Param_best.pth") && reason.contains("HF_HUB_OFFLINE"), "{reason}");
}
