//! Downloads from the Hub, tested with a local server that answers like the Hub.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)]

#[path = "common/hub_server.rs"]
mod hub_server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use hub_server::{COMMIT, Fault, HubServer, etag};
use soundsight::error::{Error, Result};
use soundsight::weights::{Download, Hub, ModelFiles, TokenizerFiles, save_safetensors};

const CLIPSEG: &str = "CIDAS/clipseg-rd64-refined";
const SPACE: &str = "spaces/swimmiing/ACL-SSL-zeroshot-demo/pretrain";
const BEATS: &str = "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt";
const MIRROR: &str = "WeiChihChen/BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2";

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights").join(name)).unwrap()
}

/// A weight file of a quarter of a megabyte, whose first number is `first`.
fn weights(first: f32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let numbers = Tensor::arange(first, first + 65536.0, &Device::Cpu).unwrap();
    save_safetensors(&path, &[("w".to_owned(), numbers)].into(), &BTreeMap::new()).unwrap();
    std::fs::read(path).unwrap()
}

fn weights_path() -> String {
    format!("{CLIPSEG}/pytorch_model.bin")
}

/// A Hub with all published files, and an empty cache.
fn published() -> (HubServer, tempfile::TempDir, Hub) {
    let server = HubServer::start();
    server.small(&format!("{CLIPSEG}/config.json"), "{\"reduce_dim\": 64}");
    server.small(&format!("{CLIPSEG}/vocab.json"), "{}");
    server.small(&format!("{CLIPSEG}/merges.txt"), "#version: 0.2\n");
    server.large(&weights_path(), weights(0.0));
    server.large(&format!("{SPACE}/{BEATS}"), fixture("beats.pt"));
    server.large(&format!("{SPACE}/Param_best.pth"), fixture("acl.pth"));
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { cache: cache.path().to_path_buf(), endpoint: server.endpoint.clone(), token: None, offline: false };
    (server, cache, hub)
}

fn resolve(hub: &Hub) -> Result<ModelFiles> {
    ModelFiles::resolve("acl-vit16", hub, Download::IfMissing(&mut |_| ()))
}

fn assert_complete(files: &ModelFiles) {
    assert_eq!(files.clipseg_config["reduce_dim"], 64);
    assert_eq!(files.audio_config["embed_dim"], 512);
    assert!(matches!(files.tokenizer, Some(TokenizerFiles::VocabMerges { .. })));
    let numbers = files.clipseg.tensor("w", &Device::Cpu, DType::F32).unwrap().to_vec1::<f32>().unwrap();
    assert!(numbers.iter().copied().eq((0..65536).map(|number| number as f32)));
}

