//! How far a long work is, on standard error: a line that overwrites itself where somebody looks, else one now and then.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines for a person.
const TERMINAL_PAUSE: Duration = Duration::from_millis(200);
/// Between two lines for a log.
const LOG_PAUSE: Duration = Duration::from_secs(2);

/// See the module.
pub struct Progress {
    what: &'static str,
    total: Option<u64>,
    begun: Instant,
    said: Option<Instant>,
    bytes: u64,
    terminal: bool,
}

impl Progress {
    /// Begins; `total` bytes where that is known.
    pub fn new(what: &'static str, total: Option<u64>) -> Progress {
        Progress {
            what,
            total,
            begun: Instant::now(),
            said: None,
            bytes: 0,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// So many bytes are done.
    pub fn at(&mut self, bytes: u64) {
        self.bytes = bytes;
        let pause = if self.terminal { TERMINAL_PAUSE } else { LOG_PAUSE };
        if self.said.is_none_or(|said| said.elapsed() >= pause) {
            self.said = Some(Instant::now());
            self.say(if self.terminal { "\r" } else { "\n" });
        }
    }

    /// All is done: the last line.
    pub fn done(self) {
        self.say("\n");
    }

    fn say(&self, end: &str) {
        let rate = self.bytes as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        let of = match self.total {
            Some(total) => format!(" of {}", mebibytes(total as f64)),
            None => String::new(),
        };
        let line = format!(
            "{}: {}{of}, {}/s",
            self.what,
            mebibytes(self.bytes as f64),
            mebibytes(rate)
        );
        let clear = if self.terminal { "\x1b[K" } else { "" };
        // Nobody may be reading.
        drop(write!(std::io::stderr(), "{line}{clear}{end}"));
    }
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / f64::from(1 << 20))
}
