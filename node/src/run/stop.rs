//! A graceful stop: not ready -> duties end -> leadership handed over -> requests drained -> flushed -> exit.
//!
//! The order keeps every promise to whoever is still talking to this node: load balancers see `/readyz` fail first; the duties record what
//! became of their calls while this node still leads; writes in flight go to the next leader; only then connections close.

use std::time::Duration;

use anyhow::Context;
use blox_raft::{Leadership, TransferError};

use tokio::task::JoinHandle;

use super::Node;
use crate::duties::NodeFailed;

/// How long the duties may take to record what became of their calls. They cut themselves off a little sooner; this holds also where one of
/// them does not let itself be cut off.
const DUTIES_MS_MAX: u64 = 3_500;
/// How long handing over may take.
const TRANSFER_MS_MAX: u64 = 5_000;
/// Answers ask their clients to leave; those that are talking get so long to do it.
const DRAIN_MS: u64 = 250;
/// How long consensus may take to end and flush.
const SHUTDOWN_MS_MAX: u64 = 10_000;

pub(super) async fn gracefully(node: Node) -> anyhow::Result<()> {
    node.api.start_draining();
    node.duties_stop.cancel();
    end_of_duties(node.duties, Duration::from_millis(DUTIES_MS_MAX)).await?;
    hand_over(&node.consensus).await;
    tokio::time::sleep(Duration::from_millis(DRAIN_MS)).await;
    node.serving_stop.cancel();
    node.serving
        .await
        .context("the users' interface broke off")?
        .context("the users' interface failed")?;
    tokio::time::timeout(Duration::from_millis(SHUTDOWN_MS_MAX), node.consensus.shutdown())
        .await
        .with_context(|| format!("consensus did not end within {SHUTDOWN_MS_MAX} ms"))?;
    let store = node.store;
    tokio::task::spawn_blocking(move || store.flush())
        .await
        .context("flushing broke off")?
        .context("cannot flush the state")?;
    tracing::info!("stopped");
    Ok(())
}

/// Waits for the duties, but not for ever: leadership must be handed over while there is somebody left to hand it to.
async fn end_of_duties(mut duties: JoinHandle<Result<(), NodeFailed>>, deadline: Duration) -> anyhow::Result<()> {
    match tokio::time::timeout(deadline, &mut duties).await {
        Ok(ended) => Ok(ended.context("the leader duties broke off")??),
        Err(_) => {
            tracing::warn!("the leader duties did not end within {deadline:?}: going on without them");
            duties.abort();
            Ok(())
        }
    }
}

async fn hand_over(consensus: &blox_raft::Consensus) {
    if *consensus.leadership().borrow() == Leadership::Follower {
        return;
    }
    match consensus
        .transfer_leadership(Duration::from_millis(TRANSFER_MS_MAX))
        .await
    {
        Ok(()) => tracing::info!("handed leadership over"),
        Err(TransferError::NotLeader) => {}
        Err(error) => tracing::warn!(%error, "leadership was not handed over; the others will elect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Duties that hang delay a stop by their deadline and no more; those that end do not delay it, and their error is told.
    #[tokio::test]
    async fn duties_that_hang_do_not_hang_the_stop() {
        let long = Duration::from_secs(3_600);
        let well = end_of_duties(tokio::spawn(async { Ok(()) }), long).await;
        assert!(well.is_ok());
        let broken = tokio::spawn(std::future::pending());
        broken.abort();
        assert!(end_of_duties(broken, long).await.is_err());
        let hung = end_of_duties(tokio::spawn(std::future::pending()), Duration::from_millis(20)).await;
        assert!(hung.is_ok());
    }
}
