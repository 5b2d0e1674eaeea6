//! How closely a picture is looked at: as a whole, or in tiles too.

use rayon::prelude::*;
use serde_json::{Value, json};
use soundsight::localizer::{MAX_ACROSS, Source, TiledImage};
use soundsight::{Embedding, EncodedImage, Heatmap, Localizer, Picture, Result, Waveform};

/// An encoded picture.
pub enum View {
    Whole(EncodedImage),
    Tiles(TiledImage),
}

impl View {
    /// Encodes pictures, with this many tiles along their shorter sides where that is asked for.
    pub fn encode(localizer: &Localizer, pictures: &[Picture], tiles: Option<usize>) -> Result<Vec<Self>> {
        match tiles {
            None => Ok(localizer.encode_image_batch(pictures)?.into_iter().map(Self::Whole).collect()),
            Some(across) => {
                pictures.iter().map(|picture| Ok(Self::Tiles(localizer.encode_tiles(picture, across)?))).collect()
            }
        }
    }

    /// Computes what only the confidence needs.
    pub fn prepare_confidence(&self, localizer: &Localizer) -> Result<()> {
        match self {
            Self::Whole(image) => localizer.dense_features(image).map(drop),
            Self::Tiles(image) => localizer.dense_features(image.whole()).map(drop),
        }
    }

    pub fn localize(&self, localizer: &Localizer, embedding: &Embedding) -> Result<Heatmap> {
        match self {
            Self::Whole(image) => localizer.localize(embedding, image),
            Self::Tiles(image) => localizer.localize_tiles(embedding, image),
        }
    }

    pub fn localize_sources(
        &self,
        localizer: &Localizer,
        waveform: &Waveform,
        count: usize,
    ) -> Result<Vec<(Source, Heatmap)>> {
        match self {
            Self::Whole(image) => localizer.localize_sources(waveform, image, count),
            Self::Tiles(image) => localizer.localize_sources_in_tiles(waveform, image, count),
        }
    }

    /// Localizes many sounds, each in its picture.
    pub fn localize_batch(localizer: &Localizer, pairs: &[(&Embedding, &Self)]) -> Result<Vec<Heatmap>> {
        let whole = pairs.iter().map(|&(embedding, view)| match view {
            Self::Whole(image) => Some((embedding, image)),
            Self::Tiles(_) => None,
        });
        match whole.collect::<Option<Vec<_>>>() {
            Some(pairs) => localizer.localize_batch(&pairs),
            None => pairs.par_iter().map(|(embedding, view)| view.localize(localizer, embedding)).collect(),
        }
    }

    /// How closely the picture is looked at, in words, if at tiles.
    pub fn closeness(&self) -> Option<String> {
        let Self::Tiles(image) = self else { return None };
        let (columns, rows) = image.grid();
        Some(match image.num_encoded() {
            1 => "the whole picture is a single tile".to_string(),
            all => format!("{columns} × {rows} tiles, {all} pictures encoded in all"),
        })
    }

    /// The same for JSON: the columns and rows of the smallest tiles, and how many pictures were encoded.
    pub fn tiles_json(&self) -> Value {
        let Self::Tiles(image) = self else { return Value::Null };
        let (columns, rows) = image.grid();
        json!({"columns": columns, "rows": rows, "encoded": image.num_encoded()})
    }
}

/// Parses `--tiles`.
pub fn tiles(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MAX_ACROSS).contains(number));
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_ACROSS}"))
}
