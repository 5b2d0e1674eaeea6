//! Every metric against `benches/peers/fixtures_eval.py` (numpy, scikit-learn, Pillow, torch).
#![cfg(feature = "eval")]
#![allow(clippy::unwrap_used)] // a test that panics has failed

mod eval_common;

use std::path::Path;

use eval_common::{assert_agrees, benchmark, fixture, fixtures, heatmap, write_predictions};
use serde_json::{Value, json};
use soundsight::eval::{
    Baseline, Benchmark, Detections, Evaluation, GroundTruth, Negative, Options, PIXELS, PredictionsFile, SIZE, Split,
    THRESHOLDS, area_under_success_curve, evaluate, max_mean_f_measure, mini_batch_mean, pixel_average_precision,
    read_samples, read_sound, read_vggss, success_rate,
};

fn run(case: &Value, folder: &Path) -> Evaluation {
    let benchmark = benchmark(case);
    let file = folder.join("predictions.safetensors");
    write_predictions(&file, case["predictions"].as_array().unwrap());
    let path = |name: &str| case[name].as_str().map(fixture);
    let split = path("split").map(|path| Split::read(&path).unwrap());
    let samples =
        read_samples(benchmark, &path("annotations").unwrap(), path("silent").as_deref(), split.as_ref()).unwrap();
    let threshold = case["threshold"].as_f64().map(|t| t as f32);
    let split = split.map(|split| split.name().to_owned());
    let options = Options { threshold, split, ..Default::default() };
    let predictor = PredictionsFile::open(&file, benchmark).unwrap();
    evaluate(benchmark, &samples, &predictor, &options, |_| ()).unwrap()
}

/// The case with this name.
fn case(name: &str) -> Value {
    let fixtures = fixtures();
    fixtures["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).cloned().unwrap()
}

/// Every case agrees with the reference, key by key, in the JSON that users read.
#[test]
fn reports_agree_with_the_oracle() {
    let folder = tempfile::tempdir().unwrap();
    for case in fixtures()["cases"].as_array().unwrap() {
        let report = run(case, folder.path()).report;
        let file = folder.path().join("report.json");
        report.write_json(&file).unwrap();
        let found: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_agrees(&found, &case["expected"], case["name"].as_str().unwrap());
        assert_eq!(found["thresholds"].as_object().unwrap().len(), 19);
    }
}

#[test]
fn two_runs_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let case = case("vggss");
    assert_eq!(run(&case, folder.path()).report, run(&case, folder.path()).report);
}

#[test]
fn thresholds_are_compared_in_f32() {
    // 0.7_f32 is below 0.7, and 0.05_f32 above 0.05: compared in f64, the first would not count.
    let folder = tempfile::tempdir().unwrap();
    for (place, numerator) in [(0, 1), (13, 14), (18, 19)] {
        let said = json!([{"id": "half", "heatmap": {"kind": "flat", "num": numerator, "den": 20}}]);
        let case = json!({"benchmark": "vggss", "annotations": "vggss.json", "predictions": said});
        let record = run(&case, folder.path()).records.remove(0);
        assert_eq!(record.scores[place], 0.25, "{}", THRESHOLDS[place]);
        if place < 18 {
            assert_eq!(record.scores[place + 1], 0.0);
        }
    }
}

#[test]
fn detections_walk_as_published() {
    let fixtures = fixtures();
    for (name, case) in fixtures["detections"].as_object().unwrap() {
        let pair = |p: &Value| (p[0].as_bool().unwrap(), p[1].as_f64().unwrap(), p[2].as_f64().unwrap() as f32);
        let detections = Detections::new(case["pairs"].as_array().unwrap().iter().map(pair));
        let found = json!({
            "AP": detections.average_precision(),
            "maxF1": detections.max_f1(),
            "LocAcc": detections.localization_accuracy(),
        });
        for metric in ["AP", "maxF1", "LocAcc"] {
            assert_agrees(&found[metric], &case[metric], &format!("{name}.{metric}"));
        }
    }
}

#[test]
fn detections_of_nothing_are_defined() {
    let nothing = Detections::new([]);
    assert_eq!((nothing.average_precision(), nothing.max_f1(), nothing.localization_accuracy()), (0.0, 0.0, None));
    assert_eq!(nothing.precision_recall(0.5), (1.0, 1.0));
}

#[test]
fn metrics_of_nothing_are_undefined() {
    assert_eq!(success_rate(&[], 0.5), None);
    assert_eq!(area_under_success_curve(&[]), None);
    assert_eq!(mini_batch_mean(&[]), None);
    assert_eq!(max_mean_f_measure([]), None);
}

/// A smaller last batch has the same weight as a full one.
#[test]
fn mini_batches_are_averaged_first() {
    assert_eq!(mini_batch_mean(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), Some(0.5));
}

