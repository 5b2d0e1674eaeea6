//! [`Collective`] by MPI. Only exchanges between processes that are known to be there block: before each of them, all
//! processes report to the first one, which waits for a limited time and names the one that is missing.
#![allow(clippy::print_stderr)] // the last words of a process that cannot return

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mpi::Threading;
use mpi::collective::{CommunicatorCollectives, SystemOperation};
use mpi::datatype::PartitionMut;
use mpi::environment::{Universe, processor_name};
use mpi::point_to_point::{Destination, Source};
use mpi::topology::{Communicator, SimpleCommunicator};
use soundsight::Error;
use soundsight::train::Collective;

/// Reports of up to this length travel with the first messages.
const SHORT: usize = 4096;
/// How long to wait before looking for a message again: at first, and at most.
const PATIENCE: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];
/// By how much the others wait longer for the first process than that one waits for them, so that it speaks first.
const DEFERENCE: Duration = Duration::from_secs(5);

/// The time between joining the other processes and leaving them.
pub struct Session {
    /// Kept from being dropped, which would wait for the other processes, unless all goes well.
    universe: ManuallyDrop<Universe>,
    local_rank: usize,
}

impl Session {
    /// Joins the other processes. None may be waited for longer than `timeout`.
    pub fn begin(timeout: Duration) -> Result<(Self, Processes)> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Serialized).context("MPI cannot be started")?;
        let world = universe.world();
        let (rank, size) = (world.rank(), world.size());
        let local_rank = world.split_shared(rank).rank() as usize;
        let host = processor_name().context("MPI: the name of this machine")?;
        let watch = Arc::new(Watch { started: Instant::now(), deadline: AtomicU64::new(0) });
        let mut group = Processes {
            rank: rank as usize,
            size: size as usize,
            hosts: vec![host.clone()],
            timeout,
            watch: watch.clone(),
            missing: OnceLock::new(),
        };
        let name = group.name();
        std::thread::Builder::new().name("watch".to_string()).spawn(move || watch.run(&name, timeout))?;
        let hosts = group.all_gather(host.as_bytes())?;
        group.hosts = hosts.into_iter().map(|host| String::from_utf8_lossy(&host).into_owned()).collect();
        Ok((Self { universe: ManuallyDrop::new(universe), local_rank }, group))
    }

    /// The number of this process among those of its machine.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Leaves the other processes once all of them have come here. A session that does not end so ends all processes.
    pub fn end(self) {
        drop(ManuallyDrop::into_inner(self.universe));
    }
}

/// The processes of this job.
#[derive(Debug)]
pub struct Processes {
    rank: usize,
    size: usize,
    hosts: Vec<String>,
    timeout: Duration,
    watch: Arc<Watch>,
    /// The process that was missing, and what it failed to do: nothing can be exchanged any more.
    missing: OnceLock<(String, String)>,
}

impl Processes {
    fn name_of(&self, rank: usize) -> String {
        match self.hosts.get(rank) {
            Some(host) => format!("process {rank} on {host}"),
            None => format!("process {rank}"),
        }
    }

