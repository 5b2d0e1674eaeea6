//! Several sources in one sound, each localized on its own.
//!
//! A mixture has one audio token, and its heatmap at best covers everything that sounds. [`Localizer::sources`] takes the
//! mixture apart before it is localized, in one of two ways ([`Separation`]). Neither needs training.

use candle_core::{DType, Tensor};

use super::{Embedding, EncodedImage, Heatmap, Localizer, TiledImage};
use crate::audio::Waveform;
use crate::error::{Error, Result};

/// Length of the windows that are clustered, in seconds, and the time between two of them.
const WINDOW: f64 = 1.0;
const HOP: f64 = 0.25;
/// The most sources that are looked for, and the number of classes that are looked for in a picture.
const MAX_SOURCES: usize = 16;
/// The clustering stops after this many rounds if it has not settled before.
const MAX_ROUNDS: usize = 50;

/// How a sound is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Separation {
    /// The classes that the audio encoder's tagging head hears best, each localized by its name. It needs a model with such
    /// a head, the names of its classes and a tokenizer.
    Tags,
    /// Windows of the sound, clustered by their embeddings (or audio tokens, where those depend on the picture): what sounds
    /// alone for a moment can be told apart.
    Windows,
}

/// One of the sources in a sound.
#[derive(Clone, Debug)]
pub struct Source {
    /// What to look for in a picture.
    pub embedding: Embedding,
    /// The name of the class that was heard, where the model says so.
    pub name: Option<String>,
    /// How much of the sound this is, in [0, 1]: the probability of the class, or the fraction of the windows.
    pub share: f32,
}

impl Localizer {
    /// Takes a sound apart into at most `count` sources, the strongest first: by tags where the model can, or else by windows.
    ///
    /// # Errors
    /// As [`Localizer::sources_by`].
    pub fn sources(&self, waveform: &Waveform, count: usize) -> Result<Vec<Source>> {
        let separation = if self.can_tag() { Separation::Tags } else { Separation::Windows };
        self.sources_by(separation, waveform, count)
    }

    /// Takes a sound apart into at most `count` sources, the strongest first.
    ///
    /// # Errors
    /// [`Error::Argument`] for a `count` outside 1 to 16, or [`Separation::Tags`] with a model that cannot tag;
    /// [`Error::Candle`] when the device has no memory left.
    pub fn sources_by(&self, separation: Separation, waveform: &Waveform, count: usize) -> Result<Vec<Source>> {
        if !(1..=MAX_SOURCES).contains(&count) {
            return Err(Error::argument("number of sources", format!("1 to {MAX_SOURCES}"), count));
        }
        match separation {
            Separation::Tags => self.by_tags(waveform, count),
            Separation::Windows => self.by_windows(waveform, count),
        }
    }

    /// Takes a sound apart into at most `count` sources, the strongest first, and localizes each of them in a picture.
    ///
    /// The picture helps to tell what sounds: of the 16 classes that a model with tags hears best, those with the highest
    /// product of probability and peak score win. What lights the same place as a stronger source counts less, by the share
    /// of the two heatmaps that they have in common. Windows are localized as they are.
    ///
    /// # Errors
    /// As [`Localizer::sources_by`] and [`Localizer::localize`].
    pub fn localize_sources(
        &self,
        waveform: &Waveform,
        image: &EncodedImage,
        count: usize,
    ) -> Result<Vec<(Source, Heatmap)>> {
        self.find_sources(waveform, count, |sources| {
            self.localize_batch(&sources.iter().map(|source| (&source.embedding, image)).collect::<Vec<_>>())
        })
    }

    /// Like [`Localizer::localize_sources`], in a picture and in its tiles.
    ///
    /// # Errors
    /// As [`Localizer::localize_sources`].
    pub fn localize_sources_in_tiles(
        &self,
        waveform: &Waveform,
        image: &TiledImage,
        count: usize,
    ) -> Result<Vec<(Source, Heatmap)>> {
        self.find_sources(waveform, count, |sources| {
            sources.iter().map(|source| self.localize_tiles(&source.embedding, image)).collect()
        })
    }

