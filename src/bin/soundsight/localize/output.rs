//! What `localize` writes and prints for one answer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use soundsight::localizer::PresenceCalibration;
use soundsight::viz::{Findings, OverlayOptions, overlay};
use soundsight::{Heatmap, Picture};

/// How many boxes the summary lists: those with the highest scores.
const NUM_BOXES: usize = 5;

/// Where to write answers, and in which form.
#[derive(Args)]
pub struct OutputOptions {
    /// Folder to write the pictures to; created if missing.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub out: PathBuf,
    /// Lowest score of a pixel inside the mask, from 0 to 1.
    #[arg(long, value_name = "T", default_value_t = 0.5)]
    pub threshold: f32,
    /// Print a JSON object instead of the summary; with --pairs, one object a line.
    #[arg(long)]
    pub json: bool,
}

/// What was found in a picture, and the files that show it.
pub struct Answer {
    confidence: f32,
    /// The presence, and the calibration that decides.
    presence: Option<(f32, PresenceCalibration)>,
    /// Whether the picture shows the source, if the model can say.
    present: Option<bool>,
    threshold: f32,
    findings: Findings,
    pub files: Value,
}

impl Answer {
    /// Writes overlay, heatmap and mask, all at the picture's own size, as `<name>.<kind>.png`.
    pub fn write(options: &OutputOptions, name: &str, picture: &Picture, heatmap: &Heatmap) -> Result<Self> {
        let OutputOptions { out: folder, threshold, .. } = options;
        let scores = heatmap.score_map(picture.width(), picture.height())?;
        let findings = scores.findings(*threshold)?;
        std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot create the folder", folder.display()))?;
        let file = |kind: &str| folder.join(format!("{name}.{kind}.png"));
        let drawn = OverlayOptions { threshold: *threshold, ..Default::default() };
        overlay(picture, &scores, &drawn)?.write_png(file("overlay"))?;
        scores.write_heatmap(file("heatmap"))?;
        scores.write_mask(file("mask"), *threshold)?;
        let files = json!({"overlay": file("overlay"), "heatmap": file("heatmap"), "mask": file("mask")});
        let presence = heatmap.presence().zip(heatmap.calibration().copied());
        let (confidence, present) = (heatmap.confidence, heatmap.is_present());
        Ok(Self { confidence, presence, present, threshold: *threshold, findings, files })
    }

    /// The JSON object `question` with the fields of the answer added.
    pub fn json(&self, mut question: Value) -> Value {
        let answer = json!({
            "confidence": self.confidence,
            "presence": self.presence.map(|(presence, _)| presence),
            "present": self.present,
            "threshold": self.threshold,
            "peak": self.findings.peak,
            "area": self.findings.area,
            "boxes": self.findings.boxes,
            "outputs": self.files,
        });
        if let (Some(question), Value::Object(answer)) = (question.as_object_mut(), answer) {
            question.extend(answer);
        }
        question
    }

    /// The answer in a few lines.
    pub fn summary(&self) -> String {
        let (peak, boxes) = (self.findings.peak, &self.findings.boxes);
        let mut text = format!("where       ({}, {}) with score {:.2}\n", peak.x, peak.y, peak.score);
        for found in boxes.iter().take(NUM_BOXES) {
            let end = (found.x + found.width, found.y + found.height);
            text += &format!(
                "            box ({}, {}) to ({}, {}), score {:.2}\n",
                found.x, found.y, end.0, end.1, found.score
            );
        }
        if boxes.len() > NUM_BOXES {
            text += &format!("            and {} more boxes (--json lists all)\n", boxes.len() - NUM_BOXES);
        }
        text += &format!("how much    {:.1} % of the picture\n", self.findings.area * 100.0);
        text += &format!("how sure    {:.2} (cosine of sound and what the mask covers, -1 to 1)\n", self.confidence);
        if let Some((presence, calibration)) = &self.presence {
            let answer = if self.present == Some(true) { "yes" } else { "no" };
            let alarms = calibration.false_alarms * 100.0;
            text += &format!(
                "present     {answer}, {presence:.2} (yes from {:.2}, where {alarms:.0} % are false alarms)\n",
                calibration.threshold
            );
        }
        text + &format!("written     {}", one_line(&self.files))
    }

    /// The answer in one line.
    pub fn line(&self) -> String {
        let peak = self.findings.peak;
        let presence = self.presence.map_or(String::new(), |(presence, _)| format!(", presence {presence:.2}"));
        format!(
            "({}, {}) with score {:.2}, {:.1} % of the picture, confidence {:.2}{presence}, {}",
            peak.x,
            peak.y,
            peak.score,
            self.findings.area * 100.0,
            self.confidence,
            self.files["overlay"].as_str().unwrap_or_default()
        )
    }
}

/// A JSON object as "key value, key value".
pub fn one_line(object: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let fields = object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(key, value)| format!("{key} {}", text(value))).collect::<Vec<_>>().join(", ")
}
