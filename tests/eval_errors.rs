//! Invalid inputs: each gives the right error variant, with the file, what was expected and what was found.
#![cfg(feature = "eval")]
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod eval_common;
#[path = "common/pictures.rs"]
mod pictures;

use std::path::{Path, PathBuf};

use eval_common::{fixture, write_tensors};
use soundsight::Error;
use soundsight::eval::{
    Benchmark, Options, PIXELS, Prediction, PredictionsFile, Predictor, SIZE, Sample, Split, evaluate, read_samples,
};

/// Asserts that the message of an error (including its sources) contains all of `parts`.
#[track_caller]
fn assert_names(error: &Error, parts: &[&str]) {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

fn read(benchmark: Benchmark, annotations: &Path) -> Error {
    read_samples(benchmark, annotations, None, None).unwrap_err()
}

fn file(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Evaluates VGG-SS fixtures with a predictions file of these tensors.
fn predict(benchmark: Benchmark, folder: &Path, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Error {
    let path = folder.join("mine.safetensors");
    write_tensors(&path, tensors);
    let silent = benchmark.is_extended().then(|| fixture("silent.csv"));
    let samples = read_samples(benchmark, &fixture("extended.json"), silent.as_deref(), None).unwrap();
    let predictor = match PredictionsFile::open(&path, benchmark) {
        Ok(predictor) => predictor,
        Err(error) => return error,
    };
    evaluate(benchmark, &samples, &predictor, &Options::default(), |_| ()).unwrap_err()
}

fn heatmap(id: &str) -> (String, Vec<usize>, Vec<f32>) {
    (format!("heatmap.{id}"), vec![SIZE, SIZE], vec![0.5; PIXELS])
}

#[test]
fn annotations_of_the_wrong_kind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    let error = read(Benchmark::Vggss, &fixture("flickr"));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["flickr", "a JSON list", "a folder"]);

    let error = read(Benchmark::Vggss, &file(folder, "a.json", r#"{"file": "x"}"#));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["a.json", "bbox: [[x0, y0, x1, y1]", "expected a sequence"]);

    let error = read(Benchmark::Vggss, &file(folder, "b.json", r#"[{"file": "x", "bbox": [[0.1, 0.2, 0.3]]}]"#));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["b.json", "length 3"]);

    let error = read(Benchmark::Vggss, &file(folder, "c.json", "[]"));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["c.json", "an empty list"]);

    let error = read(Benchmark::Flickr, &fixture("vggss.json"));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["vggss.json", "a folder of <id>.xml files", "a file"]);

    let error = read(Benchmark::Flickr, &fixture("masks"));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["masks", "a folder of <id>.xml files", "no such file"]);

    let error = read(Benchmark::AvsbenchMs3, &fixture("flickr"));
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["flickr", "a folder of <id>.png files"]);

    for benchmark in [Benchmark::Vggss, Benchmark::Flickr, Benchmark::AvsbenchS4] {
        let error = read(benchmark, &folder.join("absent"));
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert_names(&error, &["absent", "cannot read"]);
    }
}

#[test]
fn xml_that_is_none_and_boxes_without_corners() {
    let folder = tempfile::tempdir().unwrap();
    let xml = |content: &str| {
        file(folder.path(), "7.xml", content);
        read(Benchmark::Flickr, folder.path())
    };
    let error = xml("<annotations>");
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["7.xml", "an XML document"]);
    let error =
        xml("<a><s>\n<bbox><id>0</id><xmin>1</xmin><ymin>2</ymin><xmax>3.5</xmax><ymax>9</ymax></bbox></s></a>");
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["7.xml", "four integers", "3 in the bbox on line 2"]);
}

#[test]
fn masks_of_another_size_or_kind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = || {
        let samples = read_samples(Benchmark::AvsbenchS4, folder, None, None).unwrap();
        let path = folder.join("p.safetensors");
        write_tensors(&path, vec![heatmap("clip_1")]);
        let predictor = PredictionsFile::open(&path, Benchmark::AvsbenchS4).unwrap();
        evaluate(Benchmark::AvsbenchS4, &samples, &predictor, &Options::default(), |_| ()).unwrap_err()
    };
    pictures::write_png(image::GrayImage::new(100, 224), folder.join("clip_1.png"));
    let error = run();
    assert!(matches!(error, Error::Image { .. }), "{error:?}");
    assert_names(&error, &["clip_1.png", "224 x 224", "100 x 224"]);
    file(folder, "clip_1.png", "no PNG");
    let error = run();
    assert!(matches!(error, Error::Image { .. }), "{error:?}");
    assert_names(&error, &["clip_1.png", "a PNG mask"]);
}

#[test]
fn silent_pairs_belong_to_the_extended_benchmarks() {
    let folder = tempfile::tempdir().unwrap();
    let annotations = fixture("vggss.json");
    let error = read(Benchmark::VggssExtended, &annotations);
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_names(&error, &["silent", "vggss-extended", "none"]);
    let silent = fixture("silent.csv");
    let error = read_samples(Benchmark::Vggss, &annotations, Some(&silent), None).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_names(&error, &["silent", "silent.csv"]);

    for (content, found) in [("clip,sound\na,b\n", "clip,sound"), ("video,audio,label\na,b\n", "record")] {
        let path = file(folder.path(), "pairs.csv", content);
        let error = read_samples(Benchmark::VggssExtended, &annotations, Some(&path), None).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        assert_names(&error, &["pairs.csv", "video,audio,label", found]);
    }
}

