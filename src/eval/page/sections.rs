//! The sections about scenes with several sources, the universal threshold and the presence, where a report has them.

use super::super::report::Report;
use super::super::table::two_decimals;
use super::html;

/// The section about scenes with several sources.
pub(super) fn scenes(report: &Report) -> String {
    let Some(pairs) = &report.pairs else { return String::new() };
    format!(
        "<section><h2>Scenes with several sources</h2><p>{} scenes, class-aware average precision {}. The scene columns \
         of the table above count scenes instead of samples.</p></section>",
        pairs.scenes,
        two_decimals(pairs.cap)
    )
}

/// The section about the universal threshold.
pub(super) fn universal(report: &Report) -> String {
    let Some(universal) = &report.universal_threshold else { return String::new() };
    let introduction = format!(
        "The third quartile of the heatmap peaks of sounds without a source in the picture. At this threshold: cIoU {}, \
         mIoU {}, AUC {}, F_LOC {}, F_AUC {}.",
        two_decimals(universal.success),
        two_decimals(universal.mean_ciou),
        two_decimals(universal.auc),
        two_decimals(universal.f_loc),
        two_decimals(universal.f_auc),
    );
    let rows = universal.negatives.iter().map(|(kind, scores)| {
        let (active, auc) = (format!("{:.2}", scores.active), format!("{:.2}", scores.auc));
        (kind.name(), [scores.samples.to_string(), active, auc])
    });
    let title = format!("Universal threshold: {:.3}", universal.threshold);
    section(&title, &introduction, ["samples", "pIA", "AUC_N"], rows)
}

/// The section about the presence.
pub(super) fn presence(report: &Report) -> String {
    let Some(presence) = &report.presence else { return String::new() };
    let introduction = format!(
        "The model's probability that the picture shows the source of the sound. From this value on, which {:.2} % of the \
         sounding pairs reach, a sound counts as present. Where the other heatmaps show nothing, cIoU is {:.2} at threshold \
         {:.3}.",
        presence.detected, presence.gated.success, presence.gated.threshold
    );
    let rows = presence.negatives.iter().map(|(kind, scores)| {
        let (auroc, alarms) = (format!("{:.3}", scores.auroc), format!("{:.2}", scores.false_alarms));
        (kind.name(), [scores.samples.to_string(), auroc, alarms])
    });
    let title = format!("Presence: {:.3} or more", presence.threshold);
    section(&title, &introduction, ["samples", "AUROC", "false alarms"], rows)
}

/// A section with a table that has a row for each kind of negative sound.
fn section<'a>(
    title: &str,
    introduction: &str,
    columns: [&str; 3],
    rows: impl Iterator<Item = (&'a str, [String; 3])>,
) -> String {
    let rows = rows.map(|(kind, cells)| (kind.to_string(), cells.to_vec(), false));
    let table = html::table("negative sound", &columns, rows);
    format!("<section><h2>{title}</h2><p>{introduction}</p>{table}</section>")
}
