//! Keeping the state within its limits: history by age, count and size; expiry by the replicated clock.

use std::sync::Arc;
use std::time::Duration;

use blox_store::proto::{Command, Compact, Expire, Outcome, command, outcome};
use tokio_util::sync::CancellationToken;

use super::{ACTOR, Duties, NodeFailed, Session};

/// Before the first round of a session, at most: a leader that changes often must not put the limits off for ever.
const FIRST_ROUND_SECONDS: u64 = 5;
/// Of each kind at most so many expire with one command.
const EXPIRE_COUNT_MAX: u32 = 1_000;
/// Commands of one round; more that is due waits for the next.
const EXPIRE_COMMANDS_MAX: usize = 50;
/// How long one command may take.
const PROPOSE_MS_MAX: u64 = 5_000;
/// Compaction waits until so many revisions would go, so that it does not write an entry for each.
const COMPACT_REVISIONS_MIN: u64 = 100;

/// Rounds until `ending`.
pub async fn run(duties: &Arc<Duties>, session: Session, ending: CancellationToken) -> Result<(), NodeFailed> {
    let mut pause = Duration::from_secs(FIRST_ROUND_SECONDS).min(duties.maintenance_pause);
    loop {
        tokio::select! {
            () = ending.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = duties.maintenance_pause;
        compact(duties, session).await?;
        expire(duties, session).await;
    }
}

async fn compact(duties: &Arc<Duties>, session: Session) -> Result<(), NodeFailed> {
    let reading = Arc::clone(duties);
    let target = tokio::task::spawn_blocking(move || reading.store.compaction_target(&reading.limits)).await;
    let Some(revision) = target
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?
    else {
        return Ok(());
    };
    if revision < duties.store.oldest_revision() + COMPACT_REVISIONS_MIN {
        return Ok(());
    }
    fail::fail_point!("node::before-compact");
    let operation = command::Operation::Compact(Compact { revision });
    if propose(duties, session, "history beyond its limits", operation)
        .await
        .is_some()
    {
        fail::fail_point!("node::after-compact");
        tracing::info!(revision, "compacted");
    }
    Ok(())
}

fn failed(cause: &dyn std::fmt::Display) -> NodeFailed {
    NodeFailed {
        duty: "maintenance",
        cause: cause.to_string(),
    }
}

async fn expire(duties: &Duties, session: Session) {
    for _ in 0..EXPIRE_COMMANDS_MAX {
        let operation = command::Operation::Expire(Expire {
            limit: EXPIRE_COUNT_MAX,
        });
        let Some(outcome) = propose(duties, session, "its time on the replicated clock is over", operation).await
        else {
            return;
        };
        let Some(outcome::Result::Removed(removed)) = outcome.result else {
            return;
        };
        if removed.count > 0 {
            tracing::info!(removed.count, "expired");
        }
        if !removed.more {
            return;
        }
    }
}

async fn propose(duties: &Duties, session: Session, cause: &str, operation: command::Operation) -> Option<Outcome> {
    let command = Command {
        actor: ACTOR.to_owned(),
        cause: cause.to_owned(),
        session: session.id,
        operation: Some(operation),
        ..Command::default()
    };
    match duties
        .consensus
        .propose_upkeep(session.term, command, Duration::from_millis(PROPOSE_MS_MAX))
        .await
    {
        Ok(outcome) => match &outcome.result {
            Some(outcome::Result::Refusal(refusal)) => {
                tracing::warn!(refusal = refusal.message, cause, "maintenance was refused");
                None
            }
            _ => Some(outcome),
        },
        Err(error) => {
            tracing::warn!(%error, cause, "maintenance waits for the next round");
            None
        }
    }
}