#[test]
fn splits_name_annotated_samples() {
    let folder = tempfile::tempdir().unwrap();
    let select = |content: &str| {
        let split = Split::read(&file(folder.path(), "heard.csv", content))?;
        read_samples(Benchmark::Vggss, &fixture("vggss.json"), None, Some(&split))
    };
    let error = select("union,dog\nstranger,cat\n").unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["heard.csv", "ids of annotated samples", "`stranger`"]);
    let error = select("\n").unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["heard.csv", "no row"]);
    let error = select("file,class\n").unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["heard.csv", "none of them"]);
    // A header is recognised because it does not name a sample.
    assert_eq!(select("file,class\nunion,dog\n").unwrap().len(), 1);
}

#[test]
fn predictions_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| PredictionsFile::open(path, Benchmark::Vggss).unwrap_err();
    let error = open(&folder.path().join("absent.safetensors"));
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    for (content, found) in [("1234", "4 bytes"), ("a text, not a tensor in it", "no safetensors header in 26 bytes")] {
        let error = open(&file(folder.path(), "mine.txt", content));
        assert!(matches!(error, Error::Format { .. }), "{error:?}");
        assert_names(&error, &["mine.txt", "safetensors", found]);
    }
    let whole = folder.path().join("cut.safetensors");
    write_tensors(&whole, vec![heatmap("e00")]);
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&whole, &bytes[..bytes.len() - 1]).unwrap();
    let error = open(&whole);
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["cut.safetensors", "complete", "bytes of numbers where the header announces"]);
    write_tensors(&whole, vec![("weight".into(), vec![1], vec![0.0])]);
    assert_names(&open(&whole), &["cut.safetensors", "`heatmap.<id>`", "1 tensors, none of them a heatmap"]);
}

#[test]
fn heatmaps_of_another_shape_and_with_nan() {
    let folder = tempfile::tempdir().unwrap();
    let error = predict(Benchmark::Vggss, folder.path(), vec![("heatmap.e00".into(), vec![10, 10], vec![0.5; 100])]);
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["mine.safetensors", "`heatmap.e00` as F32 [224, 224]", "F32 [10, 10]"]);

    let (name, shape, mut values) = heatmap("e01");
    values[SIZE * 3 + 7] = f32::NAN;
    let error = predict(Benchmark::Vggss, folder.path(), vec![heatmap("e00"), (name, shape, values)]);
    assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
    assert_names(&error, &["`heatmap.e01`", "NaN at row 3, column 7", "mine.safetensors"]);
}

#[test]
fn extended_benchmarks_need_confidences() {
    let folder = tempfile::tempdir().unwrap();
    let confidence = |id: &str, value| (format!("confidence.{id}"), vec![1], vec![value]);
    let error =
        predict(Benchmark::VggssExtended, folder.path(), vec![heatmap("e00"), heatmap("s00"), confidence("e00", 0.5)]);
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    assert_names(&error, &["mine.safetensors", "`confidence.s00`", "vggss-extended", "no such tensor"]);
    let error =
        predict(Benchmark::VggssExtended, folder.path(), vec![heatmap("e00"), confidence("e00", f32::INFINITY)]);
    assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
    assert_names(&error, &["`confidence.e00`", "inf"]);
}

#[test]
fn nothing_to_score_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = predict(Benchmark::Vggss, folder.path(), vec![heatmap("stranger")]);
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_names(&error, &["samples", "at least one", "none of 17 samples"]);
}

/// The heatmaps of a Rust predictor are checked like those in a file.
#[test]
fn predictors_are_checked_too() {
    struct Says(Prediction);
    impl Predictor for Says {
        type Input = ();
        fn load(&self, _: &Sample) -> soundsight::Result<Option<()>> {
            Ok(Some(()))
        }
        fn predict(&self, batch: Vec<(&Sample, ())>) -> soundsight::Result<Vec<Prediction>> {
            Ok(batch.iter().map(|_| self.0.clone()).collect())
        }
    }
    let samples = read_samples(Benchmark::Vggss, &fixture("vggss.json"), None, None).unwrap();
    let run = |heatmap, options: &Options| {
        let says = Says(Prediction { heatmap, confidence: None, presence: None, negatives: Vec::new() });
        evaluate(Benchmark::Vggss, &samples, &says, options, |_| ())
    };
    let error = run(vec![0.0; 100], &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error:?}");
    assert_names(&error, &["heatmap", "[224 * 224]", "[100]"]);
    let error = run(vec![f32::INFINITY; PIXELS], &Options::default()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error:?}");
    let threshold = Options { threshold: Some(1.5), ..Default::default() };
    let error = run(vec![0.5; PIXELS], &threshold).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_names(&error, &["threshold", "[0, 1]", "1.5"]);
    assert!(run(vec![0.5; PIXELS], &Options::default()).is_ok());
}

#[test]
fn unknown_benchmarks_are_refused_by_name() {
    let error = "vgg".parse::<Benchmark>().unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");
    assert_names(&error, &["benchmark", "avsbench-ms3", "vgg"]);
    for benchmark in Benchmark::ALL {
        assert_eq!(benchmark.name().parse::<Benchmark>().unwrap(), benchmark);
    }
}

#[test]
fn reports_into_missing_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.safetensors");
    write_tensors(&path, vec![heatmap("e00")]);
    let samples = read_samples(Benchmark::Vggss, &fixture("extended.json"), None, None).unwrap();
    let predictor = PredictionsFile::open(&path, Benchmark::Vggss).unwrap();
    let report = evaluate(Benchmark::Vggss, &samples, &predictor, &Options::default(), |_| ()).unwrap().report;
    let error = report.write_json(&folder.path().join("absent/report.json")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert_names(&error, &["absent/report.json", "cannot write"]);
}
