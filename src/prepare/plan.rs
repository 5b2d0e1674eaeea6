//! Which film becomes which sample.

use std::collections::{BTreeMap, HashMap};

use super::flaw::{Flaw, FlawKind};
use super::list::{FilmList, Listed, is_plain_name};
use super::recipe::Recipe;
use super::record::Record;
use super::source::Member;

/// A sample that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) label: Option<String>,
    pub(super) split: String,
    /// Where the span begins, in seconds.
    pub(super) start: f64,
    /// The film; if there is none, what is wrong.
    pub(super) member: std::result::Result<Member, Record>,
}

/// All samples, and what else there is to report.
#[derive(Debug)]
pub(super) struct Plan {
    /// Sorted by id.
    pub(super) wanted: Vec<Wanted>,
    /// Films that are left out because another one has the same id, or because of their names.
    pub(super) left_out: Vec<Record>,
    /// The number of films that the list does not name.
    pub(super) unlisted: usize,
}

impl Plan {
    /// Plans the samples of `list`, or of all films.
    pub(super) fn new(members: Vec<Member>, list: Option<&FilmList>, recipe: &Recipe) -> Self {
        let films = Films::new(members);
        match list {
            Some(list) => films.listed(list, recipe),
            None => films.all(recipe),
        }
    }
}

/// The films by their names, the best of each name first.
struct Films(BTreeMap<String, Vec<Member>>);

impl Films {
    fn new(members: Vec<Member>) -> Self {
        let mut films: BTreeMap<String, Vec<Member>> = BTreeMap::new();
        for member in members {
            films.entry(member.stem().to_owned()).or_default().push(member);
        }
        for same in films.values_mut() {
            same.sort_by(|a, b| (a.flaw.is_some(), &a.name, a.source).cmp(&(b.flaw.is_some(), &b.name, b.source)));
        }
        Self(films)
    }

    fn all(self, recipe: &Recipe) -> Plan {
        let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
        for (id, same) in self.0 {
            report_others(&id, &same, &mut left_out);
            let Some(first) = same.into_iter().next() else { continue };
            let member = match (is_plain_name(&id), &first.flaw) {
                (_, Some(flaw)) => Err(Record::unused(&id, &first.name, first.bytes, flaw.clone())),
                (false, None) => {
                    let flaw = Flaw::new(FlawKind::Unsafe, "a name that any file can have", format!("`{id}`"));
                    Err(Record::unused(&id, &first.name, first.bytes, flaw))
                }
                (true, None) => Ok(first),
            };
            wanted.push(Wanted { id, label: None, split: recipe.split.clone(), start: recipe.from, member });
        }
        Plan { wanted, left_out, unlisted: 0 }
    }

    fn listed(self, list: &FilmList, recipe: &Recipe) -> Plan {
        let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
        // A film of which several spans are wanted is reported once.
        let mut used: HashMap<&str, &str> = HashMap::new();
        for sample in list.samples() {
            let names = names(sample, recipe.from);
            let found = names.iter().find_map(|(name, start)| Some((self.0.get_key_value(name)?, *start)));
            let (start, member) = match found {
                None => {
                    let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}.mp4`")).collect();
                    let flaw = Flaw::new(FlawKind::Missing, format!("{} or the like", names.join(", ")), "none");
                    (recipe.from, Err(Record::unused(&sample.id, "", 0, flaw)))
                }
                Some(((name, same), start)) => {
                    used.entry(name).or_insert(&sample.id);
                    let first = &same[0];
                    let member = match &first.flaw {
                        Some(flaw) => Err(Record::unused(&sample.id, &first.name, first.bytes, flaw.clone())),
                        None => Ok(first.clone()),
                    };
                    (start, member)
                }
            };
            let (id, label) = (sample.id.clone(), sample.label.clone());
            let split = sample.split.clone().unwrap_or_else(|| recipe.split.clone());
            wanted.push(Wanted { id, label, split, start, member });
        }
        for (name, id) in &used {
            report_others(id, &self.0[*name], &mut left_out);
        }
        let unlisted = self.0.iter().filter(|(name, _)| !used.contains_key(name.as_str())).map(|(_, same)| same.len());
        let unlisted = unlisted.sum();
        wanted.sort_by(|a, b| a.id.cmp(&b.id));
        left_out.sort_by(|a, b| (&a.id, &a.film).cmp(&(&b.id, &b.film)));
        Plan { wanted, left_out, unlisted }
    }
}

/// Adds the films after the first to `left_out`.
fn report_others(id: &str, same: &[Member], left_out: &mut Vec<Record>) {
    let Some((first, others)) = same.split_first() else { return };
    for other in others {
        let duplicate = || Flaw::new(FlawKind::Duplicate, "one film of this name", format!("`{}` as well", first.name));
        let flaw = other.flaw.clone().unwrap_or_else(duplicate);
        left_out.push(Record::unused(id, &other.name, other.bytes, flaw));
    }
}

/// The names that a listed film may have, the best first, and where the span begins in it.
fn names(sample: &Listed, from: f64) -> Vec<(String, f64)> {
    match sample.start {
        // A film that was cut already, under its usual name or with a start as in the list; or the whole film.
        Some(start) => {
            let mut names = vec![(sample.id.clone(), from)];
            if start.fract() == 0.0 {
                names.push((format!("{}_{start}", sample.film), from));
            }
            names.push((sample.film.clone(), start));
            names.dedup();
            names
        }
        None => {
            let mut names = vec![(sample.id.clone(), from)];
            if let Some((film, start)) = sample.id.rsplit_once('_')
                && start.len() == 6
                && let Ok(start) = start.parse::<u32>()
            {
                names.push((film.to_owned(), f64::from(start)));
            }
            names
        }
    }
}
