//! Several processes, played by threads, train as one does: the same losses, gradients and weights, and an error in one ends
//! the run in all of them.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used)]

mod common;
mod processes;
mod train_media;
mod train_toy;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use common::{fixture, max_difference};
use processes::among;
use serde_json::json;
use soundsight::data::random::{Purpose, stream};
use soundsight::data::{BadPairs, BatchSource, EpochSampler, Loader, MediaReader, PairDataset, PairList, Sharing};
use soundsight::train::losses::LossWeights;
use soundsight::train::{
    AclObjective, Collective, Gradients, Length, Negatives, Objective, Outcome, TrainConfig, TrainEvent, Trainable,
    Trainer, agree, shard_of,
};
use soundsight::weights::ModelFiles;
use soundsight::{Error, Localizer};
use train_media::write_pairs;
use train_toy::{Line, files_of};

type PairLoader = Loader<PairDataset<MediaReader>>;

/// The bias that no loss depends on: its gradient is rounding error, which Adam turns into full steps.
const WITHOUT_EFFECT: &str = "audio_proj.fga.un_models.0.feature_reduce.bias";

struct Fixture {
    files: ModelFiles,
    localizer: Localizer,
    folder: tempfile::TempDir,
    weights: LossWeights,
}

impl Fixture {
    fn new(num_pairs: usize) -> Self {
        let files = ModelFiles::from_directory(fixture("mini")).unwrap();
        let localizer = Localizer::from_files(&files, Device::Cpu, DType::F32).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_pairs(folder.path(), num_pairs);
        Self { files, localizer, folder, weights: LossWeights::default() }
    }

    fn break_sound(&self, k: usize) {
        std::fs::write(self.folder.path().join(format!("audio/p{k}.wav")), "no sound").unwrap();
    }

    /// All pairs in batches of this size, shared with the group.
    fn loader(&self, group: &dyn Collective, batch: usize, negatives: Negatives, trains: bool) -> PairLoader {
        let list = PairList::csv(&self.folder.path().join("pairs.csv")).unwrap();
        let list_of = self.folder.path().join(format!("bad-{}-{}-{trains}.csv", group.size(), group.rank()));
        let bad = BadPairs::open(&list_of, list.num_pairs(), 0.2).unwrap();
        let sampler = match trains {
            true => EpochSampler::training(list.num_pairs(), batch, 3).unwrap(),
            false => EpochSampler::validation(list.num_pairs(), batch).unwrap(),
        };
        let sharing = if negatives == Negatives::Global { Sharing::Parts } else { Sharing::Batches };
        let sampler = sampler.shared(shard_of(group), sharing).unwrap();
        let reader = MediaReader::new(&self.localizer.acl().config().acl, None).unwrap();
        Loader::new(Arc::new(PairDataset::new(list, reader, trains)), sampler, 3, 2, Arc::new(bad), 1).unwrap()
    }