/// AVSBench's stereo sounds are played left, then right; those of other benchmarks are averaged.
#[test]
fn stereo_sounds_are_played_channel_by_channel() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, channels, samples: &[i16]| {
        let spec = hound::WavSpec {
            channels,
            sample_rate: 16_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let path = folder.path().join(name);
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
        writer.finalize().unwrap();
        path
    };
    let stereo = write("stereo.wav", 2, &[16_384, -8_192, 8_192, 0]);
    assert_eq!(read_sound(Benchmark::AvsbenchS4, &stereo).unwrap().samples(), [0.5, 0.25, -0.25, 0.0]);
    assert_eq!(read_sound(Benchmark::Vggss, &stereo).unwrap().samples(), [0.125, 0.125]);
    let mono = write("mono.wav", 1, &[16_384, 8_192]);
    assert_eq!(read_sound(Benchmark::AvsbenchMs3, &mono).unwrap().samples(), [0.5, 0.25]);
}

#[test]
fn negative_sounds_are_silence_and_the_same_noise_every_time() {
    let silence = Negative::Silence.sound(0.5).unwrap().unwrap();
    assert_eq!((silence.samples().len(), silence.samples().iter().all(|&s| s == 0.0)), (8_000, true));
    let noise = || Negative::Noise.sound(0.5).unwrap().unwrap();
    assert_eq!(noise(), noise());
    let power = noise().samples().iter().map(|s| s * s).sum::<f32>() / 8_000.0;
    assert!((power - 1.0 / 3.0).abs() < 0.02, "{power}");
    assert_eq!(Negative::Offscreen.sound(1.0).unwrap(), None);
}

/// Grey masks are dithered and palettes thresholded as in Pillow, with the same number of white pixels.
#[test]
fn masks_are_read_as_pillow_reads_them() {
    for (name, count) in fixtures()["white_pixels"].as_object().unwrap() {
        let truth = GroundTruth::Mask(fixture("masks").join(format!("{name}.png"))).map().unwrap();
        assert_eq!(truth.num_inside() as u64, count.as_u64().unwrap(), "{name}");
    }
}

#[test]
fn degenerate_boxes_are_empty_and_annotators_add_up() {
    let samples = read_vggss(&fixture("vggss.json")).unwrap();
    let weight = |id: &str| samples.iter().find(|s| s.id == id).unwrap().truth.map().unwrap().weight();
    assert_eq!(weight("degenerate"), 0.0);
    assert_eq!(weight("flattened"), 0.0);
    assert_eq!(weight("half"), 112.0 * 112.0);
    let flickr = read_samples(Benchmark::Flickr, &fixture("flickr"), None, None).unwrap();
    assert_eq!(flickr.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["10001", "10002", "10003", "10004"]);
    let one_annotator = flickr[1].truth.map().unwrap();
    assert_eq!((one_annotator.num_inside(), one_annotator.weight()), (112 * 112, 112.0 * 112.0 / 2.0));
}

#[test]
fn frames_of_one_video_share_its_sound() {
    let frames = read_samples(Benchmark::AvsbenchS4, &fixture("masks"), None, None).unwrap();
    assert!(frames.iter().take(5).all(|frame| frame.sound == "clip_0"), "{frames:?}");
}

#[test]
fn pixel_average_precision_of_a_perfect_and_of_an_inverted_heatmap() {
    let truth = GroundTruth::Union(vec![[0, 0, SIZE, SIZE / 4]]).map().unwrap();
    let perfect: Vec<f32> = truth.levels().iter().map(|&level| f32::from(level)).collect();
    assert_eq!(pixel_average_precision(&perfect, &truth), 1.0);
    let inverted: Vec<f32> = perfect.iter().map(|value| -value).collect();
    assert_eq!(pixel_average_precision(&inverted, &truth), 0.25);
    assert_eq!(pixel_average_precision(&inverted, &GroundTruth::Nothing.map().unwrap()), 0.0);
}

/// A heatmap of the whole picture scores the area of the ground truth; the report has all three trivial heatmaps.
#[test]
fn baselines_come_with_every_report() {
    let folder = tempfile::tempdir().unwrap();
    let said = json!([{"id": "noise", "heatmap": {"kind": "flat", "num": 0, "den": 1}}]);
    let case = json!({"benchmark": "vggss", "annotations": "vggss.json", "predictions": said});
    let report = run(&case, folder.path()).report;
    let names: Vec<_> = report.baselines.iter().map(|(baseline, _)| *baseline).collect();
    assert_eq!(names, Baseline::ALL);
    let (_, whole) = &report.baselines[0];
    assert_eq!((whole.threshold, whole.row.get("cIoU"), whole.row.get("mIoU")), (0.05, Some(100.0), Some(100.0)));
}

/// The recipes of the other tests give the intended heatmaps.
#[test]
fn recipes_hit_thresholds_exactly() {
    let steps = heatmap(&json!({"kind": "steps", "a": 1, "b": 3}));
    assert_eq!(steps.len(), PIXELS);
    for threshold in THRESHOLDS {
        assert!(steps.contains(&threshold), "{threshold}");
    }
}
