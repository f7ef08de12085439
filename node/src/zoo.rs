//! The zoo: in builds for tests only, one deliberate bug that this process carries (docs/decisions/0020). [`VARIABLE`] names it; without it the
//! node is as any other.

use std::time::Duration;

use anyhow::Context;
use blox_raft::Leadership;
use blox_store::{Bug, carried, let_loose};
use tokio::sync::watch;

#[cfg(not(debug_assertions))]
compile_error!("the feature `zoo` is of deliberate bugs: no release has it");

/// The word of a bug; absent or empty: none.
pub const VARIABLE: &str = "BLOX_ZOO";

/// `no-fence`: for so long duties go on once another node leads.
const OUTLIVES_LEADERSHIP: Duration = Duration::from_secs(10);

/// Takes the bug from the environment.
pub fn set_up() -> anyhow::Result<()> {
    let word = std::env::var(VARIABLE).unwrap_or_default();
    if word.is_empty() {
        return Ok(());
    }
    let bug: Bug = word.parse().with_context(|| format!("{VARIABLE}={word}"))?;
    let_loose(bug);
    Ok(())
}

/// Says loudly what this node carries.
pub fn warn() {
    match carried() {
        Some(bug) => tracing::error!(
            bug = bug.word(),
            "THIS NODE CARRIES A DELIBERATE BUG: {}. What it holds is worth nothing",
            bug.title()
        ),
        None => tracing::warn!("this build can carry deliberate bugs, and is for tests only; this node carries none"),
    }
}

/// `no-fence`: a leader that does not notice that it leads no longer.
pub async fn outlive(term: u64, mut leadership: watch::Receiver<Leadership>) {
    if carried() != Some(Bug::NoFence) {
        return;
    }
    // Closed: consensus has ended, and with it the node.
    let _ = leadership.wait_for(|now| *now != Leadership::Leader { term }).await;
    tokio::time::sleep(OUTLIVES_LEADERSHIP).await;
}
