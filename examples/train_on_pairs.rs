//! Trains a model on your own pairs of sounds and pictures, without any labels.
//!
//! ```text
//! cargo run --release --example train_on_pairs -- pairs.csv RUN [MODEL]
//! ```
//!
//! pairs.csv has the columns `audio` and `image`, with paths relative to its folder. RUN/last is the trained model: try
//! it with `--example localize -- clip.wav frame.jpg RUN/last`. The command `soundsight train` adds validation,
//! resumption and more.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use candle_core::{DType, Device};
use soundsight::Localizer;
use soundsight::data::{BadPairs, EpochSampler, Loader, MediaReader, PairDataset, PairList};
use soundsight::train::losses::LossWeights;
use soundsight::train::{AclObjective, Length, TrainConfig, TrainEvent, Trainable, Trainer};
use soundsight::weights::{Download, Hub, ModelFiles};

/// Each pair is compared with the others in its batch.
const BATCH: usize = 8;
const SEED: u64 = 0;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (pairs, run) = args.next().zip(args.next()).context("usage: train_on_pairs PAIRS.csv RUN [MODEL]")?;
    let (pairs, run) = (Path::new(&pairs), Path::new(&run));
    let model = args.next().unwrap_or("auto".to_string());
    std::fs::create_dir_all(run)?;

    // The model to start from. Only its AudioTokenizer and masker are trained; the encoders stay frozen.
    let device = Device::Cpu;
    let files = ModelFiles::resolve(&model, &Hub::from_env(), Download::Never)?;
    let localizer = Localizer::from_files(&files, device.clone(), DType::F32)?;
    let config = localizer.acl().config();
    let trainable = Trainable::from_checkpoint(config, &files.acl, &device)?;

    // The pairs are shuffled in each epoch and decoded ahead. Up to 1 % may be unreadable; RUN/bad_pairs.csv lists
    // them.
    let list = PairList::csv(pairs)?;
    let bad = Arc::new(BadPairs::open(&run.join("bad_pairs.csv"), list.num_pairs(), 0.01)?);
    let sampler = EpochSampler::training(list.num_pairs(), BATCH, SEED)?;
    let dataset = PairDataset::new(list, MediaReader::new(&config.acl, None)?, true);
    let source = Loader::new(Arc::new(dataset), sampler, SEED, 2, bad, 2)?;

    // The objective and the optimizer. The published losses, optimizer and learning rate are the defaults.
    let objective = AclObjective::<MediaReader>::new(
        &files,
        localizer.acl(),
        trainable,
        LossWeights::default(),
        device,
        DType::F32,
    )?;
    let settings = TrainConfig { seed: SEED, length: Length::Epochs(5), ..TrainConfig::default() };

    // Setting this flag, for example in a Ctrl-C handler, stops the run after the current step.
    let stop = AtomicBool::new(false);
    let mut trainer = Trainer::start(settings, objective.settings()?, &objective, &source, run)?;
    trainer.run(&stop, &mut |event| {
        if let TrainEvent::Step(report) = event {
            println!("epoch {}, step {}: {:?}", report.epoch, report.step, report.metrics);
        }
    })?;
    println!("trained: {}", run.join("last").display());
    Ok(())
}
