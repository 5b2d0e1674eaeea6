//! Every stage of a localization, separately and together: at the published sizes with random weights, and with the
//! small model.
//!
//! `cargo bench` runs all benchmarks; `cargo bench -- full/vision` runs those whose names contain "full/vision". Names
//! are shape/stage/batch. An "element" of the throughput is a floating-point operation (see [`benches::flop`]), so
//! "Gelem/s" means GFLOP/s; for the filterbank, whose operations are not counted, it is a sound. Pairs per second are
//! the batch size divided by the time. `benches/peers/compare` compares with PyTorch and ONNX Runtime.
//!
//! `SOUNDSIGHT_BENCH_DEVICE` (cpu, cuda, metal) and `SOUNDSIGHT_BENCH_DTYPE` (f32, bf16, f16) select the device and the
//! precision of the models.
#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros write undocumented functions

use std::time::Duration;

use benches::{Inputs, Stage, flop, stage_job};
use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use soundsight::Waveform;
use soundsight::acl::{Acl, ModelConfig};

type Build = fn(&Place) -> Acl;
/// The models to measure, by name.
const SHAPES: [(&str, Build); 2] = [("full", full), ("small", small)];
const BATCHES: [usize; 2] = [1, 4];

/// The device and the precision of a model.
struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    fn from_env() -> Self {
        let variable = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_string());
        Self {
            device: soundsight::localizer::select_device(&variable("SOUNDSIGHT_BENCH_DEVICE", "cpu")).unwrap(),
            dtype: variable("SOUNDSIGHT_BENCH_DTYPE", "f32").parse().unwrap(),
        }
    }
}

/// Provides small random numbers for every requested tensor; speed does not depend on the values.
struct Random;

impl SimpleBackend for Random {
    fn get(&self, s: Shape, _: &str, _: Init, dtype: DType, dev: &Device) -> Result<Tensor> {
        Tensor::randn(0f32, 0.02, s, dev)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("the shape of {name} is not known")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn random(config: &ModelConfig, place: &Place) -> Acl {
    let weights = || VarBuilder::from_backend(Box::new(Random), place.dtype, place.device.clone());
    let prompt = config.acl.known_prompt_ids().unwrap();
    Acl::new(config, &prompt, weights(), weights(), weights()).unwrap()
}

/// The published sizes.
fn full(place: &Place) -> Acl {
    random(&ModelConfig::acl_vit16(), place)
}

/// The embedded model.
fn small(place: &Place) -> Acl {
    let builder = soundsight::Localizer::builder("embedded").device(place.device.clone()).dtype(place.dtype);
    builder.load().unwrap().acl().clone()
}

/// Chirps of ten seconds and random pixels.
fn inputs(acl: &Acl, batch: usize, place: &Place) -> Inputs {
    let config = &acl.config().acl;
    let sample = |i: u32| (1e-6 * f64::from(i) * f64::from(i)).sin() as f32 * 0.5;
    let sound = Waveform::from_samples((0..160_000).map(sample).collect(), 16_000).unwrap();
    let shape = (batch, 3, config.image_size, config.image_size);
    let pixels = Tensor::randn(0f32, 1.0, shape, &place.device).unwrap().to_dtype(place.dtype).unwrap();
    Inputs { waveforms: vec![sound; batch], seconds: config.audio_seconds, pixels }
}

fn stages(c: &mut Criterion) {
    let place = Place::from_env();
    for (shape, model) in SHAPES {
        let acl = model(&place);
        let mut group = c.benchmark_group(shape);
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
        for batch in BATCHES {
            let inputs = inputs(&acl, batch, &place);
            for stage in Stage::ALL {
                let flop = flop::of(acl.config(), stage, inputs.tokens(&acl).unwrap());
                group.throughput(Throughput::Elements(batch as u64 * flop.max(1)));
                let mut job = stage_job(&acl, stage, &inputs).unwrap();
                let name = format!("{stage:?}").to_lowercase();
                group.bench_function(BenchmarkId::new(name, batch), |b| b.iter(|| job().unwrap()));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
