//! Fakes for the unit tests: a clock, a queue, a replicated state and an ECS, all in memory and in tokio's time.

mod ecs;
mod queue;
mod state;

use std::sync::Arc;
use std::time::Duration;

use blox_raft::Clock;
use tokio::time::Instant;

use crate::config::{RECONCILE_PAUSE_MS_DEFAULT, SourceConfig};
use crate::metrics::EcsMetrics;
use crate::queue::Queue;
use crate::request::EcsApi;
use crate::source::Source;

pub(crate) use ecs::FakeEcs;
pub(crate) use queue::FakeQueue;
pub(crate) use state::FakeState;

/// Wall clock at the start of a test, milliseconds since the epoch.
pub(crate) const EPOCH_MS: i64 = 1_800_000_000_000;

/// Both clocks from tokio's, so that a paused test moves them.
pub(crate) struct TestClock {
    started: Instant,
}

impl TestClock {
    pub(crate) fn new() -> Arc<TestClock> {
        Arc::new(TestClock {
            started: Instant::now(),
        })
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        EPOCH_MS + self.started.elapsed().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

pub(crate) fn config() -> SourceConfig {
    SourceConfig {
        name: "main".into(),
        region: "us-east-1".into(),
        role_arn: None,
        queue: Some("events".into()),
        clusters: Vec::new(),
        reconcile_pause_ms: RECONCILE_PAUSE_MS_DEFAULT,
    }
}

pub(crate) fn source(config: SourceConfig, api: Arc<dyn EcsApi>, queue: Option<Arc<dyn Queue>>) -> Arc<Source> {
    Arc::new(Source::with_parts(
        config,
        api,
        queue,
        TestClock::new(),
        EcsMetrics::new(),
    ))
}

pub(crate) fn cluster_arn(name: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:cluster/{name}")
}

pub(crate) fn task_arn(cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:task/{cluster}/{id}")
}

pub(crate) fn instance_arn(cluster: &str, id: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:container-instance/{cluster}/{id}")
}

/// A task event's body.
pub(crate) fn task_event(cluster: &str, id: &str, version: i64) -> String {
    let (task, cluster) = (task_arn(cluster, id), cluster_arn(cluster));
    format!(
        r#"{{"version":"0","id":"e","detail-type":"ECS Task State Change","source":"aws.ecs","account":"123456789012","time":"2027-01-15T08:00:00Z","region":"us-east-1","resources":["{task}"],"detail":{{"taskArn":"{task}","clusterArn":"{cluster}","lastStatus":"RUNNING","version":{version}}}}}"#
    )
}