fn unavailable(result: Result<ModelFiles>) -> String {
    match result {
        Err(Error::ModelUnavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

fn blob(hub: &Hub, bytes: &[u8], suffix: &str) -> PathBuf {
    hub.cache.join("models--CIDAS--clipseg-rd64-refined/blobs").join(etag(bytes, true) + suffix)
}

#[test]
fn a_download_fills_the_cache_of_the_hubs_own_clients() {
    let (server, _cache, hub) = published();
    let mut reports = Vec::new();
    let mut report = |progress: soundsight::weights::Progress<'_>| {
        reports.push((progress.file.to_owned(), progress.downloaded, progress.total));
    };
    let files = ModelFiles::resolve("acl-vit16", &hub, Download::IfMissing(&mut report)).unwrap();
    assert_complete(&files);

    let repo = hub.cache.join("models--CIDAS--clipseg-rd64-refined");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let snapshot = repo.join("snapshots").join(COMMIT).join("pytorch_model.bin");
    assert_eq!(files.clipseg.path(), snapshot);
    let blob = blob(&hub, &weights(0.0), "");
    assert_eq!(std::fs::canonicalize(&snapshot).unwrap(), std::fs::canonicalize(&blob).unwrap());
    #[cfg(unix)]
    assert!(std::fs::read_link(&snapshot).unwrap().starts_with("../../blobs"));
    #[cfg(unix)]
    assert!(std::fs::read_link(files.acl.path()).unwrap().starts_with("../../../blobs"));
    let left: Vec<_> = std::fs::read_dir(repo.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(files.acl.path().starts_with(hub.cache.join("spaces--swimmiing--ACL-SSL-zeroshot-demo")));

    let total = weights(0.0).len() as u64;
    let of_weights: Vec<_> = reports.iter().filter(|(file, ..)| file == "pytorch_model.bin").collect();
    assert_eq!(of_weights[0], &("pytorch_model.bin".to_owned(), 0, Some(total)));
    assert_eq!(of_weights.last().unwrap(), &&("pytorch_model.bin".to_owned(), total, Some(total)));
    assert!(of_weights.is_sorted_by_key(|(_, downloaded, _)| downloaded));

    // The second time, everything is cached, and no request is made.
    let requests = server.log().len();
    for offline in [false, true] {
        assert_complete(&resolve(&Hub { offline, ..hub.clone() }).unwrap());
    }
    assert_eq!(server.log().len(), requests);
}

#[test]
fn safetensors_are_taken_where_a_revision_has_them() {
    let (server, _cache, hub) = published();
    server.large(&format!("{CLIPSEG}/model.safetensors"), weights(0.0));
    let files = resolve(&hub).unwrap();
    assert!(files.clipseg.path().ends_with("model.safetensors"));
    assert_eq!(server.ranges(&weights_path()).len(), 0);
}

#[test]
fn a_cut_connection_is_resumed() {
    let (server, _cache, hub) = published();
    server.fault(&weights_path(), &[Fault::CutAfter(100_000), Fault::CutAfter(50_000), Fault::Status(503)]);
    assert_complete(&resolve(&hub).unwrap());
    let ranges: Vec<Option<String>> = server.ranges(&weights_path());
    let (end, from) =
        (weights(0.0).len() - 1, |start: usize| Some(format!("bytes={start}-{}", weights(0.0).len() - 1)));
    assert!(end > 200_000);
    assert_eq!(ranges, [None, from(100_000), from(150_000), from(150_000)]);
}

#[test]
fn an_interrupted_program_resumes_where_it_stopped() {
    let (server, _cache, hub) = published();
    let bytes = weights(0.0);
    // The connection breaks after a while, and then permanently.
    server.fault(&weights_path(), &[[Fault::CutAfter(70_000)].as_slice(), &[Fault::Status(500); 5]].concat());
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("pytorch_model.bin") && reason.contains("500"), "{reason}");
    assert_eq!(std::fs::read(blob(&hub, &bytes, ".incomplete")).unwrap(), bytes[..70_000]);
    assert!(!blob(&hub, &bytes, "").exists());

    let mut first = None;
    let mut report = |progress: soundsight::weights::Progress<'_>| {
        if progress.file == "pytorch_model.bin" && first.is_none() {
            first = Some(progress.downloaded);
        }
    };
    let files = ModelFiles::resolve("acl-vit16", &hub, Download::IfMissing(&mut report)).unwrap();
    assert_complete(&files);
    assert_eq!(first, Some(70_000));
    assert_eq!(
        server.ranges(&weights_path()).last().unwrap().as_deref(),
        Some(&*format!("bytes=70000-{}", bytes.len() - 1))
    );
    assert!(!blob(&hub, &bytes, ".incomplete").exists());
}

#[test]
fn a_server_that_ignores_ranges() {
    let (server, _cache, hub) = published();
    server.fault(&weights_path(), &[Fault::CutAfter(100_000), Fault::NoRange]);
    assert_complete(&resolve(&hub).unwrap());
    let ranges = server.ranges(&weights_path());
    assert_eq!((ranges.len(), ranges[2].as_deref()), (3, None));
}

#[test]
fn what_an_earlier_program_left_is_checked() {
    let (server, _cache, hub) = published();
    let bytes = weights(0.0);
    for leftover in [vec![0; 1000], vec![0; bytes.len()], vec![0; bytes.len() + 1]] {
        let incomplete = blob(&hub, &bytes, ".incomplete");
        std::fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
        std::fs::write(&incomplete, leftover).unwrap();
        assert_complete(&resolve(&hub).unwrap());
        std::fs::remove_dir_all(hub.cache.join("models--CIDAS--clipseg-rd64-refined")).unwrap();
    }
    assert!(server.ranges(&weights_path()).len() >= 3);
}

#[test]
fn damaged_contents_do_not_enter_the_cache() {
    let (server, _cache, hub) = published();
    server.fault(&weights_path(), &[Fault::Garbage, Fault::Garbage]);
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("SHA-256"), "{reason}");
    assert!(!blob(&hub, &weights(0.0), "").exists() && !blob(&hub, &weights(0.0), ".incomplete").exists());
    // A single failure is retried.
    server.fault(&weights_path(), &[Fault::Garbage]);
    assert_complete(&resolve(&hub).unwrap());
}

#[test]
fn moments_of_weakness_are_waited_out() {
    let (server, _cache, hub) = published();
    server.head_fault(&weights_path(), &[Fault::Status(500), Fault::Status(503), Fault::Status(429)]);
    assert_complete(&resolve(&hub).unwrap());
    let (server, _cache, hub) = published();
    server.head_fault(&format!("{CLIPSEG}/config.json"), &[Fault::Status(500); 9]);
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("500") && reason.contains("config.json"), "{reason}");
}

#[test]
fn a_renamed_repository_is_followed() {
    let (server, _cache, hub) = published();
    server.small("Someone/else/config.json", "{\"reduce_dim\": 64}");
    server.moved(&format!("{CLIPSEG}/config.json"), "Someone/else/config.json");
    assert_complete(&resolve(&hub).unwrap());
    let (server, _cache, hub) = published();
    server.moved(&format!("{CLIPSEG}/config.json"), &format!("{CLIPSEG}/config.json"));
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("redirects"), "{reason}");
}

