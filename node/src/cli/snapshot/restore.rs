//! `blox snapshot restore`: an empty data directory becomes that of an initial member of a new cluster.

use std::path::PathBuf;

use anyhow::{Context, bail};

use super::progress::Progress;
use crate::config::load;
use crate::run::STATE_FOLDER;

/// What to restore, where, and as whom.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file.
    file: PathBuf,
    /// The node's data directory: empty, or not there yet.
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "config")]
    data_directory: Option<PathBuf>,
    /// The node's name.
    #[arg(long, required_unless_present = "config")]
    name: Option<String>,
    /// The node's configuration, to take both from.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_directory", "name"])]
    config: Option<PathBuf>,
}

/// Restores one node.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (directory, name) = match (arguments.config, arguments.data_directory, arguments.name) {
        (Some(file), _, _) => {
            let loaded = load(Some(&file), std::env::vars(), None)?;
            (loaded.config.data_directory, loaded.config.name)
        }
        (None, Some(directory), Some(name)) => (directory, name),
        (None, _, _) => bail!("say --data-directory and --name, or --config"),
    };
    let total = std::fs::metadata(&arguments.file).ok().map(|metadata| metadata.len());
    let mut progress = Progress::new("restored", total);
    let restored = blox_raft::restore(&arguments.file, &directory, STATE_FOLDER, &name, |bytes| {
        progress.at(bytes)
    })
    .with_context(|| format!("{} was not restored", directory.display()))?;
    progress.done();
    println!(
        "{}: node {name} of a new cluster, with the state of cluster {} at revision {}, which is {} now. Restore {} on every other initial \
         member too, then start them.",
        directory.display(),
        restored.cluster_id,
        restored.revision_saved,
        restored.revision,
        arguments.file.display(),
    );
    Ok(())
}
