//! `blox node`: one node.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches};

use super::run_to_end;
use crate::config::{load, settings};
use crate::logging::{Logging, Position};
use crate::run;

/// How long the last log lines may take: a reader that does not read must not keep a process that has ended.
const LAST_LINES_MS_MAX: u64 = 2_000;
/// Exit code of a node that ended well.
const ENDED_WELL: u8 = 0;
/// Exit code of a node that failed.
const FAILED: u8 = 1;

/// Where the configuration is, and what is put over it.
pub struct Arguments {
    file: Option<PathBuf>,
    exit_on_stdin_close: bool,
    settings: ArgMatches,
}

/// The flags that are no settings.
#[derive(Args)]
struct Own {
    /// The configuration file; see `blox config print-default`.
    #[arg(long = "config", value_name = "FILE", env = "BLOX_CONFIG")]
    file: Option<PathBuf>,
    /// Stop when standard input closes: for a parent that may die without a word.
    #[arg(long, hide = true)]
    exit_on_stdin_close: bool,
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Arguments, clap::Error> {
        let own = Own::from_arg_matches(matches)?;
        Ok(Arguments {
            file: own.file,
            exit_on_stdin_close: own.exit_on_stdin_close,
            settings: matches.clone(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Arguments::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Arguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        settings::add_flags(Own::augment_args(command))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Arguments::augment_args(command)
    }
}

/// Runs the node until it is told to stop or must. An error of the node itself is in the log, and only its exit code is left to tell.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let loaded = load(arguments.file.as_deref(), std::env::vars(), Some(&arguments.settings))?;
    let position = Position::new(&loaded.config.name);
    let logging = Logging::start(&loaded.config.log, position.clone())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    #[cfg(feature = "zoo")]
    crate::zoo::warn();
    let outcome = run_to_end(run::node(
        loaded.config,
        position,
        logging.dropped_lines(),
        arguments.exit_on_stdin_close,
    ));
    let code = match outcome {
        Ok(()) => ENDED_WELL,
        Err(error) => {
            tracing::error!(cause = %format!("{error:#}"), "the node ends");
            FAILED
        }
    };
    end_within(Duration::from_millis(LAST_LINES_MS_MAX), code);
    drop(logging);
    end(code)
}

/// Ends the process without the destructors of C++: a thread that is still inside RocksDB would find its locks gone, and abort.
fn end(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

/// Ends the process after that time, where it has not ended by itself.
fn end_within(time: Duration, code: u8) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        end(code);
    });
}
