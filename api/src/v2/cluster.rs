//! `GET /v2/cluster`: what this node knows of its cluster. Answers without a quorum too.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use blox_raft::{Member, Role, StateDifference};
use blox_store::Fingerprint;
use serde::Serialize;

use super::request::json;
use crate::problem::Problem;
use crate::query::Query;
use crate::state::ApiState;

#[derive(Serialize)]
struct ClusterModel {
    cluster_id: String,
    node: NodeModel,
    leader: Option<MemberModel>,
    members: Vec<MemberModel>,
    term: u64,
    session: u64,
    last_log_index: u64,
    commit_index: u64,
    applied_index: u64,
    snapshot_index: u64,
    revision: u64,
    oldest_revision: u64,
    feature_level: u32,
    applied_lag: u64,
    leader_contact_ms: Option<u64>,
    ecs_lag_ms: Option<i64>,
    draining: bool,
    /// Not empty: an alarm.
    state_differences: Vec<DifferenceModel>,
    state: StateModel,
}

/// The state's fingerprint, of one moment: nodes at the same applied index must have the same revision and hash.
#[derive(Serialize)]
struct StateModel {
    applied_index: u64,
    revision: u64,
    /// Chained over everything applied, 32 hexadecimal digits.
    hash: String,
}

/// A node whose state differs from the others' though it has applied the same log.
#[derive(Serialize)]
struct DifferenceModel {
    node_id: u64,
    node: String,
    log_index: u64,
    hash: String,
    expected_hash: String,
    majority: bool,
    message: String,
}

#[derive(Serialize)]
struct NodeModel {
    id: u64,
    name: String,
    role: &'static str,
    version: String,
}

#[derive(Serialize)]
struct MemberModel {
    id: u64,
    name: String,
    peer_address: String,
    http_address: String,
    voter: bool,
    matched_index: Option<u64>,
}

/// The handler.
pub(super) async fn show(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(uri.query()).only(&[])?;
    let status = state.status();
    let progress = state.progress();
    let model = ClusterModel {
        cluster_id: status.cluster_id,
        node: NodeModel {
            id: status.node_id,
            name: status.name,
            role: role_word(status.role),
            version: state.version().to_owned(),
        },
        leader: status.leader.map(MemberModel::of),
        members: status.members.into_iter().map(MemberModel::of).collect(),
        term: status.term,
        session: progress.session,
        last_log_index: status.last_log_index,
        commit_index: status.commit_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        revision: progress.revision,
        oldest_revision: state.store().oldest_revision(),
        feature_level: state.store().feature_level().number(),
        applied_lag: status.commit_index.saturating_sub(status.applied_index),
        leader_contact_ms: status
            .leader_contact
            .map(|contact| u64::try_from(contact.as_millis()).unwrap_or(u64::MAX)),
        ecs_lag_ms: state.ecs_lag_ms(),
        draining: state.is_draining(),
        state: StateModel::of(state.store().fingerprint()?),
        state_differences: status.state_differences.iter().map(DifferenceModel::of).collect(),
    };
    Ok(json(StatusCode::OK, progress.revision, &model))
}

impl StateModel {
    fn of(fingerprint: Fingerprint) -> StateModel {
        StateModel {
            applied_index: fingerprint.applied_index,
            revision: fingerprint.revision,
            hash: format!("{:032x}", fingerprint.hash),
        }
    }
}

impl MemberModel {
    fn of(member: Member) -> MemberModel {
        MemberModel {
            id: member.id,
            name: member.name,
            peer_address: member.peer_address,
            http_address: member.http_address,
            voter: member.voter,
            matched_index: member.matched_index,
        }
    }
}

impl DifferenceModel {
    fn of(difference: &StateDifference) -> DifferenceModel {
        DifferenceModel {
            node_id: difference.node_id,
            node: difference.node.clone(),
            log_index: difference.index,
            hash: format!("{:032x}", difference.hash),
            expected_hash: format!("{:032x}", difference.expected),
            majority: difference.majority,
            message: difference.describe(),
        }
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Uninitialised => "uninitialised",
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}
