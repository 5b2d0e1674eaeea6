//! Lists of films.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const KIND: &str = "list of films";
const EXPECTED: &str =
    "lines of `id`, `id,label`, `id,start,label` or `id,start,label,split`, all with as many columns";

/// A film that a list names.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// The sample's id: the film's, and for a span of it with the start, as in VGGSound: `<film>_<six digits>`.
    pub id: String,
    /// The film's own id, the name of its file without extension.
    pub film: String,
    /// Where the span begins in the film, in seconds, if the list says so.
    pub start: Option<f64>,
    /// What sounds.
    pub label: Option<String>,
    /// The split that the sample belongs to, if the list says so.
    pub split: Option<String>,
}

/// A CSV file that names films, such as that of VGGSound.
#[derive(Clone, Debug)]
pub struct FilmList {
    path: PathBuf,
    listed: Vec<Listed>,
}

impl FilmList {
    /// Reads a list, with or without a header. All lines have the same number of columns:
    ///
    /// | columns | for example |
    /// |---|---|
    /// | 1 | `id` |
    /// | 2 | `id,label`, as the lists for training and evaluation |
    /// | 3 | `id,start,label` |
    /// | 4 | `id,start,label,split`, as in VGGSound: YouTube's id, the start of ten seconds of it, in seconds |
    ///
    /// With a start, the id of a sample is `<id>_<start>`, where the start has six digits. An id that occurs again is
    /// ignored.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is no such list: empty, another number of
    /// columns, a start that is no time, an id or a split that cannot be the name of a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text);
        let (mut listed, mut seen) = (Vec::new(), HashSet::new());
        let mut columns = None;
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(|e| Error::format(path, KIND, EXPECTED, e))?;
            let fields: Vec<&str> = record.iter().collect();
            if row == 0 && is_header(&fields) {
                continue;
            }
            let wrong = |what: String| {
                let line = record.position().map_or(row as u64 + 1, csv::Position::line);
                Error::format(path, KIND, EXPECTED, format!("{what} in line {line}"))
            };
            if *columns.get_or_insert(fields.len()) != fields.len() || fields.len() > 4 {
                return Err(wrong(format!("{} columns", fields.len())));
            }
            let sample = Listed::new(&fields).map_err(wrong)?;
            if seen.insert(sample.id.clone()) {
                listed.push(sample);
            }
        }
        Self::checked(path, listed)
    }

    /// The samples of one split.
    ///
    /// # Errors
    /// [`Error::Format`] when the list has none.
    pub fn select(self, split: &str) -> Result<Self> {
        let mut splits: Vec<String> = self.listed.iter().filter_map(|sample| sample.split.clone()).collect();
        let is_wanted = |sample: &Listed| sample.split.as_deref() == Some(split);
        let listed: Vec<Listed> = self.listed.into_iter().filter(is_wanted).collect();
        if listed.is_empty() {
            splits.sort();
            splits.dedup();
            let expected = format!("films of the split `{split}`");
            let found = if splits.is_empty() { "no splits".into() } else { format!("only of {}", splits.join(", ")) };
            return Err(Error::format(self.path, KIND, expected, found));
        }
        Ok(Self { listed, ..self })
    }

    /// The samples, in the order of the list; at least one.
    pub fn samples(&self) -> &[Listed] {
        &self.listed
    }

    fn checked(path: &Path, listed: Vec<Listed>) -> Result<Self> {
        if listed.is_empty() {
            return Err(Error::format(path, KIND, EXPECTED, "none"));
        }
        Ok(Self { path: path.to_path_buf(), listed })
    }
}

impl Listed {
    /// The sample of a line. The error says what was found.
    fn new(fields: &[&str]) -> std::result::Result<Self, String> {
        let (film, start, label, split) = match *fields {
            [id] => (id, None, "", None),
            [id, label] => (id, None, label, None),
            [id, start, label] => (id, Some(start), label, None),
            [id, start, label, split] => (id, Some(start), label, Some(split)),
            _ => return Err("no column".into()),
        };
        let start = match start.map(|text| (text, text.parse::<f64>())) {
            None => None,
            Some((_, Ok(start))) if (0.0..1e6).contains(&start) => Some(start),
            Some((text, _)) => return Err(format!("the start `{text}`")),
        };
        let id = start.map_or_else(|| film.to_owned(), |start| with_start(film, start));
        if !is_plain_name(&id) {
            return Err(format!("the id `{film}`"));
        }
        if let Some(split) = split.filter(|split| !is_plain_name(split)) {
            return Err(format!("the split `{split}`"));
        }
        let label = (!label.is_empty()).then(|| label.to_owned());
        Ok(Self { id, film: film.to_owned(), start, label, split: split.map(str::to_owned) })
    }
}

/// Whether a first line names the columns.
fn is_header(fields: &[&str]) -> bool {
    const NAMES: [&str; 5] = ["id", "youtube_id", "ytid", "video_id", "video"];
    fields.first().is_some_and(|name| NAMES.contains(&name.to_lowercase().as_str()))
}

/// The id of a span, as in VGGSound.
pub(super) fn with_start(film: &str, start: f64) -> String {
    format!("{film}_{:06}", start as u64)
}

/// Whether `name` can be the name of a file anywhere, apart from its ending.
pub(super) fn is_plain_name(name: &str) -> bool {
    /// File systems allow 255 bytes; endings and numbers are added.
    const MAX_LEN: usize = 200;
    let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    !name.is_empty() && name.len() <= MAX_LEN && !name.starts_with('.') && !name.contains(forbidden)
}
