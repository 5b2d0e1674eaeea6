//! Predictions of several processes: together they are the whole, and what does not fit is refused by name.
#![cfg(feature = "eval")]
#![allow(clippy::unwrap_used)]

mod eval_common;

use std::path::{Path, PathBuf};

use eval_common::write_tensors;
use soundsight::eval::{
    Benchmark, GroundTruth, Negative, NegativePrediction, Options, PIXELS, Prediction, Predictions, Predictor, SIZE,
    Sample, Shard, evaluate, save_predictions,
};
use soundsight::{Error, Result};

/// Heatmaps that depend on the other samples of the batch, as those of real models do in their last bits.
struct Neighbours;

impl Predictor for Neighbours {
    type Input = u32;

    fn load(&self, sample: &Sample) -> Result<Option<u32>> {
        let number: u32 = sample.id[1..].parse().unwrap();
        Ok((number % 17 != 3).then_some(number))
    }

    fn predict(&self, batch: Vec<(&Sample, u32)>) -> Result<Vec<Prediction>> {
        let sum: u32 = batch.iter().map(|(_, number)| number).sum();
        let heatmap = |seed: u32| -> Vec<f32> {
            let mix = |pixel: u32| (pixel.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) >> 8;
            (0..PIXELS as u32).map(|pixel| mix(pixel) as f32 / (1 << 24) as f32).collect()
        };
        let predict = |(sample, number): &(&Sample, u32)| Prediction {
            heatmap: heatmap(number + sum),
            confidence: Some((number * 37 % 101) as f32 / 101.0 - f32::from(u8::from(!sample.sounding)) * 0.3),
            presence: Some((number % 7) as f32 / 7.0),
            negatives: [(Negative::Silence, sum), (Negative::Offscreen, number * sum)]
                .map(|(kind, seed)| NegativePrediction {
                    kind,
                    heatmap: heatmap(seed),
                    presence: Some((seed % 11) as f32 / 13.0),
                })
                .into(),
        };
        Ok(batch.iter().map(predict).collect())
    }
}

/// `count` samples, some with the same picture, and half as many silent pairs.
fn samples(count: usize) -> Vec<Sample> {
    let sample = |number: usize, sounding: bool| Sample {
        id: format!("s{number:03}"),
        class: None,
        picture: if sounding { format!("p{}", number / 2 * 2) } else { format!("s{number:03}") },
        sound: format!("s{number:03}"),
        sounding,
        truth: match sounding {
            true => GroundTruth::Union(vec![[number % 90, 20, number % 90 + 80, 150]]),
            false => GroundTruth::Nothing,
        },
    };
    let sounding = (0..count).map(|number| sample(number, true));
    sounding.chain((0..count / 2).map(|number| sample(number, false))).collect()
}

const BENCHMARK: Benchmark = Benchmark::VggssExtended;

fn save(folder: &Path, samples: &[Sample], shard: &str, model: &str) -> PathBuf {
    let path = folder.join(format!("{}.{model}.safetensors", shard.replace('/', "-of-")));
    let (shard, progress) = (shard.parse().unwrap(), |_| ());
    save_predictions(&path, BENCHMARK, samples, &Neighbours, shard, model, progress).unwrap();
    path
}

#[test]
fn shards_give_the_figures_of_one_process_to_the_last_digit() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(150);
    let options = Options { threshold: Some(0.35), ..Default::default() };
    let score = |predictor: &dyn Fn() -> soundsight::eval::Evaluation| {
        let evaluation = predictor();
        let records: Vec<String> = evaluation.records.iter().map(|record| format!("{record:?}")).collect();
        (serde_json::to_string(&evaluation.report).unwrap(), records)
    };
    let whole = score(&|| evaluate(BENCHMARK, &samples, &Neighbours, &options, |_| ()).unwrap());
    assert!(whole.0.contains("\"missing\":14"), "{}", whole.0);
    for world in [1, 2, 3, 5] {
        let mut files: Vec<PathBuf> =
            (1..=world).map(|i| save(folder.path(), &samples, &format!("{i}/{world}"), "m")).collect();
        files.reverse();
        let merged = Predictions::open(&files, BENCHMARK, &samples).unwrap();
        let found = score(&|| evaluate(BENCHMARK, &samples, &merged, &options, |_| ()).unwrap());
        assert!(found == whole, "{world} shards");
    }
    // The same shard is the same file.
    let path = save(folder.path(), &samples, "2/3", "m");
    let before = std::fs::read(&path).unwrap();
    assert!(before == std::fs::read(save(folder.path(), &samples, "2/3", "m")).unwrap());
}

