//! How much depends on the encoders and the prompt: stage b from the same eyes and ears, once for each variant and seed.
#![allow(clippy::print_stdout)] // command-line output

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;
use serde_json::{Value, json};
use soundsight::acl::{Acl, AclConfig, AudioEncoder, ModelConfig};
use soundsight::beats::Beats;
use soundsight::train::Trainable;
use soundsight::train::losses::LossWeights;

use crate::curves::figure;
use crate::docs::{Docs, table};
use crate::fresh::{fresh, values};
use crate::hearing::{Ears as _, NamingAst};
use crate::masker_start;
use crate::measure::Scoreboard;
use crate::model::{self, frozen_weights, write_json};
use crate::sounds::fbank_statistics;
use crate::stage_b::Foundation;
use crate::stages::{Recipe, Run, is_finished};

/// The seeds of each variant, counted from that of the run.
const SEEDS: u64 = 3;

/// Smaller than that of the other comparisons: for as many pairs, it learns more and costs half.
const BATCH: usize = 8;

/// One row of the table.
struct Variant {
    name: &'static str,
    /// Its folder.
    folder: &'static str,
    /// What differs from the published model.
    change: fn(&mut AclConfig),
    ears: Ears,
}

/// What hears.
#[derive(Clone, Copy, PartialEq)]
enum Ears {
    /// The model's own.
    Own,
    /// BEATs with the random weights that its training begins with.
    Untrained,
    /// AST, trained as BEATs was.
    Ast,
}

const VARIANTS: [Variant; 5] = [
    Variant { name: "as published", folder: "published", change: |_| {}, ears: Ears::Own },
    Variant {
        name: "four learned vectors as the prompt",
        folder: "learned-prompt",
        change: |acl| acl.prompt_vectors = 4,
        ears: Ears::Own,
    },
    Variant { name: "no text tower", folder: "no-text-tower", change: |acl| acl.text_tower = false, ears: Ears::Own },
    Variant { name: "AST", folder: "ast", change: |_| {}, ears: Ears::Ast },
    Variant { name: "BEATs with random weights", folder: "random-beats", change: |_| {}, ears: Ears::Untrained },
];

/// Trains and measures the runs that are missing in `RUN/encoders/`, with the eyes and ears of the run's model or else of
/// the embedded one, then writes their part of the document. AST is trained by `hearing`.
pub fn compare(run: &Run, hearing: Recipe, steps: usize, learning_rate: f64, docs: &Docs) -> Result<()> {
    let (files, trained, pool) = run.trained_model()?;
    let with_ast = run.with_ast()?;
    let files = Arc::new(files);
    let heard: Vec<usize> = pool.sounding.iter().map(|(class, _)| *class).collect();
    let recipe = Recipe { steps, batch: BATCH, learning_rate, epoch: steps.div_ceil(4) };
    let mut board = Scoreboard::new(&run.world, &heard, run.scenes, run.seed)?;
    let mut results: Vec<Vec<Value>> = VARIANTS.iter().map(|_| Vec::new()).collect();
    // All variants with one seed before the next seed, so that an interrupted comparison is fair.
    for seed in run.seed..run.seed + SEEDS {
        for (variant, results) in VARIANTS.iter().zip(&mut results) {
            let mut own = Run { seed, ..run.clone() };
            (variant.change)(&mut own.config.acl);
            if variant.ears == Ears::Ast {
                own.config = with_ast.clone();
            }
            let acl = own.varied(&trained, variant, hearing)?;
            let folder = run.out.join("encoders").join(format!("{}-{seed}", variant.folder));
            if !is_finished(&folder, recipe)? {
                let pool = if variant.ears == Ears::Own { pool.clone() } else { own.pool(&acl)?.into() };
                let start = masker_start::measure(&run.world, &pool, &acl, run.seed)?;
                let foundation = Foundation { files: files.clone(), acl: acl.clone(), pool, start };
                let title = format!("{}, seed {seed}", variant.name);
                own.ground(&foundation, &title, &folder, recipe, LossWeights::default())?;
            }
            let acl = own.learned(&acl, &folder)?;
            // The same scenes and sounds for all.
            board.hear(&acl, &own.ear()?, run.seed)?;
            let mut result = board.score_sounds(&acl)?.json();
            let figures = result.as_object_mut().context("figures: expected an object")?;
            figures.insert("weights".to_string(), json!(num_trained(&acl)?));
            write_json(&folder.join("result.json"), &result)?;
            println!("{}, seed {seed}: {result}", variant.name);
            results.push(result);
        }
        write(run, docs, &results, recipe)?;
    }
    Ok(())
}