    /// Waits for a message of `rank`.
    fn receive(&self, rank: usize, timeout: Duration) -> soundsight::Result<Vec<u8>> {
        let (world, started) = (SimpleCommunicator::world(), Instant::now());
        let mut pause = PATIENCE[0];
        loop {
            if let Some((message, status)) = world.process_at_rank(rank as i32).immediate_matched_probe() {
                let mut bytes =
                    vec![0; status.count(<u8 as mpi::datatype::Equivalence>::equivalent_datatype()) as usize];
                self.watch.during(timeout, || message.matched_receive_into(&mut bytes[..]));
                return Ok(bytes);
            }
            if started.elapsed() > timeout {
                return Err(self.missing(rank));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(PATIENCE[1]);
        }
    }

    fn missing(&self, rank: usize) -> Error {
        let reason = || format!("no answer for {} s (--mpi-timeout)", self.timeout.as_secs());
        let (process, reason) = self.missing.get_or_init(|| (self.name_of(rank), reason())).clone();
        Error::Process { process, reason }
    }

    /// Gives every process the reports of all: their lengths, and the short ones themselves.
    fn report(&self, bytes: &[u8]) -> soundsight::Result<Vec<Report>> {
        let world = SimpleCommunicator::world();
        let own = Report { len: bytes.len(), short: (bytes.len() <= SHORT).then(|| bytes.to_vec()) };
        if self.rank > 0 {
            let first = world.process_at_rank(0);
            self.watch.during(self.timeout + DEFERENCE, || first.send(&own.to_bytes()[..]));
            let answer = self.receive(0, self.timeout + DEFERENCE)?;
            let mut rest = answer.as_slice();
            return (0..self.size).map(|_| Report::read(&mut rest).ok_or_else(|| self.missing(0))).collect();
        }
        let mut reports = vec![own];
        for rank in 1..self.size {
            let bytes = self.receive(rank, self.timeout)?;
            reports.push(Report::read(&mut bytes.as_slice()).ok_or_else(|| self.missing(rank))?);
        }
        let answer: Vec<u8> = reports.iter().flat_map(Report::to_bytes).collect();
        for rank in 1..self.size {
            self.watch.during(self.timeout, || world.process_at_rank(rank as i32).send(&answer[..]));
        }
        Ok(reports)
    }

    fn require_whole(&self) -> soundsight::Result<()> {
        match self.missing.get().cloned() {
            Some((process, reason)) => Err(Error::Process { process, reason }),
            None => Ok(()),
        }
    }
}

impl Collective for Processes {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn name(&self) -> String {
        self.name_of(self.rank)
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> soundsight::Result<()> {
        self.require_whole()?;
        self.report(&[])?;
        let (world, own) = (SimpleCommunicator::world(), values.to_vec());
        self.watch.during(self.timeout, || world.all_reduce_into(&own[..], values, SystemOperation::sum()));
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> soundsight::Result<Vec<Vec<u8>>> {
        self.require_whole()?;
        let reports = self.report(bytes)?;
        let lens: Vec<usize> =
            reports.iter().map(|report| if report.short.is_some() { 0 } else { report.len }).collect();
        let total: usize = lens.iter().sum();
        if total == 0 {
            return Ok(reports.into_iter().map(|report| report.short.unwrap_or_default()).collect());
        }
        let too_long =
            || Error::Process { process: self.name(), reason: format!("{total} bytes are too long for MPI") };
        let counts =
            lens.iter().map(|len| i32::try_from(*len)).collect::<Result<Vec<_>, _>>().map_err(|_| too_long())?;
        let mut starts = vec![0i32];
        for count in &counts {
            starts.push(starts[starts.len() - 1].checked_add(*count).ok_or_else(too_long)?);
        }
        let mut all = vec![0u8; total];
        let own = if bytes.len() > SHORT { bytes } else { &[] };
        self.watch.during(self.timeout, || {
            let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..counts.len()]);
            SimpleCommunicator::world().all_gather_varcount_into(own, &mut parts);
        });
        let mut rest = all.as_slice();
        let long = reports.into_iter().zip(&lens).map(|(report, len)| {
            let (own, others) = rest.split_at(*len);
            rest = others;
            report.short.unwrap_or_else(|| own.to_vec())
        });
        Ok(long.collect())
    }
}

/// What a process has to say to all.
struct Report {
    len: usize,
    /// The bytes, if they are few.
    short: Option<Vec<u8>>,
}

impl Report {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.len as u64).to_le_bytes().to_vec();
        bytes.push(u8::from(self.short.is_some()));
        bytes.extend(self.short.iter().flatten());
        bytes
    }

    /// Reads one from the beginning of `bytes`, and leaves the rest.
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let ((is_short, mut rest), len) = (rest.split_first()?, u64::from_le_bytes(*len) as usize);
        let short = match is_short {
            1 => {
                let (short, others) = rest.split_at_checked(len)?;
                rest = others;
                Some(short.to_vec())
            }
            _ => None,
        };
        *bytes = rest;
        Some(Self { len, short })
    }
}

/// Ends this process, and with it the job, if an exchange blocks too long: when a network goes away in its middle.
#[derive(Debug)]
struct Watch {
    started: Instant,
    /// In milliseconds since the start; 0 while nothing is exchanged.
    deadline: AtomicU64,
}

impl Watch {
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Runs `exchange`, which may take as long as `timeout`.
    fn during<T>(&self, timeout: Duration, exchange: impl FnOnce() -> T) -> T {
        self.deadline.store(self.now() + timeout.as_millis() as u64 + 1, Ordering::Relaxed);
        let result = exchange();
        self.deadline.store(0, Ordering::Relaxed);
        result
    }

    fn run(&self, name: &str, timeout: Duration) {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let deadline = self.deadline.load(Ordering::Relaxed);
            if deadline > 0 && self.now() > deadline {
                let seconds = timeout.as_secs();
                eprintln!(
                    "error: {name}: an exchange with the other processes did not end for {seconds} s (--mpi-timeout)"
                );
                std::process::abort();
            }
        }
    }
}