    fn objective(&self, group: &Arc<dyn Collective>, negatives: Negatives) -> AclObjective<'_> {
        let acl = self.localizer.acl();
        let trainable = Trainable::from_checkpoint(acl.config(), &self.files.acl, &Device::Cpu).unwrap();
        AclObjective::new(&self.files, acl, trainable, self.weights, Device::Cpu, DType::F32)
            .unwrap()
            .with_group(group.clone(), negatives)
    }

    /// The mean loss of the first `count` batches, and their mean gradients, as each of `size` processes knows them.
    fn first_batches(
        &self,
        size: usize,
        (count, batch): (usize, usize),
        negatives: Negatives,
    ) -> Vec<(f64, Vec<(String, Tensor)>)> {
        let results = among(size, |group| {
            let objective = self.objective(&group, negatives);
            let source = self.loader(&*group, batch, negatives, true);
            let (names, vars): (Vec<_>, Vec<_>) = objective.trainable().into_iter().unzip();
            let (mut gradients, mut losses) = (Gradients::new(names.clone()), Vec::new());
            for loaded in source.epoch(0, 0).unwrap().take(count) {
                let loaded = loaded.unwrap();
                // None if another process has this batch.
                let Some(batch) = loaded.batch else { continue };
                let mut noise = stream(5, Purpose::Training, 0, loaded.index as u64);
                let output = objective.loss(&batch, &mut noise).unwrap();
                gradients.add(&vars, output.loss.backward().unwrap()).unwrap();
                losses.push(f64::from(output.loss.to_scalar::<f32>().unwrap()));
            }
            let (mut gradients, summaries) = agree(&*group, Ok(gradients), Gradients::summary).unwrap();
            gradients.all_reduce(&*group, &vars, &summaries).unwrap();
            gradients.mean().unwrap();
            let values = gradients.values().iter().map(|value| value.clone().unwrap());
            (losses.iter().sum::<f64>() / losses.len() as f64, names.into_iter().zip(values).collect::<Vec<_>>())
        });
        let mean = results.iter().map(|(loss, _)| loss).sum::<f64>() / size as f64;
        results.into_iter().map(|(_, gradients)| (mean, gradients)).collect()
    }

    /// Asserts that several processes have the loss and the gradients of one.
    fn assert_like_one_process(&self, batches: (usize, usize), negatives: Negatives, sizes: &[usize]) {
        let (loss, expected) = self.first_batches(1, batches, negatives).remove(0);
        for size in sizes {
            for (found, gradients) in self.first_batches(*size, batches, negatives) {
                assert!((found - loss).abs() < 1e-5, "{size} processes: {found}, expected {loss}");
                for ((name, gradient), (_, expected)) in gradients.iter().zip(&expected) {
                    let (difference, largest) = (max_difference(gradient, expected), largest(expected));
                    // A gradient may be a small difference of large terms, with their rounding error.
                    assert!(
                        difference <= (1e-4 * largest).max(5e-8),
                        "{negatives:?}, {size} processes, {name}: off by {difference}, largest {largest}"
                    );
                }
            }
        }
    }

    /// Trains in the subfolder `run` in `size` processes, and returns the losses of the steps and the trained values.
    fn train(&self, run: &str, size: usize, batch: usize, negatives: Negatives, config: &TrainConfig) -> Trained {
        let mut results = among(size, |group| {
            let objective =
                self.objective(&group, negatives).with_validation(self.loader(&*group, 3, Negatives::Local, false));
            let source = self.loader(&*group, batch, negatives, true);
            let (settings, folder) = (objective.settings().unwrap(), self.folder.path().join(run));
            let mut trainer =
                Trainer::start_among(group, config.clone(), settings, &objective, &source, &folder).unwrap();
            let mut losses = Vec::new();
            let outcome = trainer.run(&AtomicBool::new(false), &mut |event| {
                if let TrainEvent::Step(report) = event {
                    losses.push(report.metrics[0].1);
                }
            });
            assert_eq!(outcome.unwrap(), Outcome::Finished);
            let bad = source.bad_pairs().count();
            let values = objective.trainable().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
            Trained { losses, values: values.collect(), bad }
        });
        let first = results.remove(0);
        for other in &results {
            assert_eq!((&first.losses, first.bad), (&other.losses, other.bad), "processes tell different things");
            assert!(first.values.iter().zip(&other.values).all(|(a, b)| max_difference(&a.1, &b.1) == 0.0));
        }
        first
    }
}

