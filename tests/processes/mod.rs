//! Threads that train together as processes do.
#![allow(dead_code, clippy::unwrap_used)] // each test program uses only a part

use std::sync::{Arc, Condvar, Mutex};

use soundsight::train::Collective;
use soundsight::{Error, Result};

/// One of several threads, which plays the role of a process. The others learn when it ends.
#[derive(Debug)]
pub struct Thread {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    given: Vec<Option<Vec<u8>>>,
    /// What all gave, until all have taken it.
    result: Option<Vec<Vec<u8>>>,
    num_taken: usize,
    gone: Vec<usize>,
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.fill(0.0);
        for bytes in self.all_gather(&bytes)? {
            assert_eq!(bytes.len(), 4 * values.len(), "processes exchange different things");
            for (sum, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
                *sum += f32::from_le_bytes(bytes.try_into().unwrap());
            }
        }
        Ok(())
    }

    fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Shared { size, state, changed } = &*self.shared;
        let wait = |state, until: &dyn Fn(&State) -> bool| changed.wait_while(state, |state| !until(state)).unwrap();
        let mut state = wait(state.lock().unwrap(), &|state| state.result.is_none());
        state.given[self.rank] = Some(bytes.to_vec());
        if state.given.iter().all(Option::is_some) {
            state.result = Some(state.given.iter_mut().map(|given| given.take().unwrap()).collect());
            changed.notify_all();
        }
        let is_lost = |state: &State| state.gone.iter().any(|rank| state.given[*rank].is_none());
        let mut state = wait(state, &|state| state.result.is_some() || is_lost(state));
        let Some(result) = state.result.clone() else {
            let process = format!("process {}", state.gone[0]);
            return Err(Error::Process { process, reason: "is gone".to_string() });
        };
        state.num_taken += 1;
        if state.num_taken == *size {
            (state.num_taken, state.result) = (0, None);
            changed.notify_all();
        }
        Ok(result)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().gone.push(self.rank);
        self.shared.changed.notify_all();
    }
}

/// Runs `work` in `size` threads that play the roles of processes, and returns their results in order.
pub fn among<T: Send>(size: usize, work: impl Fn(Arc<dyn Collective>) -> T + Sync) -> Vec<T> {
    let state = State { given: vec![None; size], ..State::default() };
    let shared = Arc::new(Shared { size, state: Mutex::new(state), changed: Condvar::new() });
    std::thread::scope(|scope| {
        let work = &work;
        let run = |rank| {
            let thread = Thread { rank, shared: shared.clone() };
            scope.spawn(move || work(Arc::new(thread)))
        };
        let threads: Vec<_> = (0..size).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
