//! `/livez` and `/readyz`: one line a check.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::query::Query;
use crate::state::ApiState;

/// The process runs; says nothing of a quorum, so that nobody restarts a node for its peers' sake.
pub(crate) async fn live() -> Response {
    text(StatusCode::OK, "[+]process ok\n".to_owned())
}

/// A leader is known, the state is close behind it and was as new as its lately, and the node does not drain; `?require=reconciled` also waits for the first reconcile.
pub(crate) async fn ready(State(state): State<ApiState>, uri: Uri) -> Response {
    let query = Query::parse(uri.query());
    let reconciled = match query.lossy("require").as_deref() {
        None => false,
        Some("reconciled") => true,
        Some(other) => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("unknown requirement '{other}'; known is: reconciled\n"),
            );
        }
    };
    let mut checks = vec![
        ("leader", check_leader(&state)),
        ("applied", check_applied(&state)),
        ("serving", check_serving(&state)),
    ];
    if reconciled {
        checks.push(("reconciled", check_reconciled(&state)));
    }
    let status = if checks.iter().all(|(_, check)| check.is_ok()) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let lines = checks.iter().map(|(name, check)| match check {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(why) => format!("[-]{name} failed: {why}\n"),
    });
    text(status, lines.chain(disk_line(&state)).collect())
}

/// Says how the disk is and decides nothing: a node that refuses writes still serves reads.
fn disk_line(state: &ApiState) -> Option<String> {
    let disks = state.cluster().disks();
    let line = match (disks.refused, disks.own?) {
        (Some(full), _) => format!("[!]disk writes are refused: {full}\n"),
        (None, own) if own.refusing => format!(
            "[!]disk too little room: {} bytes free, writes need {}; no more than a minority of nodes may be so\n",
            own.free_bytes, own.needed_bytes
        ),
        (None, own) => format!("[+]disk ok: {} bytes free\n", own.free_bytes),
    };
    Some(line)
}

/// A leader is known and was heard of lately; `Err`: what is wrong.
pub(crate) fn check_leader(state: &ApiState) -> Result<(), String> {
    let status = state.status();
    if let Some(why) = status.stopped {
        return Err(format!("consensus has stopped: {why}"));
    }
    if let Some(attention) = status.attention {
        return Err(attention);
    }
    if status.leader.is_none() {
        return Err("no leader is known".to_owned());
    }
    match status.leader_contact {
        Some(contact) if contact <= state.config().leader_contact => Ok(()),
        Some(contact) => Err(format!("the leader was last heard of {} ms ago", contact.as_millis())),
        None => Err("the leader was never heard of".to_owned()),
    }
}

fn check_applied(state: &ApiState) -> Result<(), String> {
    let status = state.status();
    let lag = status.commit_index.saturating_sub(status.applied_index);
    let limit = state.config().applied_lag_entries;
    if lag > limit {
        return Err(format!(
            "{lag} committed entries are not applied yet, more than {limit}"
        ));
    }
    // What it knows to be committed may itself be old: a node that has just started has not heard of the newest yet.
    match status.staleness {
        Some(age) if age <= state.config().leader_contact => Ok(()),
        Some(age) => Err(format!("the state is {} ms old", age.as_millis())),
        None => Err("the state has not been as new as the leader's since the start".to_owned()),
    }
}

fn check_serving(state: &ApiState) -> Result<(), String> {
    if state.is_draining() {
        Err("the node is draining".to_owned())
    } else {
        Ok(())
    }
}

fn check_reconciled(state: &ApiState) -> Result<(), String> {
    let reported = state.store().sources().map_err(|error| error.to_string())?;
    let done = |name: &String| {
        reported
            .iter()
            .any(|source| source.source == *name && source.reconciled_at_ms > 0)
    };
    let waiting: Vec<&str> = state
        .sources()
        .iter()
        .filter(|name| !done(name))
        .map(String::as_str)
        .collect();
    if waiting.is_empty() {
        Ok(())
    } else {
        Err(format!("waiting for the first pass over {}", waiting.join(", ")))
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (status, headers, body).into_response()
}
