//! Ctrl-C.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

/// Installs the handler, once in a process, and returns the flag that the first Ctrl-C sets: finish what you are doing,
/// save it, and return. The second Ctrl-C ends the process at once with exit status 130.
pub fn stop_on_ctrl_c() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(&STOP)
}
