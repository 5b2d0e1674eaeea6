//! The run: films in parallel, resumable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::cut::Cutter;
use super::flaw::Flaw;
use super::journal::Journal;
use super::list::FilmList;
use super::plan::{Plan, Wanted};
use super::recipe::Recipe;
use super::record::Record;
use super::source::{Media, Member, Source};
use super::summary::Summary;
use crate::data::Shard;
use crate::error::{Error, Result};
use crate::video::Ffmpeg;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// All films are done, and everything is written.
    Finished(Summary),
    /// This shard is done. The process that does the last film of all writes the lists.
    Waiting {
        /// The other shards whose films are not all done.
        unfinished: Vec<Shard>,
        /// The number of those films.
        films: usize,
    },
    /// It was stopped before all films of this shard were done.
    Stopped {
        /// The number of films of this shard that are left.
        films: usize,
    },
}

/// Films that are to be prepared, of which some may be done already.
#[derive(Debug)]
pub struct Preparation {
    out: PathBuf,
    recipe: Recipe,
    shard: Shard,
    ffmpeg: Ffmpeg,
    sources: Vec<Source>,
    plan: Plan,
    ignored: usize,
    journal: Journal,
    /// The positions in the plan of the films of this shard that are not done.
    left: Vec<usize>,
    num_films: usize,
}

impl Preparation {
    /// Finds out what there is in `sources` (folders, `.zip`, `.tar` and `.tar.gz` archives, single films) and what is
    /// left to do in the folder `out`, which is created if it is missing. Archives are read to list their members, but not
    /// unpacked.
    ///
    /// With a `list`, its samples are prepared; without one, every film becomes a sample that is named like its file.
    /// `shard` is this process's share of the samples. Several processes may work on `out` at the same time.
    ///
    /// # Errors
    /// - [`Error::Argument`] for a recipe out of range, for another recipe than that with which `out` was begun, or when
    ///   the sources have no film.
    /// - [`Error::Io`] when a source cannot be read or `out` cannot be written, or another process prepares this shard.
    /// - [`Error::Format`] for an archive that is damaged, or a source of another kind.
    pub fn new(
        sources: &[PathBuf],
        list: Option<&FilmList>,
        out: &Path,
        recipe: Recipe,
        shard: Shard,
        ffmpeg: Ffmpeg,
    ) -> Result<Self> {
        recipe.validate()?;
        let origins = sources;
        let sources = origins.iter().map(|path| Source::open(path)).collect::<Result<Vec<_>>>()?;
        let (mut members, mut ignored) = (Vec::new(), 0);
        for (place, source) in sources.iter().enumerate() {
            let contents = source.contents(place)?;
            members.extend(contents.members);
            ignored += contents.ignored;
        }
        if members.is_empty() {
            let origins: Vec<String> = origins.iter().map(|path| path.display().to_string()).collect();
            let found = format!("none in {}", origins.join(", "));
            return Err(Error::argument("films", "at least one (.mp4, .mkv, .webm, .mov, .avi …)", found));
        }
        let plan = Plan::new(members, list, &recipe);
        let journal = Journal::open(out, shard, &recipe)?;
        for folder in [recipe.layout.sounds(), recipe.layout.pictures()].map(|name| out.join(name)) {
            std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
        }
        let mut preparation = Self {
            out: out.into(),
            recipe,
            shard,
            ffmpeg,
            sources,
            plan,
            ignored,
            journal,
            left: vec![],
            num_films: 0,
        };
        let records = preparation.records()?;
        let mine = |place: &usize| preparation.plan.wanted[*place].member.is_ok() && shard.contains(*place);
        let mine: Vec<usize> = (0..records.len()).filter(mine).collect();
        preparation.num_films = mine.len();
        preparation.left = mine.into_iter().filter(|&place| records[place].is_none()).collect();
        Ok(preparation)
    }

    /// The number of films of this shard.
    pub fn num_films(&self) -> usize {
        self.num_films
    }

    /// The number of films of this shard that are not done.
    pub fn num_left(&self) -> usize {
        self.left.len()
    }