    /// The strongest `count` sources of a sound, with what `localize` finds of each.
    fn find_sources(
        &self,
        waveform: &Waveform,
        count: usize,
        localize: impl Fn(&[Source]) -> Result<Vec<Heatmap>>,
    ) -> Result<Vec<(Source, Heatmap)>> {
        let wanted = if self.can_tag() && (1..=MAX_SOURCES).contains(&count) { MAX_SOURCES } else { count };
        let sources = self.sources(waveform, wanted)?;
        let heatmaps = localize(&sources)?;
        let mut left: Vec<(Source, Heatmap)> = sources.into_iter().zip(heatmaps).collect();
        if !self.can_tag() {
            return Ok(left);
        }
        let mut evidence: Vec<f32> =
            left.iter().map(|(source, heatmap)| source.share * peak(&heatmap.scores)).collect();
        let mut found: Vec<(Source, Heatmap)> = Vec::new();
        while found.len() < count
            && let Some(best) = (0..left.len()).max_by(|&a, &b| evidence[a].total_cmp(&evidence[b]))
        {
            let (source, heatmap) = left.swap_remove(best);
            evidence.swap_remove(best);
            for (evidence, (_, other)) in evidence.iter_mut().zip(&left) {
                *evidence *= 1.0 - overlap(&heatmap.scores, &other.scores);
            }
            found.push((source, heatmap));
        }
        Ok(found)
    }

    /// Whether the sources of a sound can be told apart by their tags.
    fn can_tag(&self) -> bool {
        let classes = self.classes.as_ref().map(Vec::len);
        classes.is_some() && classes == self.acl().audio_encoder.num_classes() && self.has_tokenizer()
    }

    /// The probability of each of the model's classes in a sound, in the order of its tagging head.
    ///
    /// # Errors
    /// [`Error::Config`] when the model has no tagging head; [`Error::Candle`] when the device has no memory left.
    pub fn tag(&self, waveform: &Waveform) -> Result<Vec<f32>> {
        let tags = self.acl().audio_encoder.tag(&self.fbank(std::slice::from_ref(waveform))?)?;
        Ok(tags.squeeze(0)?.to_dtype(DType::F32)?.to_vec1()?)
    }

    #[cfg(feature = "text")]
    fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    #[cfg(not(feature = "text"))]
    fn has_tokenizer(&self) -> bool {
        false
    }

    #[cfg(feature = "text")]
    fn embed_prompt(&self, prompt: &str) -> Result<Embedding> {
        self.embed_text(prompt)
    }

    #[cfg(not(feature = "text"))]
    fn embed_prompt(&self, prompt: &str) -> Result<Embedding> {
        let what = format!("the prompt \"{prompt}\"");
        Err(Error::MissingFeature { what, feature: "text" })
    }

    fn by_tags(&self, waveform: &Waveform, count: usize) -> Result<Vec<Source>> {
        let Some(classes) = self.classes.as_ref().filter(|_| self.can_tag()) else {
            let expected = "a model with a tagging head, the names of its classes and a tokenizer";
            return Err(Error::argument("separation by tags", expected, self.name()));
        };
        let mut tags: Vec<(f32, &String)> = self.tag(waveform)?.into_iter().zip(classes).collect();
        tags.sort_by(|a, b| b.0.total_cmp(&a.0));
        let source = |(share, name): &(f32, &String)| {
            let prompt = self.acl().config().acl.prompt.replace("{}", name);
            Ok(Source { embedding: self.embed_prompt(&prompt)?, name: Some((*name).clone()), share: *share })
        };
        tags.iter().take(count).map(source).collect()
    }

    fn by_windows(&self, waveform: &Waveform, count: usize) -> Result<Vec<Source>> {
        let seconds = waveform.clip_seconds().min(self.audio_seconds());
        let num_windows = (((seconds - WINDOW) / HOP).floor().max(0.0)) as usize + 1;
        let windows = (0..num_windows).map(|i| self.repeated(waveform, i as f64 * HOP)).collect::<Result<Vec<_>>>()?;
        let embeddings = self.embed_audio_batch(&windows)?;
        let vectors = embeddings.iter().map(|e| unit(e.tensor())).collect::<Result<Vec<_>>>()?;
        let source = |(middle, members): (usize, usize)| {
            let share = members as f32 / num_windows as f32;
            Source { embedding: embeddings[middle].clone(), name: None, share }
        };
        let mut sources: Vec<Source> = cluster(&vectors, count).into_iter().map(source).collect();
        sources.sort_by(|a, b| b.share.total_cmp(&a.share));
        Ok(sources)
    }

