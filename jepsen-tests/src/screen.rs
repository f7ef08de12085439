//! What a person sees while it runs: one line an event, with the seconds since the start.

use std::io::Write;

use crate::clock::{Clock, seconds};

/// Where the story is told.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    clock: Clock,
}

impl Screen {
    /// Counts from this clock's start.
    pub fn new(clock: Clock) -> Screen {
        Screen { clock }
    }

    /// Tells one line, at once.
    pub fn say(&self, sentence: &str) {
        let now = seconds(self.clock.now_ns());
        self.plain(&format!("{now:8.1} s  {sentence}"));
    }

    /// A line without a time.
    pub fn plain(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever closed the other end does not want to read on; the verdict is the exit code.
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}
