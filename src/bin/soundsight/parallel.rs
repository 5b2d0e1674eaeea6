//! Several processes that were started together, by `mpirun` or a cluster's own launcher.
#[cfg(feature = "mpi")]
mod mpi;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use soundsight::Error;
use soundsight::data::Shard;
use soundsight::train::{Alone, Collective, agree};

/// Where launchers tell the processes that they start how many there are: Open MPI, then MPICH and its relatives.
const SIZES: [&str; 2] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
/// How long a process that has not failed itself waits for the one that has: its message is the one to show.
const GRACE: Duration = Duration::from_secs(10);

/// How the processes of a job deal with each other.
#[derive(Args, Clone, Copy)]
pub struct ParallelOptions {
    /// Under mpirun: how long a process may wait for another one, in seconds, before the job ends with a message.
    ///
    /// It must be longer than the time by which one process may be behind another: reading a batch from a slow disk, or
    /// checking all pairs before the first step.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    mpi_timeout: u64,
}

impl ParallelOptions {
    /// How long a process may wait for another one.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(self.mpi_timeout)
    }
}

/// The same for work that the processes do independently of each other: some may be done long before the others.
pub const UNHURRIED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The processes of this job; a single one unless a launcher has started several.
pub struct Job {
    group: Arc<dyn Collective>,
    #[cfg(feature = "mpi")]
    mpi: Option<mpi::Session>,
}

impl Job {
    /// Joins the other processes. None is waited for longer than `timeout`.
    #[cfg(feature = "mpi")]
    pub fn join(timeout: Duration) -> Result<Self> {
        // PMIx (Slurm's `srun`) tells the rank alone.
        if SIZES.iter().chain(&["PMIX_RANK"]).all(|name| std::env::var_os(name).is_none()) {
            return Ok(Self { group: Arc::new(Alone), mpi: None });
        }
        let (mpi, group) = mpi::Session::begin(timeout)?;
        Ok(Self { group: Arc::new(group), mpi: Some(mpi) })
    }

    /// Refuses to be one of several processes, which would all do the same work.
    #[cfg(not(feature = "mpi"))]
    pub fn join(_: Duration) -> Result<Self> {
        let size = SIZES.iter().find_map(|name| std::env::var(name).ok()?.parse::<usize>().ok());
        if size.is_some_and(|size| size > 1) {
            let what = "a job of several processes (or --shard, for independent work)".to_string();
            return Err(Error::MissingFeature { what, feature: "mpi" }.into());
        }
        Ok(Self { group: Arc::new(Alone) })
    }

    /// The processes, as this one sees them.
    pub fn group(&self) -> &Arc<dyn Collective> {
        &self.group
    }

    /// This process's share of the work.
    pub fn shard(&self) -> Shard {
        soundsight::train::shard_of(&*self.group)
    }

    /// This process's share of independent work, where `--shard` was `asked` for.
    pub fn share_of(&self, asked: Shard) -> Result<Shard> {
        let own = self.shard();
        ensure!(asked == Shard::WHOLE || own == Shard::WHOLE, "--shard: under mpirun each process takes its own share");
        Ok(if own == Shard::WHOLE { asked } else { own })
    }

    /// Whether this process writes and speaks for all.
    pub fn is_first(&self) -> bool {
        self.group.rank() == 0
    }

    /// The number of this process among those of its machine, from 0: that of its GPU.
    pub fn local_rank(&self) -> usize {
        #[cfg(feature = "mpi")]
        if let Some(mpi) = &self.mpi {
            return mpi.local_rank();
        }
        0
    }

    /// The outcome of something that every process has done: an error in all of them if it failed in one.
    pub fn together<T>(&self, outcome: Result<T>) -> Result<T> {
        let failed =
            |error: &anyhow::Error| Error::Process { process: self.group.name(), reason: format!("{error:#}") };
        let status = outcome.as_ref().map(|_| ()).map_err(failed);
        match (agree(&*self.group, status, |()| ()), outcome) {
            (Err(Error::Process { process, .. }), Err(own)) if process == self.group.name() => Err(own),
            (Err(other), _) => Err(other.into()),
            (Ok(_), outcome) => outcome,
        }
    }

    /// Leaves the other processes, with the outcome of the work. An error ends them, too.
    pub fn leave(self, outcome: Result<()>) -> Result<()> {
        if let Err(error) = outcome {
            if self.group.size() == 1 {
                return Err(error);
            }
            return Err(match error.downcast_ref::<Error>() {
                Some(Error::Process { process, .. }) if *process != self.group.name() => {
                    // That process shows its message and ends this one.
                    std::thread::sleep(GRACE);
                    error
                }
                _ => error.context(self.group.name()),
            });
        }
        #[cfg(feature = "mpi")]
        if let Some(mpi) = self.mpi {
            mpi.end();
        }
        Ok(())
    }
}