#[test]
fn the_mirror_is_asked_when_the_space_has_no_beats() {
    let (server, _cache, hub) = published();
    server.head_fault(&format!("{SPACE}/{BEATS}"), &[Fault::Status(404)]);
    server.large(&format!("{MIRROR}/{BEATS}"), fixture("beats.pt"));
    let files = resolve(&hub).unwrap();
    assert!(files.audio.path().starts_with(hub.cache.join(format!("models--{}", MIRROR.replace('/', "--")))));
}

#[test]
fn a_file_that_is_nowhere() {
    let (server, _cache, hub) = published();
    server.head_fault(&format!("{SPACE}/{BEATS}"), &[Fault::Status(404)]);
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("404") && reason.contains(BEATS) && reason.contains(MIRROR), "{reason}");
    assert_eq!(reason.lines().count(), 4, "{reason}");
}

#[test]
fn closed_repositories_want_a_token() {
    let (server, _cache, hub) = published();
    server.require("sesame");
    for token in [None, Some("wrong".to_owned())] {
        let reason = unavailable(resolve(&Hub { token, ..hub.clone() }));
        assert!(reason.contains("401") && reason.contains("HF_TOKEN"), "{reason}");
        assert!(reason.contains("Access to this repository is restricted"), "{reason}");
    }
    assert_complete(&resolve(&Hub { token: Some("sesame".into()), ..hub }).unwrap());
    // The storage server has a different origin, and must not receive the token.
    let log = server.log();
    let stored: Vec<_> = log.iter().filter(|request| request.path.starts_with("/storage")).collect();
    assert!(stored.len() >= 3);
    assert!(stored.iter().all(|request| request.authorization.is_none()), "{stored:?}");
}

#[test]
fn offline_with_a_cold_cache_asks_nobody() {
    let (server, _cache, hub) = published();
    let reason = unavailable(resolve(&Hub { offline: true, ..hub.clone() }));
    assert!(reason.contains("HF_HUB_OFFLINE"), "{reason}");
    let reason = unavailable(ModelFiles::resolve("acl-vit16", &hub, Download::Never));
    assert!(reason.contains("not asked for"), "{reason}");
    assert!(server.log().is_empty());
}

#[test]
fn no_network_and_no_hub() {
    let cache = tempfile::tempdir().unwrap();
    let hub =
        |endpoint: &str| Hub { cache: cache.path().into(), endpoint: endpoint.into(), token: None, offline: false };
    // A port that has just been released.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reason = unavailable(resolve(&hub(&format!("http://127.0.0.1:{port}"))));
    assert!(reason.contains("refused"), "{reason}");
    let reason = unavailable(resolve(&hub("not an address")));
    assert!(reason.contains("not an address"), "{reason}");
}

#[test]
fn names_from_the_server_stay_inside_the_cache() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = "HTTP/1.1 200 OK\r\nETag: \"../../../etag\"\r\nX-Repo-Commit: ../../commit\r\nContent-Length: 0\r\n\r\n";
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, answer.as_bytes());
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { cache: cache.path().into(), endpoint: format!("http://{address}"), token: None, offline: false };
    let reason = unavailable(resolve(&hub));
    assert!(reason.contains("no Hub"), "{reason}");
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn a_cache_that_cannot_be_written() {
    let (_server, cache, hub) = published();
    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = resolve(&Hub { cache: file.clone(), ..hub }).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(&file)), "{error:?}");
}

#[test]
fn two_at_once_share_one_download() {
    let (server, _cache, hub) = published();
    std::thread::scope(|scope| {
        let both: Vec<_> = (0..2).map(|_| scope.spawn(|| resolve(&hub).unwrap())).collect();
        both.into_iter().for_each(|thread| assert_complete(&thread.join().unwrap()));
    });
    assert_eq!(server.ranges(&weights_path()).len(), 1);
}

/// The child process of the next test, which sets its environment.
#[test]
#[ignore = "run by the_environment_is_honoured"]
fn with_the_environment() {
    assert_complete(&resolve(&Hub::from_env()).unwrap());
}

#[test]
fn the_environment_is_honoured() {
    let (server, cache, _) = published();
    server.require("sesame");
    let run = |variables: &[(&str, &str)]| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "with_the_environment", "--ignored"]);
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_TOKEN_PATH",
            "HF_HUB_OFFLINE",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN",
        ] {
            child.env_remove(name);
        }
        child.env("HF_HOME", cache.path()).env("HF_ENDPOINT", &server.endpoint).env("HF_TOKEN", "sesame");
        child.envs(variables.iter().copied()).output().unwrap().status.success()
    };
    assert!(!run(&[("HF_HUB_OFFLINE", "1")]));
    assert!(server.log().is_empty());
    assert!(!run(&[("HF_TOKEN", "wrong")]));
    assert!(run(&[]));
    assert!(cache.path().join("hub/models--CIDAS--clipseg-rd64-refined/refs/main").exists());
    assert!(run(&[("HF_HUB_OFFLINE", "1")]));
}
