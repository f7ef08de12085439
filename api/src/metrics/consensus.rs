//! Consensus on `/metrics`: what the status says, then what consensus itself counts.

use blox_raft::Role;

use crate::health;
use crate::metrics::MetricsPage;
use crate::state::ApiState;

/// Adds everything about consensus.
pub(super) fn gather_consensus(state: &ApiState, page: &mut MetricsPage) {
    gather_status(state, page);
    let counted = state.cluster().metrics();
    let value_of = |wanted: &str| {
        counted
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| *value)
    };
    for (name, value) in &counted {
        let said_with_its_sum = name
            .strip_suffix("_count")
            .is_some_and(|family| value_of(&format!("{family}_sum")).is_some());
        // The status says some of it already, and a page holds a series once.
        if page.has(name) || said_with_its_sum {
            continue;
        }
        if let Some(family) = name.strip_suffix("_sum")
            && let Some(count) = value_of(&format!("{family}_count"))
        {
            page.summary(family, help_of(family), &[], *value, count as u64);
        } else if name.ends_with("_total") {
            page.counter(name, help_of(name), &[], *value);
        } else {
            page.gauge(name, help_of(name), &[], *value);
        }
    }
}

fn gather_status(state: &ApiState, page: &mut MetricsPage) {
    let status = state.status();
    let flag = |set: bool| f64::from(u8::from(set));
    page.gauge(
        "blox_raft_is_leader",
        "1 while this node leads.",
        &[],
        flag(status.role == Role::Leader),
    );
    page.gauge(
        "blox_raft_has_leader",
        "1 while a leader is known that was heard of within the limit of /readyz.",
        &[],
        flag(health::check_leader(state).is_ok()),
    );
    page.gauge("blox_raft_term", "Current term.", &[], status.term as f64);
    page.gauge(
        "blox_raft_commit_index",
        "Highest log index known to be committed.",
        &[],
        status.commit_index as f64,
    );
    page.gauge(
        "blox_raft_applied_index",
        "Highest log index applied to the state.",
        &[],
        status.applied_index as f64,
    );
    let lag = status.commit_index.saturating_sub(status.applied_index);
    page.gauge(
        "blox_raft_apply_lag_entries",
        "Committed entries that are not applied yet.",
        &[],
        lag as f64,
    );
    page.counter(
        "blox_raft_leader_changes_total",
        "Leader changes seen by this process.",
        &[],
        status.leader_changes as f64,
    );
    if let Some(contact) = status.leader_contact {
        page.gauge(
            "blox_raft_leader_contact_seconds",
            "Time since a leader with a quorum was heard of.",
            &[],
            contact.as_secs_f64(),
        );
    }
}

fn help_of(family: &str) -> &'static str {
    match family {
        "blox_raft_last_log_index" => "Highest log index of this node.",
        "blox_raft_proposals_total" => "Proposals made on this node.",
        "blox_raft_proposals_failed_total" => "Proposals of this node that failed or whose outcome is not known.",
        "blox_raft_entries_proposed_total" => {
            "Log entries that this node proposed as leader; one may hold many proposals."
        }
        "blox_raft_read_barriers_total" => "Reads of this node that waited to be as fresh as asked.",
        "blox_raft_read_rounds_total" => {
            "Rounds in which this node, as leader, asked a quorum whether it leads, each for all reads that waited."
        }
        "blox_raft_appends_sent_total" => "Appends with entries sent to peers.",
        "blox_raft_append_sent_bytes_total" => "Bytes of appends with entries sent to peers.",
        "blox_raft_requests_sent_total" => {
            "Calls to the leader for this node's callers: proposals, and reads to be confirmed; each for all that waited."
        }
        "blox_raft_states_compared_total" => "Peers whose state this node has compared with its own as leader.",
        "blox_raft_state_alarms_total" => "Alarms this node has raised as leader over states that differ.",
        "blox_raft_states_differing" => "Nodes whose state differs from the others': not 0 is an alarm.",
        "blox_raft_wal_entries_total" => "Entries written to the log.",
        "blox_raft_wal_bytes_total" => "Bytes written to the log.",
        "blox_raft_wal_unwritten_bytes" => "Bytes of log in memory that wait for the disk.",
        "blox_raft_wal_unflushed_bytes" => "Bytes of log on disk and in no table yet.",
        "blox_raft_wal_fsync_duration_seconds" => "Time for the disk to make the log durable.",
        "blox_raft_proposal_queue_duration_seconds" => {
            "Time of a proposal, on the leader, until it leaves in an entry with those that waited together."
        }
        "blox_raft_entry_commit_duration_seconds" => {
            "Time of an entry, on the leader, from leaving the queue until a quorum has it."
        }
        "blox_raft_entry_apply_duration_seconds" => {
            "Time of an entry, on the leader, from its commit until it is applied."
        }
        "blox_raft_snapshot_index" => "Log index of the newest snapshot.",
        "blox_raft_snapshot_built_total" => "Snapshots made here.",
        "blox_raft_snapshot_installed_total" => "Snapshots of a leader installed here.",
        "blox_raft_snapshot_sent_bytes_total" => "Bytes of snapshots sent.",
        "blox_raft_snapshot_received_bytes_total" => "Bytes of snapshots received.",
        "blox_raft_purged_index" => "Log entries up to this index are purged.",
        "blox_raft_append_largest_bytes" => "Largest append sent to a peer.",
        "blox_raft_message_largest_bytes" => "Largest message sent to a peer, appends included, snapshots not.",
        "blox_disk_free_bytes" => "Bytes free for this node on the disk of its data directory.",
        "blox_disk_needed_bytes" => "With less free than this, writes are refused.",
        "blox_disk_refusing" => "1 while this node's own disk has too little room for writes.",
        "blox_disk_writes_refused" => {
            "1 while this node as leader refuses writes for want of room, its own or a quorum's."
        }
        _ => "From consensus.",
    }
}
