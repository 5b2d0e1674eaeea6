//! The document with the measurements: parts between markers are generated, the rest is written by hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `FOLDER/miniature.md` and its pictures in `FOLDER/miniature/`.
pub struct Docs {
    folder: PathBuf,
}

impl Docs {
    pub fn open(folder: &Path) -> Result<Self> {
        let pictures = folder.join("miniature");
        std::fs::create_dir_all(&pictures)
            .with_context(|| format!("{}: cannot create the folder", pictures.display()))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join("miniature.md")
    }

    /// The path of the plot `name`, and the line of Markdown that shows it.
    pub fn plot(&self, name: &str, says: &str) -> (PathBuf, String) {
        let file = format!("miniature/{name}.svg");
        (self.folder.join(&file), format!("![{says}]({file})\n"))
    }

    /// Replaces the text between the markers of part `name`, or appends the part. Everything else is unchanged.
    ///
    /// # Errors
    /// When the document has only one of the two markers, or cannot be read or written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path();
        let old = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "# The method in miniature\n".to_string(),
            read => read.with_context(|| format!("{}: cannot read", path.display()))?,
        };
        let new = replaced(&old, name, text).with_context(|| format!("{}", path.display()))?;
        crate::write::write(&path, new.as_bytes())
    }
}

fn replaced(old: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let part = format!("{begin}\n{}\n{end}", text.trim_end());
    match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => Ok([&old[..from], &part, &old[to + end.len()..]].concat()),
        (None, None) => Ok(format!("{}\n\n{part}\n", old.trim_end())),
        _ => bail!("expected {begin} and after it {end}, found one without the other"),
    }
}

/// A table in Markdown; the first column is text, the others are numbers.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<&str> = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
    let rows = rows.iter().map(|row| line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    [line(head), line(&rule)].into_iter().chain(rows).collect()
}

/// A fraction as a percentage with one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}