    /// The window from `start` on, repeated until it fills what the model reads.
    fn repeated(&self, waveform: &Waveform, start: f64) -> Result<Waveform> {
        let window = waveform.window(start, WINDOW)?;
        let length = (self.audio_seconds() * f64::from(window.sample_rate())) as usize;
        let samples = window.samples().iter().copied().cycle().take(length.max(1)).collect();
        Waveform::from_samples(samples, window.sample_rate())
    }
}

fn peak(scores: &[f32]) -> f32 {
    scores.iter().copied().fold(0.0, f32::max)
}

/// What two heatmaps have in common, as a fraction of the smaller one: 0 for none, 1 if it lies within the other.
fn overlap(a: &[f32], b: &[f32]) -> f32 {
    let common: f32 = a.iter().zip(b).map(|(a, b)| a.min(*b)).sum();
    let smaller = a.iter().sum::<f32>().min(b.iter().sum());
    if smaller > 0.0 { common / smaller } else { 0.0 }
}

/// The embedding `[1, P]`, or audio token `[1, H]`, with length 1.
fn unit(embedding: &Tensor) -> Result<Vec<f32>> {
    let mut vector = embedding.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    normalize(&mut vector);
    Ok(vector)
}

fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Spherical k-means of unit vectors: for each of at most `count` clusters, the vector nearest to its centre, and how many
/// vectors belong to it. The first centre is at the beginning the vector most similar to all others, each further one the
/// vector least similar to those before.
fn cluster(vectors: &[Vec<f32>], count: usize) -> Vec<(usize, usize)> {
    let total = |vector: &Vec<f32>| vectors.iter().map(|other| dot(vector, other)).sum::<f32>();
    let first = vectors.iter().max_by(|a, b| total(a).total_cmp(&total(b)));
    let mut centres: Vec<Vec<f32>> = first.into_iter().cloned().collect();
    let nearest = |centres: &[Vec<f32>], vector: &Vec<f32>| {
        let similarities = centres.iter().map(|centre| dot(centre, vector)).enumerate();
        similarities.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap_or((0, -1.0))
    };
    while centres.len() < count.min(vectors.len()) {
        let similarity = |vector: &Vec<f32>| nearest(&centres, vector).1;
        let Some(farthest) = vectors.iter().min_by(|a, b| similarity(a).total_cmp(&similarity(b))) else { break };
        centres.push(farthest.clone());
    }
    let mut owners = vec![usize::MAX; vectors.len()];
    for _ in 0..MAX_ROUNDS {
        let found: Vec<usize> = vectors.iter().map(|vector| nearest(&centres, vector).0).collect();
        if found == owners {
            break;
        }
        owners = found;
        for (index, centre) in centres.iter_mut().enumerate() {
            let members = || vectors.iter().zip(&owners).filter(|(_, owner)| **owner == index);
            if members().next().is_none() {
                continue; // two equal vectors were both made centres
            }
            centre.fill(0.0);
            members().for_each(|(vector, _)| centre.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x));
            normalize(centre);
        }
    }
    let middle = |(index, centre): (usize, &Vec<f32>)| {
        let members: Vec<usize> = (0..vectors.len()).filter(|i| owners[*i] == index).collect();
        let likeness = |i: usize| dot(&vectors[i], centre);
        let middle = members.iter().copied().max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))?;
        Some((middle, members.len()))
    };
    centres.iter().enumerate().filter_map(middle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_in_two_directions_make_two_clusters() {
        let vectors: Vec<Vec<f32>> = (0..10)
            .map(|i| {
                let angle = if i % 3 == 0 { 1.4 } else { 0.1 } + 0.01 * i as f32;
                vec![angle.cos(), angle.sin()]
            })
            .collect();
        let mut clusters = cluster(&vectors, 2);
        clusters.sort_by_key(|(_, members)| *members);
        assert_eq!(clusters.iter().map(|(_, members)| *members).collect::<Vec<_>>(), [4, 6]);
        // The one in the middle of each.
        assert!([3, 6].contains(&clusters[0].0) && [4, 5].contains(&clusters[1].0), "{clusters:?}");
        // Equal vectors make one cluster, however many are asked for.
        let clusters = cluster(&vec![vec![1.0, 0.0]; 5], 3);
        assert_eq!(clusters.iter().map(|(_, members)| *members).collect::<Vec<_>>(), [5]);
    }
}
