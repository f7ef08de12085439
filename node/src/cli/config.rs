//! `blox config check FILE` and `blox config print-default`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{DEFAULT_FILE, NodeConfig, load};

/// What to do with configurations.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say whether a file (with the BLOX_* environment of this moment over it) can be used, and what it comes to.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print a commented configuration with every key and its default.
    PrintDefault,
}

/// Does it.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut output = std::io::stdout().lock();
    match arguments.action {
        Action::Check { file } => {
            let loaded = load(Some(&file), std::env::vars(), None)?;
            for warning in &loaded.warnings {
                eprintln!("blox: warning: {warning}");
            }
            writeln!(output, "{}: {}", file.display(), summary(&loaded.config))?;
        }
        Action::PrintDefault => output.write_all(DEFAULT_FILE.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the configuration comes to, in one line.
fn summary(config: &NodeConfig) -> String {
    let members: Vec<&str> = config
        .initial_members
        .iter()
        .map(|member| member.name.as_str())
        .collect();
    let sources: Vec<String> = config
        .sources
        .iter()
        .map(|source| format!("{} in {}", source.name, source.region))
        .collect();
    format!(
        "well: node {} of {}, users at {}, peers at {}, data in {}, sources: {}",
        config.name,
        members.join(", "),
        config.http.advertise,
        config.peer.advertise,
        config.data_directory.display(),
        if sources.is_empty() {
            "none".to_owned()
        } else {
            sources.join(", ")
        }
    )
}
