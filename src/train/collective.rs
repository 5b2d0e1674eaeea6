//! What several processes that train together need of each other.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::Shard;
use crate::error::{Error, Result, chain};

/// Several processes that train together, as one of them sees them.
///
/// All processes call the same methods in the same order, each once. This is all that training needs of a message
/// passing library; the command `soundsight` implements it with MPI (feature `mpi`).
pub trait Collective: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// This process in messages: "process 3 on node-b".
    fn name(&self) -> String {
        format!("process {}", self.rank())
    }

    /// Replaces `values`, equally many in each process, by their sums over the processes. The result must be the same
    /// in all processes, bit for bit.
    ///
    /// # Errors
    /// [`Error::Process`] when another process is gone.
    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<()>;

    /// The `bytes` of all processes, in the order of their ranks. They may differ in length.
    ///
    /// # Errors
    /// [`Error::Process`] when another process is gone.
    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// A single process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce_sum(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }
}

/// The share of this process in work that all of `group` do together.
pub fn shard_of(group: &dyn Collective) -> Shard {
    Shard { rank: group.rank(), world: group.size() }
}

/// Tells every process the outcome of a piece of work in each of them: returns the own `outcome`, and what `summary` makes
/// of it in every process, in the order of ranks; or an error in all processes if the work failed in one.
///
/// This keeps processes from waiting for one that has given up.
///
/// # Errors
/// Of the processes that failed, the one with the lowest rank returns its own error; all others return an
/// [`Error::Process`] that names it.
pub fn agree<T, S: Serialize + DeserializeOwned>(
    group: &dyn Collective,
    outcome: Result<T>,
    summary: impl FnOnce(&T) -> S,
) -> Result<(T, Vec<S>)> {
    if group.size() == 1 {
        let value = outcome?;
        let summary = summary(&value);
        return Ok((value, vec![summary]));
    }
    let unreadable = |e: serde_json::Error| Error::Process { process: group.name(), reason: e.to_string() };
    // An error of another process is passed on, and is nobody's own.
    let failed = |error: &Error| match error {
        Error::Process { process, reason } => (false, process.clone(), reason.clone()),
        own => (true, group.name(), chain(own)),
    };
    let status = outcome.as_ref().map(summary).map_err(failed);
    let statuses = group.all_gather(&serde_json::to_vec(&status).map_err(unreadable)?)?;
    let (mut summaries, mut failures) = (Vec::with_capacity(group.size()), Vec::new());
    for (rank, status) in statuses.into_iter().enumerate() {
        match serde_json::from_slice::<std::result::Result<S, (bool, String, String)>>(&status).map_err(unreadable)? {
            Ok(summary) => summaries.push(summary),
            Err((is_own, process, reason)) => failures.push((!is_own, rank, process, reason)),
        }
    }
    match (failures.into_iter().min(), outcome) {
        (None, outcome) => Ok((outcome?, summaries)),
        (Some((_, rank, ..)), Err(own)) if rank == group.rank() => Err(own),
        (Some((_, _, process, reason)), _) => Err(Error::Process { process, reason }),
    }
}