struct Trained {
    losses: Vec<f64>,
    values: Vec<(String, Tensor)>,
    bad: usize,
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// One batch of eight pairs, of which each process has a part: also none.
#[test]
fn global_negatives_have_the_loss_and_the_gradients_of_one_process() {
    for (is_broken, num_noises) in [(false, 0), (true, 0), (true, 2)] {
        let mut f = Fixture::new(8);
        if is_broken {
            f.break_sound(5);
        }
        // Sounds that belong to no picture are the same in every process.
        f.weights.silence_negatives = num_noises / 2;
        f.weights.noise_negatives = num_noises;
        f.assert_like_one_process((1, 8), Negatives::Global, &[2, 4, 8]);
    }
}

/// Four batches of two pairs, whole in one process or another: their gradients are averaged.
#[test]
fn local_negatives_average_the_gradients_of_the_same_batches() {
    let f = Fixture::new(8);
    f.assert_like_one_process((4, 2), Negatives::Local, &[2, 4]);
}

#[test]
fn runs_end_with_the_weights_of_one_process() {
    let f = Fixture::new(24);
    f.break_sound(7);
    let global = TrainConfig { length: Length::Steps(20), ..TrainConfig::default() };
    let local = TrainConfig { accumulation: 4, ..global.clone() };
    for (negatives, batch, config) in [(Negatives::Global, 8, global), (Negatives::Local, 2, local)] {
        let run = |size: usize| f.train(&format!("{negatives:?}-{size}"), size, batch, negatives, &config);
        let alone = run(1);
        assert_eq!((alone.losses.len(), alone.bad), (20, 1));
        for size in [2, 4] {
            let together = run(size);
            assert_eq!(together.bad, 1);
            for (a, b) in alone.losses.iter().zip(&together.losses) {
                assert!((a - b).abs() < 1e-4, "{negatives:?}, {size} processes: loss {b}, expected {a}");
            }
            for ((name, a), (_, b)) in alone.values.iter().zip(&together.values) {
                let difference = max_difference(a, b);
                assert!(
                    difference < 1e-4 || name == WITHOUT_EFFECT,
                    "{negatives:?}, {size} processes, {name}: off by {difference}"
                );
            }
            // The log of the first process has the losses of all pairs; validations start from equal weights.
            let log = |size: usize| f.folder.path().join(format!("{negatives:?}-{size}/metrics.jsonl"));
            let start = |size| std::fs::read_to_string(log(size)).unwrap().lines().next().unwrap().to_string();
            assert_eq!(start(1), start(size), "a shared validation differs");
        }
    }
}

/// Trains a line in `size` processes, in the folder `run`; from its checkpoint if there is one.
fn train_line(run: &Path, size: usize, config: &TrainConfig, stop: Option<usize>) -> Vec<soundsight::Result<[f32; 2]>> {
    among(size, |group| {
        let line = Line::new();
        let source = train_toy::loader_among(run, &*group);
        let settings = json!({ "model": "line" });
        let (begun, config) = (run.join("checkpoints/latest").exists(), config.clone());
        agree(&*group, Ok(()), |()| ())?; // all have looked
        let mut trainer = match begun {
            true => Trainer::resume_among(group.clone(), config, settings, &line, &source, run)?,
            false => Trainer::start_among(group.clone(), config, settings, &line, &source, run)?,
        };
        let flag = AtomicBool::new(false);
        let outcome = trainer.run(&flag, &mut |event| {
            if let TrainEvent::Step(report) = event {
                // One process is told to stop.
                flag.store(group.rank() == size - 1 && Some(report.step) == stop, Ordering::Relaxed);
            }
        })?;
        assert_eq!(outcome == Outcome::Stopped, stop.is_some());
        Ok(line.weights())
    })
}

#[test]
fn a_stopped_run_goes_on_with_any_number_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let config = train_toy::config();
    let weights = |run: &str, size, stop| {
        let results = train_line(&folder.path().join(run), size, &config, stop);
        results.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let (whole, stopped) = (weights("whole", 2, None), {
        weights("stopped", 2, Some(5));
        weights("stopped", 2, None)
    });
    assert_eq!(whole, stopped, "the same number of processes: bit for bit");
    assert_eq!(whole[0], whole[1]);
    let files = |run: &str| {
        let mut files = files_of(&folder.path().join(run));
        files.retain(|name, _| !name.starts_with("checkpoints/step"));
        files
    };
    assert!(files("whole") == files("stopped"));
    weights("changed", 2, Some(5));
    weights("changed", 1, Some(9));
    let changed = weights("changed", 3, None);
    for (a, b) in whole[0].iter().zip(changed[0]) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn an_error_in_one_process_ends_the_run_in_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    // Several unreadable points in the batches of different processes are too many together.
    let config = train_toy::config();
    let results = among(3, |group| -> soundsight::Result<()> {
        let line = match group.rank() {
            1 => Line::failing_from(2),
            _ => Line::new(),
        };
        let source = train_toy::loader_among(folder.path(), &*group);
        let mut trainer = Trainer::start_among(group, config.clone(), json!({}), &line, &source, folder.path())?;
        trainer.run(&AtomicBool::new(false), &mut |_| ())?;
        Ok(())
    });
    for (rank, result) in results.into_iter().enumerate() {
        match result.unwrap_err() {
            Error::NonFinite { what, .. } if rank == 1 => assert_eq!(what, "the loss"),
            Error::Process { process, reason } if rank != 1 => {
                assert_eq!(process, "process 1");
                assert!(reason.contains("the loss is not finite"), "{reason}");
            }
            other => panic!("process {rank}: {other:?}"),
        }
    }
}

#[test]
fn processes_with_different_settings_do_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let results = among(2, |group| -> soundsight::Result<()> {
        let (line, source) = (Line::new(), train_toy::loader_among(folder.path(), &*group));
        let config = TrainConfig { learning_rate: 0.1 * (1 + group.rank()) as f64, ..train_toy::config() };
        Trainer::start_among(group, config, json!({}), &line, &source, folder.path())?;
        Ok(())
    });
    let messages: Vec<String> = results.into_iter().map(|result| result.unwrap_err().to_string()).collect();
    assert_eq!(messages[1], "trainer.learning_rate: expected 0.1 as in process 0, found 0.2");
    assert_eq!(messages[0], format!("process 1: {}", messages[1]));
    assert!(!folder.path().join("config.json").exists());
}

#[test]
fn a_process_that_is_gone_is_named() {
    let results = among(3, |group| match group.rank() {
        2 => Ok(()),
        _ => group.all_gather(&[1]).map(|_| ()),
    });
    for result in &results[..2] {
        assert!(matches!(result, Err(Error::Process { process, .. }) if process == "process 2"), "{result:?}");
    }
}