    /// Prepares what is left with `jobs` threads. `progress` is called after each film. After `stop` has become true, the
    /// films that were begun are finished.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be written or an archive cannot be read; [`Error::MissingProgram`] without
    /// `ffmpeg`; [`Error::Format`] for a damaged archive. Finished films are kept, and another run continues from there.
    pub fn run(self, jobs: usize, stop: &AtomicBool, progress: &(dyn Fn() + Sync)) -> Result<Outcome> {
        let done = self.work(jobs.max(1), stop, progress)?;
        if done < self.left.len() {
            self.journal.finish()?;
            return Ok(Outcome::Stopped { films: self.left.len() - done });
        }
        // Read before this journal is moved, and after everything of this shard is in it: of several shards that end at
        // the same time, at least the last one sees everything.
        let records = self.records()?;
        let Self { out, recipe, shard, plan, ignored, journal, .. } = self;
        let unfinished: Vec<usize> = (0..records.len()).filter(|&place| records[place].is_none()).collect();
        if !unfinished.is_empty() {
            let others = (0..shard.world).map(|rank| Shard { rank, ..shard });
            let has_left = |other: &Shard| unfinished.iter().any(|&place| other.contains(place));
            let outcome = Outcome::Waiting { unfinished: others.filter(has_left).collect(), films: unfinished.len() };
            journal.finish()?;
            return Ok(outcome);
        }
        let records: Vec<Record> = records.into_iter().flatten().collect();
        let summary = Summary::write(&out, &recipe, &plan, &records, ignored)?;
        journal.finish()?;
        Ok(Outcome::Finished(summary))
    }

    /// What became of each sample of the plan, so far.
    fn records(&self) -> Result<Vec<Option<Record>>> {
        let mut known = self.journal.all()?;
        let record = |wanted: &Wanted| match &wanted.member {
            Err(record) => Some(record.clone()),
            Ok(member) => known.remove(&wanted.id).filter(|record| self.is_done(member, record)),
        };
        Ok(self.plan.wanted.iter().map(record).collect())
    }

    /// Whether a record is about this film, and its files are there.
    fn is_done(&self, member: &Member, record: &Record) -> bool {
        let exists = || {
            let mut files = self.recipe.picture_names(&record.id, record.pictures);
            files.push(self.recipe.sound_name(&record.id));
            files.iter().all(|file| self.out.join(file).is_file())
        };
        record.film == member.name && record.bytes == member.bytes && (!record.used || exists())
    }

    /// Prepares what is left, and returns the number of films that were done.
    fn work(&self, jobs: usize, stop: &AtomicBool, progress: &(dyn Fn() + Sync)) -> Result<usize> {
        let temporary = self.journal.temporary();
        let cutter = Cutter { recipe: &self.recipe, ffmpeg: &self.ffmpeg, out: &self.out, temporary };
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let ends = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
        let count = Mutex::new(0);
        // Archives are read by this thread, one member ahead of the threads that work on them.
        let (sender, receiver) = sync_channel::<Task<'_>>(0);
        let receiver = Mutex::new(receiver);
        let read = std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(Task { wanted, member, media }) = next(&receiver) {
                        if ends() {
                            continue; // until nothing more comes
                        }
                        let record = match media {
                            Ok(media) => cutter.cut(wanted, member, media.path()),
                            Err(flaw) => Ok(Record::unused(&wanted.id, &member.name, member.bytes, flaw)),
                        };
                        match record.and_then(|record| self.journal.add(&record)) {
                            Ok(()) => {
                                *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                                progress();
                            }
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            }
                        }
                    }
                });
            }
            let read = self.sources.iter().enumerate().try_for_each(|(source, _)| {
                self.hand_out(source, temporary, &mut |task| !ends() && sender.send(task).is_ok())
            });
            drop(sender);
            read
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => read.map(|()| count.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Hands out the films that are left of a source.
    fn hand_out<'a>(&'a self, source: usize, temporary: &Path, hand: &mut dyn FnMut(Task<'a>) -> bool) -> Result<()> {
        // By the place of the film: several spans of it share its copy.
        let mut films: BTreeMap<usize, Vec<(&Wanted, &Member)>> = BTreeMap::new();
        for wanted in self.left.iter().map(|&place| &self.plan.wanted[place]) {
            if let Ok(member) = &wanted.member
                && member.source == source
            {
                films.entry(member.place).or_default().push((wanted, member));
            }
        }
        let members: Vec<&Member> = films.values().filter_map(|same| Some(same.first()?.1)).collect();
        self.sources[source].visit(&members, temporary, &mut |place, media| {
            let media = media.map(Arc::new);
            let mut same = films.get(&place).into_iter().flatten();
            same.all(|(wanted, member)| hand(Task { wanted, member, media: media.clone() }))
        })
    }
}

/// A film to prepare.
struct Task<'a> {
    wanted: &'a Wanted,
    member: &'a Member,
    media: std::result::Result<Arc<Media>, Flaw>,
}

/// The next task; `None` when there are no more.
fn next<'a>(receiver: &Mutex<Receiver<Task<'a>>>) -> Option<Task<'a>> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
