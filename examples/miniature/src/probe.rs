//! Tests the robustness of a finished model: disturbed sounds, two objects at once, sounds of absent objects, silence.
#![allow(clippy::print_stdout)] // command-line output

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use serde_json::{Value, json};
use soundsight::acl::Acl;
use soundsight::data::random::{Purpose, stream};

use crate::crosses::{Crosses, RETRIEVAL};
use crate::disturb::{Disturbance, white};
use crate::docs::{Docs, percent, table};
use crate::measure::{Scoreboard, Scores};
use crate::mixtures::mixtures;
use crate::model::write_json;
use crate::plots::{self, Axes, Curve, Series};
use crate::sounds::Ear;
use crate::stages::{LARGER, Run};
use crate::statistics::{auroc, quantile, roc};
use crate::world::{Split, World};

/// The data shared by all probes.
pub struct Probe {
    /// Scenes of two objects.
    board: Scoreboard,
    pub world: Arc<World>,
    /// The classes that can sound.
    pub heard: Vec<usize>,
    pub ear: Ear,
    pub seed: u64,
    pub trained: Acl,
    /// The same model with a fresh AudioTokenizer.
    pub untrained: Acl,
    /// The sound of each scene.
    sounds: Vec<Vec<f32>>,
}

/// Probes `RUN/model`, and writes the figures to `RUN/probe.json` and tables and plots to the document.
pub fn probe(run: &Run, docs: &Docs) -> Result<()> {
    let (trained, files) = run.load(&run.out.join("model"))?;
    let (found, expected) = (files.classes.unwrap_or_default(), run.world.names());
    ensure!(
        found == expected,
        "{}: expected a model of the stamps' {} classes, found one of {}; other stamps, or an earlier version's model?",
        files.name,
        expected.len(),
        found.len()
    );
    // The eyes of the model are those that learned from larger pictures, where there are any.
    let larger = run.out.join(LARGER).join("frozen");
    let (untrained, _) = run.load(&if larger.is_dir() { larger } else { run.out.join("frozen") })?;
    let heard: Vec<usize> = (0..run.world.classes.len()).filter(|class| !run.world.classes[*class].unheard).collect();
    let board = Scoreboard::new(&run.world, &heard, run.scenes, run.seed)?;
    let ear = run.ear()?;
    let sounds = ear.sounds(&board.sounding(), Split::HeldOut, run.seed);
    let world = run.world.clone();
    let mut probe = Probe { board, world, heard, ear, seed: run.seed, trained, untrained, sounds };
    let mut kept = BTreeMap::new();
    for (name, part) in [
        ("robustness", Probe::robustness as fn(&mut Probe, &Docs) -> Result<(Value, String)>),
        ("mixtures", mixtures),
        ("confidence", Probe::confidence),
        ("retrieval", Probe::retrieval),
    ] {
        println!("{name} …");
        let (figures, text) = part(&mut probe, docs)?;
        println!("{text}");
        docs.write(name, &text)?;
        kept.insert(name, figures);
    }
    write_json(&run.out.join("probe.json"), &json!(kept))
}

impl Probe {
    pub fn num_scenes(&self) -> usize {
        self.board.num_questions()
    }

    fn hear(&mut self, sounds: &[Vec<f32>]) -> Result<()> {
        Ok(self.board.hear_sounds(&self.trained, &self.ear, sounds)?)
    }

    /// The sounds of the scenes after `disturbance`.
    fn disturbed(&self, disturbance: Disturbance) -> Vec<Vec<f32>> {
        let of = |(place, sound): (usize, &Vec<f32>)| {
            disturbance.apply(sound, &mut stream(self.seed, Purpose::Validation, 5, place as u64))
        };
        self.sounds.par_iter().enumerate().map(of).collect()
    }

    fn robustness(&mut self, docs: &Docs) -> Result<(Value, String)> {
        let mut measured: Vec<([String; 2], Scores)> = Vec::new();
        for disturbance in Disturbance::ALL {
            self.hear(&self.disturbed(disturbance))?;
            measured.push((disturbance.names(), self.board.score_sounds(&self.trained)?));
        }
        let (path, shows) = docs.plot("robustness", "What is left of the localization when the sound is disturbed");
        let groups: Vec<&str> = measured.iter().map(|([_, short], _)| short.as_str()).collect();
        let of = |share: fn(&Scores) -> f64| measured.iter().map(|(_, scores)| 100.0 * share(scores)).collect();
        let series = [
            Series { name: "which", values: of(|scores| scores.which) },
            Series { name: "peak", values: of(|scores| scores.peak) },
        ];
        let axes = Axes { title: "Disturbed sounds", across: "", up: "% of held-out scenes" };
        plots::bars(&path, &axes, &groups, &series, Some(50.0))?;
        let rows: Vec<_> = measured
            .iter()
            .map(|([name, _], scores)| {
                vec![name.clone(), percent(scores.which), percent(scores.peak), percent(scores.ciou)]
            })
            .collect();
        let figures: BTreeMap<&String, Value> =
            measured.iter().map(|([name, _], scores)| (name, scores.json())).collect();
        let text = format!(
            "## Disturbed sounds\n\n{} held-out scenes of two objects over {}; \"pitch\" plays the sound faster or slower, \
             a short sound begins at its onset and is followed by silence. Chance: which 50 %, peak {} %.\n\n{}\n{shows}",
            self.board.num_questions(),
            self.world.describe_backgrounds(),
            percent(self.board.mean_area()),
            table(&["the sound", "which", "peak", "cIoU@0.5"], &rows)
        );
        Ok((json!(figures), text))
    }

