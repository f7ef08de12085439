//! Follows openraft's view of the cluster and tells the node: who leads, and whether that is us.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::vote::RaftLeaderId;

use super::{Leading, Node, View};
use crate::engine::Engine;
use crate::status::{Leadership, Role};
use crate::types::{LogId, NodeInfo, TypeConfig};

/// Runs until openraft ends.
pub(super) async fn run(node: Arc<Node>, engine: Arc<Engine>) {
    let mut metrics = engine.raft.server_metrics();
    let mut applied = engine.applied.clone();
    loop {
        let server = metrics.borrow_and_update().clone();
        let last_applied = *applied.borrow_and_update();
        if let Err(reason) = check_own_entry(&node, &server) {
            node.end(&reason);
            return;
        }
        let members = server.committed_membership_config.nodes();
        node.candidates.taken_in(members.map(|(_, info)| info));
        observe(&node, &server, last_applied);
        // Only a leader that has not applied its first entry waits for apply.
        let waiting = server.state == ServerState::Leader && node.view.borrow().leading.is_none();
        let open = tokio::select! {
            biased;
            changed = metrics.changed() => changed.is_ok(),
            changed = applied.changed(), if waiting => changed.is_ok(),
            () = node.stop.cancelled() => false,
        };
        if !open {
            node.follow();
            return;
        }
    }
}

/// A membership that knows this node otherwise than it was started is refused: peers would look for it elsewhere.
fn check_own_entry(node: &Node, server: &RaftServerMetrics<TypeConfig>) -> Result<(), String> {
    let Some(known) = server.membership_config.get_node(&server.id) else {
        return Ok(());
    };
    check_known_as(node, known)
}

pub(super) fn check_known_as(node: &Node, known: &NodeInfo) -> Result<(), String> {
    let own = node.info();
    if *known == own {
        return Ok(());
    }
    Err(format!(
        "the cluster knows this node as `{}` at {} (HTTP {}, incarnation {}), but it was started as `{}` at {} (HTTP {}, incarnation {}). \
         Start it as it is known, or give this node a data directory of its own (a copy of another's counts for nothing); a node that has \
         moved for good gets an empty directory and `blox member replace`",
        known.name,
        known.peer_address,
        known.http_address,
        known.incarnation,
        own.name,
        own.peer_address,
        own.http_address,
        own.incarnation
    ))
}

fn observe(node: &Node, server: &RaftServerMetrics<TypeConfig>, applied: Option<LogId>) {
    let term = server.vote.leader_id.term();
    let role = role(server.state);
    let leader = server
        .current_leader
        .map(|id| (id, server.membership_config.get_node(&id).cloned().unwrap_or_default()));
    let before = node.view.borrow().clone();
    let leads = role == Role::Leader && server.vote.committed && *server.vote.leader_id.node_id() == server.id;
    let leading = match before.leading {
        Some(leading) if leads && leading.term == term => Some(leading),
        _ if leads && applied.is_some_and(|applied| applied.leader_id.term == term) => Some(Leading {
            term,
            elapsed_base_ms: node.store.progress().borrow().elapsed_ms,
            since: node.clock.monotonic(),
        }),
        _ => None,
    };
    let view = View {
        node_id: server.id,
        role,
        term,
        leader,
        voters: server.membership_config.voter_ids().count(),
        leading,
    };
    if view == before {
        return;
    }
    let named = |view: &View| view.leader.as_ref().map(|(id, _)| (*id, view.term));
    if named(&view).is_some() && named(&view) != named(&before) {
        node.counters.leader_changes.fetch_add(1, Ordering::Relaxed);
        tracing::info!(term, leader = ?view.leader.as_ref().map(|(_, info)| &info.name), "a new leader");
    }
    node.log
        .gauge
        .set_inline(matches!(role, Role::Follower | Role::Learner));
    let leadership = leading.map_or(Leadership::Follower, |leading| Leadership::Leader {
        term: leading.term,
    });
    node.view.send_replace(view);
    node.leadership.send_if_modified(|current| {
        let changed = *current != leadership;
        *current = leadership;
        changed
    });
}

pub(super) fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower | ServerState::Shutdown => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
    }
}
