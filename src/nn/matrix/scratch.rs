//! Reusable memory.

use std::cell::RefCell;

thread_local! {
    /// The memory for packed rows, which would otherwise be allocated and cleared for every block of rows.
    pub(super) static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// The first `len` numbers of `memory`, which grows if necessary but is not cleared: they can have any value.
pub(super) fn room(memory: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    &mut memory[..len]
}
