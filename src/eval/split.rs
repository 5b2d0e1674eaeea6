//! Splits: subsets of the annotated samples.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

use super::sample::Sample;

const KIND: &str = "split";

/// A subset of the samples, from a CSV file with ids in the first column and, optionally, classes in the second.
///
/// Published splits include `vggss_heard_test.csv`, `vggss_unheard_test.csv`, `flickr_test.csv` and
/// `avs1_ms3_test.csv`.
#[derive(Clone, Debug)]
pub struct Split {
    path: PathBuf,
    classes: BTreeMap<String, Option<String>>,
    header: Option<String>,
}

impl Split {
    /// Reads a split.
    ///
    /// The published files have no header. If the first row does not name an annotated sample, it is taken as a header.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Format`] when it is not a CSV file or has no rows.
    pub fn read(path: &Path) -> Result<Self> {
        let expected = "a CSV file with ids in its first column";
        let text = std::fs::read(path).map_err(Error::io(path, "read"))?;
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_slice());
        let mut classes = BTreeMap::new();
        let mut header = None;
        for row in reader.records() {
            let row = row.map_err(|e| Error::format(path, KIND, expected, e))?;
            let Some(id) = row.get(0).map(str::trim).filter(|id| !id.is_empty()) else { continue };
            header.get_or_insert_with(|| id.to_owned());
            classes.insert(id.to_owned(), row.get(1).map(str::to_owned));
        }
        if classes.is_empty() {
            return Err(Error::format(path, KIND, expected, "no rows"));
        }
        Ok(Self { path: path.to_path_buf(), classes, header })
    }

    /// The name of the file without its extension.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap_or("split")
    }

    /// Returns the samples that the split names. Samples without a class get the class from the split.
    ///
    /// # Errors
    /// [`Error::Format`] when the split names an id that is not annotated (except in its first row), or none that is.
    pub fn select(&self, samples: Vec<Sample>) -> Result<Vec<Sample>> {
        let mut wanted = self.classes.clone();
        let mut selected = Vec::with_capacity(wanted.len());
        for mut sample in samples {
            if let Some(class) = wanted.remove(&sample.id) {
                sample.class = sample.class.or(class);
                selected.push(sample);
            }
        }
        match wanted.keys().find(|id| Some(*id) != self.header.as_ref()) {
            Some(id) => Err(Error::format(&self.path, KIND, "ids of annotated samples", format!("`{id}`"))),
            None if selected.is_empty() => {
                Err(Error::format(&self.path, KIND, "ids of annotated samples", "none of them"))
            }
            None => Ok(selected),
        }
    }
}
