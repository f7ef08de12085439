//! What a node counts, for the metrics page.

use std::sync::atomic::Ordering;

use openraft::LogIdOptionExt;
use openraft::async_runtime::watch::WatchReceiver;

use crate::node::Node;
use crate::types::position;

/// Counters and gauges as (name, value): seconds, bytes and counts.
pub(crate) fn read(node: &Node) -> Vec<(&'static str, f64)> {
    let view = node.view.borrow().clone();
    let log = node.log.counters.read();
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let mut values = vec![
        ("blox_raft_is_leader", flag(view.leading.is_some())),
        ("blox_raft_has_leader", flag(view.leader.is_some())),
        ("blox_raft_term", view.term as f64),
        ("blox_raft_last_log_index", node.log.last().next_index() as f64),
        ("blox_raft_purged_index", node.log.purged().next_index() as f64),
        ("blox_raft_leader_changes_total", count(&node.counters.leader_changes)),
        ("blox_raft_proposals_total", count(&node.counters.proposals)),
        (
            "blox_raft_proposals_failed_total",
            count(&node.counters.proposals_failed),
        ),
        (
            "blox_raft_entries_proposed_total",
            count(&node.counters.entries_proposed),
        ),
        ("blox_raft_read_barriers_total", count(&node.counters.reads)),
        ("blox_raft_read_rounds_total", count(&node.counters.read_rounds)),
        ("blox_raft_states_compared_total", count(&node.counters.states_compared)),
        ("blox_raft_state_alarms_total", count(&node.counters.states_differing)),
        ("blox_raft_states_differing", node.alarm.load().differences.len() as f64),
        ("blox_raft_wal_entries_total", log.entries as f64),
        ("blox_raft_wal_bytes_total", log.bytes as f64),
        ("blox_raft_wal_unwritten_bytes", node.log.gauge.unwritten_bytes() as f64),
        (
            "blox_raft_wal_unflushed_bytes",
            node.log.counters.unflushed_bytes() as f64,
        ),
        ("blox_raft_wal_fsync_duration_seconds_count", log.syncs as f64),
        ("blox_raft_wal_fsync_duration_seconds_sum", log.sync_time.as_secs_f64()),
    ];
    let stages = &node.counters.stages;
    let ((queued, queued_s), (committed, committed_s), (applied, applied_s)) =
        (stages.queued.read(), stages.committed.read(), stages.applied.read());
    values.extend([
        ("blox_raft_proposal_queue_duration_seconds_count", queued),
        ("blox_raft_proposal_queue_duration_seconds_sum", queued_s),
        ("blox_raft_entry_commit_duration_seconds_count", committed),
        ("blox_raft_entry_commit_duration_seconds_sum", committed_s),
        ("blox_raft_entry_apply_duration_seconds_count", applied),
        ("blox_raft_entry_apply_duration_seconds_sum", applied_s),
    ]);
    let traffic = &node.channels.traffic;
    let (append, message) = traffic.largest();
    values.extend([
        ("blox_raft_appends_sent_total", count(&traffic.appends)),
        ("blox_raft_append_sent_bytes_total", count(&traffic.append_bytes)),
        ("blox_raft_requests_sent_total", count(&traffic.requests)),
        ("blox_raft_append_largest_bytes", append as f64),
        ("blox_raft_message_largest_bytes", message as f64),
    ]);
    let disks = node.disks.status();
    if let Some(own) = disks.own {
        values.extend([
            ("blox_disk_free_bytes", own.free_bytes as f64),
            ("blox_disk_needed_bytes", own.needed_bytes as f64),
            ("blox_disk_refusing", flag(own.refusing)),
        ]);
    }
    values.push(("blox_disk_writes_refused", flag(disks.refused.is_some())));
    let Some(engine) = node.engine.get() else { return values };
    let (committed, applied) = {
        let metrics = engine.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        (
            position(metrics.local_committed.as_ref()),
            position(metrics.last_applied.as_ref()),
        )
    };
    let snapshots = &engine.snapshots;
    values.extend([
        ("blox_raft_commit_index", committed as f64),
        ("blox_raft_applied_index", applied as f64),
        ("blox_raft_apply_lag_entries", committed.saturating_sub(applied) as f64),
        ("blox_raft_snapshot_index", snapshots.current_position() as f64),
        ("blox_raft_snapshot_built_total", count(&snapshots.counters.built)),
        (
            "blox_raft_snapshot_installed_total",
            count(&snapshots.counters.installed),
        ),
        (
            "blox_raft_snapshot_sent_bytes_total",
            count(&snapshots.counters.bytes_sent),
        ),
        (
            "blox_raft_snapshot_received_bytes_total",
            count(&snapshots.counters.bytes_received),
        ),
    ]);
    values
}
