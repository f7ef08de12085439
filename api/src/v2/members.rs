//! `/v2/members`: who belongs to the cluster, asked of its leader from any node. A change is carried on for a few seconds a request: 202 says how
//! far it is, and the same request again goes on with it, on any node, until it is answered 200.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use blox_raft::{CandidateEntry, MemberChange, MemberEntry, MemberError, MemberProgress, MemberRefusal, MemberStage};
use serde::{Deserialize, Serialize};

use super::request::{json, path_text};
use crate::JSON_BODY_BYTES_MAX;
use crate::problem::{Problem, ProblemKind, sentence};
use crate::query::Query;
use crate::state::ApiState;

const PREFIX: &str = "/v2/members/";

#[derive(Serialize)]
struct ListModel {
    cluster_id: String,
    leader: u64,
    /// A change of the voters is half done.
    changing: bool,
    members: Vec<MemberModel>,
    candidates: Vec<CandidateModel>,
}

#[derive(Serialize)]
struct MemberModel {
    id: u64,
    name: String,
    peer_address: String,
    http_address: String,
    incarnation: String,
    role: &'static str,
    leader: bool,
    /// Since the leader last heard of it; null: never.
    last_heard_ms: Option<u64>,
    entries_behind: Option<u64>,
}

#[derive(Serialize)]
struct CandidateModel {
    name: String,
    peer_address: String,
    http_address: String,
    incarnation: String,
    last_heard_ms: u64,
}

#[derive(Serialize)]
struct ProgressModel {
    done: bool,
    stage: &'static str,
    /// The member it is about; null: none yet, or no more.
    id: Option<u64>,
    entries_behind: Option<u64>,
    detail: String,
}

/// The body of a replacement; none at all: the candidate of the same name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceBody {
    with: Option<String>,
}

/// All members, as the leader knows them, and those that ask to become some.
pub(super) async fn list(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(uri.query()).only(&[])?;
    let list = state.cluster().members(state.config().members_deadline).await?;
    let leader = list.leader;
    let model = ListModel {
        cluster_id: list.cluster_id,
        leader,
        changing: list.changing,
        members: list
            .members
            .into_iter()
            .map(|member| MemberModel::of(member, leader))
            .collect(),
        candidates: list.candidates.into_iter().map(CandidateModel::of).collect(),
    };
    Ok(json(StatusCode::OK, state.revision(), &model))
}

/// A candidate takes a member's place.
pub(super) async fn replace(State(state): State<ApiState>, uri: Uri, body: Body) -> Result<Response, Problem> {
    let name = name_of(&uri, "/replace")?;
    let body = state.read_body(body, JSON_BODY_BYTES_MAX).await?;
    let wanted: ReplaceBody = if body.bytes.is_empty() {
        ReplaceBody::default()
    } else {
        serde_json::from_slice(&body.bytes).map_err(|error| {
            let detail = format!("The body must be {{\"with\": NAME}} or nothing: {error}.");
            Problem::new(ProblemKind::InvalidBody, detail)
        })?
    };
    let with = wanted.with.filter(|with| *with != name);
    change(&state, &uri, MemberChange::Replace { name, with }).await
}

/// A candidate or learner becomes a voter.
pub(super) async fn promote(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let name = name_of(&uri, "/promote")?;
    change(&state, &uri, MemberChange::Promote { name }).await
}

/// A member goes.
pub(super) async fn remove(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let name = name_of(&uri, "")?;
    change(&state, &uri, MemberChange::Remove { name }).await
}

fn name_of(uri: &Uri, suffix: &str) -> Result<String, Problem> {
    let tail = path_text(uri, PREFIX)?;
    Ok(tail.strip_suffix(suffix).unwrap_or(&tail).to_owned())
}

async fn change(state: &ApiState, uri: &Uri, change: MemberChange) -> Result<Response, Problem> {
    Query::parse(uri.query()).only(&[])?;
    let progress = state
        .cluster()
        .change_members(change, state.config().members_deadline)
        .await?;
    let model = ProgressModel::of(progress);
    let status = if model.done {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(json(status, state.revision(), &model))
}

impl MemberModel {
    fn of(member: MemberEntry, leader: u64) -> MemberModel {
        MemberModel {
            leader: member.id == leader,
            id: member.id,
            name: member.name,
            peer_address: member.peer_address,
            http_address: member.http_address,
            incarnation: member.incarnation,
            role: if member.voter { "voter" } else { "learner" },
            last_heard_ms: member.heard.map(millis),
            entries_behind: member.entries_behind,
        }
    }
}

impl CandidateModel {
    fn of(candidate: CandidateEntry) -> CandidateModel {
        CandidateModel {
            name: candidate.name,
            peer_address: candidate.peer_address,
            http_address: candidate.http_address,
            incarnation: candidate.incarnation,
            last_heard_ms: millis(candidate.heard),
        }
    }
}

impl ProgressModel {
    fn of(progress: MemberProgress) -> ProgressModel {
        ProgressModel {
            done: progress.stage == MemberStage::Done,
            stage: match progress.stage {
                MemberStage::Settling => "settling",
                MemberStage::CatchingUp => "catching up",
                MemberStage::Changing => "changing",
                MemberStage::Done => "done",
            },
            id: Some(progress.id).filter(|id| *id > 0),
            entries_behind: progress.entries_behind,
            detail: progress.detail,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Problem {
        let kind = match &error {
            MemberError::Refused { code, .. } => match code {
                MemberRefusal::NoSuchMember => ProblemKind::MemberMissing,
                MemberRefusal::NoCandidate => ProblemKind::CandidateMissing,
                MemberRefusal::Ambiguous => ProblemKind::MemberAmbiguous,
                MemberRefusal::QuorumAtRisk => ProblemKind::QuorumAtRisk,
                MemberRefusal::AddressTaken => ProblemKind::AddressTaken,
                MemberRefusal::IsMember => ProblemKind::MemberExists,
            },
            MemberError::NoLeader { .. } => ProblemKind::NoLeader,
            MemberError::NotMember(_) => ProblemKind::NotMember,
            MemberError::Stopped(_) => ProblemKind::Stopping,
        };
        Problem::new(kind, sentence(&error))
    }
}
