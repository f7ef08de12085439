//! Logs: to stderr, without ever waiting for whoever reads it.
//!
//! Lines go through a bounded queue to a thread of their own; when the reader is slower than the node, lines are dropped and counted, and the
//! node goes on. Each line says node, term and session ([`position`]); [`format`] writes it as text or JSON.

mod format;
pub mod panics;
mod position;

use std::io::IsTerminal;

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};

pub use position::Position;

/// Lines that may wait for the reader; a line is bounded by [`format::VALUE_BYTES_MAX`] a value.
const LINES_WAITING_MAX: usize = 8_192;

/// Keeps the log running; what waits is written when it is dropped (as far as the reader takes it within a second).
pub struct Logging {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Logging {
    /// Starts logging for the whole process.
    pub fn start(settings: &LogSettings, position: Position) -> anyhow::Result<Logging> {
        let filter = EnvFilter::try_new(&settings.level).with_context(|| {
            format!(
                "log.level = {:?} is no filter: write \"info\", or directives as in \"warn,blox_raft=debug\"",
                settings.level
            )
        })?;
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = writer.error_counter();
        let colours =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let layer = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer);
        let registry = tracing_subscriber::registry().with(filter);
        match settings.format {
            LogFormat::Text => registry
                .with(layer.event_format(format::Text::new(position)))
                .try_init(),
            LogFormat::Json => registry
                .with(layer.with_ansi(false).event_format(format::Json::new(position)))
                .try_init(),
        }
        .context("logging was started twice")?;
        Ok(Logging { _guard: guard, dropped })
    }

    /// Counts the lines dropped because nobody read them in time.
    pub fn dropped_lines(&self) -> DroppedLines {
        DroppedLines(self.dropped.clone())
    }
}

/// How many log lines were dropped so far.
#[derive(Clone)]
pub struct DroppedLines(ErrorCounter);

impl DroppedLines {
    /// The count.
    pub fn count(&self) -> usize {
        self.0.dropped_lines()
    }
}