    fn confidence(&mut self, docs: &Docs) -> Result<(Value, String)> {
        let sounds = self.sounds.clone();
        self.hear(&sounds)?;
        let Crosses { present, absent, .. } = self.board.crosses(&self.trained)?;
        let length = self.sounds.first().map_or(0, Vec::len);
        self.hear(&vec![vec![0.0; length]; self.board.num_questions()])?;
        let silence = self.board.crosses(&self.trained)?.present;
        let noise = (0..self.board.num_questions())
            .map(|place| white(length, &mut stream(self.seed, Purpose::Validation, 6, place as u64)))
            .map(|noise| noise.into_iter().map(|sample| 0.1 * sample).collect());
        self.hear(&noise.collect::<Vec<_>>())?;
        let noise = self.board.crosses(&self.trained)?.present;
        let kinds = [("sound from outside the scene", &absent), ("silence", &silence), ("white noise", &noise)];
        let (path, shows) = docs.plot("confidence", "ROC curves of the confidence");
        let curves = kinds.map(|(name, values)| {
            let points = roc(&present, values).into_iter().map(|(x, y)| (100.0 * x, 100.0 * y)).collect();
            Curve { name, points }
        });
        let axes = Axes {
            title: "Does the confidence say so?",
            across: "% of absent ones taken for present",
            up: "% of present ones found",
        };
        plots::lines(&path, &axes, &curves)?;
        let row = |name: &str, values: &[f32], area: String| {
            let quantiles = [0.05, 0.25, 0.5, 0.75, 0.95].map(|share| format!("{:+.3}", quantile(values, share)));
            std::iter::once(name.to_string()).chain(quantiles).chain([area]).collect::<Vec<_>>()
        };
        let areas = kinds.map(|(name, values)| (name, auroc(&present, values)));
        let rows = kinds.iter().zip(areas).map(|((name, values), (_, area))| row(name, values, format!("{area:.3}")));
        let rows: Vec<_> =
            std::iter::once(row("sound of an object in the scene", &present, String::new())).chain(rows).collect();
        let text = format!(
            "## Sounds from outside the scene, and silence\n\nThe confidence (cosine of what the mask covers and the sound) \
             of {} pairs that belong together, against what should not be found. AUROC: how well the confidence tells them \
             apart; chance is 0.500.\n\n{}\n{shows}",
            present.len(),
            table(&["confidence", "5 %", "25 %", "half", "75 %", "95 %", "AUROC"], &rows)
        );
        Ok((json!(areas.into_iter().collect::<BTreeMap<_, _>>()), text))
    }

    fn retrieval(&mut self, _: &Docs) -> Result<(Value, String)> {
        let sounds = self.sounds.clone();
        self.hear(&sounds)?;
        let [trained, untrained] = [self.board.crosses(&self.trained)?, self.board.crosses(&self.untrained)?];
        let share = |count: f64| percent(count / RETRIEVAL as f64);
        let rows: Vec<Vec<String>> = [("as trained", &trained), ("untrained tokenizer", &untrained)]
            .into_iter()
            .map(|(name, crosses)| {
                let Crosses { pictures, sounds, .. } = crosses;
                let shares = [pictures.first, pictures.five, sounds.first, sounds.five].map(percent);
                std::iter::once(name.to_string()).chain(shares).collect()
            })
            .chain([vec!["chance".to_string(), share(1.0), share(5.0), share(1.0), share(5.0)]])
            .collect();
        let head = ["", "sound → picture, first", "in the best five", "picture → sound, first", "in the best five"];
        let text = format!(
            "## Retrieval both ways\n\nIn groups of {RETRIEVAL} held-out pairs, each picture with a second object that is silent: \
             by the confidence, which picture belongs to a sound, and which sound to a picture?\n\n{}",
            table(&head, &rows)
        );
        Ok((json!({ "trained": trained.json(), "untrained": untrained.json() }), text))
    }
}
