//! `GET /v2/feed`, `GET /v2/feed/quarantine`: how the feed and reconcile are doing, and what could not be read.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blox_store::Store;
use blox_store::proto::{QuarantinedMessage, ReconcilePass, SourceStatus};
use serde::Serialize;

use super::request::json;
use crate::PAGE_BYTES_MAX;
use crate::paging::{PAGING_KEYS, PageToken, page_limit, query_hash};
use crate::problem::Problem;
use crate::query::{Query, invalid};
use crate::reading::{READING_KEYS, ReadFailure, Reading};
use crate::state::ApiState;

/// Messages read from the state at a time: each may be large, and a page is bounded in bytes.
const MESSAGES_READ_AT_ONCE: usize = 16;

#[derive(Serialize)]
struct FeedModel {
    items: Vec<SourceModel>,
    revision: u64,
}

#[derive(Serialize)]
struct SourceModel {
    source: String,
    watermark_ms: Option<i64>,
    lag_ms: Option<i64>,
    applied: u64,
    duplicates: u64,
    stale: u64,
    gaps: u64,
    /// Of clusters that the source is not to observe.
    filtered: u64,
    unknown_types: u64,
    quarantined: u64,
    reconcile: ReconcileModel,
}

#[derive(Serialize)]
struct ReconcileModel {
    /// When the last pass over the whole source ended; null: none has.
    reconciled_at_ms: Option<i64>,
    drift: DriftModel,
    clusters: Vec<PassModel>,
}

#[derive(Serialize)]
struct PassModel {
    cluster_arn: String,
    started_at_ms: i64,
    ended_at_ms: i64,
    instances: u64,
    tasks: u64,
    drift: DriftModel,
}

#[derive(Serialize)]
struct DriftModel {
    added: u64,
    changed: u64,
    gone: u64,
}

#[derive(Serialize)]
struct QuarantineModel {
    items: Vec<MessageModel>,
    next_token: Option<String>,
}

/// A message as it was received: as text where it is text, in base64 always.
#[derive(Serialize)]
struct MessageModel {
    sequence: u64,
    source: String,
    message_id: String,
    reason: String,
    received_at_ms: i64,
    body: Option<String>,
    body_base64: String,
}

/// Every source that has reported.
pub(super) async fn show(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    query.only(&READING_KEYS)?;
    state.barrier(Reading::from_query(&query)?).await?;
    let revision = state.revision();
    let now_ms = state.wall_ms();
    let sources = state.store().sources()?;
    let items = sources
        .into_iter()
        .map(|source| SourceModel::of(source, now_ms))
        .collect();
    Ok(json(StatusCode::OK, revision, &FeedModel { items, revision }))
}

/// What could not be read, oldest first.
pub(super) async fn quarantine(State(state): State<ApiState>, uri: Uri) -> Result<Response, Problem> {
    let query = Query::parse(uri.query());
    let known: Vec<&str> = PAGING_KEYS.iter().chain(&READING_KEYS).copied().collect();
    query.only(&known)?;
    let limit = page_limit(&query)?;
    let hash = query_hash("quarantine", &query, &[]);
    let after = match PageToken::from_query(&query, hash, 1)? {
        Some(token) => sequence_of(&token)?,
        None => 0,
    };
    state.barrier(Reading::from_query(&query)?).await?;
    let revision = state.revision();
    let store = state.store().clone();
    let (items, last) = state.read_much(move || read_page(&store, after, limit)).await?;
    let next_token = last.map(|sequence| {
        PageToken {
            revision,
            last: vec![sequence.to_be_bytes().to_vec()],
        }
        .encode(hash)
    });
    Ok(json(StatusCode::OK, revision, &QuarantineModel { items, next_token }))
}

fn read_page(store: &Store, mut after: u64, limit: usize) -> Result<(Vec<MessageModel>, Option<u64>), ReadFailure> {
    let mut items = Vec::new();
    let mut bytes = 0;
    while items.len() < limit && bytes < PAGE_BYTES_MAX {
        let count = MESSAGES_READ_AT_ONCE.min(limit - items.len());
        let messages = store.quarantine(after, count)?;
        let whole = messages.len() == count;
        for message in messages {
            bytes += message.body.len();
            after = message.sequence;
            items.push(MessageModel::of(message));
        }
        if !whole {
            return Ok((items, None));
        }
    }
    let more = !store.quarantine(after, 1)?.is_empty();
    Ok((items, more.then_some(after)))
}

fn sequence_of(token: &PageToken) -> Result<u64, Problem> {
    let sequence = token
        .last
        .first()
        .and_then(|part| <[u8; 8]>::try_from(part.as_slice()).ok());
    let wrong = || {
        invalid(
            "next_token",
            "is not a token of this query; leave it out to begin again",
        )
    };
    sequence.map(u64::from_be_bytes).ok_or_else(wrong)
}

impl SourceModel {
    fn of(status: SourceStatus, now_ms: i64) -> SourceModel {
        let watermark_ms = (status.watermark_ms > 0).then_some(status.watermark_ms);
        SourceModel {
            source: status.source,
            watermark_ms,
            lag_ms: watermark_ms.map(|watermark_ms| now_ms.saturating_sub(watermark_ms).max(0)),
            applied: status.applied,
            duplicates: status.duplicates,
            stale: status.stale,
            gaps: status.gaps,
            filtered: status.filtered,
            unknown_types: status.unknown_types,
            quarantined: status.quarantined,
            reconcile: ReconcileModel {
                reconciled_at_ms: (status.reconciled_at_ms > 0).then_some(status.reconciled_at_ms),
                drift: DriftModel {
                    added: status.drift_added,
                    changed: status.drift_changed,
                    gone: status.drift_gone,
                },
                clusters: status.passes.into_iter().map(PassModel::of).collect(),
            },
        }
    }
}

impl PassModel {
    fn of(pass: ReconcilePass) -> PassModel {
        PassModel {
            cluster_arn: pass.cluster_arn,
            started_at_ms: pass.started_at_ms,
            ended_at_ms: pass.ended_at_ms,
            instances: pass.instances,
            tasks: pass.tasks,
            drift: DriftModel {
                added: pass.drift_added,
                changed: pass.drift_changed,
                gone: pass.drift_gone,
            },
        }
    }
}

impl MessageModel {
    fn of(message: QuarantinedMessage) -> MessageModel {
        MessageModel {
            sequence: message.sequence,
            source: message.source,
            message_id: message.message_id,
            reason: message.reason,
            received_at_ms: message.received_at_ms,
            body_base64: STANDARD.encode(&message.body),
            body: String::from_utf8(message.body.to_vec()).ok(),
        }
    }
}
