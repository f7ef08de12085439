//! What a scrape gathers.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use blox_store::proto::SourceStatus;
use blox_store::records::arn::cluster_name_of;

use super::consensus::gather_consensus;
use crate::metrics::MetricsPage;
use crate::problem::Problem;
use crate::reading::ReadFailure;
use crate::state::ApiState;

/// The content type of Prometheus' text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`.
pub(crate) async fn show(State(state): State<ApiState>) -> Response {
    let gathering = state.clone();
    match state.read_little(move || gather(&gathering)).await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(failure) => Problem::from(failure).into_response(),
    }
}

fn gather(state: &ApiState) -> Result<String, ReadFailure> {
    let mut page = MetricsPage::default();
    page.gauge(
        "blox_build_info",
        "Always 1; its labels say what runs.",
        &[("version", state.version()), ("node", state.node())],
        1.0,
    );
    page.gauge(
        "blox_watchers",
        "Streams and watches that run now.",
        &[],
        state.streams_running() as f64,
    );
    state.http_metrics().collect(&mut page);
    gather_consensus(state, &mut page);
    gather_state(state, &mut page);
    for source in with_configured(state.store().sources()?, state.sources()) {
        gather_source(state, &source, &mut page);
    }
    gather_daemons(state, &mut page)?;
    state.metrics_source().collect(&mut page);
    Ok(page.render())
}

fn gather_state(state: &ApiState, page: &mut MetricsPage) {
    let progress = state.progress();
    page.gauge(
        "blox_store_revision",
        "Revision of the state.",
        &[],
        progress.revision as f64,
    );
    page.gauge(
        "blox_store_oldest_revision",
        "Oldest revision still kept.",
        &[],
        state.store().oldest_revision() as f64,
    );
    page.gauge(
        "blox_session",
        "Current session (fencing epoch).",
        &[],
        progress.session as f64,
    );
    let sizes = state.store().file_sizes();
    page.gauge(
        "blox_store_table_bytes",
        "Bytes of the state in tables on disk.",
        &[],
        sizes.table_bytes as f64,
    );
    page.gauge(
        "blox_store_compaction_pending_bytes",
        "Bytes of the state that compaction is known to have to write again.",
        &[],
        sizes.compaction_pending_bytes as f64,
    );
    page.gauge(
        "blox_store_unflushed_bytes",
        "Bytes of the state in memory and in no table yet.",
        &[],
        state.store().unflushed_bytes() as f64,
    );
}

/// Sources that have not reported yet stand there with zeros: what is counted shows from the first time on, and what never begins is seen.
fn with_configured(mut reported: Vec<SourceStatus>, configured: &[String]) -> Vec<SourceStatus> {
    for name in configured {
        if !reported.iter().any(|status| status.source == *name) {
            reported.push(SourceStatus {
                source: name.clone(),
                ..SourceStatus::default()
            });
        }
    }
    reported
}

fn gather_source(state: &ApiState, status: &SourceStatus, page: &mut MetricsPage) {
    let source = status.source.as_str();
    for (outcome, count) in [
        ("applied", status.applied),
        ("duplicate", status.duplicates),
        ("stale", status.stale),
        ("filtered", status.filtered),
        ("unknown", status.unknown_types),
        ("poison", status.quarantined),
    ] {
        let labels = [("source", source), ("outcome", outcome)];
        page.counter(
            "blox_events_total",
            "Observations by what became of them.",
            &labels,
            count as f64,
        );
    }
    let labels = [("source", source)];
    page.counter(
        "blox_event_version_gaps_total",
        "ECS versions jumped over between events.",
        &labels,
        status.gaps as f64,
    );
    if status.watermark_ms > 0 {
        let lag_seconds = state.wall_ms().saturating_sub(status.watermark_ms).max(0) as f64 / 1000.0;
        page.gauge(
            "blox_event_lag_seconds",
            "How far behind its queue a source is.",
            &labels,
            lag_seconds,
        );
    }
    page.gauge(
        "blox_reconcile_last_success_timestamp_seconds",
        "When the last pass over the whole source ended; 0: none has.",
        &labels,
        status.reconciled_at_ms.max(0) as f64 / 1000.0,
    );
    for (kind, count) in [
        ("added", status.drift_added),
        ("changed", status.drift_changed),
        ("gone", status.drift_gone),
    ] {
        let labels = [("source", source), ("kind", kind)];
        page.counter(
            "blox_reconcile_drift_total",
            "Differences that reconcile found.",
            &labels,
            count as f64,
        );
    }
}

fn gather_daemons(state: &ApiState, page: &mut MetricsPage) -> Result<(), ReadFailure> {
    let view = state.store().view()?;
    for environment in view.environments()? {
        let summary = state.daemons().summary(&view, &environment)?;
        let cluster = environment
            .spec
            .as_ref()
            .map_or("", |spec| cluster_name_of(&spec.cluster_arn));
        let labels = [("cluster", cluster), ("daemon", environment.name.as_str())];
        for (name, help, count) in [
            ("blox_daemon_desired", "Eligible instances.", summary.desired),
            (
                "blox_daemon_current",
                "Eligible instances that run the daemon.",
                summary.current,
            ),
            (
                "blox_daemon_ready",
                "Eligible instances whose daemon is RUNNING.",
                summary.ready,
            ),
            (
                "blox_daemon_updated",
                "Eligible instances that run the wanted revision.",
                summary.updated,
            ),
            (
                "blox_daemon_available",
                "Ready daemons that count as available.",
                summary.available,
            ),
            (
                "blox_daemon_unavailable",
                "Eligible instances without an available daemon.",
                summary.unavailable,
            ),
            (
                "blox_daemon_misscheduled",
                "Instances that run the daemon and should not.",
                summary.misscheduled,
            ),
        ] {
            page.gauge(name, help, &labels, count as f64);
        }
    }
    Ok(())
}
