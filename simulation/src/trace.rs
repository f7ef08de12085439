//! What happened, line by line, in virtual time: the story of a run, and what two runs of one seed are compared by.

use std::fmt::Display;

use blox_runtime::time::elapsed;
use parking_lot::Mutex;

/// The lines of one run.
#[derive(Default)]
pub struct Trace {
    lines: Mutex<Vec<String>>,
}

impl Trace {
    /// Adds a line, stamped with virtual time in seconds.
    pub fn say(&self, what: impl Display) {
        let now = elapsed();
        self.lines
            .lock()
            .push(format!("{:>4}.{:06} {what}", now.as_secs(), now.subsec_micros()));
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }
}
