//! Stage b, and the model that results from all stages.
#![allow(clippy::print_stdout)] // command-line output

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use soundsight::acl::{Acl, AclConfig, AudioEncoder, ModelConfig, TrainedHead};
use soundsight::data::random::{Purpose, stream};
use soundsight::train::losses::LossWeights;
use soundsight::train::{NegativeSounds, Trainable};
use soundsight::weights::{Checkpoint, Download, Hub, ModelFiles, save_safetensors};

use crate::fresh::{Vars, values};
use crate::grounding::{Curriculum, GroundingObjective, MaskerStart, Pairs, Pool, continued_learned, fresh_learned};
use crate::model::{Weights, frozen_weights, own_or_embedded, read_tensors, write_json, write_model};
use crate::program::progress::progress_bar;
use crate::sounds::features;
use crate::stages::{LARGER, Recipe, Run, is_finished, read_minutes};
use crate::{masker_start, report};

/// The starting point of stage b: the frozen parts and their audio features.
pub struct Foundation {
    pub files: Arc<ModelFiles>,
    /// With an untrained AudioTokenizer.
    pub acl: Acl,
    pub pool: Arc<Pool>,
    pub start: MaskerStart,
}

impl Run {
    /// Stage b: trains with the frozen parts of stage a, on nothing but pairs.
    pub fn grounding(&self, recipe: Recipe, weights: LossWeights) -> Result<()> {
        let folder = self.out.join("acl");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let foundation = self.foundation()?;
        let title = format!("ACL: from pairs of scene and sound alone, {0} × {0} pixels", self.world.side());
        let Some(smaller) = &self.smaller else {
            return self.ground(&foundation, &title, &folder, recipe, weights);
        };
        let learned = continued_learned(&foundation.acl, &Checkpoint::open(smaller.join("acl/last/acl.safetensors"))?)?;
        self.ground_from(&foundation, learned, (&title, &folder), recipe, weights, 0)
    }

    /// The frozen parts of stage a, and the initial values of the masker, measured once.
    pub fn foundation(&self) -> Result<Foundation> {
        let frozen = self.out.join("frozen");
        let (acl, _) = self.freeze(&frozen, MaskerStart { w: 1.0, b: 0.0, area: 0.0 })?;
        let pool = Arc::new(self.pool(&acl)?);
        let begun = ["acl/checkpoints/latest", "ablate"].iter().any(|path| self.root().join(path).exists());
        let start = self.masker_start(self.root(), begun, &acl, &pool)?;
        let (acl, files) = self.freeze(&frozen, start)?;
        Ok(Foundation { files: Arc::new(files), acl, pool, start })
    }

    /// The initial values of the masker for `acl`, from `folder/masker.json`, or measured and written there for a training that
    /// has not begun. Measured with another number of threads, they would differ in the last digits and could not be resumed.
    fn masker_start(&self, folder: &Path, begun: bool, acl: &Acl, pool: &Pool) -> Result<MaskerStart> {
        let file = folder.join("masker.json");
        if begun && file.exists() {
            return serde_json::from_str(&std::fs::read_to_string(&file)?)
                .with_context(|| format!("{}: not what this program wrote", file.display()));
        }
        let start = masker_start::measure(&self.world, pool, acl, self.seed)?;
        write_json(&file, &serde_json::to_value(start)?)?;
        Ok(start)
    }

    /// Trains a fresh AudioTokenizer and masker in `folder`. The target area in `weights` is set here.
    pub fn ground(
        &self,
        foundation: &Foundation,
        title: &str,
        folder: &Path,
        recipe: Recipe,
        weights: LossWeights,
    ) -> Result<()> {
        let Foundation { acl, start, .. } = foundation;
        let learned = fresh_learned(acl, self.seed, *start)?;
        // Scenes of one object for a quarter of the steps.
        self.ground_from(foundation, learned, (title, folder), recipe, weights, recipe.steps / recipe.epoch / 4)
    }

    /// The finished model of this run, or else the embedded one, and its features of the sounds.
    pub fn trained_model(&self) -> Result<(ModelFiles, Acl, Arc<Pool>)> {
        let files = ModelFiles::resolve(own_or_embedded(&self.out), &Hub::from_env(), Download::Never)?;
        let acl = soundsight::Localizer::from_files(&files, Device::Cpu, DType::F32)?.acl().clone();
        let pool = Arc::new(self.pool(&acl)?);
        Ok((files, acl, pool))
    }