#[track_caller]
fn refused(files: &[&PathBuf], samples: &[Sample], parts: &[&str]) {
    let error = Predictions::open(files, BENCHMARK, samples).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn gaps_overlaps_and_strangers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let samples = samples(100);
    let shard = |name: &str| save(folder.path(), &samples, name, "m");
    let (a, b, c) = (shard("1/3"), shard("2/3"), shard("3/3"));
    refused(&[&a, &c], &samples, &["1-of-3", "all 3 shards", "nothing of shard 2/3", "such as `s0"]);
    refused(&[&b], &samples, &["2-of-3", "nothing of shard 1/3, 3/3"]);
    let copy = folder.path().join("copy.safetensors");
    std::fs::copy(&b, &copy).unwrap();
    refused(&[&a, &b, &c, &copy], &samples, &["copy", "each sample in one file", "shard 2/3", "such as `s0", "2-of-3"]);
    let other = shard("2/2");
    refused(&[&a, &b, &other], &samples, &["2-of-2", "one of 3 shards", "2/2"]);
    let stranger = save(folder.path(), &samples, "2/3", "n");
    refused(&[&a, &stranger, &c], &samples, &["2-of-3.n", "predictions of the model m", "n"]);
    refused(&[&a, &b, &c], &samples[1..], &["1-of-3", "a shard of these 149 samples", "others"]);
    let error = Predictions::open(&[&a, &b, &c], Benchmark::FlickrExtended, &samples).unwrap_err().to_string();
    assert!(error.contains("predictions of the benchmark flickr-extended, found vggss-extended"), "{error}");
    // A whole file may be about more samples than are scored.
    Predictions::open(&[shard("1/1")], BENCHMARK, &samples[..20]).unwrap();
    let error = Predictions::open(&[] as &[PathBuf], BENCHMARK, &samples).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error:?}");

    let plain = folder.path().join("plain.safetensors");
    write_tensors(&plain, vec![("heatmap.s001".into(), vec![SIZE, SIZE], vec![0.5; PIXELS])]);
    refused(&[&a, &plain], &samples, &["plain", "a shard of the same samples", "1-of-3"]);

    let path = folder.path().join("none.safetensors");
    let too_many = "9/9".parse::<Shard>().unwrap();
    let error = save_predictions(&path, BENCHMARK, &samples, &Neighbours, too_many, "m", |_| ()).unwrap_err();
    assert!(matches!(&error, Error::Argument { what, .. } if what == "shard"), "{error:?}");
    let twice = [samples[0].clone(), samples[0].clone()];
    let error = save_predictions(&path, BENCHMARK, &twice, &Neighbours, Shard::WHOLE, "m", |_| ()).unwrap_err();
    assert!(error.to_string().contains("`s000` twice"), "{error}");
    assert!(!path.exists());
}

#[test]
fn other_files_must_be_complete_and_disjoint() {
    let folder = tempfile::tempdir().unwrap();
    let samples: Vec<Sample> = samples(6).into_iter().filter(|sample| sample.sounding).collect();
    let part = |name: &str, ids: &[usize]| {
        let path = folder.path().join(name);
        let heatmap = |id: &usize| (format!("heatmap.s{id:03}"), vec![SIZE, SIZE], vec![*id as f32 / 6.0; PIXELS]);
        write_tensors(&path, ids.iter().map(heatmap).collect());
        path
    };
    let score = |files: &[&PathBuf]| {
        let predictions = Predictions::open(files, Benchmark::Vggss, &samples).unwrap();
        let evaluation = evaluate(Benchmark::Vggss, &samples, &predictions, &Options::default(), |_| ()).unwrap();
        serde_json::to_string(&evaluation.report).unwrap()
    };
    let (a, b, whole) = (part("a", &[0, 3, 4]), part("b", &[1, 2, 5]), part("whole", &[0, 1, 2, 3, 4, 5]));
    assert_eq!(score(&[&a, &b]), score(&[&whole]));
    let refused = |files: &[&PathBuf]| Predictions::open(files, Benchmark::Vggss, &samples).unwrap_err().to_string();
    let message = refused(&[&a, &part("c", &[1, 3])]);
    assert!(message.contains("each sample in one file, found `s003` in") && message.contains("a as well"), "{message}");
    let message = refused(&[&a, &part("d", &[1])]);
    assert!(
        message.contains("a heatmap of each of 6 samples in 2 files, found none of 2: `s002`, `s005`"),
        "{message}"
    );
    // A single file may lack some, which are counted.
    assert!(score(&[&a]).contains("\"missing\":3"));
}