impl Run {
    /// The configuration with AST in place of BEATs.
    fn with_ast(&self) -> Result<ModelConfig> {
        let frontend = model::with_ast(&self.config, (0.0, 1.0))?.acl.frontend();
        model::with_ast(&self.config, fbank_statistics(&self.world, frontend, self.seed)?)
    }

    /// The parts of `trained` with the changes of a variant, all frozen, and an untrained head. AST is trained by `hearing`,
    /// once for all seeds.
    fn varied(&self, trained: &Acl, variant: &Variant, hearing: Recipe) -> Result<Acl> {
        let config = &self.config;
        let ears: AudioEncoder = match variant.ears {
            Ears::Own => trained.audio_encoder.clone(),
            Ears::Untrained => {
                let (_, vars) = fresh(self.seed, Beats::STREAM, 1.0, |weights| Beats::new(&config.beats, weights))?;
                let frozen = VarBuilder::from_tensors(values(&vars), DType::F32, &Device::Cpu);
                Beats::new(&config.beats, frozen)?.into()
            }
            Ears::Ast => {
                let folder = self.out.join("encoders/ast-ears");
                self.hearing::<NamingAst>("ears: AST from named sounds", &folder, hearing)?;
                NamingAst::build(config, frozen_weights(&folder.join("last/ast.safetensors"))?)?.ast.into()
            }
        };
        self.with_untrained_head(config, ears, trained)
    }
}

/// The number of weights that stage b trains.
fn num_trained(acl: &Acl) -> Result<usize> {
    let (_, vars) = Trainable::from_scratch(acl.config(), 0, &Device::Cpu)?.into_parts();
    Ok(vars.iter().map(|(_, var)| var.elem_count()).sum())
}

fn write(run: &Run, docs: &Docs, results: &[Vec<Value>], recipe: Recipe) -> Result<()> {
    let rows: Vec<Vec<String>> = VARIANTS
        .iter()
        .zip(results)
        .map(|(variant, results)| {
            let cells = ["which", "peak", "ciou"].map(|key| spread(results, key));
            let mut row = vec![variant.name.to_string()];
            row.extend(cells);
            row.push(results.first().map_or(String::new(), |result| format!("{:.0}", figure(result, "weights"))));
            row
        })
        .collect();
    let seeds = results.first().map_or(0, Vec::len);
    let text = format!(
        "## Encoders and prompts\n\nStage b from the same eyes, and the same ears unless others are named, {} steps of {BATCH} pairs \
         with a learning rate of {}; {seeds} seeds for the weights, the noise and the order of the pairs. Measured on {} held-out \
         scenes of two objects over {}: the mean, and the lowest and the highest of the seeds. The last column is the number of \
         trained weights.\n\n{}",
        recipe.steps,
        recipe.learning_rate,
        run.scenes,
        run.world.describe_backgrounds(),
        table(&["", "which", "peak", "cIoU@0.5", "weights"], &rows)
    );
    docs.write("encoders", &text)
}

/// "mean (lowest to highest)", in percent.
fn spread(results: &[Value], key: &str) -> String {
    let values: Vec<f64> = results.iter().map(|result| 100.0 * figure(result, key)).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    format!("{mean:.1} ({low:.1} to {high:.1})")
}