    /// A model of `config` with these ears, the eyes of `trained`, both frozen, and an untrained AudioTokenizer and masker.
    pub fn with_untrained_head(&self, config: &ModelConfig, ears: AudioEncoder, trained: &Acl) -> Result<Acl> {
        config.validate()?;
        let (head, _) = Trainable::from_scratch(config, self.seed, &Device::Cpu)?.into_parts();
        let prompt = config.acl.known_prompt_ids().context("the prompt has no ids")?;
        Ok(Acl::from_parts(config, &prompt, ears, trained.clipseg.clone(), head)?)
    }

    /// Trains stage b again in `RUN/tuned`, with the eyes and ears of a finished run's model, or else of the embedded one, and
    /// writes the result to `RUN/tuned/model`. It continues with the model's AudioTokenizer, or begins with an untrained one
    /// where this run wants another link between sounds and pictures than the model has.
    pub fn tune(&self, recipe: Recipe, weights: LossWeights) -> Result<()> {
        let folder = self.out.join("tuned");
        if is_finished(&folder, recipe)? {
            return Ok(());
        }
        let (mut files, mut acl, pool) = self.trained_model()?;
        let link = |acl: &AclConfig| (acl.text_tower, acl.prompt_vectors);
        let continued = link(&acl.config().acl) == link(&self.config.acl);
        if !continued {
            let mut config = acl.config().clone();
            (config.acl.text_tower, config.acl.prompt_vectors) = link(&self.config.acl);
            acl = self.with_untrained_head(&config, acl.audio_encoder.clone(), &acl)?;
            files.acl_config = Some(serde_json::to_value(&config.acl)?);
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        let start = self.masker_start(&folder, folder.join("checkpoints/latest").exists(), &acl, &pool)?;
        let title = format!("ACL: from the model {}", files.name);
        let foundation = Foundation { files: Arc::new(files), acl, pool, start };
        let Foundation { files, acl, .. } = &foundation;
        if continued {
            let learned = continued_learned(acl, &files.acl)?;
            self.ground_from(&foundation, learned, (&title, &folder), recipe, weights, 0)?;
        } else {
            self.ground(&foundation, &title, &folder, recipe, weights)?;
        }
        let model = folder.join("model");
        std::fs::create_dir_all(&model)?;
        files.link_frozen(&model)?;
        let half = read_tensors(&folder.join("last/acl.safetensors"))?.into_iter();
        let half = half.map(|(name, tensor)| Ok((name, tensor.to_dtype(DType::F16)?))).collect::<Result<_>>()?;
        Ok(save_safetensors(model.join("acl.safetensors"), &half, &BTreeMap::new())?)
    }

    /// Trains `learned`, an AudioTokenizer and a masker over variables, in `folder`: with scenes of one object for
    /// `first_epochs` epochs, then with scenes of up to three.
    fn ground_from(
        &self,
        foundation: &Foundation,
        learned: (Acl, Vars),
        (title, folder): (&str, &Path),
        recipe: Recipe,
        weights: LossWeights,
        first_epochs: usize,
    ) -> Result<()> {
        let Foundation { files, pool, start, .. } = foundation;
        let (acl, vars) = learned;
        let heard: Vec<usize> = pool.sounding.iter().map(|(class, _)| *class).collect();
        let mut scoreboard = self.scoreboard(&heard)?;
        scoreboard.hear(&acl, &self.ear()?, self.seed)?;
        let weights = LossWeights { positive_area: start.area, ..weights };
        let negatives = NegativeSounds::new(&acl, &weights, &Device::Cpu, DType::F32)?;
        let objective = GroundingObjective { files, acl, vars, weights, negatives, scoreboard: &scoreboard };
        let loader = |counts: &[usize]| {
            let ids = (0..recipe.epoch * recipe.batch).map(|i| format!("pair {i}")).collect();
            let pairs = Pairs { world: self.world.clone(), pool: pool.clone(), ids, counts: counts.to_vec() };
            self.loader(folder, pairs, recipe.batch)
        };
        let source = Curriculum { first: loader(&[1])?, first_epochs, then: loader(&[1, 2, 2, 3])? };
        let settings = json!({
            "world": self.settings, "acl": self.config.acl, "losses": weights,
            "masker": start, "variations": self.variations,
            "clipseg": files.clipseg.sha256()?,
            "beats": files.audio.sha256()?,
        });
        self.train(title, folder, recipe, settings, &objective, &source)
    }

    /// `acl` with the parts trained by stage b in `folder`.
    pub fn learned(&self, acl: &Acl, folder: &Path) -> Result<Acl> {
        let values = frozen_weights(&folder.join("last/acl.safetensors"))?;
        Ok(acl.with_trained_head(TrainedHead::new(acl.config(), values)?))
    }

    /// Combines the frozen parts of stage a with a fresh AudioTokenizer, in half precision as they will be stored.
    fn freeze(&self, folder: &Path, start: MaskerStart) -> Result<(Acl, ModelFiles)> {
        let learned = Trainable::from_scratch(&self.config, self.seed ^ 1, &Device::Cpu)?;
        let (_, vars) = learned.into_parts();
        start.set(&vars)?;
        let weights = Weights {
            beats: read_tensors(&self.root().join("beats/last/beats.safetensors"))?,
            clipseg: read_tensors(&self.out.join("clip/last/clipseg.safetensors"))?,
            acl: values(&vars),
        };
        write_model(folder, &self.config, &self.vocabulary, &weights)?;
        self.load(folder)
    }

    /// Loads a model directory as inference does.
    pub fn load(&self, folder: &Path) -> Result<(Acl, ModelFiles)> {
        let files = ModelFiles::from_directory(folder)?;
        let localizer = soundsight::Localizer::from_files(&files, Device::Cpu, DType::F32)?;
        Ok((localizer.acl().clone(), files))
    }

    /// Encodes several variations of every sound of stage b with the frozen encoder.
    pub fn pool(&self, acl: &Acl) -> Result<Pool> {
        let ear = self.ear()?;
        let heard: Vec<usize> =
            (0..self.world.classes.len()).filter(|class| !self.world.classes[*class].unheard).collect();
        let bar = progress_bar(heard.len() * self.variations, "hearing {wide_bar} {pos}/{len} sounds, {eta} left");
        let sounding = heard.into_iter().map(|class| {
            let mut rng = stream(self.seed, Purpose::Augmentation, u64::MAX, class as u64);
            let sounds: Vec<_> = (0..self.variations).map(|_| self.world.training_sound(class, &mut rng)).collect();
            let fbanks = ear.listen(&sounds)?;
            Ok((class, features(acl, &fbanks, |count| bar.inc(count as u64))?))
        });
        let sounding = sounding.collect::<Result<Vec<_>>>()?;
        bar.finish_and_clear();
        Ok(Pool { sounding })
    }

    /// BEATs as the other parts were trained with it, with the tagging head that has learned mixtures.
    fn ears(&self) -> Result<Vec<(String, Tensor)>> {
        let frozen = read_tensors(&self.out.join("frozen/beats.safetensors"))?;
        let mut tensors: BTreeMap<String, Tensor> = frozen.into_iter().collect();
        tensors.extend(read_tensors(&self.root().join("tags/last/tags.safetensors"))?);
        Ok(tensors.into_iter().collect())
    }

    /// Writes the finished model to `RUN/model`, and its figures.
    pub fn finish(&self) -> Result<()> {
        let root = self.root();
        let folder = root.join("model");
        let weights = Weights {
            beats: self.ears()?,
            clipseg: read_tensors(&self.out.join("frozen/clipseg.safetensors"))?,
            acl: read_tensors(&self.out.join("acl/last/acl.safetensors"))?,
        };
        write_model(&folder, &self.config, &self.vocabulary, &weights)?;
        let (trained, files) = self.load(&folder)?;
        let (untrained, _) = self.load(&self.out.join("frozen"))?;
        let sizes = [files.audio.path(), files.clipseg.path(), files.acl.path()].map(std::fs::metadata);
        let bytes = sizes.into_iter().map(|file| Ok(file?.len())).sum::<std::io::Result<u64>>()?;
        println!("{}: {:.2} MB of weights", folder.display(), bytes as f64 / 1e6);
        let measured = report::measure(self, &trained, &untrained)?;
        let (eyes, link) = (format!("{LARGER}/clip"), format!("{LARGER}/acl"));
        let minutes =
            ["clip", &eyes, "beats", "tags", "acl", &link].map(|stage| (stage, read_minutes(&root.join(stage))));
        let minutes: BTreeMap<&str, f64> = minutes.into_iter().collect();
        let report = json!({
            "seed": self.seed, "minutes": minutes, "classes": self.world.names(), "weight_bytes": bytes,
            "measured": measured,
        });
        write_json(&root.join("report.json"), &report)
    }
}
